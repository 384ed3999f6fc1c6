"""ExclusiveFL: FedAvg among the devices that can hold the full model; all others are left out.

The baseline of that name in NeuLite, section "Baselines" (https://arxiv.org/abs/2408.10826): it shows what the
memory wall costs, because the data of every smaller device is never learned from. No code of it is public; updates
are weighed by samples as NeuLite's eq. (1) says, while that paper's own code takes plain means (`weighting: uniform`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from neulite_sim.later import Tensor
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee


class ExclusiveFLOptions(Options):
    """Options of `exclusivefl`."""

    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


class ExclusiveFL(Method):
    """The full model on the devices with enough memory for it, {n : M_n >= M_full}."""

    submodels = (FULL,)

    def __init__(self, *, weighting: Weighting) -> None:
        self._weighting = weighting

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model."""
        from neulite_sim.models.trainee import FullModel

        assert submodel == FULL
        return FullModel(blueprint)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model."""
        from neulite_sim.models.trainee import float_tensors

        return State(version=0, tensors=float_tensors(blueprint.build_seeded(seed)))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the full model to whoever fits it."""
        return Offering(stage=FULL, submodels=(FULL,))

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the global model."""
        return state.tensors

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the weighted mean of the updates as the next global model."""
        mean = weighted_mean(updates, self._weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean))


def _build(options: ExclusiveFLOptions, setting: Setting) -> ExclusiveFL:
    return ExclusiveFL(weighting=options.weighting)


COMPONENT = Component(
    kind="exclusivefl",
    summary="FedAvg among the devices that can hold the full model; the others are left out",
    source="baseline of NeuLite, arXiv 2408.10826, section Baselines",
    options=ExclusiveFLOptions,
    build=_build,
)
