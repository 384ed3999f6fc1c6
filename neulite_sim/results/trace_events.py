"""The timeline of a run as a file that trace viewers open: a track per device that flew, one for the server.

Trace Event Format, JSON object form ("Trace Event Format", D. Sinclair and others, Google, the document that
https://perfetto.dev/docs/getting-started/other-formats names), compressed by gzip. Times are whole microseconds of
virtual time; spans of one track touch or are apart, as https://perfetto.dev/docs/faq demands. Nothing in the file
comes from a clock on the wall: equal runs give equal bytes.
"""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from neulite_sim.results.behind import Behind
from neulite_sim.results.cells import FILES, record, scan_rows
from neulite_sim.results.flight_events import DEVICES_PID, flight_events, microseconds
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.outputs import beside
from neulite_sim.results.rows import FlightRow, RoundRow, Row

SERVER_PID = 1
ROUNDS_TID, STAGES_TID = 11, 12

_HELD_CHARACTERS = 1 << 16
_AS_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_HEAD = '{"displayTimeUnit":"ms","metadata":{"clock":"virtual time of the simulation"},"traceEvents":[\n'


class _Flown(NamedTuple):
    """What flights of one round are in the file, and when the last of them left."""

    round: int
    events: str
    dispatched_s: float


class TimelineFile:
    """Writes a timeline while its run goes on; give it every row, and close it.

    What it holds does not grow with the run: a byte per device number, the flights of rounds whose row is still to
    come, and what is yet to be packed. Until it is closed the file is cut off in the middle; `rebuild` makes a whole
    one from the rows.

    Raises:
        OSError: the file cannot be written; so do its methods, some later than others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        # Neither a name nor a time in the header: two files of one run are the same.
        self._packed = gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=self._file, mtime=0)
        self._behind = Behind()
        self._held: list[str] = []
        self._held_characters = 0
        self._separator = _HEAD
        self._named = bytearray()
        self._waiting: deque[_Flown] = deque()
        self._round = 0
        self._round_began_s = self._dispatched_s = 0.0
        self._stage: tuple[str, float] | None = None
        self._bytes_down = self._bytes_up = 0
        self._introduce()

    def add(self, row: Row) -> None:
        """Add what a row tells; rows that are neither of a flight nor of a round tell nothing here."""
        if isinstance(row, FlightRow):
            self.add_flights(FlightRows.of([row]))
        elif isinstance(row, RoundRow):
            self._aggregation(row)
            while self._waiting and self._waiting[0].round <= self._round + 1:
                self._flown(self._waiting.popleft())

    def add_flights(self, rows: FlightRows) -> None:
        """Add what rows of flights tell.

        The row of a tested round may come after flights of later rounds, depending on how fast the test was. These
        wait for it, so that the file does not depend on that.
        """
        texts = flight_events(rows, self._named)
        for number, places in rows.by_round():
            latest_s = max(rows.cells["dispatched_s"][places])
            flown = _Flown(number, ",\n".join(filter(None, texts[places])), latest_s)
            if number > self._round + 1:
                self._waiting.append(flown)
            else:
                self._flown(flown)

    def close(self) -> None:
        """Finish the file."""
        if self._file.closed:
            return
        try:
            while self._waiting:
                self._flown(self._waiting.popleft())
            self._end_stage(self._round_began_s)
            self._held.append("\n]}\n")
            self._behind.wait()
            self._packed.write(self._taken())
            self._packed.close()
        finally:
            self._behind.close()
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

    def _flown(self, flown: _Flown) -> None:
        self._dispatched_s = max(self._dispatched_s, flown.dispatched_s)
        if flown.events:
            self._put(flown.events)

    def _aggregation(self, row: RoundRow) -> None:
        cells = record(row, wall_clock=False)
        began_us, ended_us = microseconds(self._round_began_s), microseconds(row.virtual_time_s)
        name = f"round {row.round} {row.stage}".rstrip()
        args = {key: value for key, value in cells.items() if value is not None and key != "virtual_time_s"}
        track: dict[str, Any] = {"cat": "server", "pid": SERVER_PID, "tid": ROUNDS_TID, "ts": began_us}
        if ended_us > began_us:
            self._event({"name": name, "ph": "X", **track, "dur": ended_us - began_us, "args": args})
        else:
            self._event({"name": name, "ph": "i", "s": "t", **track, "args": args})
        # The devices were counted when the round's last flight left, which is later where nobody was online before.
        self._count(
            "online devices", microseconds(max(self._round_began_s, self._dispatched_s)), online=cells["online"]
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
        began_us = microseconds(began_s)
        duration_us = microseconds(at_s) - began_us
        if duration_us > 0:
            self._event({"name": name or "all rounds", "cat": "server", "ph": "X", "pid": SERVER_PID,
                         "tid": STAGES_TID, "ts": began_us, "dur": duration_us, "args": {}})  # fmt: skip

    def _count(self, name: str, at_us: int, **values: float) -> None:
        self._event({"name": name, "ph": "C", "pid": SERVER_PID, "tid": ROUNDS_TID, "ts": at_us, "args": values})

    def _event(self, event: dict[str, Any]) -> None:
        self._put(_AS_JSON.encode(event))

    def _put(self, text: str) -> None:
        self._held += (self._separator, text)
        self._separator = ",\n"
        self._held_characters += len(text)
        if self._held_characters >= _HELD_CHARACTERS:
            taken = self._taken()
            self._behind.do(self._packed.write, taken, num_bytes=len(taken))

    def _taken(self) -> bytes:
        """Return and forget what is held."""
        held, self._held, self._held_characters = self._held, [], 0
        return "".join(held).encode()


def rebuild(run_dir: Path, path: Path) -> None:
    """Write the timeline of a run anew from its rows on disk: the same bytes that the run itself wrote or would have.

    Raises:
        DataNotFoundError: the rows are missing or damaged.
        OSError: the file cannot be written.
    """
    flights = (FlightRow(**row) for row in scan_rows(run_dir / FILES[FlightRow], FlightRow))
    rounds = (RoundRow(**row) for row in scan_rows(run_dir / FILES[RoundRow], RoundRow))
    with beside(path) as place:
        timeline = TimelineFile(place)
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
