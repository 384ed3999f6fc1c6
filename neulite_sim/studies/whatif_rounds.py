"""What a synchronous round is expected to take with a method, found from its offers alone: nothing is trained.

A round draws K of the n devices that have an offer, all sets of K equally likely, and ends with the slowest of them.
Speed jitter, availability and a busy server link are left out: this is the fleet at rest.
"""

from __future__ import annotations

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
from neulite_sim.studies.whatif_offered import RoundOffers, StageRounds
from neulite_sim.studies.whatif_stages import Rounds


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
    somebody fits. Offers that differ between the rounds of a stage, as drawn ones do, are priced round by round.
    `states` are those of the method with this blueprint and seed. What devices download of rounds that they missed is
    among the seconds and bytes.
    """
    owners = np.flatnonzero(ledger.owns_data)
    if not len(owners):
        return Rounds(stages=(), ends_after=0)
    states = states or FirstStates(method, blueprint, seed)
    start = None if method.decides_by_weights else states.on(ledger)
    offers = RoundOffers(method, ledger, owners, seed=seed, most_drawn=devices_per_round)
    if method.decides_by_weights:
        proposals = _by_submodel(method, ledger, owners)
    elif start is None:
        proposals = _to_nobody(method, ledger, owners)
    else:
        proposals = _by_round(method, offers, start, num_rounds)
    found: dict[str, StageRounds] = {}
    num_passed, ends_after = 0, None
    for proposal in proposals:
        if not len(proposal.offers):
            ends_after = num_passed
            break
        if proposal.stage not in found:
            found[proposal.stage] = StageRounds(proposal, ledger, devices_per_round)
        found[proposal.stage].add(proposal)
        num_passed += 1
    stages = [rounds.mean() for rounds in found.values()]
    if stages and start is not None and owes(method, start, owners[:1]):
        missed = Missed(method, ledger, offers, seed=seed, num_rounds=num_passed, most_drawn=devices_per_round)
        stages = missed.added(stages, start, lambda: states.with_weights(ledger))
    return Rounds(stages=tuple(stages), ends_after=ends_after)


def _by_submodel(method: Method, ledger: Ledger, owners: Integers) -> Iterator[Proposal]:
    fitting = [name for name in method.submodels if ledger.fits_somebody(name)]
    for name in fitting or method.submodels[-1:]:
        yield offer_one(ledger, name, owners, stage=name)


def _to_nobody(method: Method, ledger: Ledger, owners: Integers) -> Iterator[Proposal]:
    yield offer_one(ledger, method.submodels[-1], owners, stage=method.submodels[-1])


def _by_round(method: Method, offers: RoundOffers, state: State, rounds: int) -> Iterator[Proposal]:
    """Yield the proposal of each round, the same object where the offers of two rounds are the same."""
    for _ in range(rounds):
        yield offers.after(state)
        state = method.follow(state, method.progress(state))
