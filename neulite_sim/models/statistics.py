"""What layers collect as they are called: left as it was by a pass that is only repeated, or only tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm

from neulite_sim.models.walk import layers_of
from neulite_sim.user_code.drawing import drawing_again

_KNOWN = ("torch", "neulite_sim")


@contextmanager
def statistics_kept(part: nn.Module) -> Iterator[None]:
    """Within, layers do as before but leave running statistics, counters and other buffers as they are.

    BatchNorm reads none of its own in training. Those of others are brought back in the end.
    """
    norms = [layer for _, layer in layers_of(part) if isinstance(layer, _BatchNorm) and layer.training]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in norms]
    for layer in norms:
        # Momentum 0 still passes the statistics on, so autograd saves the same tensors as in the first pass.
        layer.momentum, layer.num_batches_tracked = 0.0, None
    moving = _moving(part)
    values = _values(moving)
    try:
        yield
    finally:
        for layer, (momentum, counter) in zip(norms, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, counter
        _put(moving, values)


def both_passes(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a checkpointed part's first pass, which is about to begin, and of its repetition."""
    moving = _moving(part)
    draws = drawing_again() if any(_is_of_others(layer) for _, layer in layers_of(part)) else nullcontext()
    return nullcontext(), _repeated(part, moving, _values(moving), draws)


@contextmanager
def _repeated(
    part: nn.Module, moving: Sequence[Tensor], values: Sequence[Tensor], draws: AbstractContextManager[None]
) -> Iterator[None]:
    with statistics_kept(part), draws:
        _put(moving, values)
        yield


def _moving(part: nn.Module) -> list[Tensor]:
    """Return the buffers that a call may change, but for those of BatchNorm; none where there are no numbers."""
    layers = [layer for _, layer in layers_of(part) if not isinstance(layer, _BatchNorm) and _may_move(layer)]
    found = [buffer for layer in layers for buffer in layer._buffers.values() if buffer is not None]
    return [buffer for buffer in found if not isinstance(buffer, FakeTensor) and not buffer.is_meta]


def _may_move(layer: nn.Module) -> bool:
    if isinstance(layer, _NormBase | _SpectralNorm) or layer._forward_pre_hooks:
        return True
    return _is_of_others(layer)


def _is_of_others(layer: nn.Module) -> bool:
    return type(layer).__module__.partition(".")[0] not in _KNOWN


def _values(buffers: Sequence[Tensor]) -> list[Tensor]:
    return [buffer.detach().clone() for buffer in buffers]


def _put(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Bring values back. What is as it was is not written to: autograd may have saved it."""
    with torch.no_grad():
        for buffer, value in zip(buffers, values, strict=True):
            if not torch.equal(buffer, value):
                buffer.copy_(value)
