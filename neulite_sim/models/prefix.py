"""The frozen prefix of a trainee: leading parts of its chain of blocks that make the same of a sample in every epoch.

A part is fixed where nothing of it is trained, its BatchNorm uses running statistics and no dropout acts in it. What
such parts make of each sample needs to be computed once in a flight, not once per epoch: `PrefixKeeper` keeps it.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

MOST_KEPT_BYTES = 256 * 2**20
"""Features of a flight that take more are computed again in each epoch. A constant: last bits may depend on it."""

FEWEST_FOR_POINTWISE = 16
"""PyTorch gives a 1x1 convolution of fewer samples to another library on one thread, with other last bits, and a small
one of a single sample whatever its window (`ConvParams::use_mkldnn` in ATen's Convolution.cpp)."""

Rows = NDArray[np.int64]


def cut(chain: Sequence[nn.Module]) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """Return the leading fixed parts of modules that are applied one after the other, and what is left, in order.

    A module that is fixed in part is taken apart where it is a plain `nn.Sequential`. Where no fixed part has a
    parameter there is nothing to save, and everything is left.
    """
    fixed, left = _cut(tuple(chain))
    is_worthwhile = any(True for part in fixed for _ in part.parameters())
    return (fixed, left) if is_worthwhile else ((), tuple(chain))


def _cut(chain: tuple[nn.Module, ...]) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    fixed = tuple(itertools.takewhile(_is_fixed, chain))
    left = chain[len(fixed) :]
    if left and _is_plain(left[0]):
        inner, outer = _cut(tuple(left[0].children()))
        if inner:
            return fixed + inner, (nn.Sequential(*outer), *left[1:])
    return fixed, left


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module does no more than apply each of its children to what the one before made."""
    is_watched = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return type(module) is nn.Sequential and len(set(module)) == len(module) and not is_watched


def _is_fixed(module: nn.Module) -> bool:
    is_trained = any(parameter.requires_grad for parameter in module.parameters())
    return not is_trained and not any(map(_varies, module.modules()))


def _has_pointwise(module: nn.Module) -> bool:
    return any(isinstance(layer, _ConvNd) and math.prod(layer.kernel_size) == 1 for layer in module.modules())


def _varies(layer: nn.Module) -> bool:
    """Return whether a layer looks at its batch, collects statistics or draws random numbers."""
    if isinstance(layer, _NormBase):
        return layer.training or layer.running_mean is None
    return isinstance(layer, _DropoutNd) and layer.training and layer.p > 0


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the numbers of a sample lie in memory: its shape, the strides of its dimensions, and how many they are."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    size: int

    def rows(self, features: Tensor) -> Tensor:
        """Return features as rows `[B, size]` in their order of memory, without a copy."""
        return features.as_strided((len(features), self.size), (self.size, 1))

    def features(self, rows: Tensor) -> Tensor:
        """Return rows as features, without a copy."""
        return rows.as_strided((len(rows), *self.shape), (self.size, *self.strides))


def _layout_of(features: Tensor) -> _Layout | None:
    """Return the layout of each sample of a batch; None where samples do not lie one after the other, without gaps."""
    shape, strides = tuple(features.shape[1:]), features.stride()[1:]
    size = math.prod(shape)
    if len(features) > 1 and features.stride(0) != size:
        return None
    expected = 1
    for stride, length in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride != expected:
            return None
        expected *= length
    return _Layout(shape, strides, size)


class PrefixKeeper:
    """What a trainee's frozen prefix makes of a flight's samples, from the first epoch to the end of the flight.

    Whoever trains gives one to the trainee for each flight (`Trainee.keeper`) and says before each forward pass which
    samples it reads (`announce`). Where a batch's size decides by which kernels it is computed, those of another kind
    than the flight's first are neither kept nor read: the bits are those of a training that keeps nothing.

    Nothing is kept of a prefix that draws random numbers or changes tensors of its own, that puts out something else
    than a sample's numbers side by side, or that takes more than `most_bytes` for `num_samples`.
    """

    def __init__(self, num_samples: int, *, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._num_samples = num_samples
        self._most_bytes = most_bytes
        self._announced: tuple[Tensor, Rows] | None = None
        self._use(())

    def _use(self, chain: tuple[nn.Module, ...]) -> None:
        self._chain = chain
        self._fixed, self._left = cut(chain)
        self._kernel_steps = (2, FEWEST_FOR_POINTWISE) if any(map(_has_pointwise, self._fixed)) else (2,)
        self._kernels: int | None = None
        self._is_kept = np.zeros(self._num_samples, dtype=bool)
        self._layout: _Layout | None = None
        self._may_keep = True
        self.table: Tensor | None = None
        """A row per sample of the flight, None before the first batch and where nothing is kept."""

    @property
    def bytes_per_sample(self) -> int:
        """Bytes that are kept of each sample."""
        return 0 if self.table is None else self.table.shape[1] * self.table.element_size()

    def announce(self, inputs: Tensor, rows: Rows) -> None:
        """Be told that the next forward pass reads `inputs`, which are the flight's samples number `rows`."""
        self._announced = inputs, rows

    def lead(self, inputs: Tensor, chain: tuple[nn.Module, ...]) -> tuple[Tensor, tuple[nn.Module, ...]]:
        """Return what the fixed parts of `chain` make of `inputs`, without gradient, and what of it is left to apply.

        Which parts are fixed is found out once per chain: a trainee that freezes others meanwhile needs a new keeper.
        """
        # Tuples compare their items by identity first, and modules by nothing else.
        if chain != self._chain:
            self._use(chain)
        if not self._fixed:
            return inputs, chain
        with torch.no_grad():
            return self._features(inputs), self._left

    def _features(self, inputs: Tensor) -> Tensor:
        # A loss may apply its blocks to something else than the samples it was given.
        if not self._may_keep or self._announced is None or self._announced[0] is not inputs:
            return self._computed(inputs)
        rows = self._announced[1]
        kernels = bisect.bisect_right(self._kernel_steps, len(rows))
        if self._kernels not in (None, kernels):
            return self._computed(inputs)
        self._kernels = kernels
        places = torch.from_numpy(rows).to(inputs.device)
        if self.table is not None and self._layout is not None and self._is_kept[rows].all():
            return self._layout.features(self.table.index_select(0, places))
        features = self._computed(inputs) if self.table is not None else self._first(inputs)
        if self.table is not None and self._layout is not None:
            self.table.index_copy_(0, places, self._layout.rows(features))
            self._is_kept[rows] = True
        return features

    def _computed(self, inputs: Tensor) -> Tensor:
        features = inputs
        for part in self._fixed:
            features = part(features)
        return features

    def _first(self, inputs: Tensor) -> Tensor:
        """Return the features of the flight's first batch, and make room for all if they can be kept."""
        before = self._touched(inputs)
        features = self._computed(inputs)
        layout = _layout_of(features) if isinstance(features, Tensor) and len(features) == len(inputs) else None
        self._may_keep = (
            layout is not None
            and self._num_samples * layout.size * features.element_size() <= self._most_bytes
            and all(map(torch.equal, before, self._touched(inputs)))
        )
        if self._may_keep and layout is not None:
            self._layout = layout
            self.table = features.new_empty((self._num_samples, layout.size))
        return features

    def _touched(self, inputs: Tensor) -> list[Tensor]:
        """Return what changes where a part draws random numbers or writes to a tensor that it holds."""
        if isinstance(inputs, FakeTensor):
            return []
        held = (tensor for part in self._fixed for tensor in (*part.parameters(), *part.buffers()))
        states = [torch.get_rng_state(), torch.tensor([tensor._version for tensor in held])]
        return [*states, torch.cuda.get_rng_state(inputs.device)] if inputs.is_cuda else states
