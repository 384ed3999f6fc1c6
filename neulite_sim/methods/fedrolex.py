"""FedRolex: every device trains a window of channels that rolls over the global model from round to round.

Alam, Liu, Yan and Zhang, "FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model Extraction", NeurIPS
2022, https://arxiv.org/abs/2212.01548: the window of round j is `{(j + i) mod n : i < ceil(r n)}` of the n channels of
each layer (section 3). Every channel is trained in time, so the global model may be larger than any device's.

The authors' code moves the window the other way (`direction: backward`) and weighs biases, BatchNorm and classifier by
a counter that grows while it loops over devices; the paper's plain mean is used here for every tensor. Devices
normalise with the statistics of their batch, and the global model is meant to be tested with
`evaluation.batch_norm: recalibrated`; running statistics are averaged as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from neulite_sim.methods.aggregation import Weighting
from neulite_sim.methods.contract import Method, Proposal, Setting, State, Update
from neulite_sim.methods.offering import offer_largest
from neulite_sim.methods.thin import LEVELS, Rates, ThinTrainee, names_of
from neulite_sim.methods.width import Layout, OverlapMean, layout
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import Trainee, float_tensors
from neulite_sim.population.table import Integers
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options


class FedRolexOptions(Options):
    """Options of `fedrolex`."""

    rates: Rates = Field(LEVELS, validate_default=True)
    """Widths that are offered, relative to the full model, largest first, beginning with 1."""
    direction: Literal["forward", "backward"] = "forward"
    """The window of round j begins at channel j (paper) or at -j (authors' code), modulo the channels of the layer."""
    scaler: bool = True
    """Divide the outputs of hidden layers by the rate while training.

    Without normalisation the factors multiply from layer to layer: switch it off for deep networks of that kind.
    """
    masked_cross_entropy: bool = True
    """Set the logits of classes that a device does not own to 0 in its loss."""
    weighting: Weighting = "uniform"
    """`uniform` weighs all updates alike, as the authors do; `samples` by the device's samples."""


class FedRolex(Method):
    """The largest rolled window that fits, on each device."""

    skippable_submodels: ClassVar[bool] = True
    scales_width: ClassVar[bool] = True

    def __init__(self, options: FedRolexOptions) -> None:
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
        """Return the window of this version's round."""
        slices: Layout = state.extra
        return slices.taken(state.tensors, submodel, self._offset(state.version))

    def _offset(self, version: int) -> int:
        return version if self._options.direction == "forward" else -version

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model with each scalar the mean over the updates whose window holds it."""
        slices: Layout = state.extra
        mean = OverlapMean(state.tensors)
        for update in updates:
            weight = float(update.num_samples) if self._options.weighting == "samples" else 1.0
            offset = self._offset(update.version)
            for name, tensor in update.tensors.items():
                mean.add(name, slices.indices(update.submodel, name, offset), tensor, weight)
        return State(version=state.version + 1, tensors=mean.result(), extra=slices)


def _build(options: FedRolexOptions, setting: Setting) -> FedRolex:
    return FedRolex(options)


COMPONENT = Component(
    kind="fedrolex",
    summary="each device trains a rolling window of channels; meant for evaluation.batch_norm: recalibrated",
    source="Alam et al., NeurIPS 2022, arXiv 2212.01548",
    options=FedRolexOptions,
    build=_build,
)
