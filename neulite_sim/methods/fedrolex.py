"""FedRolex: every device trains a window of channels that rolls over the global model from round to round.

Alam, Liu, Yan and Zhang, "FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model Extraction", NeurIPS
2022, https://arxiv.org/abs/2212.01548: the window of round j is `{(j + i) mod n : i < ceil(r n)}` of the n channels of
each layer (section 3). Every channel is trained in time, so the global model may be larger than any device's.

The authors' code moves the window the other way (`direction: backward`) and weighs biases, BatchNorm and classifier by
a counter that grows while it loops over devices; the paper's plain mean is used here for every tensor. The code also
averages a class's row of the classifier over the devices that own the class alone, as HeteroFL does; here over all that
hold it. It draws levels by proportion, here memory decides; it tests with the statistics of the test batch. Devices
normalise with the statistics of their batch, and the global model is meant to be tested with
`evaluation.batch_norm: recalibrated`; running statistics are averaged as well.
"""

from __future__ import annotations

from typing import Literal

from neulite_sim.methods.contract import Setting, Weighting
from neulite_sim.methods.sliced import SlicedMethod, SlicedOptions
from neulite_sim.registry import Component


class FedRolexOptions(SlicedOptions):
    """Options of `fedrolex`."""

    direction: Literal["forward", "backward"] = "forward"
    """The window of round j begins at channel j (paper) or at -j (authors' code), modulo the channels of the layer."""


class FedRolex(SlicedMethod):
    """The largest rolled window that fits, on each device."""

    def __init__(self, options: FedRolexOptions) -> None:
        super().__init__(options)
        self._step = 1 if options.direction == "forward" else -1

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the means: windows of one width and version lie at the same place."""
        return self._weighting

    def offset(self, version: int) -> int:
        """Return the channel at which the window of a version's round begins."""
        return self._step * version


def _build(options: FedRolexOptions, setting: Setting) -> FedRolex:
    del setting
    return FedRolex(options)


COMPONENT = Component(
    kind="fedrolex",
    summary="each device trains a rolling window of channels; meant for evaluation.batch_norm: recalibrated",
    source="Alam et al., NeurIPS 2022, arXiv 2212.01548",
    options=FedRolexOptions,
    build=_build,
)
