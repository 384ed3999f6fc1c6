"""Who flies: a device that holds the call of a message, as the tracker saw it, and what its flight then brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neulite_sim.flower.calling import Answer, Caller, key_of
from neulite_sim.flower.flying import Fleet, Flying, Load
from neulite_sim.flower.journeys import Sent
from neulite_sim.flower.sizes import ENVELOPE_BYTES, held_bytes, loss_in, message_bytes, numbers_of, samples_in
from neulite_sim.timeline.flights import DROPPED, Flight, Outcome

FAILED = "failed during compute: the ClientApp raised {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boarded:
    """A call that was made and flies."""

    answer: Answer
    flight: Flight

    def outcome(self, flown: Outcome) -> Outcome:
        """Return how the flight ended; of an app that raised an exception there is no upload to speak of."""
        raised = self.answer.raised
        if raised is None or not flown.has_arrived:
            return flown
        return replace(flown, kind=DROPPED, reason=FAILED.format(name=type(raised).__name__))


class Boarding:
    """Makes the calls of a fleet, and keeps what each kind of call needs."""

    def __init__(self, fleet: Fleet, caller: Caller, notice: Callable[[str], None], tell: Callable[[Exception], str]):
        self.fleet = fleet
        self._caller = caller
        self._flying = Flying(fleet)
        self._notice = notice
        self._tell = tell
        self._least: dict[Any, int] = {}
        self._needed: dict[int, int] = {}
        self._num_flights = 0
        self._told: set[str] = set()

    def board(self, sent: Sent, *, at_s: float) -> Boarded | None:
        """Make the call of a message and return its flight; None where the device could not hold it.

        A device that lacks memory for the least of what was seen of such calls is not called at all. The first of its
        kind has to be called to know, and then goes out only if the device holds it.
        """
        ledger, device, key = self.fleet.ledger, sent.device, key_of(sent.message)
        available = int(ledger.available_at(np.array([device]), at_s, sent.round)[0])
        known = self._least.get(key)
        if known is not None and known > available:
            self._deny(sent, known, available)
            return None
        answer = self._caller.call(device, sent.message, key)
        held = held_bytes(sent.message) + (held_bytes(answer.reply) if answer.reply is not None else 0)
        peak = ledger.peak_of(answer.work, held)
        if answer.raised is None:
            self._least[key] = min(peak, self._least.get(key, peak))
            ledger.note_peak(sent.name, peak)
        if peak > available:
            self._deny(sent, peak, available)
            return None
        sent.bytes_down = message_bytes(sent.message)
        sent.bytes_up = ENVELOPE_BYTES if answer.reply is None else message_bytes(answer.reply)
        self._note_reply(sent, answer)
        self._num_flights += 1
        load = Load(
            name=sent.name, device=device, bytes_down=sent.bytes_down, bytes_up=sent.bytes_up, work=answer.work,
            peak_bytes=peak,
        )  # fmt: skip
        flight = self._flying.flight(load, at_s=at_s, round_number=sent.round, number=self._num_flights)
        return Boarded(answer=answer, flight=flight)

    def needed_bytes(self, sent: Sent) -> int:
        """Return what a message that was denied would have needed."""
        return self._needed[sent.number]

    def land(self, sent: Sent, boarded: Boarded) -> None:
        """Keep what the node has learned, unless its flight ended before its work was done."""
        outcome, answer = sent.outcome, boarded.answer
        assert outcome is not None, "it has landed"
        is_done = outcome.has_arrived or "during upload" in outcome.reason
        if is_done and answer.raised is None:
            self._caller.keep(sent.device, answer.context)

    def _note_reply(self, sent: Sent, answer: Answer) -> None:
        if answer.raised is not None:
            text = self._tell(answer.raised)
            if text not in self._told:
                self._told.add(text)
                self._notice(f"the ClientApp failed on device {sent.device}: {text}")
            return
        assert answer.reply is not None, "a call without an exception has a reply"
        if answer.reply.has_error():
            return
        sent.numbers = numbers_of(answer.reply.content)
        sent.samples, sent.loss = samples_in(sent.numbers), loss_in(sent.numbers)
        if sent.is_training and sent.samples:
            self.fleet.samples[sent.device] = sent.samples

    def _deny(self, sent: Sent, needed: int, available: int) -> None:
        sent.shortfall_bytes = needed - available
        self._needed[sent.number] = needed
