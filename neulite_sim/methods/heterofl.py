"""HeteroFL: every device trains the leading channels of the global model that fit it.

Diao, Ding and Tarokh, "HeteroFL: Computation and Communication Efficient Federated Learning for Heterogeneous
Clients", ICLR 2021, https://arxiv.org/abs/2010.01264: slices and their mean in section 3 (eq. 2-6), scaler, masked
cross-entropy and static BatchNorm under "Static batch normalization" and "Scaler" there.

Static BatchNorm: devices normalise with the statistics of their batch, and the global model is tested with statistics
rebuilt from training data, `evaluation.batch_norm: recalibrated`. Running statistics are averaged here as well, so
that `running` can be reported beside it. Channels beyond the widest trained slice keep their initial weights: where no
device holds the full model, the full model stays near chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from neulite_sim.methods.aggregation import Weighting
from neulite_sim.methods.contract import Method, Proposal, Setting, State, Update
from neulite_sim.methods.offering import offer_largest
from neulite_sim.methods.thin import LEVELS, Rates, ThinTrainee, names_of
from neulite_sim.methods.width import Layout, OverlapMean, layout, with_rows
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import Trainee, float_tensors
from neulite_sim.population.table import Integers
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options


class HeteroFLOptions(Options):
    """Options of `heterofl`; the defaults are the authors'."""

    rates: Rates = Field(LEVELS, validate_default=True)
    """Widths that are offered, relative to the full model, largest first, beginning with 1."""
    scaler: bool = True
    """Divide the outputs of hidden layers by the rate while training.

    Without normalisation the factors multiply from layer to layer: switch it off for deep networks of that kind.
    """
    masked_cross_entropy: bool = True
    """Set the logits of classes that a device does not own to 0 in its loss."""
    classifier_rows: bool = True
    """Average a class's row of the classifier only over the devices that own samples of it."""
    weighting: Weighting = "uniform"
    """`uniform` weighs all updates alike, as the authors do; `samples` by the device's samples."""


class HeteroFL(Method):
    """The largest leading slice that fits, on each device."""

    skippable_submodels: ClassVar[bool] = True
    scales_width: ClassVar[bool] = True

    def __init__(self, options: HeteroFLOptions) -> None:
        self._options = options
        self._rates = names_of(options.rates)
        self.submodels = tuple(self._rates)

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model at the submodel's width."""
        return ThinTrainee(
            blueprint,
            self._rates[submodel],
            scaler=self._options.scaler,
            masks_absent=self._options.masked_cross_entropy,
        )

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised full model."""
        tensors = float_tensors(blueprint.build_seeded(seed))
        return State(version=0, tensors=tensors, extra=layout(blueprint, self._rates))

    def offers(self, state: State, ledger: Ledger, candidates: Integers) -> Proposal:
        """Return for each candidate an offer of the largest width that fits it."""
        return offer_largest(ledger, self.submodels, candidates, stage="widths")

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the leading channels of the global model."""
        slices: Layout = state.extra
        return slices.taken(state.tensors, submodel)

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model with each scalar the mean over the updates that hold it, rows of classes over owners."""
        slices: Layout = state.extra
        mean = OverlapMean(state.tensors)
        for update in updates:
            weight = float(update.num_samples) if self._options.weighting == "samples" else 1.0
            for name, tensor in update.tensors.items():
                indices, part = slices.indices(update.submodel, name), tensor
                if self._options.classifier_rows and name in slices.classifier:
                    indices, part = with_rows(indices, tensor, update.classes)
                mean.add(name, indices, part, weight)
        return State(version=state.version + 1, tensors=mean.result(), extra=slices)


def _build(options: HeteroFLOptions, setting: Setting) -> HeteroFL:
    return HeteroFL(options)


COMPONENT = Component(
    kind="heterofl",
    summary="each device trains the leading channels that fit it; meant for evaluation.batch_norm: recalibrated",
    source="Diao, Ding and Tarokh, ICLR 2021, arXiv 2010.01264",
    options=HeteroFLOptions,
    build=_build,
)
