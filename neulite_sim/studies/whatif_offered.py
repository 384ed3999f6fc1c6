"""The offers of each round of a study, and what the rounds of a stage cost, whether their offers are the same or not.

Most methods offer the same in every round of a stage, and such rounds are priced once. Where offers are drawn anew by
the version of the model, or change with it in another way, each round of the run is priced by the offers that it has.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.methods.contract import Method, Proposal, State
from neulite_sim.methods.drawn import has_own_offers
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.seeding import stream
from neulite_sim.studies.whatif_stages import StageRound, expected_maximum

MOST_LISTED = 10_000
"""Of a larger fleet so many devices are looked at in a round, others in the next, where a method lists its offers."""


class RoundOffers:
    """What a method offers to all `owners` of data, round by round; `most_drawn` of them take part in a round."""

    def __init__(self, method: Method, ledger: Ledger, owners: Integers, *, seed: int, most_drawn: int) -> None:
        self._method, self._ledger, self._owners = method, ledger, owners
        self._most_drawn = most_drawn
        self._num_looked = max(MOST_LISTED, most_drawn)
        self._order = stream(seed, "whatif-looked-at").permutation(owners) if len(owners) > self._num_looked else None
        self._place = 0
        self._by_offering: dict[tuple[object, ...], Proposal] = {}
        self._by_stage: dict[str, Proposal] = {}

    def after(self, state: State) -> Proposal:
        """Return the proposal of the round after a state: the very object of an earlier round that has the same."""
        if has_own_offers(self._method):
            return self._listed(state)
        offering = self._method.offering(state, self._ledger)
        made_of = offering.stage, tuple(offering.submodels), offering.enforces_memory
        if made_of not in self._by_offering:
            self._by_offering[made_of] = offering.to(self._ledger, self._owners)
        return self._by_offering[made_of]

    def _listed(self, state: State) -> Proposal:
        looked = self._looked()
        proposal = self._method.offers(state, self._ledger, looked)
        first = self._by_stage.get(proposal.stage)
        if first is not None and _offers_the_same(first, proposal, looked):
            return first
        if len(looked) < len(self._owners) and (first is None or len(proposal.offers) < self._most_drawn):
            proposal = self._method.offers(state, self._ledger, self._owners)
        return proposal if first is not None else self._by_stage.setdefault(proposal.stage, proposal)

    def _looked(self) -> Integers:
        """Return the devices that are looked at in the next round, ascending."""
        if self._order is None:
            return self._owners
        places = self._place + np.arange(self._num_looked)
        self._place = (self._place + self._num_looked) % len(self._order)
        looked: Integers = np.sort(self._order.take(places, mode="wrap"))
        return looked


def _offers_the_same(whole: Proposal, part: Proposal, looked: Integers) -> bool:
    """Return whether `part`, made for the devices that were looked at, is what `whole` offers to them."""
    ours, theirs = whole.offers, part.offers
    if not len(ours):
        return not len(theirs)
    places = np.minimum(np.searchsorted(ours.devices, looked), len(ours) - 1)
    places = places[ours.devices[places] == looked]
    return (
        ours.submodels == theirs.submodels
        and np.array_equal(ours.devices[places], theirs.devices)
        and np.array_equal(ours.submodel_index[places], theirs.submodel_index)
        and np.array_equal(ours.expected_s[places], theirs.expected_s)
    )


class StageRounds:
    """The rounds of one stage, of which `devices_per_round` devices with an offer take part in each."""

    def __init__(self, first: Proposal, ledger: Ledger, devices_per_round: int) -> None:
        self.first = first
        self._ledger, self._devices_per_round = ledger, devices_per_round
        self._like_first = 0
        self._others: list[StageRound] = []

    @property
    def always_the_same(self) -> bool:
        """Whether all rounds so far had the offers of the first."""
        return not self._others

    def add(self, proposal: Proposal) -> None:
        """Count one more round, with these offers."""
        if proposal is self.first:
            self._like_first += 1
        else:
            self._others.append(stage_round(proposal, self._ledger, 1, self._devices_per_round))

    def mean(self) -> StageRound:
        """Return the rounds with what one of them costs in the mean."""
        found = stage_round(self.first, self._ledger, self._like_first, self._devices_per_round)
        if self.always_the_same:
            return found
        rounds = [found, *self._others]
        weights = [each.rounds for each in rounds]
        return replace(
            found,
            rounds=sum(weights),
            able_devices=max(each.able_devices for each in rounds),
            round_s=float(np.average([each.round_s for each in rounds], weights=weights)),
            bytes_down=float(np.average([each.bytes_down for each in rounds], weights=weights)),
            bytes_up=float(np.average([each.bytes_up for each in rounds], weights=weights)),
        )


def stage_round(proposal: Proposal, ledger: Ledger, rounds: int, devices_per_round: int) -> StageRound:
    """Return so many rounds with these offers, the mean over all draws of devices; nothing is missed."""
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
