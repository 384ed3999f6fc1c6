"""Which models may stand where in a mapping that pydantic checks: those of sections, and the options of components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from neulite_sim import registry
from neulite_sim.errors import UnknownComponentError
from neulite_sim.scenario.component_fields import ComponentField
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.tree import Keys


def value_at(given: Any, path: Keys) -> Any:
    """Return the value at `path` of plain values, or None where there is none."""
    for key in path:
        if not has(given, key):
            return None
        given = given[key]
    return given


def has(given: Any, key: str | int) -> bool:
    """Return whether a mapping has a key, or a list an item."""
    if isinstance(given, Mapping):
        return key in given
    return isinstance(given, list) and isinstance(key, int) and key < len(given)


def keys_at(path: Keys, given: Any, root: type[BaseModel] = Scenario) -> list[str]:
    """Return the keys that may stand at `path`, `kind` first where one stands there."""
    names = dict.fromkeys(name for model in models_at(path, given, root) for name in model.model_fields)
    has_kind = bool(path) and has(value_at(given, path), "kind")
    return list(dict.fromkeys([*(["kind"] if has_kind else []), *names]))


def models_at(path: Keys, given: Any, root: type[BaseModel] = Scenario) -> list[type[BaseModel]]:
    """Return the models whose keys may stand at `path` below `root`; of a component that `given` names, its options."""
    fields: list[tuple[Any, list[Any]]] = [(root, [])]
    for depth, key in enumerate(path):
        values = [get_args(annotation)[1] for annotation, _ in fields if get_origin(annotation) is dict]
        if values:
            fields = [(annotation, []) for annotation in values]
        elif isinstance(key, str):
            models = _models_of(fields, value_at(given, path[:depth]))
            infos = [model.model_fields[key] for model in models if key in model.model_fields]
            fields = [(info.annotation, info.metadata) for info in infos]
    return _models_of(fields, value_at(given, path))


def _models_of(fields: list[tuple[Any, list[Any]]], value: Any) -> list[type[BaseModel]]:
    models = [model for annotation, marks in fields for model in _models_in(annotation, marks, value)]
    kind = value.get("kind") if isinstance(value, Mapping) else value
    named = [model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == kind]
    return named or models


def _models_in(annotation: Any, marks: list[Any], value: Any) -> Iterator[type[BaseModel]]:
    for mark in marks:
        if isinstance(mark, ComponentField):
            kind = value.get("kind") if isinstance(value, Mapping) else value
            if not isinstance(kind, str):
                return
            try:
                yield registry.component(mark.group_field, kind).options
            except UnknownComponentError:
                return
    if get_origin(annotation) is Annotated:
        inner, *inner_marks = get_args(annotation)
        yield from _models_in(inner, inner_marks, value)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _models_in(part, [], value)
