"""Flights whose transfers share the link of the server: their outcome is known only when they have ended.

A device's transfer passes what its own link allows, and its fair share of the server's. Everything else is as in a
planned flight: the same conditions end it, the same pauses interrupt it. A flight that is dropped on its own link is
dropped on a shared one as well, because all it can be there is later.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import simpy

from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.flights import (
    ARRIVED,
    CUT,
    DROPPED,
    LOST,
    PHASES,
    Conditions,
    Flight,
    Load,
    Outcome,
    stretch_of,
)
from neulite_sim.timeline.legs import Leg, Steady
from neulite_sim.timeline.shared_link import SharedLink, Transfer

_SHORTEST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLinks:
    """The server's link in both directions; None where it is no bottleneck."""

    down: SharedLink | None
    up: SharedLink | None


@dataclass(slots=True)
class _Log:
    """What has happened of a flight so far."""

    began_s: float
    phase: int = 0
    worked_s: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    pauses: list[tuple[float, float]] = field(default_factory=list)
    transfer: Transfer | None = None
    paused_since_s: float | None = None

    def close_phase(self, now_s: float) -> None:
        """Count what the current phase worked until now."""
        found = self.outcome(now_s, kind=ARRIVED)
        self.worked_s = [found.download_s, found.compute_s, found.upload_s]

    def outcome(self, now_s: float, *, kind: str, reason: str = "") -> Outcome:
        """Return how the flight ends that ends now, in its current phase: this one has worked, its pauses aside."""
        pauses, worked_s = [*self.pauses], [*self.worked_s]
        if self.paused_since_s is not None and self.paused_since_s < now_s:
            pauses.append((self.paused_since_s, now_s))
        waited = math.fsum(end_s - start_s for start_s, end_s in pauses if start_s >= self.began_s)
        worked_s[self.phase] = max(0.0, now_s - self.began_s - waited)
        download_s, compute_s, upload_s = worked_s
        return Outcome(
            kind=kind,
            ended_s=now_s,
            download_s=download_s,
            compute_s=compute_s,
            upload_s=upload_s,
            reason=reason,
            pauses=tuple(pauses),
        )


class _Ended(Exception):  # noqa: N818
    """The flight is over before its time, for this reason."""


Steps = Generator[simpy.Event, object, None]


class SharedLanding(simpy.Process):
    """The end of a flight over the server's links: a process whose value is the flight's outcome.

    An interrupt ends the flight there: it is dropped, with the interrupt's cause as the reason.
    """

    def __init__(self, clock: Clock, flight: Flight, links: ServerLinks) -> None:
        self.flight = flight
        self._log = _Log(began_s=float(clock.now))
        super().__init__(clock, _fly(clock, flight, links, self._log))

    def so_far(self) -> Outcome:
        """Return what has become of the flight by now; one that is still out is cut."""
        if not self.is_alive:
            outcome = self.value
            assert isinstance(outcome, Outcome)
            return outcome
        return self._log.outcome(float(self.env.now), kind=CUT)


def _fly(clock: Clock, flight: Flight, links: ServerLinks, log: _Log) -> Generator[simpy.Event, object, Outcome]:
    departure = flight.departure
    assert departure is not None, "flights are planned with their departure where the server has a link"
    shared = (links.down, None, links.up)
    loads = (departure.down, None, departure.up)
    kind, reason = ARRIVED, ""
    try:
        for log.phase, leg in enumerate(departure.legs):
            log.began_s = float(clock.now)
            link, load = shared[log.phase], loads[log.phase]
            if link is None or load is None:
                yield from _work(clock, leg, flight.dispatched_s, departure.conditions, log)
            else:
                yield from _work(clock, Steady(load.latency_s), flight.dispatched_s, departure.conditions, log)
                yield from _pass(clock, link, load, flight.dispatched_s, departure.conditions, log)
            log.close_phase(float(clock.now))
    except _Ended as end:
        kind, reason = DROPPED, f"{end} during {PHASES[log.phase]}"
    except simpy.Interrupt as end:
        kind, reason = DROPPED, str(end.cause)
    if kind == DROPPED:
        _leave(links, log)
    return log.outcome(float(clock.now), kind=kind, reason=reason)


def _leave(links: ServerLinks, log: _Log) -> None:
    """Give the rate of a transfer that is on its way to the others."""
    link = links.down if log.phase == 0 else links.up
    if log.transfer is not None and link is not None:
        link.cancel(log.transfer)


def _work(clock: Clock, leg: Leg, dispatched_s: float, conditions: Conditions, log: _Log) -> Steps:
    """Let a leg pass that depends on nobody else."""
    now_s = float(clock.now)
    stop_s, cause = conditions.first_cause(dispatched_s)
    stretch = stretch_of(leg, now_s, stop_s, conditions)
    if conditions.memory_short_by is not None:
        # Memory can only end it earlier, so how far to look is known from the leg without it.
        stop_s, cause = conditions.first_cause(dispatched_s, memory_until_s=stretch.ended_s)
        stretch = stretch_of(leg, now_s, stop_s, conditions)
    for start_s, end_s in stretch.pauses:
        yield clock.at(start_s)
        log.paused_since_s = start_s
        yield clock.at(end_s)
        log.pauses.append((start_s, end_s))
        log.paused_since_s = None
    yield clock.at(stretch.ended_s)
    if not stretch.is_done:
        raise _Ended(stretch.hopeless or cause)


def _pass(clock: Clock, link: SharedLink, load: Load, dispatched_s: float, conditions: Conditions, log: _Log) -> Steps:
    """Let a transfer pass over the server's link, paused while its device is offline where flights pause."""
    began_s = float(clock.now)
    alone_s = load.num_bits / min(load.limit_bits_per_second, link.capacity_bits_per_second)
    transfer = log.transfer = link.transfer(load.num_bits, load.limit_bits_per_second)
    while True:
        now_s = float(clock.now)
        leaves_s = conditions.online_until_s(now_s) if conditions.waits_offline else math.inf
        # When it ends is up to the others: memory is looked at piece by piece, each longer than all before.
        looks_s = now_s + max(alone_s, now_s - began_s, _SHORTEST_LOOK_S)
        stop_s, cause = conditions.first_cause(dispatched_s, memory_until_s=min(looks_s, leaves_s))
        limit_s = min(leaves_s, stop_s, math.inf if conditions.memory_short_by is None else looks_s)
        limits: list[simpy.Event] = [clock.at(limit_s)] if limit_s < math.inf else []
        yield clock.any_of([transfer, *limits])
        # Whoever's last bit passes at the very moment at which it leaves has passed it.
        if transfer.processed:
            log.transfer = None
            return
        if clock.now >= stop_s:
            raise _Ended(cause)
        if clock.now < leaves_s:
            continue
        link.pause(transfer)
        log.paused_since_s = float(clock.now)
        back_s = conditions.next_online_s(log.paused_since_s)
        stop_s, cause = conditions.first_cause(dispatched_s, memory_until_s=back_s)
        if back_s == stop_s == math.inf:
            raise _Ended(LOST)
        yield clock.at(min(back_s, stop_s))
        log.pauses.append((log.paused_since_s, float(clock.now)))
        log.paused_since_s = None
        if stop_s <= back_s:
            raise _Ended(cause)
        link.resume(transfer)
