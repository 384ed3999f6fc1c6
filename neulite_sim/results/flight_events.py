"""What flights are in the timeline: spans of their device's track, made for all of a round at once.

Times are whole microseconds of virtual time. A flight without pauses is three spans, and their ends are worked out for
all such flights together; one that waited is followed span by span.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from neulite_sim.arrays import Floats, Integers, Repeated
from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.flight_rows import FlightRows, quoted_for_json
from neulite_sim.results.rows import FlightRow

WAITING = "waiting"
DEVICES_PID = 2
FIRST_DEVICE_TID = 1000
"""Device d has the track FIRST_DEVICE_TID + d: viewers treat a track 0, and one numbered like its process, apart."""

# Half a microsecond: what is shorter than the unit of the file is rounding of sums of seconds, not work.
_MOMENT_S = 5e-7
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_PAUSE = re.compile(rf"({_NUMBER})-({_NUMBER})")
_PHASES = ("download", "compute", "upload")
_CELLS = ("flight", "round", "device", "device_class", "submodel", "bytes_down", "samples", "peak_memory_bytes",
          "bytes_up", "outcome", "reason", "ended_s")  # fmt: skip
_LATEST_S = 2.0**43
"""Moments from here on, in microseconds, are beyond 64 bits."""


class Span(NamedTuple):
    """A stretch of a flight, in virtual seconds: `download`, `compute`, `upload` or `waiting`."""

    phase: str
    start_s: float
    end_s: float


def pauses_of(text: str, *, flight: int) -> list[tuple[float, float]]:
    """Return the (start, end) in virtual seconds that stand in the column `pauses` of a flight.

    Raises:
        DataNotFoundError: the text is something else.
    """
    pauses = []
    for part in text.split(";") if text else ():
        found = _PAUSE.fullmatch(part)
        if found is None:
            raise DataNotFoundError(
                f"flight {flight}: pauses are {text!r}, not start-end pairs joined by semicolons; flights.csv was "
                "changed"
            )
        pauses.append((float(found[1]), float(found[2])))
    return pauses


def spans(row: FlightRow) -> list[Span]:
    """Return what a flight did, in order and without gaps, from its dispatch to its end.

    A phase that was interrupted has a span before and one after each pause; together they are its seconds.

    Raises:
        DataNotFoundError: the row's pauses cannot be read.
    """
    waits = deque(pauses_of(row.pauses, flight=row.flight) if row.pauses else ())
    found: list[Span] = []
    now_s = row.dispatched_s
    for phase, left_s in zip(_PHASES, (row.download_s, row.compute_s, row.upload_s), strict=True):
        while left_s > 0 and waits and waits[0][0] < now_s + left_s - _MOMENT_S:
            start_s, end_s = waits.popleft()
            if start_s > now_s + _MOMENT_S:
                left_s -= start_s - now_s
                now_s = _go_on(found, phase, now_s, min(start_s, row.ended_s))
            now_s = _go_on(found, WAITING, now_s, min(end_s, row.ended_s))
        now_s = _go_on(found, phase, now_s, min(now_s + left_s, row.ended_s))
    for _, end_s in waits:
        now_s = _go_on(found, WAITING, now_s, min(end_s, row.ended_s))
    return found


def _go_on(found: list[Span], phase: str, now_s: float, until_s: float) -> float:
    """Add a span, unless it would be empty, and return when the next one begins."""
    if until_s <= now_s:
        return now_s
    found.append(Span(phase, now_s, until_s))
    return until_s


def flight_events(rows: FlightRows, named: bytearray) -> list[str]:
    """Return what rows of flights are in the timeline, as JSON, a device led by the name of its track.

    `named` has a byte per device number, which says whether it was named before; it is brought up to date.
    """
    events: list[str] = []
    named.extend(bytes(max(0, max(rows.cells["device"], default=-1) + 1 - len(named))))
    put = events.append
    cells = zip(*(rows.cells[name] for name in _CELLS), _spans_us(rows), strict=True)
    for flight, round_, device, class_, submodel, down, samples, peak, up, outcome, reason, ended_s, found in cells:
        where = f'"pid":{DEVICES_PID},"tid":{FIRST_DEVICE_TID + device}'
        if not named[device]:
            named[device] = 1
            name = quoted_for_json(class_)[1:]
            put(
                f'{{"name":"thread_name","ph":"M","ts":0,{where},"args":{{"name":"device {device} {name}}}}},\n'
                f'{{"name":"thread_sort_index","ph":"M","ts":0,{where},"args":{{"sort_index":{device}}}}}'
            )
        about = f'"flight":{flight},"round":{round_},"submodel":{quoted_for_json(submodel)}'
        # Written by hand: a run can have millions of these, and they are all alike.
        for phase, start_us, duration_us in found:
            if not duration_us:
                continue
            span = (
                f'{{"name":"{phase}","cat":"flight","ph":"X",{where},"ts":{start_us},"dur":{duration_us},'
                f'"args":{{{about}'
            )
            if phase == "download":
                put(f'{span},"bytes":{down}}}}}')
            elif phase == "compute":
                put(f'{span},"samples":{samples},"peak_memory_bytes":{peak}}}}}')
            else:
                put(f'{span},"bytes":{up}}}}}' if phase == "upload" else f"{span}}}}}")
        if outcome != "arrived":
            put(
                f'{{"name":{quoted_for_json(reason or outcome)},"cat":{quoted_for_json(outcome)},"ph":"i","s":"t",'
                f'{where},"ts":{microseconds(ended_s)},"args":{{{about}}}}}'
            )
    return events


_Spans = Iterable[tuple[str, int, int]]


def _spans_us(rows: FlightRows) -> Iterator[_Spans]:
    """Yield the spans of each row: phase, start and duration in microseconds; 0 for what is too short to be shown."""
    smooth = _smooth_spans_us(rows)
    pauses = rows.cells["pauses"]
    if smooth is not None and isinstance(pauses, Repeated) and not pauses.value:
        return smooth
    return _spans_one_by_one(rows, smooth)


def _spans_one_by_one(rows: FlightRows, smooth: Iterator[_Spans] | None) -> Iterator[_Spans]:
    for place, waits in enumerate(rows.cells["pauses"]):
        found = None if smooth is None else next(smooth)
        if found is None or waits:
            found = [
                (phase, microseconds(start_s), microseconds(end_s) - microseconds(start_s))
                for phase, start_s, end_s in spans(rows[place])
            ]
        yield found


def _smooth_spans_us(rows: FlightRows) -> Iterator[_Spans] | None:
    """Return the same as if no row had pauses; None where a time is beyond what can be worked out together."""
    names = ("dispatched_s", "download_s", "compute_s", "upload_s", "ended_s")
    now_s, *lasting_s, ended_s = (np.array(rows.cells[name], np.float64) for name in names)
    if not all((np.abs(times_s) < _LATEST_S).all() for times_s in (now_s, *lasting_s, ended_s)):
        return None
    phases = []
    now_us = _whole_microseconds(now_s)
    for phase, left_s in zip(_PHASES, lasting_s, strict=True):
        until_s = np.maximum(np.minimum(now_s + left_s, ended_s), now_s)
        until_us = _whole_microseconds(until_s)
        phases.append(zip(Repeated(phase, len(rows)), now_us.tolist(), (until_us - now_us).tolist(), strict=True))
        now_s, now_us = until_s, until_us
    return zip(*phases, strict=True)


def microseconds(seconds: float) -> int:
    """Return whole microseconds, also of a number of seconds whose product with a million is not finite."""
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1e6)


def _whole_microseconds(seconds: Floats) -> Integers:
    """Return `microseconds` of all; they lie within `_LATEST_S`."""
    whole = np.trunc(seconds)
    micro: Integers = whole.astype(np.int64) * 1_000_000 + np.rint((seconds - whole) * 1e6).astype(np.int64)
    return micro
