"""FedAvg: every chosen device trains the full model, the server takes the mean.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, algorithm 1. https://arxiv.org/abs/1602.05629
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from neulite_sim.methods.aggregation import Weighting, merged, weighted_mean
from neulite_sim.methods.contract import Method, Proposal, Setting, State, Update
from neulite_sim.methods.offering import offer_one
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel, Trainee, float_tensors
from neulite_sim.population.table import Integers
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options

FULL = "full"


class FedAvgOptions(Options):
    """Options of `fedavg`."""

    memory_limit: bool = True
    """False: devices train whatever their memory, the unconstrained reference of the memory wall."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


class FedAvg(Method):
    """The full model on whoever fits it."""

    submodels = (FULL,)

    def __init__(self, *, memory_limit: bool, weighting: Weighting) -> None:
        self.enforces_memory = memory_limit
        self._weighting = weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model."""
        assert submodel == FULL
        return FullModel(blueprint)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model."""
        return State(version=0, tensors=float_tensors(blueprint.build_seeded(seed)))

    def offers(self, state: State, ledger: Ledger, candidates: Integers) -> Proposal:
        """Return an offer of the full model to whoever fits it, or to all without a memory limit."""
        return offer_one(ledger, FULL, candidates, stage=FULL, enforce=self.enforces_memory)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the global model."""
        return state.tensors

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the weighted mean of the updates as the next global model."""
        mean = weighted_mean(updates, self._weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean))


def _build(options: FedAvgOptions, setting: Setting) -> FedAvg:
    return FedAvg(memory_limit=options.memory_limit, weighting=options.weighting)


COMPONENT = Component(
    kind="fedavg",
    summary="every chosen device trains the full model; the server takes the mean",
    source="McMahan et al., AISTATS 2017, arXiv 1602.05629, algorithm 1",
    options=FedAvgOptions,
    build=_build,
)
