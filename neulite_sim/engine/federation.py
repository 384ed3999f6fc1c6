"""The loop of a run: offers, selection, flights, updates, the next state. One digest is one round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neulite_sim.arrays import Flags, Integers
from neulite_sim.engine.feedback import learns, tell_selector
from neulite_sim.engine.merging import mixed
from neulite_sim.engine.parts import Costing, trained_batch_size
from neulite_sim.engine.planning import Planner
from neulite_sim.engine.replay import Keeper
from neulite_sim.engine.testing import Testing
from neulite_sim.engine.tracking import RUN_OVER, TIME_OVER, Learned, Recorder, RoundFacts
from neulite_sim.engine.waiting import next_chance, why_nobody
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import Denial, LocalTask, Offer, Offers, Proposal, State, Update
from neulite_sim.results.checkpoint import Saved
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Selector
from neulite_sim.timeline.contract import Ending, Foresight
from neulite_sim.timeline.flights import FlightPlan, Order
from neulite_sim.training.contract import Backend
from neulite_sim.training.learning_rate import learning_rate
from neulite_sim.units import format_seconds

IN_FLIGHT = "in flight"


@dataclass(slots=True)
class _Flying:
    """A flight between its dispatch and its digest: what it was sent, and the ticket of its training, if any.

    Its device is free again once it has ended, so that several of one device may wait to be merged.
    """

    plan: FlightPlan
    state: State
    merges_before: int
    learning_rate: float
    is_trained: bool
    ticket: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the server saw when it last dispatched: who owned data, was online, and of these not in flight."""

    proposal: Proposal
    owns: Flags
    online: Flags
    num_online: int
    candidates: Integers

    def whole(self) -> Proposal:
        """Return the proposal with all denials; a row per round needs them, a dispatch does not."""
        is_busy = self.owns & self.online
        is_busy[self.candidates] = False
        others = (
            Denial(reason=IN_FLIGHT, devices=np.flatnonzero(is_busy)),
            Denial(reason="offline", devices=np.flatnonzero(self.owns & ~self.online)),
            Denial(reason="no data", devices=np.flatnonzero(~self.owns)),
        )
        denials = (*self.proposal.denials, *(denial for denial in others if len(denial.devices)))
        return replace(self.proposal, denials=denials)


class Federation:
    """The server of a federation, as the protocol sees it (`timeline.contract.Server`)."""

    def __init__(
        self, costing: Costing, selector: Selector, backend: Backend, recorder: Recorder, keeper: Keeper
    ) -> None:
        self._costing = costing
        self._scenario = costing.scenario
        self._method = costing.method
        self._selector = selector
        self._backend = backend
        self._recorder = recorder
        self._keeper = keeper
        self._testing = Testing(costing, backend, recorder, keeper)
        self._planner = Planner(costing)
        self._num_samples = costing.partition.sizes
        self._owns: Flags = self._num_samples > 0
        self._is_free = self._owns.copy()
        self._rounds = 0
        self._flights = 0
        self._num_in_flight = 0
        self._merges: Counter[str] = Counter()
        self._flying: dict[int, _Flying] = {}
        self._looked: _Look | None = None
        self._workers_replaced = 0
        self.state: State = costing.method.start(costing.trained, costing.scenario.seed, costing.ledger)

    @property
    def devices_per_round(self) -> int:
        """How many devices the scenario wants to train at a time."""
        wanted: int = self._scenario.selection.options.devices_per_round
        return wanted

    def is_over(self) -> bool:
        """Whether the last round has been aggregated, or the target accuracy was reached."""
        return self._rounds >= self._scenario.stop.rounds or self._testing.target_reached

    def dispatch(
        self, at_s: float, *, wanted: int | None = None, foresee: Foresight | None = None
    ) -> Sequence[FlightPlan]:
        """Choose among the offers of now, plan the flights, and start the training of those that will be merged."""
        look = self._look(at_s)
        proposal = look.proposal
        rng = stream(self._scenario.seed, "selection", self._rounds, self._flights)
        count = self._selector.num_to_choose(wanted or self.devices_per_round, len(proposal.offers))
        chosen = self._selector.choose(proposal.offers, count, rng)
        plans = self._plans([proposal.offers[int(position)] for position in chosen], proposal.stage, at_s)
        if not plans:
            return plans
        self._looked = look
        trained = {plan.flight for plan in plans if plan.has_arrived}
        if foresee is not None and not any(plan.departure for plan in plans):
            trained = set(foresee(plans))
        rate = learning_rate(self._costing.trained_training, self._rounds + 1, self._scenario.stop.rounds)
        for plan in plans:
            flying = _Flying(
                plan=plan,
                state=self.state,
                merges_before=self._merges[plan.order.stage],
                learning_rate=rate,
                is_trained=plan.flight in trained,
            )
            self._flying[plan.flight] = flying
            self._is_free[plan.device] = False
            self._num_in_flight += 1
            self._submit(flying)
        if self._recorder.is_watched:
            training = self._num_in_flight
            self._recorder.dispatched(self._rounds + 1, at_s, proposal, online=look.num_online, training=training)
        return plans

    def landed(self, plan: FlightPlan) -> None:
        """Take note of how a flight came about, and let its device fly again, whether or not its update waits."""
        self._flying[plan.flight].plan = plan
        self._is_free[plan.device] = True
        self._num_in_flight -= 1

    def staleness(self, plan: FlightPlan) -> int:
        """Return how many aggregations have merged updates of the flight's stage since its dispatch."""
        return self._merges[plan.order.stage] - self._flying[plan.flight].merges_before

    def stage(self) -> str:
        """Return the stage that the method is at now."""
        nobody = np.zeros(0, dtype=np.int64)
        return self._method.offers(self.state, self._costing.ledger, nobody).stage

    def digest(self, ended: Sequence[Ending], at_s: float) -> None:
        """Aggregate what is merged, in the order of devices, unless the model before has reached the target."""
        landed = {ending.plan.flight: self._flying.pop(ending.plan.flight) for ending in ended}
        self._forget([landed[ending.plan.flight] for ending in ended if not ending.is_merged])
        if self._testing.stops_before_next_round():
            self._forget(landed.values())
            return
        self._rounds += 1
        merged = sorted(
            (item for item in ended if item.is_merged), key=lambda item: (item.plan.device, item.plan.flight)
        )
        stalenesses = {
            item.plan.flight: self._merges[item.plan.order.stage] - landed[item.plan.flight].merges_before
            for item in merged
        }
        learned = self._merge(merged, landed, stalenesses, at_s)
        self._merges.update({item.plan.order.stage for item in merged})
        proposal = self._looked.whole() if self._looked else Proposal(stage="", offers=_NO_OFFERS)
        facts = RoundFacts(
            round=self._rounds,
            at_s=at_s,
            stage=_stages(merged) or proposal.stage,
            proposal=proposal,
            num_online=self._looked.num_online if self._looked else 0,
            learning_rate=landed[ended[-1].plan.flight].learning_rate,
            ended=tuple(ended),
            learned=learned,
            stalenesses=stalenesses,
            workers_replaced=self._workers_replaced,
        )
        self._workers_replaced = 0
        self._settle(facts)

    def _merge(
        self,
        merged: Sequence[Ending],
        landed: Mapping[int, _Flying],
        stalenesses: Mapping[int, int],
        at_s: float,
    ) -> dict[int, Learned]:
        """Digest the updates and return what the rows need of each; from the journal where that knows them."""
        if not merged:
            return {}
        if self._keeper.replays(self._rounds):
            learned = {item.plan.flight: self._keeper.learned(item.plan.flight) for item in merged}
            self.state = self._method.follow(self.state, self._keeper.progress(self._rounds))
            return learned
        learned = {}
        self.state = self._method.digest(self.state, self._arriving(merged, landed, learned, at_s))
        self._keeper.digested(self._rounds, self._method.progress(self.state))
        return learned

    def _arriving(
        self, merged: Sequence[Ending], landed: Mapping[int, _Flying], learned: dict[int, Learned], at_s: float
    ) -> Iterator[Update]:
        """Yield the updates one by one, by ascending device, noting what the rows need of each."""
        for number, item in enumerate(merged, start=1):
            flying = landed[item.plan.flight]
            assert flying.ticket is not None, f"flight {item.plan.flight} arrived although its plan said otherwise"
            update = self._backend.collect_update(flying.ticket)
            flying.ticket = None
            learned[item.plan.flight] = Learned.of(update)
            self._keeper.arrived(item.plan.flight, learned[item.plan.flight], update.tensors)
            self._tell_progress(at_s, len(merged), number)
            self._pass_on_notices()
            yield mixed(self._method, self.state, flying.state, update, item.mixing)

    def _settle(self, facts: RoundFacts) -> None:
        """Write the round, tell the selector, test the model, and keep a checkpoint when one is due."""
        number = facts.round
        replayed = self._keeper.replays(number)
        facts = replace(facts, wall_time_s=self._keeper.wall_time_s(number) if replayed else self._recorder.wall_time_s)
        if not replayed:
            self._keeper.settled(number, facts.wall_time_s)
            self._tell_of_divergence(facts)
        if learns(self._selector):
            tell_selector(self._selector, facts, self._num_samples)
        is_last = number == self._scenario.stop.rounds
        is_tested = is_last or number % self._scenario.evaluation.every_rounds == 0
        self._testing.round_ended(facts, self.state, is_tested=is_tested)
        if not is_last:
            self._testing.answer(self._selector, self.state, number)
        if self._keeper.ends_replay(number):
            self._go_on()
        elif not replayed and self._keeper.is_due(number) and not is_last:
            self._testing.collect()
            self._keeper.checkpoint(self._saved())

    def _saved(self) -> Saved:
        """Return what cannot be made again from the journal: the weights, also those that flights were sent."""
        sent = {flying.state.version: flying.state for flying in self._flying.values() if flying.is_trained}
        return Saved(
            round=self._rounds,
            wall_time_s=self._recorder.wall_time_s,
            state=self.state,
            sent={version: state for version, state in sent.items() if version != self.state.version},
            came_to=self._came_to(),
        )

    def _came_to(self) -> str:
        """Return the digest of what a replay has to come to: the rows, and what is in the air."""
        plans = [self._flying[flight].plan for flight in sorted(self._flying)]
        return self._recorder.came_to(self.state.version, plans, self._looked.proposal if self._looked else None)

    def _go_on(self) -> None:
        """Take over the weights of the checkpoint and submit what was in flight then: the replay is over."""
        saved = self._keeper.restore(self._came_to())
        assert saved.round == self._rounds
        self.state = saved.state
        states = {**saved.sent, saved.state.version: saved.state}
        for flying in self._flying.values():
            if flying.is_trained:
                flying.state = states[flying.state.version]
                self._submit(flying)
        self._testing.restore(self.state)
        self._recorder.restore(saved.wall_time_s)
        self._recorder.notice(f"rounds 1 to {self._rounds} were taken from the journal; training goes on")

    def next_chance_s(self, at_s: float) -> float:
        """Return when the next device that owns data, is not in flight and fits the current submodel comes online.

        It is `inf` where there is none and others are still in flight. A run that has reached its target accuracy
        needs no further chance: it goes on, and ends, at once.

        Raises:
            SimulationError: nobody is in flight, and nobody can ever be offered work again.
        """
        if self._testing.stops_before_next_round():
            return at_s
        idle, ledger, population = np.flatnonzero(self._is_free), self._costing.ledger, self._costing.population
        chance_s, proposal = next_chance(
            population,
            idle,
            lambda moment_s: self._method.offers(self.state, ledger.at(moment_s, self._rounds + 1), idle),
            at_s,
        )
        if np.isfinite(chance_s) or self._num_in_flight:
            return chance_s
        where = f"after virtual time {format_seconds(at_s)} (round {self._rounds + 1}, {proposal.stage})"
        raise SimulationError(f"nobody can be offered work any more {where}{why_nobody(population, proposal, at_s)}")

    def cut(self, at_s: float) -> None:
        """End what is still in flight because the run is over, and settle the last evaluation."""
        if not self._testing.stops_before_next_round() and self._flying and self._looked is not None:
            reason = RUN_OVER if self.is_over() else TIME_OVER
            plans = [flying.plan for flying in self._flying.values()]
            self._recorder.cut(self._rounds + 1, at_s, self._looked.whole(), plans, reason=reason)
        self._forget(self._flying.values())
        self._flying = {}
        self._testing.settle()
        self._pass_on_notices()

    def abandon(self) -> None:
        """Write what is known of the rounds so far: the run has failed."""
        self._testing.abandon()

    def _forget(self, flights: Iterable[_Flying]) -> None:
        """Drop the training of flights that nobody learns from."""
        for flying in flights:
            if flying.ticket is not None:
                self._backend.discard(flying.ticket)
                flying.ticket = None

    def _pass_on_notices(self) -> None:
        for message in self._backend.notices():
            self._workers_replaced += 1
            self._recorder.notice(message)

    def _tell_progress(self, at_s: float, num_merged: int, number: int) -> None:
        if not self._recorder.is_watched:
            return
        assert self._looked is not None
        in_flight = self._num_in_flight + num_merged
        self._recorder.trained(self._rounds, at_s, self._looked.proposal, (self._looked.num_online, in_flight, number))

    def _tell_of_divergence(self, facts: RoundFacts) -> None:
        """Tell observers on which devices training ended in a loss that is not finite."""
        merged = [item.plan for item in facts.ended if item.is_merged]
        lost = sorted(plan.device for plan in merged if facts.learned[plan.flight].loss is None)
        if lost and self._backend.trains:
            named = ", ".join([*map(str, lost[:5]), *(["..."] if len(lost) > 5 else [])])
            self._recorder.notice(
                f"round {facts.round}: local training diverged on {len(lost)} of {len(merged)} devices "
                f"({named}); lower training.learning_rate or set training.clip_norm"
            )

    def _look(self, at_s: float) -> _Look:
        online = self._costing.population.availability.online(at_s)
        candidates = np.flatnonzero(self._is_free & online)
        ledger = self._costing.ledger.at(at_s, self._rounds + 1)
        return _Look(
            proposal=self._method.offers(self.state, ledger, candidates),
            owns=self._owns,
            online=online,
            num_online=int(np.count_nonzero(online)),
            candidates=candidates,
        )

    def _plans(self, offers: Sequence[Offer], stage: str, at_s: float) -> list[FlightPlan]:
        """Return the plans of the flights that take up `offers`; what each costs is looked up once for all."""
        devices = np.array([offer.device for offer in offers], dtype=np.int64)
        costs = self._costing.ledger.costs_at([offer.submodel for offer in offers], devices, at_s, self._rounds + 1)
        orders = [
            Order(
                flight=flight,
                round=self._rounds + 1,
                version=self.state.version,
                device=cost.device,
                submodel=cost.submodel,
                stage=stage,
                dispatched_s=at_s,
                peak_memory_bytes=cost.peak_memory_bytes,
                available_memory_bytes=cost.available_memory_bytes,
                batch_size=cost.batch_size,
            )
            for flight, cost in enumerate(costs, start=self._flights + 1)
        ]
        self._flights += len(orders)
        return self._planner.plan_all(orders, costs)

    def _submit(self, flying: _Flying) -> None:
        """Start the training of a flight; one that the journal knows about, or will come to, needs none now."""
        if not flying.is_trained or self._keeper.replays(self._rounds + 1):
            return
        plan = flying.plan
        order = plan.order
        task = LocalTask(
            flight=plan.flight,
            device=plan.device,
            submodel=plan.submodel,
            version=flying.state.version,
            seed=self._scenario.seed,
            learning_rate=flying.learning_rate,
            peak_memory_bytes=order.peak_memory_bytes,
            available_memory_bytes=order.available_memory_bytes if self._method.enforces_memory else None,
            batch_size=trained_batch_size(self._costing, order.batch_size),
        )
        payload = self._method.payload(flying.state, plan.submodel)
        personal = self._method.personal_payload(flying.state, plan.device, plan.submodel)
        flying.ticket = self._backend.submit_training(task, payload, personal)


_NO_OFFERS = Offers(
    devices=np.zeros(0, np.int64), submodel_index=np.zeros(0, np.int16), submodels=(), expected_s=np.zeros(0)
)


def _stages(merged: Sequence[Ending]) -> str:
    """Return the stages that were merged, in the order of their names, joined by a plus sign."""
    return "+".join(sorted({item.plan.order.stage for item in merged}))
