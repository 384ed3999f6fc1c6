"""Scenarios from YAML and back: `extends`, `--set`, and every problem at once with its file, line and key."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from neulite_sim.arguments import path_of, texts_of
from neulite_sim.bounds import MOST_PATH
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.scenario.files import text_of, why_no_file
from neulite_sim.scenario.inputs import found_from
from neulite_sim.scenario.problems import booleans_for_numbers, explain, located, shown
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.tree import Keys, Node, Place, as_node, assign, overlay
from neulite_sim.scenario.written import Written, keys_of
from neulite_sim.scenario.yaml_text import read_yaml
from neulite_sim.scenario.yaml_writing import as_yaml

Check = Callable[[Scenario], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacing:
    """A component that stands in the place of the one at `keys`, of whose options those named in `keeps` stay."""

    keys: tuple[str, ...]
    component: Mapping[str, Any]
    keeps: tuple[str, ...] = ()


SET_OPTION = "--set"
SEED_OPTION = "--seed"
_MOST_BASES = 50


def load_scenario(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    seed: int | None = None,
    checks: Sequence[Check] = (),
    replacing: Sequence[Replacing] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Scenario:
    """Return the scenario in a YAML file, with what it `extends` and each `key=value` of `overrides` applied.

    `extends` is relative to the file that says it. Every other path (`data.root`, for example) is looked up beside
    the file that says it, then in the current folder; one of `overrides` in the current folder first. The
    scenario holds the path to what is found; what is not stays as written. `seed` replaces the scenario's own.
    `checks` are called, once all fields are right, with the scenario, for what the schema cannot know; they raise
    ScenarioError with keys, to which file and line are added here. `replacing` stands in the place of what the file
    says at these keys, if it says anything, before `overrides` are applied. `defaults` hold where the file says
    nothing: keys of the top level, and those of its sections that are no choice of a component.

    Raises:
        ScenarioError: with every problem found, each with its file, line and dotted key.
    """
    problems: list[Problem] = []
    file = os.fspath(path_of("path", path, "the path of a scenario file"))
    overrides = texts_of("overrides", overrides, "a list of key=value texts")
    tree = _with_bases(file, (), problems)
    if tree is not None and defaults is not None:
        tree = overlay(as_node(_left_out(defaults, tree), Place()), tree)
    return _resolve(_replaced(tree, replacing, problems), overrides, seed, checks, problems, file=file)


def _left_out(defaults: Mapping[str, Any], tree: Node) -> dict[str, Any]:
    """Return the defaults that nothing of a tree stands for; sections without a kind are laid over key by key."""
    return {
        name: value
        for name, value in defaults.items()
        if name not in tree.content or (isinstance(value, Mapping) and "kind" not in value)
    }


def parse_scenario(
    mapping: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    seed: int | None = None,
    checks: Sequence[Check] = (),
    replacing: Sequence[Replacing] = (),
) -> Scenario:
    """Return the scenario in a mapping of plain values, as `load_scenario` does for a file.

    `extends` and paths are relative to the working directory.
    `parse_scenario(scenario.dump(), ["method.kind=fedavg"])` is a variation of a scenario.

    Raises:
        ScenarioError: with every problem found, each with its dotted key.
    """
    problems: list[Problem] = []
    tree = _replaced(_extended(as_node(mapping, Place()), (), problems), replacing, problems)
    return _resolve(tree, overrides, seed, checks, problems)


def unchecked_values(given: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Any:
    """Return what a file or a mapping says, with what it `extends` and each `key=value` applied, before any check.

    Raises:
        ScenarioError: it cannot be read, or a setting leads nowhere.
    """
    problems: list[Problem] = []
    if isinstance(given, Mapping):
        tree = _extended(as_node(given, Place()), (), problems)
    else:
        tree = _with_bases(os.fspath(given), (), problems)
    settings = [setting for text in overrides if (setting := _setting(text, problems)) is not None]
    tree = _with_settings(tree, settings, problems)
    if tree is None or problems:
        raise ScenarioError(problems)
    return tree.plain()


def dump_scenario(scenario: Scenario) -> str:
    """Return the YAML of a scenario, keys in the order of the schema; loading it gives an equal scenario."""
    return as_yaml(scenario.dump())


def scenario_hash(scenario: Scenario) -> str:
    """Return the SHA-256, in hexadecimal, of the scenario as canonical JSON; equal scenarios have equal hashes."""
    canonical = json.dumps(scenario.dump(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _replaced(tree: Node | None, replacing: Sequence[Replacing], problems: list[Problem]) -> Node | None:
    for item in replacing if tree is not None else ():
        assert tree is not None
        there = tree.at(item.keys)
        before = there.plain() if there is not None and isinstance(there.content, dict) else {}
        # Without a kind, all that is written belongs to what takes its place: unknown keys are refused with it.
        kept = {name: before[name] for name in before if "kind" not in before or name in item.keeps}
        try:
            tree = assign(tree, item.keys, as_node({**kept, **item.component}, Place()))
        except ValueError as error:
            problems.append(Problem(key=".".join(item.keys), message=str(error)))
    return tree


def _with_settings(
    tree: Node | None, settings: Sequence[tuple[tuple[str, ...], Node]], problems: list[Problem]
) -> Node | None:
    for keys, value in settings if tree is not None else ():
        assert tree is not None
        try:
            tree = assign(tree, keys, value)
        except ValueError as error:
            problems.append(Problem(key=".".join(keys), message=str(error), file=SET_OPTION))
    return tree


def _resolve(
    tree: Node | None,
    overrides: Sequence[str],
    seed: int | None,
    checks: Sequence[Check],
    problems: list[Problem],
    *,
    file: str | None = None,
) -> Scenario:
    settings = [setting for text in overrides if (setting := _setting(text, problems)) is not None]
    if tree is None:
        raise ScenarioError(problems)
    if seed is not None:
        settings.append((("seed",), as_node(seed, Place(SEED_OPTION))))
    tree = _with_settings(tree, settings, problems)
    assert tree is not None
    scenario = _validated(tree, problems)
    if scenario is None or problems:
        raise ScenarioError(_in_order(problems, tree))
    if file is not None:
        scenario = _with_found_paths(scenario, tree, file)
    for check in checks:
        try:
            check(scenario)
        except ScenarioError as error:
            problems += [problem if problem.file else located(keys_of(problem.key), problem.message, tree)
                         for problem in error.problems]  # fmt: skip
    if problems:
        raise ScenarioError(_in_order(problems, tree))
    return scenario.written_in(Written(tree))


def _with_found_paths(scenario: Scenario, tree: Node, file: str) -> Scenario:
    def folders_of(keys: Keys) -> tuple[str, ...]:
        said_by = tree.nearest(keys).place.file
        if said_by is None or said_by.startswith("-"):
            return "", os.path.dirname(file)
        return os.path.dirname(said_by), ""

    return found_from(scenario, folders_of)


def _validated(tree: Node, problems: list[Problem]) -> Scenario | None:
    # What could not be read has been reported at its place; a boolean for a number is said to be one, not zero.
    problems += _not_yet_known(booleans_for_numbers(tree), problems)
    try:
        return Scenario.model_validate(tree.plain())
    except ValidationError as error:
        problems += _not_yet_known(explain(error, tree), problems)
        return None


def _not_yet_known(found: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    places = {(problem.key, problem.file, problem.line) for problem in known}
    return [problem for problem in found if (problem.key, problem.file, problem.line) not in places]


def _in_order(problems: Iterable[Problem], tree: Node) -> list[Problem]:
    """Return problems as a reader meets them: file by file, the command line last, line by line."""
    files = {file: rank for rank, file in enumerate(dict.fromkeys(tree.files()))}
    last = len(files) + 1
    options = {SET_OPTION: last + 1, SEED_OPTION: last + 2}
    return sorted(problems, key=lambda found: (
        options.get(found.file or "", files.get(found.file, last)), found.line or 10**9))  # fmt: skip


def _setting(text: str, problems: list[Problem]) -> tuple[tuple[str, ...], Node] | None:
    """Return the keys and the value of one `key=value`; None where it cannot be read."""
    key, equals, value = text.partition("=")
    key = key.strip()
    keys = tuple(key.split("."))
    if not equals or not all(keys):
        example = "write key=value with a dotted key, for example training.epochs=3"
        problems.append(Problem.advising(key="", found=f"{text!r} sets nothing", hint=example, file=SET_OPTION))
        return None
    if keys[0] == "extends":
        problems.append(
            Problem.advising(
                key="extends", found="stands in a file only", hint="name that file instead", file=SET_OPTION
            )
        )
        return None
    node, found = read_yaml(value, SET_OPTION, with_lines=False)
    problems += [replace(problem, key=".".join(filter(None, (key, problem.key)))) for problem in found]
    return (keys, node) if node is not None else None


def _with_bases(path: str, chain: tuple[str, ...], problems: list[Problem]) -> Node | None:
    """Return the content of a file laid over what it extends; None where a file of the chain cannot be used."""
    text = text_of(path, problems)
    if text is None:
        return None
    node, found = read_yaml(text, path)
    problems += found
    if node is None:
        return None
    if not isinstance(node.content, dict):
        what = "is empty" if node.content is None else f"holds {shown(node.plain())}"
        wish = "a scenario is a mapping with keys such as name, data, model and method"
        problems.append(Problem.advising(key="", found=what, hint=wish, file=path))
        return None
    return _extended(node, (*chain, path), problems)


def _extended(tree: Node, chain: tuple[str, ...], problems: list[Problem]) -> Node | None:
    content = dict(tree.content)
    base = content.pop("extends", None)
    own = Node(content, tree.place)
    if base is None:
        return own
    if not isinstance(base.content, str):
        wish = "must be the path of another scenario, relative to this file"
        problems.append(located(("extends",), f"{wish}, found {shown(base.plain())}", tree))
        return None
    if not base.content or "\0" in base.content or len(base.content) > MOST_PATH:
        wish = f"no file can have this name; it needs 1 to {MOST_PATH} characters without NUL bytes"
        problems.append(located(("extends",), f"{wish}, found {shown(base.content)}", tree))
        return None
    if len(chain) > _MOST_BASES:
        problems.append(located(("extends",), f"is the {len(chain)}th in a chain of files; lay a few together", tree))
        return None
    path = os.path.normpath(os.path.join(os.path.dirname(chain[-1]) if chain else "", base.content))
    if os.path.realpath(path) in map(os.path.realpath, chain):
        problems.append(located(("extends",), f"leads back to itself: {' -> '.join((*chain, path))}", tree))
        return None
    if not os.path.isfile(path):
        problems.append(located(("extends",), f"{path!r} {why_no_file(path)}", tree))
        return None
    inherited = _with_bases(path, chain, problems)
    return None if inherited is None else overlay(inherited, own)
