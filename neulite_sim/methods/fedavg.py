"""FedAvg: every chosen device trains the full model, the server takes the mean.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, algorithm 1. https://arxiv.org/abs/1602.05629

With `proximal_mu` above zero it is FedProx: the local loss gains (mu/2) |w - w_t|^2, which keeps devices with unlike
data from drifting apart. Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, "Federated Optimization in Heterogeneous
Networks", MLSys 2020, eq. (2). https://arxiv.org/abs/1812.06127

Where the sources differ. Updates are weighed by samples as in both papers; many codes take the plain mean (`weighting:
uniform`). mu has no value of its own: the FedProx paper tunes it, easyFL takes 0.1 and draws devices in proportion to
their data, for a plain mean; here devices are drawn by the selector. The term is (mu/2) |w - w_t|^2 as in the paper;
ProgFed's code leaves out the half, and FedScale's adds the gradient with the opposite sign.

`exclusivefl` is another name of it: the baseline of NeuLite (https://arxiv.org/abs/2408.10826, section "Baselines")
that trains the full model on the devices that hold it, {n : M_n >= M_full}, and leaves the others out. That is what
the memory limit does, so rows and digest are those of `fedavg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from neulite_sim.bounds import Coefficient
from neulite_sim.later import Tensor, homes
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

__getattr__ = homes(__name__, ProximalModel="neulite_sim.methods.proximal")


class FedAvgOptions(Options):
    """Options of `fedavg`."""

    memory_limit: bool = True
    """False: devices train whatever their memory, the unconstrained reference of the memory wall."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""
    proximal_mu: Coefficient = 0.0
    """Weight mu of FedProx's proximal term. Above zero, a device holds one more copy of the weights."""


class FedAvg(Method):
    """The full model on whoever fits it."""

    submodels = (FULL,)

    def __init__(
        self,
        *,
        memory_limit: bool = True,
        weighting: Weighting = "samples",
        proximal_mu: float = 0.0,
        same_as: str = "",
    ) -> None:
        self.same_as = same_as
        self.enforces_memory = memory_limit
        self._weighting = weighting
        self._proximal_mu = proximal_mu

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model, with the proximal term where there is one."""
        from neulite_sim.methods.proximal import ProximalModel
        from neulite_sim.models.trainee import FullModel

        assert submodel == FULL
        return ProximalModel(blueprint, self._proximal_mu) if self._proximal_mu else FullModel(blueprint)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model."""
        from neulite_sim.models.trainee import float_tensors

        return State(version=0, tensors=float_tensors(blueprint.build_seeded(seed)))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the full model to whoever fits it, or to all without a memory limit."""
        return Offering(stage=FULL, submodels=(FULL,), enforces_memory=self.enforces_memory)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the global model."""
        return state.tensors

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the weighted mean of the updates as the next global model."""
        mean = weighted_mean(updates, self._weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean))


def _build(options: FedAvgOptions, setting: Setting) -> FedAvg:
    return FedAvg(memory_limit=options.memory_limit, weighting=options.weighting, proximal_mu=options.proximal_mu)


class ExclusiveFLOptions(Options):
    """Options of `exclusivefl`."""

    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


def _build_exclusive(options: ExclusiveFLOptions, setting: Setting) -> FedAvg:
    return FedAvg(memory_limit=True, weighting=options.weighting, same_as="fedavg with memory_limit true")


COMPONENT = Component(
    kind="fedavg",
    summary="every chosen device trains the full model; the server takes the mean",
    source="McMahan et al., AISTATS 2017, arXiv 1602.05629, algorithm 1; FedProx: Li et al., MLSys 2020, eq. 2",
    options=FedAvgOptions,
    build=_build,
)

EXCLUSIVEFL = Component(
    kind="exclusivefl",
    summary="fedavg with its memory limit on, by the name of NeuLite's baseline: devices that hold too little stay out",
    source="baseline of NeuLite, arXiv 2408.10826, section Baselines",
    options=ExclusiveFLOptions,
    build=_build_exclusive,
)
