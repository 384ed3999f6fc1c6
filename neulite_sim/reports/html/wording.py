"""Numbers as a page says them: percentages with one decimal, sizes and times with their unit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from neulite_sim.units import format_bytes, format_seconds

NONE = "–"


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal; only the exact whole is 100 %, only nothing 0 %."""
    if share is None:
        return NONE
    shown = share * 100
    if 0 < share < 1:
        shown = min(max(shown, 0.1), 99.9)
    return f"{shown:.1f} %"


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    return f"{difference * 100:+.1f} points".replace("-", "−")


def size(num_bytes: float | None) -> str:
    """Return a number of bytes with its unit."""
    return NONE if num_bytes is None else format_bytes(num_bytes)


def duration(seconds: float | None) -> str:
    """Return a duration."""
    return NONE if seconds is None else format_seconds(seconds)


def count(number: float, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 device, 2 devices."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(texts: list[str]) -> str:
    """Return texts as a list in a sentence: a, b and c."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""


def options(section: Any, *, without: tuple[str, ...] = ()) -> str:
    """Return a component of a scenario with its options, as YAML says them: `dirichlet (alpha 1.0)`."""
    if not isinstance(section, Mapping):
        return str(section)
    parts = [
        f"{key} {plain(value)}"
        for key, value in section.items()
        if key != "kind" and key not in without and value is not None
    ]
    kind = str(section.get("kind", ""))
    return f"{kind} ({', '.join(parts)})".strip() if parts else kind


def plain(value: Any) -> str:
    """Return a value of a scenario as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)
