"""Any table that says when devices are online: one line per event or sample, or one per interval.

    timestamp,host,online                 host,start,end
    2026-03-01T08:00:00Z,phone-1,true     phone-1,2026-03-01 08:00,2026-03-01 09:30

Which column is which is an option, and is guessed from the header where it is not given. Lines may stand in any order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import MOST_ITEMS, MOST_NAME, Duration
from neulite_sim.errors import close_matches
from neulite_sim.outside import number_or_nan
from neulite_sim.registry import Component, Options
from neulite_sim.traces.columns import EVENTS, INTERVALS, guessed
from neulite_sim.traces.importers.contract import (
    Cells,
    Imported,
    Interval,
    ReadForeign,
    availability_rows,
    counted,
    joined,
    label_of,
    only,
    read_csv,
    refused,
)
from neulite_sim.traces.intervals import LAST_S
from neulite_sim.units import Seconds

HEADER = ("device", "start_s", "end_s", "period_s")
ONLINE = ("1", "true", "yes", "online", "on", "up", "connected", "available", "active")
OFFLINE = ("0", "false", "no", "offline", "off", "down", "disconnected", "unavailable", "inactive")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
# Numbers from here on are seconds since 1970, not of an experiment: 3 years.
_EPOCH_S = 1e8

Column = Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
Value = bool | Annotated[int, Field(ge=-(10**9), le=10**9)] | Annotated[str, Field(max_length=MOST_NAME)]
# Nanoseconds since 1970 up to the last time that is read.
Moment = Annotated[float, Field(ge=0, le=LAST_S * 1e9)]


class TableOptions(Options):
    """Which column holds what, and what its values mean."""

    device: Column | None = None
    """Column that names the device."""
    time: Column | None = None
    """Column with the time from which a state holds: seconds, seconds since 1970, or ISO dates."""
    state: Column | None = None
    """Column that says whether the device is online: 1 or 0, true or false, online or offline and the like."""
    start: Column | None = None
    """Column with the beginning of an interval, in place of `time`."""
    end: Column | None = None
    """Column with the end of an interval; where it is empty, the interval ends with the file."""
    online: tuple[Value, ...] | None = Field(default=None, min_length=1, max_length=MOST_ITEMS)
    """Values of `state` that mean online; every other one is offline then."""
    unit: Literal["s", "ms", "us", "ns", "min", "h"] = "s"
    """Unit of times that are numbers."""
    origin: Annotated[str, Field(min_length=1, max_length=MOST_NAME)] | Moment | None = None
    """The time that becomes virtual time 0: `first`, `zero`, or one as in the file; first for dates, else zero."""
    before: Literal["offline", "online", "opposite"] = "offline"
    """What a device is before its first line: `opposite` where lines stand for changes."""
    last: Seconds = 0.0
    """How long the states of the last lines hold after the latest time of the file."""
    period: Duration | None = None
    """Each device starts over after so long; where it is not given, as the scenario says."""

    @model_validator(mode="after")
    def _events_or_intervals(self) -> Self:
        if self.time is not None and (self.start is not None or self.end is not None):
            raise ValueError("time is for lines of events, start and end for lines of intervals; leave out one of them")
        if self.before != "offline" and self.start is not None:
            raise ValueError("before acts only on lines of events, not on intervals from start to end; remove it")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What one line says of a device; `end_s` is NaN where the state holds until the next line."""

    number: int
    start_s: float
    end_s: float
    is_online: bool


@dataclass(slots=True)
class _Found:
    devices: dict[str, list[_Line]] = field(default_factory=dict)
    has_dates: bool = False
    has_zones: bool | None = None
    num_doubled: int = 0
    num_unsorted: int = 0
    num_overlapping: int = 0


def _read(options: TableOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a table")
    lines = read_csv(path, delimiter=None)
    if not lines:
        raise refused(path, "is empty; expected a header and a line per event or interval")
    places = _places(options, path, lines[0][1], lines[0][0])
    found = _lines(options, path, lines, places)
    origin_s, said = _origin(options, path, found)
    times_s = (time_s for each in found.devices.values() for line in each for time_s in (line.start_s, line.end_s))
    last_s = max(filter(math.isfinite, times_s)) + options.last - origin_s
    if last_s <= 0 or (options.period is not None and options.period < last_s):
        what = f"lasts {last_s:g} s from virtual time 0"
        wish = (
            "set last to how long a state holds, as in --set last=5min" if last_s <= 0 else "set period to that or more"
        )
        raise refused(path, f"{what}; {wish}")
    rows: list[Cells] = []
    num_never, online_until_s = 0, 0.0
    for label, each in found.devices.items():
        online = _online(options, path, label, each, found, origin_s=origin_s, last_s=last_s)
        num_never += not online
        online_until_s = max([online_until_s, *(end_s for _, end_s in online[-1:])])
        made = availability_rows(label, online, options.period or 0.0)
        rows += made if options.period is not None else [cells[:3] for cells in made]
    if num_never == len(found.devices):
        raise refused(path, "nobody is ever online in it; look at the states, or set online to the values that mean it")
    notes = [said, *_notes(options, found, places)]
    if num_never:
        notes.append(f"{counted(num_never, 'device')} never online")
    if options.period is None and online_until_s < last_s:
        notes.append(f"nobody is online at its end; to repeat it after that, set span: {last_s:.15g} beside the path")
    header = HEADER if options.period is not None else HEADER[:3]
    facts = {"never_online": num_never, "doubled_lines": found.num_doubled, "unsorted_lines": found.num_unsorted}
    return Imported(kind="availability", header=header, rows=rows, notes=tuple(notes), facts=facts)


def _notes(options: TableOptions, found: _Found, places: Mapping[str, int]) -> Iterator[str]:
    if "time" in places:
        yield f"states hold until the next line of a device, and for {options.last:g} s after the latest time of all"
        yield f"before its first line a device is {options.before}"
    if found.has_zones is False:
        yield "the dates have no time zone and are taken for UTC"
    for count, what in (
        (found.num_doubled, "says what another one says, and is left out"),
        (found.num_unsorted, "stood before an earlier time of its device; put in order"),
        (found.num_overlapping, "overlaps the interval before; joined"),
    ):
        if count:
            yield f"{counted(count, 'line')}: each {what}"


def _places(options: TableOptions, path: Path, header: list[str], line: int) -> dict[str, int]:
    """Return the place of each column that is read, by option."""
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise refused(path, f"has two columns called {twice!r}; rename one", line)
    asked = {name: getattr(options, name) for name in (*EVENTS, *INTERVALS) if getattr(options, name) is not None}
    for option, column in asked.items():
        if column not in header:
            near = close_matches(column, header)
            raise refused(path, f"has no column {column!r}, which {option} names{near} ({_columns(header)})", line)
    likely = guessed([name for name in header if name not in asked.values()])
    has_intervals = {"start", "end"} & asked.keys() or ("time" not in asked | likely and "start" in likely)
    wanted = [*INTERVALS, *(["state"] if "state" in asked else [])] if has_intervals else [*EVENTS]
    columns = {option: asked.get(option) or likely.get(option) for option in wanted}
    for option, column in columns.items():
        if column is None:
            wish = f"say which one with --set {option}=COLUMN"
            raise refused(path, f"it is not plain which column holds the {option}; {wish} ({_columns(header)})", line)
    return {option: header.index(str(column)) for option, column in columns.items()}


def _columns(header: Iterable[str]) -> str:
    return f"columns: {', '.join(header)}"


def _lines(
    options: TableOptions, path: Path, lines: Sequence[tuple[int, list[str]]], places: Mapping[str, int]
) -> _Found:
    found, width = _Found(), len(lines[0][1])
    beginning = "time" if "time" in places else "start"
    names = lines[0][1]
    for number, cells in lines[1:]:
        if len(cells) != width:
            raise refused(path, f"has {len(cells)} columns where the header has {width}", number)
        label = label_of(path, cells[places["device"]], number)
        moments = [cells[places[option]] for option in (beginning, "end") if option in places]
        if number == lines[1][0]:
            found.has_dates = math.isnan(number_or_nan(moments[0]))
        start_s = _seconds(options, path, names[places[beginning]], moments[0], number, found)
        end_s = math.nan
        if "end" in places:
            ends = moments[1] != ""
            end_s = _seconds(options, path, names[places["end"]], moments[1], number, found) if ends else math.inf
            if end_s <= start_s:
                raise refused(path, f"ends at {moments[1]!r}, not after its start {moments[0]!r}", number)
        is_online = "state" not in places or _is_online(options, path, cells[places["state"]], number)
        line = _Line(number=number, start_s=start_s, end_s=end_s, is_online=is_online)
        found.devices.setdefault(label, []).append(line)
    if not found.devices:
        raise refused(path, "holds a header and no line below it", lines[0][0])
    return found


def _seconds(options: TableOptions, path: Path, column: str, cell: str, line: int, found: _Found) -> float:
    """Return a time as seconds, since 1970 where it is a date; dates without a zone are taken for UTC."""
    if not found.has_dates:
        seconds = number_or_nan(cell) * _SECONDS[options.unit]
        if not seconds >= 0:
            _no_time(path, column, cell, line, "a number from 0 up, as the first line has one")
        if seconds > LAST_S:
            finer = {"s": "ms", "ms": "us", "us": "ns"}.get(options.unit, "s")
            wish = f"set unit={finer} if it is in {finer}"
            raise refused(path, f"{column} {cell!r} {options.unit} lies beyond 2^33 s (272 years); {wish}", line)
        return seconds
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        _no_time(path, column, cell, line, "a number or an ISO date such as 2026-03-01T08:00:00Z")
    if found.has_zones is not None and found.has_zones != (moment.tzinfo is not None):
        raise refused(
            path, f"{column} {cell!r} and earlier ones: some have a time zone, some none; write one way", line
        )
    found.has_zones = moment.tzinfo is not None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds <= LAST_S:
        _no_time(path, column, cell, line, "a date from 1970 to 2242")
    return seconds


def _no_time(path: Path, column: str, cell: str, line: int, wanted: str) -> NoReturn:
    raise refused(path, f"{column} {cell[:40]!r} is not {wanted}", line)


def _is_online(options: TableOptions, path: Path, cell: str, line: int) -> bool:
    word = _plain(cell)
    if options.online is not None:
        return word in {_plain(str(value)) for value in options.online}
    if word not in (*ONLINE, *OFFLINE):
        wish = "say which values mean online, as in --set 'online=[idle, charging]'"
        known = f"{', '.join(ONLINE)} or {', '.join(OFFLINE)}"
        raise refused(path, f"the state {cell[:40]!r} is none of {known}; {wish}", line)
    return word in ONLINE


def _plain(value: str) -> str:
    """Return a value in the one way in which it is compared: small letters, 1.0 as 1."""
    word = value.strip().lower()
    number = number_or_nan(word)
    return word if math.isnan(number) else f"{number:.15g}"


def _origin(options: TableOptions, path: Path, found: _Found) -> tuple[float, str]:
    """Return the time that becomes virtual time 0, and a sentence on it."""
    first_s, line = min((each.start_s, each.number) for lines in found.devices.values() for each in lines)
    origin = options.origin
    if origin is None:
        origin = "first" if found.has_dates or first_s >= _EPOCH_S else "zero"
    if origin in ("first", "zero"):
        origin_s = first_s if origin == "first" else 0.0
    else:
        origin_s = _seconds(options, path, "origin", f"{origin}", line, found)
    if origin_s > first_s:
        raise refused(path, f"lies before the origin {origin!r}; use first, or a time not after this line's", line)
    what = _date(origin_s) if found.has_dates or origin_s >= _EPOCH_S else f"{origin_s:g} s"
    return origin_s, f"virtual time 0 is {what} of the table"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat().replace("+00:00", "Z")


def _online(
    options: TableOptions, path: Path, label: str, lines: list[_Line], found: _Found, *, origin_s: float, last_s: float
) -> list[Interval]:
    """Return when a device is online, in virtual seconds, and count what was odd about its lines.

    Raises:
        ScenarioError: two lines contradict each other.
    """
    found.num_unsorted += sum(after.start_s < before.start_s for before, after in itertools.pairwise(lines))
    kept: list[_Line] = []
    for line in sorted(lines, key=lambda line: (line.start_s, line.end_s if line.end_s == line.end_s else 0.0)):
        before = kept[-1] if kept else None
        is_same_time = before is not None and line.start_s == before.start_s
        has_end = not math.isnan(line.end_s)
        overlaps = has_end and before is not None and line.start_s < before.end_s
        if before is not None and (is_same_time or overlaps) and line.is_online != before.is_online:
            first, second = sorted((before.number, line.number))
            states = " and ".join("online" if each.is_online else "offline" for each in (before, line))
            raise refused(
                path, f"device {label!r} is {states} at one time, by lines {first} and {second}; keep one", second
            )
        if before is not None and is_same_time and (not has_end or line.end_s == before.end_s):
            found.num_doubled += 1
            continue
        if overlaps and before is not None:
            found.num_overlapping += 1
            line = _Line(number=before.number, start_s=before.start_s, end_s=max(before.end_s, line.end_s),
                         is_online=line.is_online)  # fmt: skip
            kept.pop()
        kept.append(line)
    ends = [min(line.end_s - origin_s, last_s) for line in kept]
    if math.isnan(kept[0].end_s):
        ends = [*(line.start_s - origin_s for line in kept[1:]), last_s]
    online = [(line.start_s - origin_s, end_s) for line, end_s in zip(kept, ends, strict=True) if line.is_online]
    is_online_before = options.before == "online" or (options.before == "opposite" and not kept[0].is_online)
    if math.isnan(kept[0].end_s) and is_online_before:
        online.insert(0, (0.0, kept[0].start_s - origin_s))
    return joined(online)


def _build(options: TableOptions) -> ReadForeign:
    return lambda paths: _read(options, paths)


COMPONENT = Component(
    kind="table",
    summary="any table of devices and times: timestamp,host,online or host,start,end, its columns named by options",
    source="a table of your own; no format of others",
    options=TableOptions,
    build=_build,
)
