"""Law of numbers: whatever stands where a scenario has a number is taken, or refused at its key with a limit.

The keys are those of the JSON Schema, so that a field of a new component is not forgotten.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tiny_scenarios import TINY

from neulite_sim.errors import ScenarioError
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.problems import shown
from neulite_sim.scenario.schema import scenario_json_schema

Path = tuple[str | int, ...]
Kinds = tuple[tuple[Path, str], ...]
SCHEMA = scenario_json_schema()


def alternatives(described: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what may stand there, each reference followed."""
    while "$ref" in described:
        described = SCHEMA["$defs"][described["$ref"].rpartition("/")[2]]
    several = [] if "properties" in described else [*described.get("anyOf", ()), *described.get("oneOf", ())]
    for one in several:
        yield from alternatives(one)
    if not several:
        yield described


def keys(described: Mapping[str, Any], path: Path = (), kinds: Kinds = ()) -> Iterator[tuple[Path, Kinds, list[Any]]]:
    """Yield each key below a schema: the kinds that have to be chosen for it, and what may stand there."""
    for one in (found := list(alternatives(described))):
        fields = dict(one.get("properties", {}))
        chosen = kinds
        if (kind := fields.pop("kind", None)) is not None:
            pattern = kind.get("pattern", "").strip("^").replace("\\", "").replace(".+", "x")
            name = kind.get("const") or kind.get("default") or pattern
            chosen = (*kinds, (path, name))
        fields |= {"any": one["additionalProperties"]} if isinstance(one.get("additionalProperties"), dict) else {}
        for name, inner in fields.items():
            yield from keys(inner, (*path, name), chosen)
        for place, inner in enumerate(one.get("prefixItems", [one["items"]] if "items" in one else [])):
            yield from keys(inner, (*path, place), chosen)
    yield path, kinds, found


def is_number(found: list[Mapping[str, Any]]) -> bool:
    """Return whether only numbers may stand there, with a unit or a few words beside them perhaps."""
    is_quantity = any(one.get("type") in ("integer", "number") for one in found)
    others = [one for one in found if one.get("type") not in ("integer", "number", "null")]
    return is_quantity and all("const" in one or "enum" in one or "pattern" in one for one in others)


NUMBERS = {(path, kinds) for path, kinds, found in keys(SCHEMA) if is_number(found)}
WRONG = ["1" + "0" * 30, "-1" + "0" * 30, "9" * 5000, 10**30, -(10**30), 10**5000, 1e300, math.inf, -math.inf, math.nan,
         "inf", "many", "", True, [], ["90"], {}, {"kind": 7}]  # fmt: skip


def put(tree: Any, path: Path, value: object) -> Any:
    """Return a tree with a value at a path, what leads to it made where it is missing."""
    if not path:
        return value
    key, *rest = path
    if isinstance(key, int):
        items = list(tree) if isinstance(tree, list) else []
        items += [None] * (key + 1 - len(items))
        return [*items[:key], put(items[key], tuple(rest), value), *items[key + 1 :]]
    fields = tree if isinstance(tree, dict) else {}
    return {**fields, key: put(fields.get(key), tuple(rest), value)}


def placed(path: Path, kinds: Kinds, value: object) -> dict[str, Any]:
    """Return a scenario with this value at this key, the kinds chosen that have such a key."""
    tree: Any = TINY
    for at, kind in kinds:
        tree = put(tree, (*at, "kind"), kind)
    tree = put(tree, path, value)
    assert isinstance(tree, dict)
    return tree


@pytest.mark.parametrize("value", WRONG, ids=lambda value: shown(value)[:20])
def test_what_is_no_number_of_its_size_is_refused_at_its_key_with_value_and_limit(value: object) -> None:
    assert len(NUMBERS) > 300
    for path, kinds in NUMBERS:
        with pytest.raises(ScenarioError) as refused:
            parse_scenario(placed(path, kinds, value))
        messages = {problem.key: problem.message for problem in refused.value.problems}
        message = messages.get(".".join(map(str, path)), f"{path} is not named, {messages} are")
        assert "must be" in message or "is not a" in message, message
        assert shown(value) in message or repr(value) in message, message


@pytest.mark.parametrize("value", ["90", "-1", "7.5", "1e-400", "50%", 5e-324, 2**63, None])
def test_no_number_in_quotes_breaks_the_check_of_a_scenario(value: object) -> None:
    for path, kinds in NUMBERS:
        with contextlib.suppress(ScenarioError):
            parse_scenario(placed(path, kinds, value))


def test_a_share_in_quotes_is_explained_as_one_without() -> None:
    for value in (90, "90"):
        with pytest.raises(ScenarioError, match=r"must be at most 1, found '?90'?; a share of 90 % is 0\.9"):
            parse_scenario(TINY, [f"stop.target_accuracy={value!r}"])
