"""The loop of a run: offers, selection, flights, updates, the next state. One dispatch and one digest are one round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from neulite_sim.engine.assembly import Costing
from neulite_sim.engine.feedback import tell_selector
from neulite_sim.engine.testing import Testing
from neulite_sim.engine.tracking import Learned, Recorder, RoundFacts
from neulite_sim.errors import SimulationError
from neulite_sim.methods.contract import Denial, LocalTask, Offer, Proposal, State, Update
from neulite_sim.population.table import Integers
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Selector
from neulite_sim.timeline.flights import FlightPlan, plan_flight
from neulite_sim.training.contract import Backend
from neulite_sim.training.learning_rate import learning_rate
from neulite_sim.units import format_bytes, format_seconds


@dataclass(slots=True)
class _Open:
    """A round between its dispatch and its digest."""

    proposal: Proposal
    plans: list[FlightPlan]
    num_online: int
    tickets: dict[int, int] = field(default_factory=dict)


class Federation:
    """The server of a federation, as the protocol sees it (`timeline.contract.Server`)."""

    def __init__(self, costing: Costing, selector: Selector, backend: Backend, recorder: Recorder) -> None:
        self._costing = costing
        self._scenario = costing.scenario
        self._method = costing.method
        self._selector = selector
        self._backend = backend
        self._recorder = recorder
        self._testing = Testing(costing, backend, recorder)
        self._owners = np.flatnonzero(costing.partition.sizes > 0)
        self._ownerless = np.flatnonzero(costing.partition.sizes == 0)
        self._rounds = 0
        self._flights = 0
        self._open: _Open | None = None
        self.state: State = costing.method.start(costing.trained, costing.scenario.seed, costing.ledger)

    def is_over(self) -> bool:
        """Whether the last round has been aggregated, or the target accuracy was reached."""
        return self._rounds >= self._scenario.stop.rounds or self._testing.target_reached

    def dispatch(self, at_s: float) -> Sequence[FlightPlan]:
        """Choose among the offers of now, plan the flights, and start the training of those that will arrive."""
        proposal, num_online = self._proposal(at_s)
        rng = stream(self._scenario.seed, "selection", self._rounds, self._flights)
        wanted = self._scenario.selection.options.devices_per_round
        count = self._selector.num_to_choose(wanted, len(proposal.offers))
        chosen = self._selector.choose(proposal.offers, count, rng)
        plans = [self._plan(proposal.offers[int(position)], at_s) for position in chosen]
        if not plans:
            return plans
        self._open = _Open(proposal, plans, num_online)
        self._open.tickets = {plan.flight: self._submit(plan) for plan in plans if plan.has_arrived}
        self._recorder.dispatched(self._rounds + 1, at_s, proposal, online=num_online, training=len(plans))
        return plans

    def digest(self, ended: Sequence[FlightPlan], at_s: float) -> None:
        """Aggregate what arrived, in the order of devices, unless the model before has reached the target."""
        opened = self._open
        assert opened is not None
        self._open = None
        if self._testing.stops_before_next_round():
            return
        self._rounds += 1
        updates: dict[int, Learned] = {}
        if opened.tickets:
            self.state = self._method.digest(self.state, self._arriving(ended, opened, updates, at_s))
        facts = RoundFacts(
            round=self._rounds,
            at_s=at_s,
            proposal=opened.proposal,
            num_online=opened.num_online,
            learning_rate=self._learning_rate(),
            plans=tuple(ended),
            learned=updates,
        )
        self._tell_of_divergence(facts)
        tell_selector(self._selector, facts, self._costing.partition.sizes)
        is_last = self._rounds == self._scenario.stop.rounds
        is_tested = is_last or self._rounds % self._scenario.evaluation.every_rounds == 0
        self._testing.round_ended(facts, self.state, is_tested=is_tested)
        if not is_last:
            self._testing.answer(self._selector, self.state)

    def next_chance_s(self, at_s: float) -> float:
        """Return when the next device that owns data and fits the current submodel comes online.

        A run that has reached its target accuracy needs no further chance: it goes on, and ends, at once.

        Raises:
            SimulationError: that never happens.
        """
        if self._testing.stops_before_next_round():
            return at_s
        proposal = self._method.offers(self.state, self._costing.ledger, self._owners)
        able = proposal.offers.devices
        if not len(able):
            raise SimulationError(
                f"nobody can be offered work any more after virtual time {format_seconds(at_s)} (round "
                f"{self._rounds + 1}, {proposal.stage}): {_denied(proposal.denials)}; raise "
                "population.available_memory, lower the batch size that is charged (workload.batch_size), or stop "
                "before (stop.rounds)"
            )
        next_s = self._costing.population.availability.next_online_s(able, np.nextafter(at_s, np.inf))
        chance_s = float(next_s.min(initial=np.inf))
        if not np.isfinite(chance_s):
            raise SimulationError(
                f"nobody can be offered work any more after virtual time {format_seconds(at_s)} (round "
                f"{self._rounds + 1}, {proposal.stage}): none of the {len(able)} devices that fit comes online again; "
                "lengthen the availability trace, repeat it (population.availability.repeat), or stop earlier"
            )
        return chance_s

    def cut(self, at_s: float) -> None:
        """End what is still in flight because the run's virtual time is over, and settle the last evaluation."""
        if self._open is not None and not self._testing.stops_before_next_round():
            self._recorder.cut(self._rounds + 1, at_s, self._open.proposal, self._open.plans)
        self._open = None
        self._testing.settle()
        self._pass_on_notices()

    def abandon(self) -> None:
        """Write what is known of the rounds so far: the run has failed."""
        self._testing.abandon()

    def _pass_on_notices(self) -> None:
        for message in self._backend.notices():
            self._recorder.notice(message)

    def _tell_of_divergence(self, facts: RoundFacts) -> None:
        """Tell observers on which devices training ended in a loss that is not finite."""
        arrived = [plan for plan in facts.plans if plan.has_arrived]
        lost = sorted(plan.device for plan in arrived if facts.learned[plan.flight].loss is None)
        if lost and self._backend.trains:
            self._recorder.notice(
                f"round {facts.round}: local training diverged on {len(lost)} of {len(arrived)} devices "
                f"({', '.join(map(str, lost))}); lower training.learning_rate or set training.clip_norm"
            )

    def _proposal(self, at_s: float) -> tuple[Proposal, int]:
        online = self._costing.population.availability.online(at_s)
        candidates = self._owners[online[self._owners]]
        proposal = self._method.offers(self.state, self._costing.ledger, candidates)
        absent: Integers = self._owners[~online[self._owners]]
        denials = [*proposal.denials]
        if len(absent):
            denials.append(Denial(reason="offline", devices=absent))
        if len(self._ownerless):
            denials.append(Denial(reason="no data", devices=self._ownerless))
        return Proposal(stage=proposal.stage, offers=proposal.offers, denials=tuple(denials)), int(online.sum())

    def _plan(self, offer: Offer, at_s: float) -> FlightPlan:
        self._flights += 1
        population, seed = self._costing.population, self._scenario.seed
        cost = self._costing.ledger.cost(offer.submodel, offer.device)
        sigma = population.speed_jitter
        noise = stream(seed, "jitter", offer.device, self._flights).standard_normal() if sigma else 0.0
        # The mean of a lognormal is exp(mu + sigma^2 / 2); this mu makes it one.
        jitter = float(np.exp(sigma * noise - sigma**2 / 2))
        device = np.array([offer.device])
        return plan_flight(
            flight=self._flights,
            round_number=self._rounds + 1,
            device=offer.device,
            submodel=offer.submodel,
            dispatched_s=at_s,
            phases_s=(cost.download_s, cost.compute_s * jitter, cost.upload_s),
            offline_at_s=float(population.availability.online_until_s(device, at_s)[0]),
        )

    def _learning_rate(self) -> float:
        """Return the learning rate of the round that is open or has just been aggregated."""
        number = self._rounds if self._open is None else self._rounds + 1
        return learning_rate(self._costing.trained_training, number, self._scenario.stop.rounds)

    def _submit(self, plan: FlightPlan) -> int:
        cost = self._costing.ledger.cost(plan.submodel, plan.device)
        task = LocalTask(
            flight=plan.flight,
            device=plan.device,
            submodel=plan.submodel,
            version=self.state.version,
            seed=self._scenario.seed,
            learning_rate=self._learning_rate(),
            peak_memory_bytes=cost.peak_memory_bytes,
            available_memory_bytes=cost.available_memory_bytes if self._method.enforces_memory else None,
        )
        payload = self._method.payload(self.state, plan.submodel)
        personal = self._method.personal_payload(self.state, plan.device, plan.submodel)
        return self._backend.submit_training(task, payload, personal)

    def _arriving(
        self, ended: Sequence[FlightPlan], opened: _Open, learned: dict[int, Learned], at_s: float
    ) -> Iterator[Update]:
        """Yield the updates one by one, by ascending device, noting what the rows need of each."""
        arrived = sorted((plan for plan in ended if plan.has_arrived), key=lambda plan: plan.device)
        for number, plan in enumerate(arrived, start=1):
            update = self._backend.collect_update(opened.tickets[plan.flight])
            learned[plan.flight] = Learned.of(update)
            self._recorder.trained(self._rounds, at_s, opened.proposal, (opened.num_online, len(arrived), number))
            self._pass_on_notices()
            yield update


def _denied(denials: Sequence[Denial]) -> str:
    """Return in words why no device is offered work."""
    return "; ".join(
        f"{len(item.devices)} devices denied: {item.reason}"
        + (f" for {item.submodel}" if item.submodel else "")
        + ("" if item.shortfall_bytes is None else f", {format_bytes(int(item.shortfall_bytes.min()))} at least")
        for item in denials
    )
