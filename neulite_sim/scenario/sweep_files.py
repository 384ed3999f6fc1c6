"""Sweeps as users write them: `--grid key=v1,v2` beside a scenario, or a file with the keys of `SWEEP_KEYS`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from neulite_sim.bounds import MOST_SEED
from neulite_sim.errors import Problem, ScenarioError, close_matches
from neulite_sim.scenario.files import text_of
from neulite_sim.scenario.loading import SET_OPTION
from neulite_sim.scenario.problems import located, shown
from neulite_sim.scenario.sources import Replaced, Source, is_path
from neulite_sim.scenario.sweeps import Assignment, Axis, Sweep, axis_of, setting_of
from neulite_sim.scenario.tree import Node, Place, as_node
from neulite_sim.scenario.yaml_text import read_yaml

SWEEP_KEYS = ("scenario", "grid", "seeds", "set")
GRID_OPTION, SEEDS_OPTION = "--grid", "--seeds"
MOST_RUNS = 10_000
"""Combinations times seeds of a sweep."""

_TELLING = {"scenario", "grid", "seeds"}


def load_sweep(
    source: Source,
    *,
    grid: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
) -> Sweep:
    """Return the sweep over a scenario, or the one in a sweep file, with what the command line adds.

    Args:
        source: a scenario, or a YAML file with the keys `scenario`, `grid`, `seeds` and `set`.
        grid: `key=v1,v2` texts; a key that the file varies as well takes these values.
        overrides: `key=value` texts, in place of the file's `set` where the key is the same.
        seeds: number of seeds, or the seeds, in place of the file's.

    Raises:
        ScenarioError: with every problem found; what the scenario makes of the values is checked by `variants`.
    """
    problems: list[Problem] = []
    plain = source.scenario if isinstance(source, Replaced) else source
    path = os.fspath(plain) if is_path(plain) else GRID_OPTION
    tree = _sweep_file(path, problems) if is_path(plain) else None
    content: Mapping[str, Node] = {} if tree is None else tree.content
    axes = {axis.key: axis for axis in _file_axes(content.get("grid"), path, problems)}
    axes |= {axis.key: axis for axis in _option_axes(grid, problems)}
    typed = [Assignment(key=text.partition("=")[0].strip(), text=text, place=Place(SET_OPTION)) for text in overrides]
    keys = {setting.key for setting in typed}
    settings = [item for item in _file_settings(content.get("set"), path, problems) if item.key not in keys] + typed
    for setting in settings:
        if setting.key in axes:
            place = setting.place
            problems.append(
                Problem.advising(
                    key=setting.key,
                    found="is set and varied by the grid",
                    hint="remove one of the two",
                    file=place.file,
                    line=place.line,
                )
            )
    given = content.get("seeds") if seeds is None else as_node(seeds, Place(SEEDS_OPTION))
    number = _seeds(given, path, problems)
    scenario = source
    if tree is not None:
        named = _scenario_path(content.get("scenario"), path, problems)
        scenario = replace(source, scenario=named) if isinstance(source, Replaced) else named
    runs = math.prod(len(axis.settings) for axis in axes.values()) * (
        number if isinstance(number, int) else len(number)
    )
    if runs > MOST_RUNS:
        finding = f"comes to {runs} runs"
        hint = f"a sweep has at most {MOST_RUNS}, so vary fewer keys at once or split it"
        problems.append(Problem.advising(key="grid" if axes else "seeds", found=finding, hint=hint, file=path))
    if problems:
        raise ScenarioError(problems)
    name = None if tree is None else os.path.splitext(os.path.basename(path))[0]
    return Sweep(name=name, scenario=scenario, settings=tuple(settings), axes=tuple(axes.values()), seeds=number)


def _sweep_file(path: str, problems: list[Problem]) -> Node | None:
    """Return the content of a sweep file, unknown keys refused; None where the file is a scenario, or no file."""
    text = text_of(path, [])
    tree, found = (None, []) if text is None else read_yaml(text, path)
    if tree is None or not isinstance(tree.content, dict) or not _TELLING & tree.content.keys():
        return None
    problems += found
    for key in tree.content:
        if key not in SWEEP_KEYS:
            message = f"unknown key{close_matches(key, SWEEP_KEYS)} (choices: {', '.join(SWEEP_KEYS)})"
            problems.append(located((key,), message, tree))
    return tree


def _problem(node: Node | None, path: str, key: str, message: str) -> Problem:
    place = node.place if node is not None else Place(path, 1)
    return Problem(key=key, message=message, file=place.file, line=place.line)


def _scenario_path(node: Node | None, path: str, problems: list[Problem]) -> str:
    if node is None:
        problems.append(_problem(None, path, "scenario", "is missing (path of the scenario, relative to this file)"))
        return ""
    if not isinstance(node.content, str):
        wish = "must be the path of a scenario, relative to this file"
        problems.append(_problem(node, path, "scenario", f"{wish}, found {shown(node.plain())}"))
        return ""
    return os.path.normpath(os.path.join(os.path.dirname(path), node.content))


def _seeds(node: Node | None, path: str, problems: list[Problem]) -> int | tuple[int, ...]:
    if node is None:
        return 1
    value = node.plain()
    seeds = value if isinstance(value, list) else [value]
    least = 0 if isinstance(value, list) else 1
    if seeds and all(type(seed) is int and least <= seed <= MOST_SEED for seed in seeds):
        if len(set(seeds)) == len(seeds):
            return tuple(seeds) if isinstance(value, list) else seeds[0]
        twice = next(seed for seed, count in Counter(seeds).items() if count > 1)
        problems.append(_problem(node, path, "seeds", f"names {twice} twice; remove one"))
    else:
        what = value if isinstance(value, list) and len(value) in range(1, 9) else shown(value)
        wish = "must be a number of seeds, at least 1, or a list of seeds, whole numbers from 0 on"
        problems.append(_problem(node, path, "seeds", f"{wish}, found {what}"))
    return 1


def _file_settings(node: Node | None, path: str, problems: list[Problem]) -> list[Assignment]:
    if node is None:
        return []
    if not isinstance(node.content, dict):
        wish = "must be a mapping of dotted keys to values"
        problems.append(_problem(node, path, "set", f"{wish}, found {shown(node.plain())}"))
        return []
    return [setting_of(key, child.plain(), child.place) for key, child in node.content.items()]


def _file_axes(node: Node | None, path: str, problems: list[Problem]) -> Iterator[Axis]:
    if node is None:
        return
    if not isinstance(node.content, dict):
        wish = "must be a mapping of dotted keys to lists of values"
        problems.append(_problem(node, path, "grid", f"{wish}, found {shown(node.plain())}"))
        return
    for key, child in node.content.items():
        if not isinstance(child.content, list):
            wish = "must be a list of values"
            problems.append(_problem(child, path, f"grid.{key}", f"{wish}, found {shown(child.plain())}"))
            continue
        axis = axis_of(key, [item.plain() for item in child.content], child.place, problems)
        if axis is not None:
            yield axis


def _option_axes(texts: Sequence[str], problems: list[Problem]) -> Iterator[Axis]:
    place, seen = Place(GRID_OPTION), set()
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            wish = "write key=v1,v2 with a dotted key, for example method=neulite,fedavg"
            problems.append(Problem.advising(key="", found=f"{text!r} varies nothing", hint=wish, file=GRID_OPTION))
            continue
        if key in seen:
            hint = "write all its values in one --grid"
            problems.append(Problem.advising(key=key, found="is varied twice", hint=hint, file=GRID_OPTION))
        seen.add(key)
        # A flow sequence: commas inside braces and brackets belong to the value.
        node, found = read_yaml(f"[{values}]", GRID_OPTION, with_lines=False)
        problems += [replace(problem, key=key) for problem in found]
        axis = None if node is None or found else axis_of(key, node.plain(), place, problems)
        if axis is not None:
            yield axis
