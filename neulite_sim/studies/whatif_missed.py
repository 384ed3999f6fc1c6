"""What the rounds of a study cost with what devices download because they missed it, as `Method.owed_bytes` says.

What a device owes follows from who came into the rounds before, so a run is gone through round by round: devices are
drawn, and the method digests updates of which nothing is known but whose they are, as in a dry run. In each round the
mean is taken over all draws from there, so where all devices take part in every round nothing is left to chance.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neulite_sim.arrays import Floats, Integers
from neulite_sim.methods.contract import Method, Proposal, State, Update
from neulite_sim.population.link.network import transfer_s
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.seeding import stream
from neulite_sim.studies.whatif_offered import RoundOffers
from neulite_sim.studies.whatif_stages import StageRound, expected_maximum

FEW_ROUNDS = 200
"""A run of fewer rounds is gone through several times, up to as many rounds in all."""
MOST_COURSES = 16
MOST_LOOKED_AT = 10_000
"""Of larger fleets only the drawn devices are looked at in a round."""
_COSTS = ("round_s", "bytes_down", "missed_bytes")


def owes(method: Method, start: State, device: Integers) -> bool:
    """Return whether a device may have to download more than its submodel's own bytes in a run from a first state."""
    return method.owed_bytes(start, device, method.submodels[:1]) is not None


class Missed:
    """Goes through the rounds of a run, in which at most `most_drawn` of the devices with an offer take part."""

    def __init__(
        self, method: Method, ledger: Ledger, offers: RoundOffers, *, seed: int, num_rounds: int, most_drawn: int
    ) -> None:
        self._method, self._ledger, self._offers = method, ledger, offers
        self._seed, self._num_rounds, self._most_drawn = seed, num_rounds, most_drawn

    def added(self, stages: Sequence[StageRound], start: State, plainly: Callable[[], State]) -> list[StageRound]:
        """Return stages with the mean seconds and bytes of their rounds.

        `start` may be without weights; `plainly` makes one that has them, for a method that reads them.
        """
        takes_all = all(stage.able_devices <= self._most_drawn for stage in stages)
        try:
            costs = self._costs(start, functools.partial(torch.device, "meta"), takes_all=takes_all)
        except (NotImplementedError, RuntimeError):
            costs = self._costs(plainly(), contextlib.nullcontext, takes_all=takes_all)
        means = {name: np.mean(rounds, axis=0).tolist() for name, rounds in costs.items()}
        # A stage may depend on who came: a course need not come to it.
        return [replace(stage, **dict(zip(_COSTS, means.get(stage.stage, ()), strict=False))) for stage in stages]

    def _costs(
        self, start: State, where: Callable[[], AbstractContextManager[Any]], *, takes_all: bool
    ) -> Mapping[str, list[tuple[float, ...]]]:
        """Return by stage what each of its rounds in all courses costs, as `_COSTS`."""
        costs: dict[str, list[tuple[float, ...]]] = {}
        courses = 1 if takes_all else min(MOST_COURSES, math.ceil(FEW_ROUNDS / self._num_rounds))
        for course in range(courses):
            for stage, cost in self._course(start, where, stream(self._seed, "whatif-draws", course)):
                costs.setdefault(stage, []).append(cost)
        return costs

    def _course(
        self, state: State, where: Callable[[], AbstractContextManager[Any]], rng: np.random.Generator
    ) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Yield the stage of each round of a run, and what it costs."""
        for _ in range(self._num_rounds):
            proposal = self._offers.after(state)
            if not len(proposal.offers):
                return
            drawn = np.sort(rng.permutation(len(proposal.offers))[: self._most_drawn])
            yield proposal.stage, self._round(state, proposal, drawn)
            with where():
                state = self._method.digest(state, iter(self._updates(state, proposal, drawn)))

    def _round(self, state: State, proposal: Proposal, drawn: Integers) -> tuple[float, ...]:
        offers = proposal.offers
        looked = np.arange(len(offers)) if len(offers) <= MOST_LOOKED_AT else drawn
        devices, submodels = offers.taken(looked)
        owed = self._method.owed_bytes(state, devices, submodels)
        own = np.array([self._ledger.profiles[name].bytes_down for name in submodels], np.int64)
        down = own if owed is None else own + owed
        seconds = offers.expected_s[looked] + self._download_s(down, devices) - self._download_s(own, devices)
        return expected_maximum(seconds, len(drawn)), len(drawn) * float(down.mean()), float((down - own).mean())

    def _download_s(self, num_bytes: Integers, devices: Integers) -> Floats:
        population = self._ledger.population
        rates = population.downlink_bits_per_second[devices]
        return np.asarray(transfer_s(num_bytes, rates, population.latency_s[devices]))

    def _updates(self, state: State, proposal: Proposal, drawn: Integers) -> list[Update]:
        devices, submodels = proposal.offers.taken(drawn)
        return [
            Update(
                device=device,
                submodel=submodel,
                num_samples=int(self._ledger.num_samples[device]),
                tensors={},
                loss=math.nan,
                version=state.version,
            )
            for device, submodel in zip(devices.tolist(), submodels, strict=True)
        ]
