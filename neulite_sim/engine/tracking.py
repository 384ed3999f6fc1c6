"""The recorder: what happens in a run goes to the scribe, who writes rows, and to observers, who are told."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from neulite_sim.engine.airspace import Aloft
from neulite_sim.engine.facts import Counts
from neulite_sim.engine.holding import Holding
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.scribe import Scribe, Told
from neulite_sim.engine.views import Report, View
from neulite_sim.methods.contract import Proposal
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.rows import Notice, Progress, RoundRow
from neulite_sim.results.summary import Tally
from neulite_sim.timeline.flights import Flight, Outcome
from neulite_sim.user_code.drawing import put_back

TIME_OVER = "the virtual time of the run was over"
RUN_OVER = "the run had aggregated its last round"


class Recorder:
    """Tells observers of what the `scribe` writes, and of moments in between.

    `trains` says whether anything is really trained.
    """

    def __init__(
        self, costing: Costing, sink: Sink, observers: Sequence[Observer], tally: Tally, *, trains: bool = True
    ) -> None:
        self._num_devices = costing.population.num_devices
        self._observers = observers
        self._holding = Holding(is_wanted=not trains and all(map(_may_be_told_late, observers)))
        self.scribe = Scribe(costing, sink, tally, self._holding, self._tell_rounds)
        self._started = time.perf_counter()
        self._looked_into = 0
        self.roll_call = self.scribe.roll_call
        self.digest = self.scribe.digest

    @property
    def wall_time_s(self) -> float:
        """Seconds since the recorder was made."""
        return time.perf_counter() - self._started

    @property
    def is_watched(self) -> bool:
        """Whether anybody is told of moments within this round."""
        return bool(self._observers) and not self._holding.is_brisk

    def restore(self, wall_time_s: float) -> None:
        """Go on counting from the wall time of a checkpoint."""
        self._started = time.perf_counter() - wall_time_s

    def came_to(self, version: int, aloft: Aloft, proposal: Proposal) -> str:
        """Return the digest of the rows so far, of the version, of flights in the air, and of the latest proposal."""
        self.scribe.write_out()
        found: list[Any] = [self.digest.rows_hexdigest(), version]
        found += [_what_flies(flight, outcome or flight.planned) for flight, outcome in aloft]
        found += [proposal.stage, [(item.reason, item.submodel) for item in proposal.denials]]
        digest = hashlib.sha256(json.dumps(found).encode())
        # As bytes: as text a million devices would be a list, and megabytes, at each checkpoint.
        for devices in (proposal.offers.devices, *(item.devices for item in proposal.denials)):
            digest.update(len(devices).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(devices, "<i8").data)
        return digest.hexdigest()

    def _notify(self, event: Progress | RoundRow | Notice) -> None:
        # Whatever they draw, code that is at work meanwhile does not find it gone.
        with put_back():
            for observer in self._observers:
                observer.notify(event)

    def notice(self, message: str) -> None:
        """Tell observers something that a user should know."""
        self._notify(Notice(message=message))

    def dispatched(self, round_number: int, view: View, *, training: int) -> None:
        """Tell observers that flights have left, of which `training` are in the air now."""
        self._progress(round_number, view.at_s, view, training=training, trained=0)

    def collected(self, round_number: int, at_s: float, view: View, *, in_flight: int, count: int) -> None:
        """Tell observers that one more result came in, the `count`-th of those that are merged at `at_s`."""
        self._progress(round_number, at_s, view, training=in_flight - count, trained=count)

    def teller(self, round_number: int, at_s: float, view: View, in_flight: int) -> Callable[[int], None] | None:
        """Return what tells observers that the `count`-th of the updates came in; None where nobody watches."""
        if not self.is_watched:
            return None
        return lambda count: self.collected(round_number, at_s, view, in_flight=in_flight, count=count)

    def _progress(self, round_number: int, at_s: float, view: View, *, training: int, trained: int) -> None:
        counts = Counts.of(view.report(), in_flight=training)
        self._look_into(round_number, at_s, view.stage, counts, trained=trained)

    def _look_into(self, round_number: int, at_s: float, stage: str, counts: Counts, *, trained: int) -> None:
        """Tell observers of a moment within a round."""
        self._looked_into = round_number
        self._notify(
            Progress(
                round=round_number,
                virtual_time_s=at_s,
                stage=stage,
                online=counts.online,
                offline=self._num_devices - counts.online,
                training=counts.in_flight,
                trained=trained,
                denied_by_memory=counts.denied_by_memory,
            )
        )

    def _tell_rounds(self, told: Told) -> None:
        """Tell observers of rounds, and where everybody is in the latest of those that were held back."""
        for facts, row in told:
            if facts is told[-1][0] and facts.round > self._looked_into:
                self._look_into(facts.round, facts.at_s, facts.stage, facts.counts, trained=0)
            self._notify(row)

    def cut(self, round_number: int, at_s: float, report: Report, aloft: Aloft, *, reason: str) -> None:
        """Write the denials and flights of the round that was open when the run was over, for `reason`."""
        self.scribe.cut(round_number, at_s, report, aloft, reason=reason)
        if reason == TIME_OVER:
            self.notice(f"round {round_number} was cut off: {reason}")


def _may_be_told_late(observer: Observer) -> bool:
    return getattr(observer, "may_be_told_late", False)


def _what_flies(flight: Flight, outcome: Outcome) -> list[Any]:
    """Return all by which one flight in the air differs from another, as plain values."""
    return [flight.number, flight.round, flight.version, flight.stage, flight.dispatched_s, _plain(flight.cost),
            outcome.ended_s]  # fmt: skip


def _plain(value: Any) -> Any:
    """Return a dataclass as a list of its fields, to any depth; `astuple` would copy each on its way."""
    if is_dataclass(value):
        return [_plain(getattr(value, name)) for name in _names(value.__class__)]
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
