"""The laws of the protocol contract as assertions, for tests of any protocol, in this package or in another.

In a test of yours:

    from neulite_sim.timeline.conformance import check_protocol
    check_protocol(lambda: COMPONENT.build(COMPONENT.options()))

A protocol is driven by the real clock against a server that learns nothing: devices of four speeds come and go, many
end at the same moment, some flights are lost. Each call is checked where it is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field

import simpy

from neulite_sim.contracts import held_to
from neulite_sim.errors import SimulationError
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Cost
from neulite_sim.profiling.plans import Plan
from neulite_sim.timeline.clock import Clock
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.contract import RoundProtocol, Server, ServerRates, run_protocol
from neulite_sim.timeline.endings import Ending, Landing, Launch, Notes
from neulite_sim.timeline.flights import ARRIVED, DROPPED, Conditions, Departure, Flight, Load, Outcome
from neulite_sim.timeline.legs import Steady

NUM_DEVICES = 12
NUM_ROUNDS = 40
PATIENCE = 15
"""So many aggregations after its end a flight must have been handed over."""
MOST_CALLS = 1000
"""Calls of the server at one moment after which a protocol is taken to stand still."""
MOST_CALLS_IN_ALL = 100_000
"""Calls of the server in one story after which a protocol is taken to go on for ever."""
MOST_FLIGHTS = 100
"""Flights per aggregation, on average, after which a protocol is taken never to aggregate."""
_DAY_S, _NIGHT_S = 45.0, 60.0
_MEGABIT = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a protocol is put through: every `loses`-th flight is lost, and `rates` are those of the server's link.

    With `sleeps` nobody is online in the last quarter of every minute, and every device for itself now and then. After
    `flights_left` flights nobody can be offered work.
    """

    name: str
    devices_per_round: int
    loses: int = 4
    sleeps: bool = False
    flights_left: int | None = None
    rates: ServerRates | None = None


STORIES = (
    Story(name="three at a time", devices_per_round=3),
    Story(name="one at a time, no flight lost", devices_per_round=1, loses=NUM_DEVICES**4),
    Story(name="more wanted than there are, now and then nobody online", devices_per_round=30, sleeps=True),
    Story(name="over a shared link", devices_per_round=4, rates=ServerRates(down=2 * _MEGABIT, up=_MEGABIT)),
)
DRAINED = Story(name="until nobody is left", devices_per_round=3, flights_left=20)


@held_to("neulite_sim.timeline.contract.RoundProtocol")
def check_protocol(factory: Callable[[], RoundProtocol]) -> None:
    """Pass where the protocols that `factory` returns keep the contract of `neulite_sim.timeline.contract`.

    Each story is told twice, to a new protocol each time.

    Raises:
        AssertionError: the first law that is broken, with the flight and the moment that it is about.
    """
    assert isinstance(factory().mixes_versions, bool), "mixes_versions: must be True or False"
    for story in STORIES:
        first, again = (_told(factory(), story) for _ in range(2))
        for one, other in zip(first, again, strict=False):
            assert one == other, (
                f"{story.name}: {one} and, told once more, {other}; a protocol must decide by the clock and the "
                "server alone"
            )
        assert len(first) == len(again), f"{story.name}: {len(first)} calls and, told once more, {len(again)}"
    try:
        _told(factory(), DRAINED)
    except SimulationError:
        return
    raise AssertionError(f"{DRAINED.name}: process ended well although nobody can be offered work again")


def _told(protocol: RoundProtocol, story: Story) -> list[str]:
    """Return what a protocol did in a story, in words that can be compared."""
    server = _Bench(story, protocol.mixes_versions)
    try:
        watched = _Watched(protocol, server, protocol.mixes_versions)
        ended_s = run_protocol(watched, server, until_s=None, rates=story.rates)
    except SimulationError as error:
        if story is DRAINED:
            raise
        raise AssertionError(f"{story.name}: {error}") from error
    except RuntimeError as stuck:
        # SimPy: nothing is left in the queue, and the process goes on waiting.
        raise AssertionError(f"{story.name}: process waits for what never happens ({stuck})") from stuck
    assert server.is_over(), (
        f"{story.name}: process returned after {server.num_digests} of {NUM_ROUNDS} aggregations, before is_over()"
    )
    server.check_handed_over()
    return [*server.log, f"the end at {ended_s!r} s"]


@dataclass(slots=True)
class _Watched:
    """A protocol whose server knows the clock, and whose launches are checked."""

    protocol: RoundProtocol
    bench: _Bench
    mixes_versions: bool

    def process(self, clock: Clock, server: Server, launch: Launch) -> Generator[simpy.Event, object, None]:
        self.bench.clock = clock

        yield from self.protocol.process(clock, server, _CheckedLaunch(self.bench, launch))


@dataclass(slots=True)
class _CheckedLaunch:
    """What starts flights, and takes note of each."""

    bench: _Bench
    launch: Launch

    def __call__(self, flight: Flight) -> Landing:
        self.bench.check_launch(flight)
        return self.launch(flight)

    def together(self, flights: Flights) -> Notes:
        for flight in flights:
            self.bench.check_launch(flight)
        return self.launch.together(flights)


@dataclass(slots=True)
class _Known:
    """What has been done with a flight."""

    flight: Flight
    merges_before: int
    is_named: bool = False
    is_launched: bool = False
    outcome: Outcome | None = None
    digests_at_end: int = 0
    is_handed_over: bool = False


@dataclass(slots=True)
class _Bench:
    """The server of `timeline.contract.Server`, without anybody behind it."""

    story: Story
    mixes_versions: bool
    clock: Clock = field(default_factory=Clock)
    num_digests: int = 0
    version: int = 0
    log: list[str] = field(default_factory=list)
    _known: dict[int, _Known] = field(default_factory=dict)
    _merges: dict[str, int] = field(default_factory=dict)
    _times: list[int] = field(default_factory=lambda: [0] * NUM_DEVICES)
    _busy: set[int] = field(default_factory=set)
    _is_drained: bool = False
    _calls: int = 0
    _calls_in_all: int = 0
    _called_at_s: float = -1.0

    @property
    def devices_per_round(self) -> int:
        """How many devices are wanted at a time."""
        return self.story.devices_per_round

    def is_over(self) -> bool:
        """Whether all rounds have been aggregated."""
        self._count_call()
        return self.num_digests >= NUM_ROUNDS

    def dispatch(self, at_s: float, *, wanted: int | None = None) -> Sequence[Flight]:
        """Send those out who flew least often, at most as many as are wanted."""
        self._check_call("dispatch", at_s)
        assert wanted is None or (isinstance(wanted, int) and wanted >= 1), (
            f"dispatch: at {at_s:g} s, wanted must be a whole number from 1 up, or left out, is {wanted!r}"
        )
        left = math.inf if self.story.flights_left is None else self.story.flights_left - len(self._known)
        free = [device for device in self._free() if self._is_online(device, at_s)]
        ready = sorted(free, key=lambda device: (self._times[device], device))[
            : int(min(wanted or self.devices_per_round, left))
        ]
        flights = [self._flight(len(self._known) + 1 + place, device) for place, device in enumerate(sorted(ready))]
        for flight in flights:
            self._known[flight.number] = _Known(flight, self._merges.get(flight.stage, 0))
            self._times[flight.device] += 1
            self._busy.add(flight.device)
        assert len(self._known) <= MOST_FLIGHTS * (self.num_digests + 1) + 1000, (
            f"{self.story.name}: {len(self._known)} flights until {at_s:g} s, and {self.num_digests} aggregations; "
            "digest what has arrived"
        )
        self._log(f"dispatches {len(flights)}")
        return flights

    def train(self, flights: Iterable[Flight]) -> None:
        """Take note of what may be merged."""
        for flight in flights:
            known = self._of("train", flight)
            assert flight.dispatched_s == self.clock.now, (
                f"train: flight {flight.number} left at {flight.dispatched_s:g} s and is named at "
                f"{self.clock.now:g} s; name flights at their dispatch"
            )
            assert not known.is_named, f"train: flight {flight.number} is named twice"
            known.is_named = True
            self._log(f"trains {flight.number}")

    def check_launch(self, flight: Flight) -> None:
        """Take note of a launch."""
        known = self._of("launch", flight)
        assert not known.is_launched, f"launch: flight {flight.number} is launched twice"
        assert flight.dispatched_s == self.clock.now, (
            f"launch: flight {flight.number} was dispatched at {flight.dispatched_s:g} s and is launched at "
            f"{self.clock.now:g} s; launch flights at their dispatch"
        )
        known.is_launched = True

    def note_end(self, ending: Ending) -> None:
        """Take note of an end; `run_protocol` calls this."""
        known = self._known[ending.flight.number]
        known.outcome, known.digests_at_end = ending.outcome, self.num_digests
        self._busy.remove(ending.flight.device)
        self._log(f"{ending.flight.number} has {ending.outcome.kind} {ending.outcome.reason}")
        cut = ending.outcome.kind == DROPPED and not ending.outcome.reason
        assert not cut, f"interrupt: flight {ending.flight.number} is ended without a reason"

    def staleness(self, flight: Flight) -> int:
        """Return how many aggregations of the flight's stage there have been since."""
        return self._merges.get(flight.stage, 0) - self._of("staleness", flight).merges_before

    def stage(self) -> str:
        """Return one of two stages, which take turns."""
        return f"stage-{1 + self.version % 2}"

    def digest(self, ended: Sequence[Ending], at_s: float) -> None:
        """Check what is handed over, and count an aggregation."""
        self._check_call("digest", at_s)
        assert len(ended), f"digest: at {at_s:g} s, nothing is handed over; wait until a flight has ended"
        merged = [ending for ending in ended if self._is_merged(ending)]
        self.num_digests += 1
        self.version += bool(merged)
        for stage in {ending.flight.stage for ending in merged}:
            self._merges[stage] = self._merges.get(stage, 0) + 1
        self._log(f"digests {[(ending.flight.number, ending.refused, ending.mixing) for ending in ended]}")

    def next_chance_s(self, at_s: float, *, until_s: float = math.inf) -> float:
        """Return when somebody who is free comes online; with others in flight none after `until_s`."""
        self._check_call("next_chance_s", at_s)
        if self.story.flights_left is not None and len(self._known) >= self.story.flights_left:
            if self._busy:
                return math.inf
            self._is_drained = True
            raise SimulationError("nobody can be offered work any more")
        later_s = [at_s + step / 4 for step in range(1, 4 * 120)]
        free = self._free()
        found_s = next((s for s in later_s if any(self._is_online(device, s) for device in free)), math.inf)
        return found_s if found_s <= until_s or not self._busy else math.inf

    def check_handed_over(self) -> None:
        """Check that no flight was forgotten that ended long before the run did."""
        for number, known in self._known.items():
            assert known.is_launched, (
                f"launch: flight {number} was dispatched at {known.flight.dispatched_s:g} s and never launched, so its "
                "device never came back"
            )
            waited = self.num_digests - known.digests_at_end
            assert known.outcome is None or known.is_handed_over or waited < PATIENCE, (
                f"digest: flight {number} ended at {known.outcome.ended_s:g} s, {waited} aggregations ago, and was "
                "never handed over; lost flights are handed over as well"
            )

    def _is_merged(self, ending: Ending) -> bool:
        """Take note of a flight that is handed over, and return whether it is merged."""
        number = ending.flight.number
        known = self._of("digest", ending.flight)
        assert known.outcome is not None, (
            f"digest: flight {number} has not ended at {self.clock.now:g} s; hand over what has landed"
        )
        assert ending.outcome == known.outcome, (
            f"digest: flight {number} {known.outcome.kind} at {known.outcome.ended_s:g} s, handed over as "
            f"{ending.outcome.kind} at {ending.outcome.ended_s:g} s; use ending_of(flight, landing)"
        )
        known.is_handed_over = True
        if not ending.is_merged:
            return False
        assert known.is_named, f"digest: flight {number} is merged, but train was not called with it at its dispatch"
        assert self.mixes_versions or ending.flight.version == self.version, (
            f"digest: flight {number} was sent version {ending.flight.version} and is merged into {self.version}; "
            "say so with mixes_versions = True"
        )
        if ending.mixing is not None:
            how, told = ending.mixing, f"digest: flight {number} is mixed"
            assert math.isfinite(how.rate), f"{told} at a rate of {how.rate}"
            assert how.anchor in ("current", "own"), f"{told} with the anchor {how.anchor!r}"
            assert 0 < how.weight < math.inf, f"{told} with a weight of {how.weight}"
        return True

    def _of(self, call: str, flight: Flight) -> _Known:
        known = self._known.get(flight.number)
        assert known is not None, f"{call}: there is no flight {flight.number}"
        assert known.flight is flight, f"{call}: flight {flight.number} is another than the one that was dispatched"
        assert not known.is_handed_over, (
            f"{call}: flight {flight.number} was handed over already, before {self.clock.now:g} s; each is handed over "
            "once, and not asked about afterwards"
        )
        return known

    def _check_call(self, call: str, at_s: float) -> None:
        self._count_call()
        assert at_s == self.clock.now, f"{call}: is told {at_s:g} s at {self.clock.now:g} s; it is for now (clock.now)"
        assert at_s < math.inf, f"{call}: at the end of all time; next_chance_s is inf while others are in flight"
        assert self.num_digests < NUM_ROUNDS, f"{call}: at {at_s:g} s, although is_over() is True"

    def _count_call(self) -> None:
        self._calls = self._calls + 1 if self._called_at_s == self.clock.now else 1
        self._called_at_s = self.clock.now
        self._calls_in_all += 1
        assert self._calls_in_all < MOST_CALLS_IN_ALL, (
            f"{self.story.name}: {self._calls_in_all} calls until {self.clock.now:g} s, and no end; where dispatch "
            "returns nothing, wait for clock.at(server.next_chance_s(clock.now)), which raises where there is none"
        )
        assert not self._is_drained, (
            f"{self.story.name}: next_chance_s raised a SimulationError because nobody can be offered work again, and "
            "the protocol went on; let it through"
        )
        assert self._calls < MOST_CALLS, (
            f"{self.story.name}: {self._calls} calls at {self.clock.now:g} s; where dispatch returns nothing, wait for "
            "clock.at(server.next_chance_s(clock.now)) or for a flight to end"
        )

    def _log(self, what: str) -> None:
        self.log.append(f"{what} at {self.clock.now!r} s")

    def _free(self) -> list[int]:
        return [device for device in range(NUM_DEVICES) if device not in self._busy]

    def _is_online(self, device: int, at_s: float) -> bool:
        return not self.story.sleeps or (at_s % _NIGHT_S < _DAY_S and (at_s + 7 * device) % 21 < 14)

    def _flight(self, number: int, device: int) -> Flight:
        """Return a flight of one, two, three or four quarters of the slowest, so that many end together."""
        compute_s = 1.0 + device % 4
        now_s = self.clock.now
        is_lost = number % self.story.loses == 0
        cost = Cost(
            submodel=FULL,
            device=device,
            download_s=0.5,
            compute_s=compute_s,
            upload_s=0.5,
            peak_memory_bytes=1,
            available_memory_bytes=1,
            plan=Plan(batch_size=1),
        )
        planned = Outcome(
            kind=DROPPED if is_lost else ARRIVED,
            ended_s=now_s + 0.5 + compute_s + (0.0 if is_lost else 0.5),
            download_s=0.5,
            compute_s=compute_s,
            upload_s=0.0 if is_lost else 0.5,
            reason="failed during upload" if is_lost else "",
        )
        return Flight(
            number=number,
            round=self.num_digests + 1,
            version=self.version,
            stage=self.stage(),
            dispatched_s=now_s,
            cost=cost,
            planned=planned,
            departure=None if self.story.rates is None else _departure(planned),
        )


def _departure(planned: Outcome) -> Departure:
    """Return what a flight goes by over the server's link; one that is lost fails when it would alone."""
    load = Load(num_bits=_MEGABIT / 2, limit_bits_per_second=_MEGABIT, latency_s=0.0)
    fails_at_s = math.inf if planned.has_arrived else planned.ended_s
    conditions = Conditions(online_until_s=lambda _: math.inf, next_online_s=lambda at_s: at_s, fails_at_s=fails_at_s)
    return Departure(
        legs=(Steady(0.5), Steady(planned.compute_s), Steady(0.5)), conditions=conditions, down=load, up=load
    )
