"""The loop of a run: offers, choice, dispatch, arrival, digest. One digest is one round.

The protocol decides when to dispatch and when to digest (`timeline.contract`); what happens then is told here, from
top to bottom. Each step is one call deep: who is where is the business of the `Airspace`, what is really trained and
tested that of `Learning`, and what is written down that of `Settling`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from neulite_sim.engine.airspace import Airspace
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.engine.dispatching import Dispatching
from neulite_sim.engine.examining import Examiner
from neulite_sim.engine.facts import Counts, RoundFacts
from neulite_sim.engine.learning import Learning
from neulite_sim.engine.lookout import Lookout
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.replay import Keeper
from neulite_sim.engine.settling import Settling
from neulite_sim.engine.testing import Testing
from neulite_sim.engine.tracking import RUN_OVER, TIME_OVER, Recorder
from neulite_sim.engine.waiting import next_chance, nobody_before_the_end, nobody_left
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import State
from neulite_sim.selection.contract import Selector
from neulite_sim.stopping import ask_again_where_it_was_lost
from neulite_sim.timeline.columns import Flights
from neulite_sim.timeline.endings import Ending, Endings
from neulite_sim.timeline.flights import Flight
from neulite_sim.training.contract import Backend
from neulite_sim.units import format_seconds


class Federation:
    """The server of a federation, as the protocol sees it (`timeline.contract.Server`)."""

    def __init__(
        self, costing: Costing, selector: Selector, backend: Backend, recorder: Recorder, keeper: Keeper
    ) -> None:
        self._costing = costing
        self._recorder = recorder
        owns = costing.partition.sizes > 0
        whereabouts = Whereabouts(costing.population.availability, owns)
        self._lookout = Lookout(costing.asked_method, costing.ledger, whereabouts, owns)
        self._airspace = Airspace(whereabouts, costing.population.charges)
        self._dispatching = Dispatching(costing, selector, self._lookout, whereabouts, self._airspace)
        recorder.roll_call.follow(whereabouts)
        self._learning = Learning(costing, backend, recorder, keeper)
        examiner = Examiner(costing.asked_method, backend, keeper)
        self._testing = Testing(costing.scenario.stop, self._learning, examiner, recorder)
        self._settling = Settling(costing, selector, self._airspace, self._learning, self._testing, recorder, keeper)
        self._rounds = 0
        self._aggregated_s = 0.0

    def dispatch(self, at_s: float, *, wanted: int | None = None) -> Sequence[Flight]:
        """Choose among the offers of now and plan the flights; none where nobody can be offered work."""
        # 1. to 3. Offers, choice, dispatch.
        return self.dispatch_along(at_s, wanted=wanted or self.devices_per_round, landings=None)[0]

    def dispatch_along(self, at_s: float, *, wanted: int, landings: Endings | None) -> tuple[Sequence[Flight], int]:
        """Dispatch now, and go on as flights land, as `timeline.contract.Foresighted` says."""
        # Where the model before has reached the target the run is over for those in the air, and nobody follows them.
        if self._airspace.has_aloft and self._testing.stops_before_next_round():
            return (), 0
        sent = self._dispatching.along(self._learning.state, self._rounds, at_s, wanted=wanted, landings=landings)
        if len(sent[0]):
            self._recorder.roll_call.note_dispatch(self._dispatching.seen.memory_bytes)
        return sent

    def train(self, flights: Iterable[Flight]) -> None:
        """Start the training of the flights that the protocol may merge, beside everything that is to come."""
        named = Flights.of(flights if isinstance(flights, Sequence) else list(flights))
        arriving = named.planned.has_arrived
        self._learning.begin(named if arriving.all() else named.taken(np.flatnonzero(arriving)))
        if self._recorder.is_watched:
            self._recorder.dispatched(self._rounds + 1, self._dispatching.seen, training=self._airspace.num_in_flight)

    def note_end(self, ending: Ending) -> None:
        """Let a device fly again whose flight has ended, whether or not its update waits to be merged."""
        self._airspace.land(ending)

    def note_ends(self, ended: Endings) -> None:
        """Let the devices of many fly again."""
        self._airspace.land_all(ended)

    def digest(self, ended: Sequence[Ending], at_s: float) -> None:
        """Aggregate what is merged, unless the model before has reached the target: the run was over before."""
        if not ended:
            raise SimulationError(f"the protocol hands over no flight at {format_seconds(at_s)}; digest what has ended")
        if self._testing.stops_before_next_round():
            return
        # 4. Arrival: what has come in, by ascending device and not in the order in which it came.
        endings = Endings.of(ended)
        order = np.lexsort((np.array(endings.flights.numbers), endings.flights.devices))
        merged = endings.taken(order[endings.is_merged[order]])
        stalenesses = self._airspace.stalenesses(merged.flights)
        self._airspace.hand_over(endings.flights)
        self._learning.forget(set(endings.flights.numbers) - stalenesses.keys())

        # 5. Digest: the method learns from the updates and comes to its next state.
        self._rounds, self._aggregated_s = self._rounds + 1, at_s
        in_flight = self._airspace.num_in_flight + len(merged)
        told = self._recorder.teller(self._rounds, at_s, self._dispatching.seen, in_flight)
        learned = self._learning.digest(self._rounds, merged, told)
        stages = set(merged.flights.stages)
        self._airspace.count_merges(stages)

        # 6. Rows, the selector's lesson, the test of the model, a checkpoint.
        report = self._dispatching.seen.report()
        self._settling.settle(
            RoundFacts(
                round=self._rounds,
                at_s=at_s,
                stage="+".join(sorted(stages)) or self._dispatching.seen.stage,
                counts=Counts.of(report, in_flight=in_flight),
                learning_rate=self._learning.rate_of(endings.flights.rounds[-1], endings.flights.submodels[-1]),
                ended=endings,
                learned=learned,
                stalenesses=stalenesses,
                workers_replaced=self._learning.take_workers_replaced(),
                report=report,
            )
        )

    @property
    def devices_per_round(self) -> int:
        """How many devices the scenario wants to train at a time."""
        wanted: int = self._costing.scenario.selection.options.devices_per_round
        return wanted

    def is_over(self) -> bool:
        """Whether the last round has been aggregated, or the target accuracy was reached."""
        ask_again_where_it_was_lost()
        return self._rounds >= self._costing.scenario.stop.rounds or self._testing.target_reached

    def staleness(self, flight: Flight) -> int:
        """Return how many aggregations have merged updates of the flight's stage since its dispatch."""
        return self._airspace.staleness(flight)

    def stalenesses(self, flights: Flights) -> Sequence[int]:
        """Return the same of many."""
        return list(self._airspace.stalenesses(flights).values())

    def stage(self) -> str:
        """Return the stage that the method is at now."""
        return self._lookout.stage(self._learning.state)

    def next_chance_s(self, at_s: float, *, until_s: float = math.inf) -> float:
        """Return when somebody can next be offered work; `inf` where that is up to those who are still in flight.

        With somebody in flight it need not look beyond `until_s`. Where nobody can until the virtual time at which the
        run stops, it is that time.

        Raises:
            SimulationError: nobody is in flight, nobody can ever be offered work again, and the run stops at no time.
        """
        if self._testing.stops_before_next_round():
            return at_s  # A run that has reached its target needs no further chance.
        free, population = self._airspace.free(), self._costing.population
        state, number, are_flying = self._learning.state, self._rounds + 1, self._airspace.num_in_flight > 0
        stop_s = math.inf if (told_s := self._costing.scenario.stop.virtual_time) is None else told_s
        chance = next_chance(
            population,
            free,
            lambda moment_s: self._lookout.offer(state, moment_s, number, free),
            at_s,
            until_s=min(until_s, stop_s) if are_flying else stop_s,
        )
        if are_flying or math.isfinite(chance.at_s):
            return chance.at_s
        if stop_s == math.inf or chance.looked_until_s < stop_s:
            raise nobody_left(population, chance, at_s, round_number=number)
        self._recorder.notice(nobody_before_the_end(population, chance, at_s, stop_s))
        return stop_s

    def end(self, at_s: float) -> State:
        """End what is still in flight because the run is over, settle the last test, and return the last state."""
        aloft = cut = self._airspace.aloft()
        if self._testing.stops_before_next_round():
            # It was over at the aggregation that reached the target; what has left since then never did.
            at_s, cut = self._aggregated_s, [item for item in aloft if item[0].round <= self._rounds]
        if cut:
            why = RUN_OVER if self.is_over() else TIME_OVER
            self._recorder.cut(self._rounds + 1, at_s, self._dispatching.seen.report(), cut, reason=why)
        self._learning.forget(flight.number for flight, _ in aloft)
        self._testing.settle()
        self._learning.pass_on_notices()
        return self._learning.state

    def abandon(self) -> None:
        """Write what is known of the rounds so far: the run has failed."""
        self._testing.abandon()
