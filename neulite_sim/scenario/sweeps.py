"""Sweeps: many scenarios out of one, from a grid of values and seeds.

Each value of a sweep is handed to the scenario as `--set` would, sections before what stands inside them, whatever
the order in which they were written. `sweep_files` reads sweeps from a file and from options.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.registry import GIVEN
from neulite_sim.scenario.loading import SET_OPTION, Check
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sources import Source, scenario_from
from neulite_sim.scenario.tree import Place

_MOST_SLUG, _MOST_NAME = 60, 120
_REFUSED = {
    "seed": "is varied by seeds; write the number of seeds with --seeds, or a list of them in a sweep file",
    "name": "names the runs together with what varies; set it instead",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One value that a sweep gives to a scenario: `text` is `key=value` as `--set` takes it."""

    key: str
    text: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One key of the grid, with each of its values as a setting and as the piece of a run's name."""

    key: str
    settings: tuple[Assignment, ...]
    slugs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A scenario and how it is varied. `seeds` is a count, from the scenario's own seed on, or the seeds."""

    name: str | None
    """What the sweep file is called; None where the sweep stands on the command line alone."""
    scenario: Source
    settings: tuple[Assignment, ...]
    axes: tuple[Axis, ...]
    seeds: int | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One run of a sweep: its name, what `--set` has to say to get its scenario, and that scenario, seed included."""

    name: str
    overrides: tuple[str, ...]
    scenario: Scenario


def setting_of(key: str, value: Any, place: Place) -> Assignment:
    """Return a plain value as the setting that gives it to `key`."""
    # JSON is YAML in one line: text stays text, numbers come back bit for bit.
    return Assignment(key=key, text=f"{key}={json.dumps(value, ensure_ascii=False)}", place=place)


def axis_of(key: str, values: Sequence[Any], place: Place, problems: list[Problem]) -> Axis | None:
    """Return a key of the grid with its plain values; None, with the reason added to `problems`, where it is wrong."""
    problem = None
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    if key in _REFUSED:
        problem = _REFUSED[key]
    elif not values:
        problem = "has no values; write at least one"
    elif len(set(texts)) < len(texts):
        twice = next(text for text, count in Counter(texts).items() if count > 1)
        problem = f"has the value {twice} twice; remove one"
    if problem is not None:
        problems.append(Problem(key=key, message=problem, file=place.file, line=place.line))
        return None
    settings = tuple(setting_of(key, value, place) for value in values)
    return Axis(key=key, settings=settings, slugs=tuple(_slugs(key, values)))


def variants(sweep: Sweep, checks: Sequence[Check] = ()) -> tuple[Variant, ...]:
    """Return every run of a sweep, its scenario loaded and checked; combinations in the grid's order, seeds last.

    `checks` are those of `load_scenario`, called for the first seed of each combination.

    Raises:
        ScenarioError: with the problems of all combinations, each once; names a combination where not all have it.
    """
    found: dict[Problem, list[str]] = {}
    loaded: list[tuple[tuple[str, ...], tuple[str, ...], Scenario]] = []
    combinations = list(_combinations(sweep))
    for slugs, settings in combinations:
        overrides = tuple(setting.text for setting in settings)
        seed = sweep.seeds[0] if isinstance(sweep.seeds, tuple) else None
        try:
            loaded.append((slugs, overrides, scenario_from(sweep.scenario, overrides, seed=seed, checks=checks)))
        except ScenarioError as error:
            for problem in error.problems:
                found.setdefault(_at_its_place(problem, settings), []).append("-".join(slugs))
    if found:
        raise ScenarioError(_in_words(problem, where, len(combinations)) for problem, where in found.items())
    return tuple(_with_names(loaded, sweep.seeds))


def _combinations(sweep: Sweep) -> Iterator[tuple[tuple[str, ...], list[Assignment]]]:
    for places in itertools.product(*(range(len(axis.settings)) for axis in sweep.axes)):
        chosen = [axis.settings[place] for axis, place in zip(sweep.axes, places, strict=True)]
        slugs = tuple(axis.slugs[place] for axis, place in zip(sweep.axes, places, strict=True))
        # Sections first: `method=neulite` after `method.schedule=cyclic` would take the schedule away again.
        yield slugs, sorted([*sweep.settings, *chosen], key=lambda setting: setting.key.count("."))


def _at_its_place(problem: Problem, settings: Sequence[Assignment]) -> Problem:
    """Return a problem that `--set` is said to have with the place where the sweep has that value."""
    if problem.file != SET_OPTION:
        return problem
    owners = [item for item in settings if problem.key == item.key or problem.key.startswith(item.key + ".")]
    if not owners:
        return problem
    place = max(owners, key=lambda item: len(item.key)).place
    return replace(problem, file=place.file, line=place.line)


def _in_words(problem: Problem, where: Sequence[str], total: int) -> Problem:
    if len(where) == total:
        return problem
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return replace(problem, message=f"{problem.message} (in {where[0]}{more})")


# ---- names ---------------------------------------------------------------------------------------------------------


def _slugs(key: str, values: Sequence[Any]) -> list[str]:
    """Return a piece of a name for each value; what all values share is left out of mappings."""
    leaves = [dict(_leaves(value, (key.rsplit(".", 1)[-1],))) for value in values]
    shared = {item for item in leaves[0].items() if all(item in other.items() for other in leaves)}
    kept = [
        {path: text for path, text in each.items() if len(values) == 1 or (path, text) not in shared or len(path) == 1}
        for each in leaves
    ]
    slugs = ["-".join(_piece(path[-1], text) for path, text in each.items()) or "default" for each in kept]
    slugs = [_short(re.sub(r"[^A-Za-z0-9._-]+", "-", slug).strip("-.") or "value", _MOST_SLUG) for slug in slugs]
    counts = Counter(slug.lower() for slug in slugs)
    return [f"{slug}-{_hash(value)}" if counts[slug.lower()] > 1 else slug
            for slug, value in zip(slugs, values, strict=True)]  # fmt: skip


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the scalars of a value with the keys that lead to them; a kind, or what was given, takes their place."""
    if isinstance(value, Mapping) and value.get("kind") == GIVEN:
        yield path, str(value["name"])
    elif isinstance(value, Mapping):
        if "kind" in value:
            yield path, str(value["kind"])
        for key, item in value.items():
            if key != "kind":
                yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list):
        yield path, "-".join(text for item in value for _, text in _leaves(item, path))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def _piece(key: str, text: str) -> str:
    is_word = text[:1].isalpha() and text not in ("true", "false", "null")
    return text if is_word or key == "kind" else f"{key}-{text}"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 7].rstrip('-.')}-{_hash(text)}"


def _with_names(
    loaded: Sequence[tuple[tuple[str, ...], tuple[str, ...], Scenario]], seeds: int | tuple[int, ...]
) -> Iterator[Variant]:
    stems = [_short("-".join((scenario.name, *slugs)), _MOST_NAME) for slugs, _, scenario in loaded]
    counts = Counter(stem.lower() for stem in stems)
    for stem, (_, overrides, scenario) in zip(stems, loaded, strict=True):
        unique = f"{stem}-{_hash(overrides)}" if counts[stem.lower()] > 1 else stem
        for seed in seeds if isinstance(seeds, tuple) else range(scenario.seed, scenario.seed + seeds):
            varied = scenario.model_copy(update={"seed": seed})
            yield Variant(name=f"{unique}-{seed}", overrides=overrides, scenario=varied)
