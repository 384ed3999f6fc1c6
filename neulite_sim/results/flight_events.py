"""What flights are in the timeline: spans of their device's track, made for all of a round at once.

Times are whole microseconds of virtual time. A flight without pauses is three spans, and their ends are worked out for
all such flights together; one that waited is followed span by span.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from neulite_sim.arrays import Floats, Integers, Repeated, taken
from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.flight_rows import FlightRows, patterned, quoted_for_json
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
Piece = str | Sequence[Any]
"""A text that all rows share, or a column."""
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
    """Return what each row of flights is in the timeline: JSON of one event or several, or of none.

    A device is led by the name of its track. `named` has a byte per device number, which says whether it was named
    before; it is brought up to date.
    """
    parts = [_track_names(rows, named)]
    times = _Times.of(rows)
    pauses = rows.cells["pauses"]
    followed = range(len(rows)) if times is None else [place for place, waits in enumerate(pauses) if waits]
    parts += [[""] * len(rows)] if times is None else [_span_texts(rows, times), _loss_texts(rows, times)]
    for place in followed:
        for part in parts[2:]:
            part[place] = ""
        parts[1][place] = ",\n".join(_events_of(rows[place]))
    return [",\n".join(filter(None, texts)) for texts in zip(*parts, strict=True)]


def _track_names(rows: FlightRows, named: bytearray) -> list[str]:
    """Return the name of the track of each row's device; empty where it was named before."""
    devices = rows.cells["device"]
    named.extend(bytes(max(0, max(devices, default=-1) + 1 - len(named))))
    names, new = [""] * len(rows), []
    for place, device in enumerate(devices):
        if not named[device]:
            named[device] = 1
            new.append(place)
    if new:
        begin: list[Piece] = [',"ph":"M","ts":0,', *_where(rows), ',"args":{"']
        classes = [quoted_for_json(each)[1:] for each in rows.cells["device_class"]]
        pieces: list[Piece] = [
            '{"name":"thread_name"', *begin, 'name":"device ', devices, " ", classes, "}},\n",
            '{"name":"thread_sort_index"', *begin, 'sort_index":', devices, "}}",
        ]  # fmt: skip
        for place, text in zip(new, patterned(_of(pieces, np.array(new))), strict=True):
            names[place] = text
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """When each phase of flights without pauses begins and how long it lasts, and when they end; microseconds."""

    start: tuple[Integers, ...]
    lasting: tuple[Integers, ...]
    ended: Integers

    @classmethod
    def of(cls, rows: FlightRows) -> _Times | None:
        """Return those of rows; None where a time is beyond what can be worked out together."""
        names = ("dispatched_s", "download_s", "compute_s", "upload_s", "ended_s")
        now_s, *lasting_s, ended_s = (np.array(rows.cells[name], np.float64) for name in names)
        if not all((np.abs(times_s) < _LATEST_S).all() for times_s in (now_s, *lasting_s, ended_s)):
            return None
        moments = [_whole_microseconds(now_s)]
        for left_s in lasting_s:
            now_s = np.maximum(np.minimum(now_s + left_s, ended_s), now_s)
            moments.append(_whole_microseconds(now_s))
        lasting = tuple(after - before for before, after in pairwise(moments))
        return cls(start=tuple(moments[:-1]), lasting=lasting, ended=_whole_microseconds(ended_s))


def _span_texts(rows: FlightRows, times: _Times) -> list[str]:
    """Return the spans of each row, those of no length left out: rows with the same phases are one pattern."""
    cells = rows.cells
    submodels = _all_quoted(cells["submodel"])
    about = [',"args":{"flight":', cells["flight"], ',"round":', cells["round"], ',"submodel":', submodels]
    own: tuple[list[Piece], ...] = (
        [',"bytes":', cells["bytes_down"]],
        [',"samples":', cells["samples"], ',"peak_memory_bytes":', cells["peak_memory_bytes"]],
        [',"bytes":', cells["bytes_up"]],
    )
    pieces: list[list[Piece]] = [
        [
            f'{{"name":"{phase}","cat":"flight","ph":"X",', *_where(rows), ',"ts":', start.tolist(),
            ',"dur":', lasting.tolist(), *about, *more, "}}",
        ]
        for phase, start, lasting, more in zip(_PHASES, times.start, times.lasting, own, strict=True)
    ]  # fmt: skip
    texts = [""] * len(rows)
    kinds = sum((lasting > 0) << bit for bit, lasting in enumerate(times.lasting))
    for kind in np.unique(kinds).tolist():
        places = np.flatnonzero(kinds == kind)
        shown = [each for bit, each in enumerate(pieces) if kind >> bit & 1]
        joined = [piece for each in shown for piece in (",\n", *each)][1:]
        for place, text in zip(places.tolist(), patterned(_of(joined, places)) if joined else (), strict=False):
            texts[place] = text
    return texts


def _loss_texts(rows: FlightRows, times: _Times) -> list[str]:
    """Return the mark at the end of each row's flight that did not arrive; empty where it did."""
    texts = [""] * len(rows)
    outcomes = rows.cells["outcome"]
    lost = np.flatnonzero([outcome != "arrived" for outcome in outcomes])
    if not len(lost):
        return texts
    names = [reason or outcome for reason, outcome in zip(rows.cells["reason"], outcomes, strict=True)]
    pieces: list[Piece] = [
        '{"name":', _all_quoted(names), ',"cat":', _all_quoted(outcomes), ',"ph":"i","s":"t",', *_where(rows),
        ',"ts":', times.ended.tolist(), ',"args":{"flight":', rows.cells["flight"], ',"round":', rows.cells["round"],
        ',"submodel":', _all_quoted(rows.cells["submodel"]), "}}",
    ]  # fmt: skip
    for place, text in zip(lost.tolist(), patterned(_of(pieces, lost)), strict=True):
        texts[place] = text
    return texts


def _where(rows: FlightRows) -> list[Piece]:
    tracks = np.array(rows.cells["device"], np.int64) + FIRST_DEVICE_TID
    return [f'"pid":{DEVICES_PID},"tid":', tracks.tolist()]


def _all_quoted(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, Repeated):
        return Repeated(quoted_for_json(texts.value), len(texts))
    return list(map(quoted_for_json, texts))


def _of(pieces: Sequence[Piece], places: Integers) -> list[Piece]:
    """Return pieces of a pattern for some rows only, in order."""
    columns = [piece for piece in pieces if not isinstance(piece, str)]
    if not columns or len(places) == len(columns[0]):
        return list(pieces)
    # One way of picking for all columns: it is made once.
    picked = itemgetter(*places.tolist()) if len(places) > 1 else None
    return [
        piece if isinstance(piece, str) else
        taken(piece, places) if picked is None or isinstance(piece, Repeated) else picked(piece)
        for piece in pieces
    ]  # fmt: skip


def _events_of(row: FlightRow) -> Iterator[str]:
    """Yield the events of one flight, whatever became of it."""
    where = f'"pid":{DEVICES_PID},"tid":{FIRST_DEVICE_TID + row.device}'
    about = f'"flight":{row.flight},"round":{row.round},"submodel":{quoted_for_json(row.submodel)}'
    more = {
        "download": f',"bytes":{row.bytes_down}',
        "compute": f',"samples":{row.samples},"peak_memory_bytes":{row.peak_memory_bytes}',
        "upload": f',"bytes":{row.bytes_up}',
        WAITING: "",
    }
    for phase, start_s, end_s in spans(row):
        start_us = microseconds(start_s)
        duration_us = microseconds(end_s) - start_us
        if duration_us:
            yield (
                f'{{"name":"{phase}","cat":"flight","ph":"X",{where},"ts":{start_us},"dur":{duration_us},'
                f'"args":{{{about}{more[phase]}}}}}'
            )
    if row.outcome != "arrived":
        name = quoted_for_json(row.reason or row.outcome)
        yield (
            f'{{"name":{name},"cat":{quoted_for_json(row.outcome)},"ph":"i","s":"t",{where},'
            f'"ts":{microseconds(row.ended_s)},"args":{{{about}}}}}'
        )


def microseconds(seconds: float) -> int:
    """Return whole microseconds, also of a number of seconds whose product with a million is not finite."""
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1e6)


def _whole_microseconds(seconds: Floats) -> Integers:
    """Return `microseconds` of all; they lie within `_LATEST_S`."""
    whole = np.trunc(seconds)
    micro: Integers = whole.astype(np.int64) * 1_000_000 + np.rint((seconds - whole) * 1e6).astype(np.int64)
    return micro
