"""FLASH's state traces: when a phone was charging, on Wi-Fi, locked, with its screen off.

C. Yang et al., "Characterizing Impacts of Heterogeneity in Federated Learning upon Large-Scale Smartphone Data",
WWW 2021, https://github.com/PKU-Chengxu/FLASH. A JSON object with an entry per device, whose `messages` are lines
of `YYYY-mm-dd HH:MM:SS<tab>EVENT`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from neulite_sim.bounds import MOST_ITEMS, Name
from neulite_sim.errors import close_matches
from neulite_sim.outside import plain_json
from neulite_sim.registry import Component, Options
from neulite_sim.traces.importers.contract import (
    Cells,
    Imported,
    Interval,
    ReadForeign,
    availability_rows,
    counted,
    distinct,
    label_of,
    only,
    read_text,
    refused,
)

CONDITIONS = ("charging", "wifi", "locked", "screen_off")
_TIME_CHARACTERS = len("2020-01-02 00:00:00")
# What each event says about a condition.
_EVENTS: Mapping[str, tuple[str, bool]] = {
    "battery_charged_on": ("charging", True),
    "battery_charged_off": ("charging", False),
    "wifi": ("wifi", True),
    **dict.fromkeys(("2g", "3g", "4g", "5g", "unknown"), ("wifi", False)),
    "screen_lock": ("locked", True),
    "screen_unlock": ("locked", False),
    "screen_off": ("screen_off", True),
    "screen_on": ("screen_off", False),
}
_WITHOUT_EFFECT = {"battery_low", "battery_okay"}
_OR = " or "


class StatesOptions(Options):
    """When a phone counts as online, and where virtual time begins."""

    ready: tuple[Name, ...] = Field(default=("locked", "wifi", "charging"), min_length=1, max_length=MOST_ITEMS)
    """Conditions that must all hold: charging, wifi, locked, screen_off; or some of them as `screen_off or locked`."""
    origin: datetime = datetime(2020, 1, 2)
    """Time of the trace that is virtual time 0; FLASH's own reference where it is not given."""

    @field_validator("ready")
    @classmethod
    def _known(cls, ready: tuple[str, ...]) -> tuple[str, ...]:
        for word in (word for condition in ready for word in condition.split(_OR)):
            if word not in CONDITIONS:
                near = close_matches(word, CONDITIONS)
                raise ValueError(f"{word!r} is not a condition{near} (choices: {', '.join(CONDITIONS)})")
        return ready

    @field_validator("origin")
    @classmethod
    def _local(cls, origin: datetime) -> datetime:
        if origin.tzinfo is not None:
            raise ValueError("the times of a trace have no time zone; write origin without one")
        return origin


class _UnreadableError(ValueError):
    """A trace of a device that cannot be read; the message says why."""


def _read(options: StatesOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a FLASH file")
    rows: list[Cells] = []
    left_out: list[str] = []
    num_never, span_s, unknown_s = 0, 0.0, 0.0
    rule = [frozenset(condition.split(_OR)) for condition in options.ready]
    devices = _devices(path)
    for device, entry in devices.items():
        try:
            events = list(_events(entry))
            period_s = _seconds(events[0][0], events[-1][0]) if events else 0.0
            if period_s < 1:
                raise _UnreadableError("its messages span less than a second")
        except _UnreadableError as why:
            left_out.append(f"{device}: {why}")
            continue
        ready, known_from = _ready(events, rule)
        lines = availability_rows(device, _wrapped(ready, options.origin, period_s), period_s)
        num_never += lines[0][1] == ""
        span_s += period_s
        unknown_s += _seconds(events[0][0], known_from)
        rows += lines
    if not rows:
        raise refused(path, f"none of its {counted(len(devices), 'device')} has a readable trace; {left_out[0]}")
    share = unknown_s / span_s
    notes = [
        f"online where {' and '.join(f'({each})' if _OR in each else each for each in options.ready)}",
        f"{share:.1%} of the time lies before a condition's first event; it counts as not ready, as in FLASH",
    ]
    if left_out:
        notes.append(f"{counted(len(left_out), 'device')} left out as unreadable, the first: {left_out[0]}")
    if num_never:
        notes.append(f"{counted(num_never, 'device')} never online")
    facts = {"left_out": len(left_out), "never_online": num_never, "unknown_share": share}
    header = ("device", "start_s", "end_s", "period_s")
    return Imported(kind="availability", header=header, rows=rows, notes=tuple(notes), facts=facts)


def _devices(path: Path) -> Mapping[str, Any]:
    try:
        found = plain_json(read_text(path))
    except json.JSONDecodeError as error:
        raise refused(path, f"is not JSON: {error.msg} at column {error.colno}", error.lineno) from None
    except ValueError as why:
        raise refused(path, f"is not JSON of this format: {why}") from None
    if not isinstance(found, dict) or not found:
        raise refused(path, "holds no object with an entry per device, as FLASH's state traces do")
    labels = [label_of(path, device) for device in found]
    distinct(path, labels)
    return dict(zip(labels, found.values(), strict=True))


def _events(entry: object) -> Iterator[tuple[datetime, str, bool]]:
    """Yield time, condition and whether it holds from then on, in the order of time; "" where none changes."""
    messages = entry.get("messages") if isinstance(entry, dict) else None
    lines = messages.split("\n") if isinstance(messages, str) else messages
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise _UnreadableError("has no messages")
    found = []
    for line in lines:
        if not line.strip():
            continue
        time, _, event = line.strip().partition("\t")
        name = event.strip().lower()
        at = _moment(time.strip())
        if at is None:
            raise _UnreadableError(f"{line.strip()[:60]!r} is not a time, a tab and an event")
        if name in _EVENTS:
            found.append((at, *_EVENTS[name]))
        elif name in _WITHOUT_EFFECT or name.endswith("%"):
            found.append((at, "", False))
        else:
            raise _UnreadableError(f"{event.strip()[:60]!r} is not a known event")
    # Stable: events of the same second keep the order of the file.
    yield from sorted(found, key=lambda event: event[0])


def _moment(text: str) -> datetime | None:
    """Return the moment in `YYYY-mm-dd HH:MM:SS`, None where it is none; strptime would take twenty times as long."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if len(text) == _TIME_CHARACTERS and at.tzinfo is None else None


def _ready(
    events: Sequence[tuple[datetime, str, bool]], rule: Sequence[frozenset[str]]
) -> tuple[list[tuple[datetime, datetime]], datetime]:
    """Return when the rule holds, and from when on all its conditions are known."""
    holding: set[str] = set()
    unseen = {name for names in rule for name in names}
    known_from = events[0][0]
    windows: list[tuple[datetime, datetime]] = []
    since: datetime | None = None
    for at, condition, holds in events:
        if condition in unseen:
            unseen.discard(condition)
            known_from = at
        if condition:
            (holding.add if holds else holding.discard)(condition)
        is_ready = all(names & holding for names in rule)
        if is_ready and since is None:
            since = at
        elif not is_ready and since is not None:
            windows.append((since, at))
            since = None
    end = events[-1][0]
    if since is not None:
        windows.append((since, end))
    return windows, end if unseen else known_from


def _wrapped(windows: Sequence[tuple[datetime, datetime]], origin: datetime, period_s: float) -> Iterator[Interval]:
    """Yield windows as seconds within the period, as virtual time meets them; one across its end becomes two."""
    for start, end in windows:
        start_s = _seconds(origin, start) % period_s
        end_s = start_s + _seconds(start, end)
        yield start_s, min(end_s, period_s)
        if end_s > period_s:
            yield 0.0, end_s - period_s


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def _build(options: StatesOptions) -> ReadForeign:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="flash-states",
    summary="FLASH's state traces in JSON: charging, Wi-Fi, lock and screen of each phone; repeats over its own span",
    source="Yang et al., FLASH, WWW 2021, https://github.com/PKU-Chengxu/FLASH",
    options=StatesOptions,
    build=_build,
)
