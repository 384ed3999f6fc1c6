"""What HeteroFL and FedRolex share: every device trains the widest slice of the global model that fits it.

They differ in where a slice lies, and HeteroFL in which rows of the classifier count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from neulite_sim.later import Tensor
from neulite_sim.methods.contract import Method, Offering, State, Update, Weighting
from neulite_sim.methods.rates import LEVELS, Rates, names_of
from neulite_sim.methods.width import Indices, Layout, OverlapMean, layout
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Options

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee


class SlicedOptions(Options):
    """Options of every method that slices."""

    rates: Rates = Field(LEVELS, validate_default=True)
    """Widths that are offered, relative to the full model, largest first, beginning with 1."""
    scaler: bool = True
    """Divide the outputs of hidden layers by the rate while training.

    Without normalisation the factors multiply from layer to layer: switch it off for deep networks of that kind.
    """
    masked_cross_entropy: bool = True
    """Set the logits of classes that a device does not own to 0 in its loss."""
    weighting: Weighting = "uniform"
    """`uniform` weighs all updates alike, as the authors do; `samples` by the device's samples."""


class SlicedMethod(Method):
    """The widest slice that fits, on each device; each scalar becomes the mean over the updates that hold it."""

    skippable_submodels: ClassVar[bool] = True
    scales_width: ClassVar[bool] = True

    def __init__(self, options: SlicedOptions) -> None:
        self._weighting = options.weighting
        self._scaler = options.scaler
        self._masks_absent = options.masked_cross_entropy
        self._rates = names_of(options.rates)
        self.submodels = tuple(self._rates)

    def offset(self, version: int) -> int:
        """Return the channel at which the slices of a version begin."""
        del version
        return 0

    def counted(self, slices: Layout, update: Update, name: str) -> tuple[Indices, Tensor]:
        """Return which scalars of a global tensor an update counts for, and their values."""
        return slices.indices(update.submodel, name, self.offset(update.version)), update.tensors[name]

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model at the submodel's width."""
        from neulite_sim.methods.thin import ThinTrainee

        return ThinTrainee(blueprint, self._rates[submodel], scaler=self._scaler, masks_absent=self._masks_absent)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised full model."""
        from neulite_sim.models.trainee import float_tensors

        tensors = float_tensors(blueprint.build_seeded(seed))
        return State(version=0, tensors=tensors, extra=layout(blueprint, self._rates))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the largest width that fits."""
        return Offering(stage="widths", submodels=self.submodels)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the slice of this version."""
        slices: Layout = state.extra
        return slices.taken(state.tensors, submodel, self.offset(state.version))

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model with each scalar the mean over the updates that hold it."""
        slices: Layout = state.extra
        mean = OverlapMean(state.tensors)
        for update in updates:
            weight = update.weight(self._weighting)
            for name in update.tensors:
                mean.add(name, *self.counted(slices, update, name), weight)
        return State(version=state.version + 1, tensors=mean.result(), extra=slices)
