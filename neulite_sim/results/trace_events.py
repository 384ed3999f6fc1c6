"""The timeline of a run as a file that trace viewers open: a track per device that flew, one for the server.

Trace Event Format, JSON object form ("Trace Event Format", D. Sinclair and others, Google, the document that
https://perfetto.dev/docs/getting-started/other-formats names), compressed by gzip. Times are whole microseconds of
virtual time; spans of one track touch or are apart, as https://perfetto.dev/docs/faq demands. Nothing in the file
comes from a clock on the wall: equal runs give equal bytes.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.cells import FILES, record, scan_rows
from neulite_sim.results.rows import FlightRow, RoundRow, Row

WAITING = "waiting"
SERVER_PID, DEVICES_PID = 1, 2
ROUNDS_TID, STAGES_TID = 11, 12
FIRST_DEVICE_TID = 1000
"""Device d has the track FIRST_DEVICE_TID + d: viewers treat a track 0, and one numbered like its process, apart."""

_HELD_CHARACTERS = 1 << 16
# Half a microsecond: what is shorter than the unit of the file is rounding of sums of seconds, not work.
_MOMENT_S = 5e-7
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_PAUSE = re.compile(rf"({_NUMBER})-({_NUMBER})")
_AS_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_HEAD = '{"displayTimeUnit":"ms","metadata":{"clock":"virtual time of the simulation"},"traceEvents":[\n'


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
    for phase, left_s in (("download", row.download_s), ("compute", row.compute_s), ("upload", row.upload_s)):
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


class TimelineFile:
    """Writes a timeline while its run goes on; give it every row, and close it.

    What it holds does not grow with the run: a bit per device number, and the flights of rounds whose row is still
    to come. Until it is closed the file is cut off in the middle; `rebuild` makes a whole one from the rows.

    Raises:
        OSError: the file cannot be written; so do its methods.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        # Neither a name nor a time in the header: two files of one run are the same.
        self._packed = gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=self._file, mtime=0)
        self._held: list[str] = []
        self._held_characters = 0
        self._separator = _HEAD
        self._named = bytearray()
        self._waiting: deque[FlightRow] = deque()
        self._round = 0
        self._round_began_s = self._dispatched_s = 0.0
        self._stage: tuple[str, float] | None = None
        self._bytes_down = self._bytes_up = 0
        self._introduce()

    def add(self, row: Row) -> None:
        """Add what a row tells; rows that are neither of a flight nor of a round tell nothing here.

        The row of a tested round may come after flights of later rounds, depending on how fast the test was. These
        wait for it, so that the file does not depend on that.
        """
        if isinstance(row, FlightRow):
            if row.round > self._round + 1:
                self._waiting.append(row)
            else:
                self._flight(row)
        elif isinstance(row, RoundRow):
            self._aggregation(row)
            while self._waiting and self._waiting[0].round <= self._round + 1:
                self._flight(self._waiting.popleft())
            self._pack()

    def close(self) -> None:
        """Finish the file."""
        if self._file.closed:
            return
        try:
            while self._waiting:
                self._flight(self._waiting.popleft())
            self._end_stage(self._round_began_s)
            self._held.append("\n]}\n")
            self._pack()
            self._packed.close()
        finally:
            self._file.close()

    def _introduce(self) -> None:
        for pid, name, place in ((SERVER_PID, "server", 0), (DEVICES_PID, "devices", 1)):
            self._name("process", pid, 0, name, place)
        self._name("thread", SERVER_PID, ROUNDS_TID, "rounds", 0)
        self._name("thread", SERVER_PID, STAGES_TID, "stages", 1)

    def _name(self, what: str, pid: int, tid: int, name: str, place: int) -> None:
        common: dict[str, Any] = {"ph": "M", "ts": 0, "pid": pid, "tid": tid}
        self._event({"name": f"{what}_name", **common, "args": {"name": name}})
        self._event({"name": f"{what}_sort_index", **common, "args": {"sort_index": int(place)}})

    def _introduce_device(self, row: FlightRow, tid: int) -> None:
        """Name a device's track as `_name` does, without the general way: a run can have a million."""
        begin = f'"ph":"M","ts":0,"pid":{DEVICES_PID},"tid":{tid},"args"'
        name = json.dumps(f"device {row.device} {row.device_class}")
        self._put(f'{{"name":"thread_name",{begin}:{{"name":{name}}}}}')
        self._put(f'{{"name":"thread_sort_index",{begin}:{{"sort_index":{row.device}}}}}')

    def _flight(self, row: FlightRow) -> None:
        tid = FIRST_DEVICE_TID + row.device
        if self._is_new(row.device):
            self._introduce_device(row, tid)
        self._dispatched_s = max(self._dispatched_s, row.dispatched_s)
        about = f'"flight":{row.flight},"round":{row.round},"submodel":{_quoted(row.submodel)}'
        more = {
            "download": f',"bytes":{row.bytes_down}',
            "compute": f',"samples":{row.samples},"peak_memory_bytes":{row.peak_memory_bytes}',
            "upload": f',"bytes":{row.bytes_up}',
            WAITING: "",
        }
        where = f'"pid":{DEVICES_PID},"tid":{tid}'
        for phase, start_s, end_s in spans(row):
            start_us = _microseconds(start_s)
            duration_us = _microseconds(end_s) - start_us
            if duration_us:
                # Written by hand: a run can have millions of these, and they are all alike.
                self._put(
                    f'{{"name":"{phase}","cat":"flight","ph":"X",{where},"ts":{start_us},"dur":{duration_us},'
                    f'"args":{{{about}{more[phase]}}}}}'
                )
        if row.outcome != "arrived":
            name = _quoted(row.reason or row.outcome)
            self._put(
                f'{{"name":{name},"cat":{_quoted(row.outcome)},"ph":"i","s":"t",{where},'
                f'"ts":{_microseconds(row.ended_s)},"args":{{{about}}}}}'
            )

    def _aggregation(self, row: RoundRow) -> None:
        cells = record(row, wall_clock=False)
        began_us, ended_us = _microseconds(self._round_began_s), _microseconds(row.virtual_time_s)
        name = f"round {row.round} {row.stage}".rstrip()
        args = {key: value for key, value in cells.items() if value is not None and key != "virtual_time_s"}
        track: dict[str, Any] = {"cat": "server", "pid": SERVER_PID, "tid": ROUNDS_TID, "ts": began_us}
        if ended_us > began_us:
            self._event({"name": name, "ph": "X", **track, "dur": ended_us - began_us, "args": args})
        else:
            self._event({"name": name, "ph": "i", "s": "t", **track, "args": args})
        # The devices were counted when the round's last flight left, which is later where nobody was online before.
        self._count(
            "online devices", _microseconds(max(self._round_began_s, self._dispatched_s)), online=cells["online"]
        )
        if row.test_accuracy is not None:
            self._count("test accuracy", ended_us, accuracy=cells["test_accuracy"])
        self._bytes_down += cells["bytes_down"]
        self._bytes_up += cells["bytes_up"]
        self._count("bytes", ended_us, down=self._bytes_down, up=self._bytes_up)
        if self._stage is None or self._stage[0] != row.stage:
            self._end_stage(self._round_began_s)
            self._stage = (row.stage, self._round_began_s)
        self._round, self._round_began_s = row.round, row.virtual_time_s

    def _end_stage(self, at_s: float) -> None:
        """Write the stage that went on until `at_s`: one span over all its rounds."""
        if self._stage is None:
            return
        name, began_s = self._stage
        began_us = _microseconds(began_s)
        duration_us = _microseconds(at_s) - began_us
        if duration_us > 0:
            self._event({"name": name or "all rounds", "cat": "server", "ph": "X", "pid": SERVER_PID,
                         "tid": STAGES_TID, "ts": began_us, "dur": duration_us, "args": {}})  # fmt: skip

    def _count(self, name: str, at_us: int, **values: float) -> None:
        self._event({"name": name, "ph": "C", "pid": SERVER_PID, "tid": ROUNDS_TID, "ts": at_us, "args": values})

    def _is_new(self, device: int) -> bool:
        """Return whether a device has no track yet, and note that it has one now."""
        place, bit = device >> 3, 1 << (device & 7)
        if place >= len(self._named):
            self._named.extend(bytes(place + 1 - len(self._named)))
        is_new = not self._named[place] & bit
        self._named[place] |= bit
        return is_new

    def _event(self, event: dict[str, Any]) -> None:
        self._put(_AS_JSON.encode(event))

    def _put(self, text: str) -> None:
        self._held += (self._separator, text)
        self._separator = ",\n"
        self._held_characters += len(text)
        if self._held_characters >= _HELD_CHARACTERS:
            self._pack()

    def _pack(self) -> None:
        held, self._held, self._held_characters = self._held, [], 0
        self._packed.write("".join(held).encode())


@functools.lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    """Return a name that comes again and again as a JSON string."""
    return json.dumps(text)


def rebuild(run_dir: Path, path: Path) -> None:
    """Write the timeline of a run anew from its rows on disk: the same bytes that the run itself wrote or would have.

    Raises:
        DataNotFoundError: the rows are missing or damaged.
        OSError: the file cannot be written.
    """
    flights = (FlightRow(**row) for row in scan_rows(run_dir / FILES[FlightRow], FlightRow))
    rounds = (RoundRow(**row) for row in scan_rows(run_dir / FILES[RoundRow], RoundRow))
    timeline = TimelineFile(path)
    try:
        for row in _merged(flights, rounds):
            timeline.add(row)
    finally:
        timeline.close()


def _merged(flights: Iterator[FlightRow], rounds: Iterator[RoundRow]) -> Iterator[Row]:
    """Yield the flights of each round, then its row; those of a round without a row come last."""
    flight = next(flights, None)
    for row in rounds:
        while flight is not None and flight.round <= row.round:
            yield flight
            flight = next(flights, None)
        yield row
    if flight is not None:
        yield flight
        yield from flights


def _microseconds(seconds: float) -> int:
    """Return whole microseconds, also of a number of seconds whose product with a million is not finite."""
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1e6)
