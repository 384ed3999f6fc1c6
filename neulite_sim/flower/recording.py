"""The logbook: rounds, flights and denials of an app as the rows of every other run.

A round begins with the first messages that train under another name (`server-round`, or the group of the message) than
those before, or, where the app names none, with those that leave at a later moment. It is closed by the next one, or
by the end of the run; what ended in between are its flights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neulite_sim.arrays import Flags
from neulite_sim.engine.roll_call import RollCall
from neulite_sim.engine.rowing import denial_row
from neulite_sim.engine.views import IN_FLIGHT, OFFLINE, Look
from neulite_sim.flower.calling import SERVER_ROUND
from neulite_sim.flower.flying import Fleet
from neulite_sim.flower.journeys import Sent
from neulite_sim.flower.sizes import accuracy_in, loss_in
from neulite_sim.methods.contract import Denial
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.digest import Digest
from neulite_sim.results.energy import joules_of_cells, tally_of
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import FlightRow, Notice, Progress, RoundRow, Row
from neulite_sim.results.summary import Tally
from neulite_sim.timeline.flights import CUT, Outcome, cut_short
from neulite_sim.timeline.shared_flights import SharedLanding

if TYPE_CHECKING:
    from flwr.app import Message

Tested = Callable[[str | None], tuple[float | None, float | None]]
"""Returns loss and accuracy of the server's own test after a round that the app calls so; None where it has none."""


@dataclass(slots=True, kw_only=True)
class _Round:
    """A round that is open."""

    number: int
    label: str | None
    opened_s: float
    online: Flags
    busy: Flags
    flown: list[Sent] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)


class Logbook:
    """Keeps what happens, writes it to a sink, and tells observers."""

    def __init__(self, fleet: Fleet, sink: Sink, observers: Sequence[Observer], tally: Tally, tested: Tested) -> None:
        self._fleet = fleet
        self._sink = sink
        self._observers = observers
        self._tally = tally
        self._tested = tested
        self._num_devices = fleet.population.num_devices
        self._powers, self._has_asked = fleet.powers, fleet.scenario.energy is not None
        self.roll_call = RollCall(fleet.population, np.ones(self._num_devices, np.bool_))
        self.digest = Digest()
        self._open: _Round | None = None
        self._num_rounds = 0
        self._num_sent = 0
        self._early: list[Sent] = []
        self._began = self._round_began = time.perf_counter()
        self.latest_arrays: Any = None
        """The arrays that were sent out to be trained last."""

    @property
    def wall_time_s(self) -> float:
        """Seconds since the logbook was made."""
        return time.perf_counter() - self._began

    def notice(self, message: str) -> None:
        """Tell observers something that a user should know."""
        self._notify(Notice(message=message))

    def look(self, messages: Sequence[Message], at_s: float, online: Flags, busy: Flags) -> None:
        """Look at the fleet before messages are sent; those that train may begin a round."""
        training = [message for message in messages if message.metadata.message_type.partition(".")[0] == "train"]
        if not training:
            return
        label = label_of(training[0])
        records = list(training[0].content.array_records.values())
        if records:
            self.latest_arrays = records[0]
        found = self._open
        if found is not None and (found.label == label if label is not None else found.opened_s == at_s):
            return
        self.close(at_s)
        self._num_rounds += 1
        self._open = _Round(number=self._num_rounds, label=label, opened_s=at_s, online=online, busy=busy)
        # What was asked before anything was trained is counted with the first round.
        self._open.flown, self._early = self._early, []

    def sent(self, message: Message, *, device: int, at_s: float) -> Sent:
        """Give a message its number and its round."""
        self._num_sent += 1
        message.metadata.__dict__["_message_id"] = f"message-{self._num_sent}"
        sent = Sent(
            number=self._num_sent,
            message=message,
            device=device,
            name=message.metadata.message_type,
            label=label_of(message),
            round=max(1, self._num_rounds),
            pushed_s=at_s,
            lives_until_s=at_s + float(message.metadata.ttl),
        )
        if self._open is not None:
            self._open.sent.append(sent)
        return sent

    def ended(self, sent: Sent) -> None:
        """Take note that a flight has ended."""
        (self._early if self._open is None else self._open.flown).append(sent)
        self._progress(sent.answered_s)

    def close(self, at_s: float, unanswered: Sequence[Sent] = (), reason: str = "") -> None:
        """Write the round that is open; `unanswered` are still on their way when the run is over for `reason`."""
        found = self._open
        if found is None and reason and (self._early or unanswered):
            found = self._only_round()
        if found is None:
            return
        self._open = None
        for denial in self._denials(found):
            self._write(denial_row(found.number, denial))
        look = Look(at_s=found.opened_s, mark=0, memory_bytes=self._memory(found))
        denials = self._denials(found)
        self.roll_call.count_round(look, denials)
        self.roll_call.come_to(at_s)
        cut = [(sent, _cut(sent, at_s, reason)) for sent in unanswered if sent.flight is not None]
        flown = [(sent, sent.outcome) for sent in found.flown if sent.outcome is not None]
        rows = FlightRows.of([self._flight_row(sent, outcome, found.number) for sent, outcome in (*flown, *cut)])
        rows = rows.costed(joules_of_cells(rows.cells, self._powers), is_column=self._has_asked)
        if len(rows):
            self._sink.write_flights(rows)
            self.digest.add_flights(rows)
            self._tally.add_flights(rows)
            self.roll_call.count_flights(rows)
        row = self._round_row(found, at_s, rows, denials)
        self._write(row)
        self._notify(row)

    def _only_round(self) -> _Round:
        """Return the one round of an app that never trains."""
        self._num_rounds += 1
        nobody = np.zeros(self._num_devices, np.bool_)
        flown, self._early = self._early, []
        return _Round(number=self._num_rounds, label=None, opened_s=0.0, online=~nobody, busy=nobody, flown=flown)

    def _write(self, row: Row) -> None:
        self._sink.write(row)
        self.digest.add(row)
        self._tally.add(row)

    def _notify(self, event: Any) -> None:
        for observer in self._observers:
            observer.notify(event)

    def _memory(self, found: _Round) -> Any:
        everybody = np.arange(self._num_devices)
        return self._fleet.ledger.available_at(everybody, found.opened_s, found.number)

    def _denials(self, found: _Round) -> list[Denial]:
        """Return why devices could not be trained with in a round, everybody of whom that is true."""
        is_open = found.online & ~found.busy
        names = list(dict.fromkeys(sent.name for sent in found.sent if sent.is_training))
        name = names[0] if names else "train"
        needed = self._fleet.ledger.peaks.get(name, 0)
        lacking = needed - self._memory(found)
        for sent in found.sent:
            # A call that needed more than the least of its kind.
            if sent.is_training and sent.shortfall_bytes and 0 <= sent.device < self._num_devices:
                lacking[sent.device] = max(int(lacking[sent.device]), sent.shortfall_bytes)
        small = np.flatnonzero(is_open & (lacking > 0))
        short = lacking[small]
        reasons = (
            Denial(reason=OUT_OF_MEMORY, devices=small, submodel=name, shortfall=lambda: short),
            Denial(reason=IN_FLIGHT, devices=np.flatnonzero(found.online & found.busy)),
            Denial(reason=OFFLINE, devices=np.flatnonzero(~found.online)),
        )
        return [denial for denial in reasons if len(denial)]

    def _flight_row(self, sent: Sent, outcome: Outcome, round_number: int) -> FlightRow:
        flight, population = sent.flight, self._fleet.population
        assert flight is not None, "only what has flown has a row"
        return FlightRow(
            flight=flight.number,
            round=round_number,
            device=sent.device,
            device_class=population.classes[int(population.class_index[sent.device])].name,
            submodel=sent.name,
            version=flight.version,
            dispatched_s=float(flight.dispatched_s),
            download_s=float(outcome.download_s),
            compute_s=float(outcome.compute_s),
            upload_s=float(outcome.upload_s),
            waiting_s=float(outcome.waiting_s),
            ended_s=float(outcome.ended_s),
            outcome=outcome.kind,
            reason=outcome.reason,
            pauses=";".join(f"{start_s!r}-{end_s!r}" for start_s, end_s in outcome.pauses),
            peak_memory_bytes=flight.cost.peak_memory_bytes,
            available_memory_bytes=flight.cost.available_memory_bytes,
            batch_size=0,
            samples=sent.samples,
            bytes_down=sent.bytes_down,
            bytes_up=sent.bytes_up if outcome.has_arrived else 0,
            staleness=max(0, round_number - sent.round) if outcome.has_arrived and sent.is_training else None,
            loss=sent.loss if outcome.has_arrived else None,
        )

    def _round_row(self, found: _Round, at_s: float, rows: FlightRows, denials: Sequence[Denial]) -> RoundRow:
        trained = [sent for sent in found.flown if sent.is_training and _arrived(sent)]
        others = [sent for sent in found.flown if not sent.is_training and _arrived(sent)]
        arrived = sum(outcome == "arrived" for outcome in rows.cells["outcome"])
        test_loss, test_accuracy = self._tested(found.label)
        if test_loss is None and test_accuracy is None:
            test_loss = _mean([(loss_in(sent.numbers), sent.samples) for sent in others])
            test_accuracy = _mean([(accuracy_in(sent.numbers), sent.samples) for sent in others])
        energy = tally_of(rows) if self._has_asked else None
        now = time.perf_counter()
        wall_s, self._round_began = now - self._round_began, now
        num_denied = sum(map(len, denials))
        return RoundRow(
            round=found.number,
            virtual_time_s=at_s,
            stage="+".join(sorted({sent.name for sent in found.flown})) or "train",
            online=int(np.count_nonzero(found.online)),
            offered=self._num_devices - num_denied,
            selected=len(rows),
            arrived=arrived,
            dropped=len(rows) - arrived,
            discarded=0,
            denied=num_denied,
            staleness_mean=_mean([(float(max(0, found.number - sent.round)), 1) for sent in trained]),
            train_loss=_mean([(sent.loss, sent.samples) for sent in trained]),
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            learning_rate=0.0,
            bytes_down=sum(rows.cells["bytes_down"]),
            bytes_up=sum(rows.cells["bytes_up"]),
            peak_memory_bytes=max(rows.cells["peak_memory_bytes"], default=0),
            skipped_terms=0,
            workers_replaced=0,
            wall_time_s=wall_s,
            energy_j=energy.energy_j if energy else None,
            wasted_energy_j=energy.wasted_energy_j if energy else None,
        )

    def _progress(self, at_s: float) -> None:
        found = self._open
        if found is None or not self._observers:
            return
        online = int(np.count_nonzero(found.online))
        self._notify(
            Progress(
                round=found.number,
                virtual_time_s=at_s,
                stage=found.flown[-1].name if found.flown else "train",
                online=online,
                offline=self._num_devices - online,
                training=sum(sent.reply is None for sent in found.sent),
                trained=len(found.flown),
                denied_by_memory=sum(sent.shortfall_bytes > 0 for sent in found.sent),
            )
        )


def label_of(message: Message) -> str | None:
    """Return what an app calls the round of a message; None where it does not say."""
    for record in message.content.config_records.values() if message.has_content() else ():
        if SERVER_ROUND in record:
            return str(record[SERVER_ROUND])
    return message.metadata.group_id or None


def _arrived(sent: Sent) -> bool:
    return sent.outcome is not None and sent.outcome.has_arrived


def _cut(sent: Sent, at_s: float, reason: str) -> Outcome:
    flight, landing = sent.flight, sent.landing
    assert flight is not None, "only what has left can be cut"
    # Over the server's link nothing is as it was planned.
    found = landing.so_far() if isinstance(landing, SharedLanding) else flight.planned
    return cut_short(found, float(flight.dispatched_s), at_s, kind=CUT, reason=reason)


def _mean(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    """Return the mean of what is known, weighted by samples where there are any."""
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in known)
    if not known:
        return None
    if not total:
        return sum(value for value, _ in known) / len(known)
    return sum(value * weight for value, weight in known) / total
