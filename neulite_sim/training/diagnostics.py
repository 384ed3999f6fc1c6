"""What is measured of a tested model beside its loss and accuracy: where its blocks lie in the nHSIC plane.

Wu, Li, Tian, Chang and Xu, "NeuLite", https://arxiv.org/abs/2408.10826, Fig. 2: nHSIC(X; Z_t), what block t keeps of
the images, against nHSIC(Y; Z_t), what it knows of the labels. Z_t is the output of block t itself, flattened, with no
projection; the estimator is the ratio form with sigma 5, the default of NeuLite's own loss, in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neulite_sim.errors import SimulationError
from neulite_sim.methods.nhsic import feature_kernel, input_kernel, label_kernel, nhsic
from neulite_sim.samples import InputSpec

NHSIC_X, NHSIC_Y = "nhsic_x", "nhsic_y"
SIGMA = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One number about one block, from 1, of a tested model; None where it is undefined."""

    name: str
    block: int
    value: float | None


def nhsic_plane(model: nn.Module, inputs: Tensor, labels_N: Tensor, *, spec: InputSpec) -> list[Diagnostic]:
    """Return nHSIC(X; Z_t) and nHSIC(Y; Z_t), in [0, 1], of each block t of `model.blocks`, in their order.

    One forward pass in evaluation mode over all N samples, as the model reads them; each block's output lives only
    until its N x N kernel is known. A value is None where it is undefined: features that do not vary or are not finite,
    a sample of one class, fewer than three samples.

    Raises:
        SimulationError: the model has no blocks, or a block of it does not run once.
    """
    blocks = _blocks(model)
    kernels: dict[int, list[Tensor]] = {number: [] for number in range(1, len(blocks) + 1)}

    def watch(number: int) -> Any:
        return lambda _block, _inputs, output: kernels[number].append(feature_kernel(output.flatten(1), SIGMA))

    handles = [block.register_forward_hook(watch(number)) for number, block in enumerate(blocks, start=1)]
    model.eval()
    try:
        with torch.no_grad():
            inputs_NN = input_kernel(inputs.flatten(1), spec.vocabulary, SIGMA)
            labels_NN = label_kernel(labels_N, spec.num_classes, SIGMA)
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for number, seen in kernels.items():
        if len(seen) != 1:
            raise SimulationError(
                f"evaluation.diagnostics: block {number} of {type(model).__name__} ran {len(seen)} times in one "
                "forward pass, and nhsic_plane needs its one output",
                hint="remove nhsic_plane",
            )
        for name, own_NN in ((NHSIC_X, inputs_NN), (NHSIC_Y, labels_NN)):
            found.append(Diagnostic(name=name, block=number, value=_defined(own_NN, seen[0])))
    return found


def _blocks(model: nn.Module) -> Sequence[nn.Module]:
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise SimulationError(
            f"evaluation.diagnostics: nhsic_plane looks at the blocks of the tested model, and "
            f"{type(model).__name__} has none",
            hint="remove nhsic_plane",
        )
    return list(blocks)


def _defined(own_NN: Tensor, other_NN: Tensor) -> float | None:
    value, is_defined = nhsic(own_NN, other_NN, form="ratio", epsilon=0.0)
    return float(value) if bool(is_defined) and bool(torch.isfinite(value)) else None
