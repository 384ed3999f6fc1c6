"""A scenario in short: what differs from the defaults, and lists that nobody reads cut after a few items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from neulite_sim.registry import Choice

_MOST_ITEMS, _SHOWN_ITEMS = 8, 3


def brief_values(section: BaseModel) -> dict[str, Any]:
    """Return the values of a section that are not its defaults, as plain ones; the kind of a component always."""
    found = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name == "kind" or field.is_required() or value != field.get_default(call_default_factory=True):
            found[name] = _brief(value)
    return {name: value for name, value in found.items() if value != {}}


def _brief(value: Any) -> Any:
    if isinstance(value, Choice):
        options = brief_values(value.options)
        return {"kind": value.kind, **options} if options else value.kind
    if isinstance(value, BaseModel):
        return brief_values(value)
    if isinstance(value, Mapping):
        return {str(key): _brief(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        if len(items) <= _MOST_ITEMS:
            return [_brief(item) for item in items]
        return [*map(_brief, items[:_SHOWN_ITEMS]), f"... and {len(items) - _SHOWN_ITEMS} more"]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
