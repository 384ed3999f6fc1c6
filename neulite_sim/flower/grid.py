"""The grid: what a strategy sends messages through, and where the virtual clock moves while it waits.

Nothing takes virtual time but flights and the strategy's own sleeping. `send_and_receive` moves the clock to the last
reply or to its timeout, `pull_messages` not at all; a strategy that polls sleeps in between, and what it sleeps is
virtual (`waits.virtual_sleep`). Polls of which none can bring anything new are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import ErrorCode
from flwr.serverapp.grid import Grid
from flwr.supercore.run import Run

from neulite_sim.arrays import Flags
from neulite_sim.flower.boarding import Boarding
from neulite_sim.flower.calling import FIRST_NODE, node_of
from neulite_sim.flower.journeys import Sent
from neulite_sim.flower.recording import Logbook
from neulite_sim.flower.waits import Patience, TimeIsOver
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.deadline import ABORTED, MISSED, DeadlineOptions
from neulite_sim.timeline.endings import LoneLanding
from neulite_sim.timeline.flights import DROPPED
from neulite_sim.timeline.reasons import cause_of
from neulite_sim.timeline.shared_flights import ServerLinks, SharedLanding
from neulite_sim.timeline.shared_link import SharedLink
from neulite_sim.units import format_bytes, format_seconds

EXPIRED = "timed out: the message lived for {seconds}"


class FleetGrid(Grid):  # type: ignore[misc]
    """A grid whose nodes are the devices of a fleet."""

    def __init__(self, boarding: Boarding, logbook: Logbook, run: Run) -> None:
        fleet = boarding.fleet
        self._run = run
        self._boarding = boarding
        self._logbook = logbook
        self._scenario = fleet.scenario
        self._availability = fleet.population.availability
        self._num_devices = fleet.population.num_devices
        self._clock = Clock()
        until_s = self._scenario.stop.virtual_time
        self._over = None if until_s is None else self._clock.at(until_s, priority=0)
        self._links = self._server_links()
        self._sent: dict[str, Sent] = {}
        self._latest: dict[int, Any] = {}
        self.broken: BaseException | None = None
        """What broke the clock off, if anything did: no fault of an app."""
        self.patience = Patience(self._num_devices)

    # ---- what an app calls ------------------------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """Take the run that this grid is of."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run, as a copy."""
        return Run(**vars(self._run))

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message, as older apps ask for one."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are online now, by device."""
        online = np.flatnonzero(self._online())
        self.patience.saw(len(online))
        return [node_of(device) for device in online.tolist()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; each leaves now, or when its device is back from the one before."""
        return [sent.message_id for sent in self._push(list(messages))]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have come by now, in the order in which they came."""
        wanted = [self._sent[name] for name in dict.fromkeys(message_ids) if name in self._sent]
        return self._taken(wanted)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and return the replies that come within `timeout` virtual seconds, as they came."""
        sent = self._push(list(messages))
        self.wait_for(sent, timeout)
        return self._taken(sent)

    # ---- time -------------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """The virtual time."""
        return float(self._clock.now)

    def wait_for(self, sent: Sequence[Sent], timeout_s: float | None) -> None:
        """Let time pass until all of these are answered, or for so many seconds."""
        journeys = [one.journey for one in sent if one.journey.is_alive]
        if not journeys:
            return
        events: list[Any] = [self._clock.all_of(journeys)]
        if timeout_s is not None and math.isfinite(timeout_s):
            events.append(self._clock.at(self.now_s + max(0.0, timeout_s)))
        self._run_until(self._clock.any_of(events))

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass while the app sleeps.

        Raises:
            SimulationError: the app only waits, and nothing that it can wait for ever comes.
        """
        if not (seconds > 0 and math.isfinite(seconds)):
            return
        awaited_s = self._next_news_s() if self.patience.is_worn() else self.now_s
        until_s = self.patience.until_s(self.now_s, float(seconds), awaited_s)
        self._run_until(self._clock.at(until_s))

    def end(self) -> list[Sent]:
        """Return what was sent and never answered; the run is over."""
        return [sent for sent in self._sent.values() if sent.reply is None]

    def _next_news_s(self) -> float:
        """Return when the next device comes online or the next flight ends; `inf` where nothing ever does."""
        offline = np.flatnonzero(~self._online())
        comes_s = float(self._availability.next_online_s(offline, self.now_s).min(initial=math.inf))
        is_flying = any(journey.is_alive for journey in self._latest.values())
        if not is_flying:
            return comes_s
        # The clock's queue also holds the end of the run and deadlines: looked at too early, nothing is missed.
        return min(comes_s, float(self._clock.peek()))

    def _run_until(self, event: Any) -> None:
        """Run the clock until an event, and let everything happen that happens at that moment.

        Raises:
            TimeIsOver: the scenario's `stop.virtual_time` has come first.
        """
        try:
            for awaited in (event, None):
                step = self._clock.after_all() if awaited is None else awaited
                self._clock.run(until=step if self._over is None else self._clock.any_of([step, self._over]))
                if self._over is not None and self._over.processed:
                    raise TimeIsOver
        except BaseException:
            # The clock makes exceptions anew, and would lose what ours hold.
            if self.broken is not None:
                raise self.broken from None
            raise

    def _online(self) -> Flags:
        return self._availability.online(self.now_s)

    def _is_online(self, device: int) -> bool:
        # Of a large fleet one is asked for faster than all.
        until_s = self._availability.online_until_s(np.array([device], np.int64), self.now_s)
        return float(until_s[0]) > self.now_s

    # ---- messages ---------------------------------------------------------------------------------------------------

    def _push(self, messages: list[Message]) -> list[Sent]:
        found = []
        self.patience.acted()
        if messages:
            self._logbook.look(messages, self.now_s, self._online(), self._busy())
        closing = self._closing()
        for message in messages:
            sent = self._logbook.sent(message, device=message.metadata.dst_node_id - FIRST_NODE, at_s=self.now_s)
            self._sent[sent.message_id] = sent
            sent.journey = self._clock.process(self._watched(sent, closing))
            found.append(sent)
        # What is refused at once is answered at once.
        if messages:
            self._run_until(self._clock.after_all())
        if closing is not None:
            self._clock.process(self._close(closing, found))
        return found

    def _busy(self) -> Flags:
        busy = np.zeros(self._num_devices, np.bool_)
        busy[[device for device, journey in self._latest.items() if journey.is_alive]] = True
        return busy

    def _taken(self, sent: Sequence[Sent]) -> list[Message]:
        ready = sorted((one for one in sent if one.is_ready), key=lambda one: (one.answered_s, one.number))
        for one in ready:
            one.is_taken = True
        if ready:
            self.patience.acted()
        return [one.reply for one in ready if one.reply is not None]

    def _watched(self, sent: Sent, closing: Any) -> Generator[Any, Any, None]:
        try:
            yield from self._journey(sent, closing)
        except BaseException as error:
            self.broken = self.broken or error
            raise

    def _journey(self, sent: Sent, closing: Any) -> Generator[Any, Any, None]:
        if not 0 <= sent.device < self._num_devices:
            self._refuse(sent, ErrorCode.NODE_UNAVAILABLE, "there is no such node")
            return
        before = self._latest.get(sent.device)
        self._latest[sent.device] = sent.journey or self._clock.active_process
        if before is not None and before.is_alive:
            yield before
        if closing is not None and closing.triggered:
            self._refuse(sent, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, MISSED)
            return
        if not self._is_online(sent.device):
            self._refuse(sent, ErrorCode.NODE_UNAVAILABLE, f"device {sent.device} is offline")
            return
        boarded = self._boarding.board(sent, at_s=self.now_s)
        if boarded is None:
            lacks, needs = format_bytes(sent.shortfall_bytes), format_bytes(self._boarding.needed_bytes(sent))
            reason = f"device {sent.device} was not asked: {sent.name} needs {needs}, {lacks} more than it has"
            self._refuse(sent, ErrorCode.NODE_UNAVAILABLE, reason)
            return
        flight = sent.flight = boarded.flight
        sent.landing = self._launched(flight)
        lives = self._clock.at(max(self.now_s, sent.lives_until_s))
        yield self._clock.any_of([sent.landing, lives, *([] if closing is None else [closing])])
        yield self._clock.after_all()
        if not sent.landing.triggered:
            is_late = closing is not None and closing.triggered
            life = format_seconds(sent.lives_until_s - sent.pushed_s)
            sent.landing.interrupt(MISSED if is_late else EXPIRED.format(seconds=life))
            yield sent.landing
        outcome = sent.outcome = boarded.outcome(sent.landing.value)
        self._boarding.land(sent, boarded)
        if outcome.has_arrived:
            self._answer(sent, boarded.answer.reply)
        elif boarded.answer.raised is not None and cause_of(outcome.kind, outcome.reason) == "failed":
            raised = boarded.answer.raised
            self._refuse(sent, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(raised)}:<'{raised}'>")
        else:
            self._refuse(sent, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, f"device {sent.device}: {outcome.reason}")
        self._logbook.ended(sent)

    def _launched(self, flight: Any) -> Any:
        if self._links is None:
            return LoneLanding(self._clock, flight)
        return SharedLanding(self._clock, flight, self._links)

    def _server_links(self) -> ServerLinks | None:
        rates = self._boarding.fleet.timing.rates
        if rates is None:
            return None
        down, up = (None if rate is None else SharedLink(self._clock, rate) for rate in (rates.down, rates.up))
        return ServerLinks(down=down, up=up)

    def _refuse(self, sent: Sent, code: int, reason: str) -> None:
        sent.denial = "" if sent.flight is not None else reason
        self._answer(sent, Message(Error(code=code, reason=reason), reply_to=sent.message))

    def _answer(self, sent: Sent, reply: Message | None) -> None:
        assert reply is not None, "a flight that arrives brings a reply"
        reply.metadata.__dict__["_message_id"] = f"reply-{sent.number}"
        sent.reply, sent.answered_s = reply, self.now_s

    # ---- the deadline -----------------------------------------------------------------------------------------------

    def _closing(self) -> Any:
        """Return the event at which what was sent together is too late; None without a deadline."""
        options = self._scenario.protocol.options
        if not isinstance(options, DeadlineOptions) or options.maximum_wait is None:
            return None
        return self._clock.event()

    def _close(self, closing: Any, sent: Sequence[Sent]) -> Generator[Any, Any, None]:
        """Close a batch at the deadline, or later where too few have arrived and the scenario extends it."""
        options = self._scenario.protocol.options
        yield self._clock.at(self.now_s + options.maximum_wait)
        yield self._clock.after_all()
        while options.too_few == "extend":
            num_arrived = sum(one.outcome is not None and one.outcome.has_arrived for one in sent)
            flying = [one.journey for one in sent if one.journey.is_alive]
            if num_arrived >= options.minimum_updates or not flying:
                break
            yield self._clock.any_of(flying)
            yield self._clock.after_all()
        closing.succeed()
        arrived = [(one, one.outcome) for one in sent if one.outcome is not None and one.outcome.has_arrived]
        if options.too_few == "abort" and len(arrived) < options.minimum_updates:
            reason = ABORTED.format(arrived=len(arrived), minimum=options.minimum_updates)
            for one, outcome in arrived:
                # What was pulled before cannot be called back.
                if not one.is_taken:
                    one.outcome = replace(outcome, kind=DROPPED, reason=reason)
                    self._refuse(one, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason)
