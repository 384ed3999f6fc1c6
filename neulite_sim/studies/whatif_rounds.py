"""What a synchronous round is expected to take with a method, found from its offers alone: nothing is trained.

A round draws K of the n devices that have an offer, all sets of K equally likely, and ends with the slowest of them.
Speed jitter, availability and a busy server link are left out: this is the fleet at rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from neulite_sim.arrays import Integers
from neulite_sim.methods.contract import Method, Proposal, State
from neulite_sim.methods.offering import offer_one
from neulite_sim.models.contract import Blueprint
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.studies.whatif_missed import Missed, owes
from neulite_sim.studies.whatif_stages import Rounds, StageRound, expected_maximum


class FirstStates:
    """A method's first state without its weights, on one ledger after another.

    A state that was made without a look at the ledger is that of every ledger; to make one builds the model anew.
    """

    def __init__(self, method: Method, blueprint: Blueprint, seed: int) -> None:
        self._method, self._blueprint, self._seed = method, blueprint, seed
        self._of_any: State | None = None

    def on(self, ledger: Ledger) -> State | None:
        """Return the first state, or None where no device with data fits any submodel."""
        if self._method.enforces_memory and not any(map(ledger.fits_somebody, self._method.submodels)):
            return None
        if self._of_any is not None:
            return self._of_any
        watched = _Watched(ledger)
        state = self._made(watched)
        if not watched.was_asked:
            self._of_any = state
        return state

    def _made(self, ledger: Any) -> State:
        try:
            with torch.device("meta"):
                return self.with_weights(ledger)
        except (NotImplementedError, RuntimeError):
            # The method reads its first weights, so it has to have some; any other error comes again here.
            return self.with_weights(ledger)

    def with_weights(self, ledger: Ledger) -> State:
        """Return the first state made as in a run."""
        return self._method.start(self._blueprint, self._seed, ledger)


class _Watched:
    """A ledger that takes note whether anything was asked of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.was_asked = False

    def __getattr__(self, name: str) -> Any:
        self.was_asked = True
        return getattr(self._ledger, name)


def rounds_of(
    method: Method,
    ledger: Ledger,
    blueprint: Blueprint,
    *,
    seed: int,
    num_rounds: int,
    devices_per_round: int,
    states: FirstStates | None = None,
) -> Rounds:
    """Return the rounds that a run of `num_rounds` rounds would have, every device with data online.

    A method whose next stage depends on trained weights (`decides_by_weights`) counts once with each submodel that
    somebody fits. Offers that carry the same `stage` are taken to be the same. `states` are those of the method with
    this blueprint and seed. What devices download of rounds that they missed is among the seconds and bytes.
    """
    owners = np.flatnonzero(ledger.owns_data)
    if not len(owners):
        return Rounds(stages=(), ends_after=0)
    proposals = _by_submodel(method, ledger, owners)
    states = states or FirstStates(method, blueprint, seed)
    start = None if method.decides_by_weights else states.on(ledger)
    if not method.decides_by_weights:
        proposals = _by_round(method, ledger, owners, start=start, rounds=num_rounds)
    counts: Counter[str] = Counter()
    found: dict[str, Proposal] = {}
    ends_after = None
    for number, proposal in enumerate(proposals):
        if not len(proposal.offers):
            ends_after = number
            break
        counts[proposal.stage] += 1
        found[proposal.stage] = proposal
    stages = [_stage_round(found[stage], ledger, rounds, devices_per_round) for stage, rounds in counts.items()]
    if stages and start is not None and owes(method, start, owners[:1]):
        missed = Missed(method, ledger, seed=seed, num_rounds=counts.total(), most_drawn=devices_per_round)
        stages = missed.added(stages, found, start, lambda: states.with_weights(ledger))
    return Rounds(stages=tuple(stages), ends_after=ends_after)


def _by_submodel(method: Method, ledger: Ledger, owners: Integers) -> Iterator[Proposal]:
    fitting = [name for name in method.submodels if ledger.fits_somebody(name)]
    for name in fitting or method.submodels[-1:]:
        yield offer_one(ledger, name, owners, stage=name)


def _by_round(
    method: Method, ledger: Ledger, owners: Integers, *, start: State | None, rounds: int
) -> Iterator[Proposal]:
    """Yield the proposal of each round; the offers to all owners are asked for once per stage."""
    if start is None:
        yield offer_one(ledger, method.submodels[-1], owners, stage=method.submodels[-1])
        return
    state, known = start, dict[str, Proposal]()
    for _ in range(rounds):
        stage = stage_of(method, state, ledger, owners)
        if stage not in known:
            known[stage] = method.offers(state, ledger, owners)
        yield known[stage]
        state = method.follow(state, method.progress(state))


def stage_of(method: Method, state: State, ledger: Ledger, owners: Integers) -> str:
    """Return what the method is at in the round after a state."""
    if type(method).offers is Method.offers:
        return method.offering(state, ledger).stage
    return method.offers(state, ledger, owners[:1]).stage


def _stage_round(proposal: Proposal, ledger: Ledger, rounds: int, devices_per_round: int) -> StageRound:
    offers = proposal.offers
    drawn = min(devices_per_round, len(offers))
    profiles = [ledger.profiles[name] for name in offers.submodels]
    down, up = ([getattr(item, name) for item in profiles] for name in ("bytes_down", "bytes_up"))
    return StageRound(
        stage=proposal.stage,
        rounds=rounds,
        able_devices=len(offers),
        round_s=expected_maximum(offers.expected_s, drawn),
        bytes_down=drawn * float(np.array(down, np.float64)[offers.submodel_index].mean()),
        bytes_up=drawn * float(np.array(up, np.float64)[offers.submodel_index].mean()),
    )
