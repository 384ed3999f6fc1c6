"""What operators allocate inside and free before they return, so that no dispatch mode sees it.

The rules are read off traces of every call of `malloc` in real steps: oneDNN's convolutions with channels innermost on
a processor with AVX2 (PyTorch 2.13, oneDNN 3.12), and PyTorch's own operators. Reordered weights are up to an eighth
larger than the weights (padded rows); that is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten

Workspace = tuple[Tensor | None, tuple[int, ...], tuple[int, ...]]
"""An output, what is held already when it is allocated, and what is allocated after it; both are freed after that."""


def workspaces_of(func: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> Iterator[Workspace]:
    """Yield the outputs of an operator in the order in which it allocates them, with what it takes meanwhile."""
    packet = func._overloadpacket
    if packet is _aten.convolution:
        # Weights are reordered into the blocks of the kernel.
        yield outputs[0], (), (_num_bytes(args[1]),)
    elif packet is _aten.convolution_backward:
        yield from _convolution_backward(args, outputs)
    elif packet is _aten.native_batch_norm_backward:
        # The gradient of the input is computed from a contiguous copy.
        yield outputs[0], (), (_num_bytes(outputs[0]),)
        yield from ((output, (), ()) for output in outputs[1:])
    elif packet is _aten.roll:
        yield outputs[0], (_num_bytes(outputs[0]),), ()
    else:
        yield from ((output, (), ()) for output in outputs)


def _convolution_backward(args: Sequence[Any], outputs: Sequence[Tensor]) -> Iterator[Workspace]:
    """First the gradient of the images, from reordered weights; then that of the weights, in two copies beside it."""
    weight_bytes = _num_bytes(args[2])
    wants_images, wants_weight, _ = args[-1]
    rest = list(outputs)
    if wants_images:
        yield rest.pop(0), (), (weight_bytes,)
    if wants_weight:
        yield rest.pop(0), (weight_bytes, weight_bytes), ()
    yield from ((output, (), ()) for output in rest)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
