"""What to write instead of a key that nobody knows: near spellings, other people's words, other places."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from neulite_sim import registry
from neulite_sim.errors import close_matches
from neulite_sim.scenario.fields import keys_at, models_at, value_at
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.tree import Keys
from neulite_sim.synonyms import meant_by

_MOST_HINTS = 3
# Where a scenario names a component of each group, as far as hints go.
_PLACES = {group: group if group in Scenario.model_fields else f"population.{group}" for group in registry.GROUPS}
_PLACES["partition"] = "data.partition"
# As near as this, a spelling is more likely meant than the same key at another place.
_VERY_NEAR = 0.85


def unknown_key(path: Keys, given: Any, root: type[BaseModel] = Scenario) -> str:
    """Return what is wrong with the key at the end of `path`, what may be meant, and what may stand there.

    `root` is the model of the whole file; other people's words and other places are known for scenarios only.
    """
    key, section = str(path[-1]), path[:-1]
    keys = keys_at(section, given, root)
    if root is not Scenario:
        near = close_matches(key, keys)
    elif "." in key:
        near = "; dots join keys in --set only, in a file write one mapping inside the other"
    else:
        near = _near(key, section, keys, given)
    return f"unknown key{near} (choices: {', '.join(keys) or 'none, it takes no options'})"


def _near(key: str, section: Keys, keys: list[str], given: Any) -> str:
    """Return "; did you mean ...?", or where the key belongs to another kind of component, which; or nothing."""
    here: list[str] = []
    elsewhere: list[str] = []
    of_others: list[str] = []
    for path in meant_by(key):
        above, _, last = path.rpartition(".")
        is_this_section = above == ".".join(_names(section)) and not path.startswith("-")
        if last in keys:
            here.insert(0 if is_this_section else len(here), last)
        elif not is_this_section:
            elsewhere.append(path)
        elif kinds := _kinds_with(section, last):
            of_others.append(_option_of(section, last, kinds))
    if here:
        return _did_you_mean([repr(name) for name in here[:1]])
    if of_others:
        return f"; {of_others[0]}"
    if difflib.get_close_matches(key, keys, n=1, cutoff=_VERY_NEAR):
        return close_matches(key, keys)
    if homes := list(_homes(key, given)):
        return _did_you_mean(homes)
    if kinds := _kinds_with(section, key):
        return f"; {_option_of(section, key, kinds)}"
    near = close_matches(key, keys)
    return near or _did_you_mean(elsewhere or [*_options_elsewhere(key)])


def _did_you_mean(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names[:_MOST_HINTS])}?" if names else ""


def _names(path: Keys) -> tuple[str, ...]:
    return tuple(key for key in path if isinstance(key, str))


def _option_of(section: Keys, key: str, kinds: list[str]) -> str:
    return f"{key} is an option of {_names(section)[-1]} {' or '.join(kinds)}, which kind says"


def _kinds_with(section: Keys, key: str) -> list[str]:
    """Return which other kinds of the component at `section` take an option."""
    names = _names(section)
    if not names or names[-1] not in registry.GROUPS:
        # Nothing is given there, so these are all members of a union.
        unions = [model.model_fields for model in models_at(section, {}) if "kind" in model.model_fields]
        return [str(fields["kind"].default) for fields in unions if key in fields]
    found, _ = registry.load_all(names[-1])
    return [kind for kind, each in found.items() if key in each.options.model_fields][:_MOST_HINTS]


def _options_elsewhere(key: str) -> Iterator[str]:
    """Yield where a key could stand if another kind of component were chosen there."""
    for group, place in _PLACES.items():
        if kinds := _kinds_with((*place.split("."),), key):
            yield f"{place}.{key} ({group} {' or '.join(kinds)})"


def _homes(key: str, given: Any) -> Iterator[str]:
    """Yield where in the scenario a key could stand with the kinds that are chosen, sections first."""
    deeper: list[Keys] = []
    for name in Scenario.model_fields:
        keys = keys_at((name,), given)
        if key in keys:
            yield f"{name}.{key}"
        deeper += [(name, inner) for inner in keys if inner != "kind"]
    for path in deeper:
        if key in keys_at(path, given):
            yield ".".join([*map(str, path), *(["N"] if isinstance(value_at(given, path), list) else []), key])
