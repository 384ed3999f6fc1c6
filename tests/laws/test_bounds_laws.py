"""Law of bounds: every number, text and list that a scenario or a tool may be given has a least and a most.

Read from the JSON Schema, which is what users and their editors see, so that a field of a new component is not
forgotten; then each bound is tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from neulite_sim import bounds, registry
from neulite_sim.population.hardware.catalogue import Catalogue
from neulite_sim.scenario.schema import scenario_json_schema

LEAST, MOST = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}


def schemas() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the scenario (with every installed component) and whatever else of outside is read by a model."""
    yield "scenario", scenario_json_schema()
    for name in registry.names(registry.TRACE_FORMAT):
        yield name, registry.load(registry.TRACE_FORMAT, name).options.model_json_schema()
    yield "hardware", Catalogue.model_json_schema()


def unbounded(place: str, described: Any, around: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield every place in a JSON Schema that takes a number, a text or a list without a least or a most."""
    if isinstance(described, list):
        for number, item in enumerate(described):
            yield from unbounded(f"{place}[{number}]", item, around)
        return
    if not isinstance(described, Mapping):
        return
    keys = around | described.keys()
    kind = described.get("type")
    chosen = "enum" in described or "const" in described
    if kind in ("integer", "number") and not chosen and not (keys & LEAST and keys & MOST):
        yield f"{place}: a number without {'a most' if keys & LEAST else 'a least'}"
    if kind == "string" and not chosen and not described.keys() & {"maxLength", "pattern", "format"}:
        yield f"{place}: a text of any length"
    if kind == "array" and "maxItems" not in described:
        yield f"{place}: a list of any length"
    for key, inner in described.items():
        if key in ("properties", "$defs", "additionalProperties"):
            named = inner if key != "additionalProperties" else {"*": inner}
            for name, item in named.items() if isinstance(named, Mapping) else ():
                yield from unbounded(f"{place}.{name}", item)
        elif key in ("anyOf", "oneOf", "allOf"):
            # A bound beside the alternatives of a quantity holds for the number among them.
            yield from unbounded(place, inner, frozenset(described.keys() & (LEAST | MOST)))
        elif key in ("items", "prefixItems"):
            yield from unbounded(f"{place}[]", inner)


SCHEMAS = dict(schemas())


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_number_text_and_list_has_a_most(name: str) -> None:
    assert not list(unbounded(name, SCHEMAS[name]))


def test_the_walk_finds_what_has_no_bound() -> None:
    class Open(registry.Options):
        number: int
        other: float | None = None
        words: tuple[str, ...] = ()

    assert len(list(unbounded("open", Open.model_json_schema()))) == 4


TYPES = {name: value for name, value in vars(bounds).items() if name[0].isupper() and hasattr(value, "__metadata__")}


@pytest.mark.parametrize("name", [name for name in TYPES if name not in ("Name", "PathText")])
@pytest.mark.parametrize("value", [1e30, -1e30, 10**400, math.inf, -math.inf, math.nan])
def test_every_type_of_number_refuses_what_nothing_is(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TYPES[name]).validate_python(value)


@pytest.mark.parametrize("name", ["Name", "PathText"])
@pytest.mark.parametrize("text", ["", "a\0b", "\ud800", "x" * 5000])
def test_every_type_of_text_refuses_what_no_file_can_be_called(name: str, text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TYPES[name]).validate_python(text)
