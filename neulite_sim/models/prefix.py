"""The frozen prefix of a trainee: leading parts of its chain of blocks that make the same of a sample in every epoch.

A part is fixed where nothing of it is trained, its BatchNorm uses running statistics and no dropout acts in it. What
such parts make of each sample needs to be computed once in a flight, not once per epoch: `PrefixKeeper` keeps it.
"""

from __future__ import annotations

import bisect
import inspect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from neulite_sim.models.company import Trial, is_known
from neulite_sim.models.walk import layers_of, parameters_of
from neulite_sim.user_code.drawing import where_they_are

MOST_KEPT_BYTES = 256 * 2**20
"""Features of a flight that take more are computed again in each epoch. A constant: last bits may depend on it."""

FEWEST_FOR_POINTWISE = 16
"""PyTorch gives a 1x1 convolution of fewer samples to another library on one thread, with other last bits, and a small
one of a single sample whatever its window (`ConvParams::use_mkldnn` in ATen's Convolution.cpp)."""

Rows = NDArray[np.int64]


Features = Tensor | tuple[Tensor, ...]
"""What passes from one part to the next: a map, or several within a layer that is taken apart."""


class InParts(Protocol):
    """A block that is a sequence of layers, though no `nn.Sequential`."""

    def parts(self) -> tuple[nn.Module, ...]:
        """Return modules that do in turn what the block does, a map passing from each to the next."""


class InHalves(Protocol):
    """A layer of which a first half may be frozen while the second is trained."""

    def halves(self) -> tuple[nn.Module, nn.Module]:
        """Return two modules that do in turn what the layer does; what passes between them may be several tensors."""


def cut(
    chain: Sequence[nn.Module], *, within_layers: bool = True
) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    """Return the leading fixed parts of modules that are applied one after the other, and what is left, in order.

    A module that is fixed in part is taken apart where it is a plain `nn.Sequential` or has `parts`, and, if
    `within_layers`, where it has `halves`. Where no fixed part has a parameter nothing is saved, and all is left.
    """
    fixed, left = _cut(tuple(chain), within_layers)
    is_worthwhile = any(map(parameters_of, fixed))
    return (fixed, left) if is_worthwhile else ((), tuple(chain))


def _cut(chain: tuple[nn.Module, ...], within_layers: bool) -> tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]]:
    fixed = tuple(itertools.takewhile(_is_fixed, chain))
    left = chain[len(fixed) :]
    if left:
        inner, outer = _cut(_parts(left[0], within_layers), within_layers)
        if inner:
            return fixed + inner, (nn.Sequential(*outer), *left[1:])
    return fixed, left


def _parts(module: nn.Module, within_layers: bool) -> tuple[nn.Module, ...]:
    """Return modules that do one after the other what `module` does, none where it is not to be taken apart."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return ()
    if type(module) is nn.Sequential:
        return tuple(module)
    for way in ("parts", "halves") if within_layers else ("parts",):
        # A network may have a submodule of that name.
        if inspect.ismethod(found := getattr(module, way, None)):
            return tuple(found())
    return ()


def _is_fixed(module: nn.Module) -> bool:
    is_trained = any(parameter.requires_grad for parameter in parameters_of(module).values())
    return not is_trained and not any(_varies(layer) for _, layer in layers_of(module))


def _has_pointwise(module: nn.Module) -> bool:
    return any(isinstance(layer, _ConvNd) and math.prod(layer.kernel_size) == 1 for _, layer in layers_of(module))


def _varies(layer: nn.Module) -> bool:
    """Return whether a layer looks at its batch, collects statistics or draws random numbers."""
    if isinstance(layer, _NormBase):
        return layer.training or layer.running_mean is None
    return isinstance(layer, _DropoutNd) and layer.training and layer.p > 0


@dataclass(frozen=True, slots=True)
class _Column:
    """One of the tensors that are kept of each sample: a row of `table` each, and where its numbers lie in memory."""

    table: Tensor
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def put(self, places: Tensor, features: Tensor) -> None:
        size = self.table.shape[1]
        self.table.index_copy_(0, places, features.as_strided((len(features), size), (size, 1)))

    def fits(self, features: Tensor) -> bool:
        """Return whether features of other samples have the shape and the order of those for which there is room."""
        if features.shape[1:] != self.shape or not _lie_side_by_side(features):
            return False
        sides = zip(self.shape, self.strides, features.stride()[1:], strict=True)
        return all(length == 1 or one == other for length, one, other in sides)

    def take(self, places: Tensor) -> Tensor:
        strides = (self.table.shape[1], *self.strides)
        return self.table.index_select(0, places).as_strided((len(places), *self.shape), strides)


def _lie_side_by_side(features: Tensor) -> bool:
    """Return whether each sample's numbers lie in memory without gaps, one sample after the other."""
    expected = 1
    for stride, length in sorted(zip(features.stride()[1:], features.shape[1:], strict=True)):
        if length > 1 and stride != expected:
            return False
        expected *= length
    return len(features) == 1 or features.stride(0) == expected


class PrefixKeeper:
    """What a trainee's frozen prefix makes of a flight's samples, from the first epoch to the end of the flight.

    Whoever trains gives one to the trainee for each flight (`Trainee.keeper`) and says before each forward pass which
    samples it reads (`announce`). Where a batch's size decides by which kernels it is computed, those of another kind
    than the flight's first are neither kept nor read: the bits are those of a training that keeps nothing.

    Nothing is kept of a prefix that draws random numbers or changes what it holds, that puts out something else than a
    sample's numbers side by side, or that takes more than `most_bytes` for `num_samples`; nor, if it `tries_company`,
    of one whose layers are not all known and turn out to look at their batch (`company`). `within_layers` allows a
    prefix that ends inside a layer, which saves more work and keeps more bytes.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        most_bytes: int = MOST_KEPT_BYTES,
        within_layers: bool = True,
        tries_company: bool = True,
    ) -> None:
        self._num_samples = num_samples
        self._tries_company = tries_company
        self._most_bytes = most_bytes
        self._within_layers = within_layers
        self._announced: tuple[Tensor, Rows] | None = None
        self._use(())

    def _use(self, chain: tuple[nn.Module, ...]) -> None:
        self._chain = chain
        self._fixed, self._left = cut(chain, within_layers=self._within_layers)
        self._kernel_steps = (2, FEWEST_FOR_POINTWISE) if any(map(_has_pointwise, self._fixed)) else (2,)
        self._kernels: int | None = None
        self._is_kept = np.zeros(self._num_samples, dtype=bool)
        self._may_keep = True
        self._columns: tuple[_Column, ...] = ()
        self._trial: Trial | None = None
        self._is_one_map = True

    @property
    def tables(self) -> list[Tensor]:
        """What is kept, a row per sample of the flight; nothing before the first batch."""
        return [column.table for column in self._columns]

    @property
    def bytes_per_sample(self) -> int:
        """Bytes that are kept of each sample."""
        return sum(table.shape[1] * table.element_size() for table in self.tables)

    def announce(self, inputs: Tensor, rows: Rows) -> None:
        """Be told that the next forward pass reads `inputs`, which are the flight's samples number `rows`."""
        self._announced = inputs, rows

    def lead(self, inputs: Tensor, chain: tuple[nn.Module, ...]) -> tuple[Features, tuple[nn.Module, ...]]:
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

    def _features(self, inputs: Tensor) -> Features:
        # A loss may apply its blocks to something else than the samples it was given.
        if not self._may_keep or self._announced is None or self._announced[0] is not inputs:
            return self._computed(inputs)
        rows = self._announced[1]
        kernels = bisect.bisect_right(self._kernel_steps, len(rows))
        if self._kernels not in (None, kernels):
            return self._computed(inputs)
        self._kernels = kernels
        places = torch.from_numpy(rows).to(inputs.device)
        if self._columns and self._is_kept[rows].all():
            found = tuple(column.take(places) for column in self._columns)
            return found[0] if self._is_one_map else found
        features = self._computed(inputs) if self._columns else self._first(inputs)
        tensors = _as_tuple(features)
        if self._columns and not (_fit(self._columns, tensors) and self._is_passed(inputs, tensors)):
            # As where samples are cut to the longest of their batch, or divided by its size.
            self._may_keep, self._columns = False, ()
            return features
        for column, tensor in zip(self._columns, tensors, strict=False):
            column.put(places, tensor)
        self._is_kept[rows] = bool(self._columns)
        return features

    def _computed(self, inputs: Tensor) -> Features:
        features: Features = inputs
        for part in self._fixed:
            features = part(features)
        return features

    def _first(self, inputs: Tensor) -> Features:
        """Return the features of the flight's first batch, and make room for all if they can be kept."""
        foreign = [layer for part in self._fixed for _, layer in layers_of(part) if not is_known(layer)]
        before = self._touched(inputs, foreign)
        features = self._computed(inputs)
        tensors = _as_tuple(features)
        if foreign and self._tries_company and not isinstance(inputs, FakeTensor):
            self._trial = Trial(self._computed)
        self._may_keep = (
            all(isinstance(tensor, Tensor) and len(tensor) == len(inputs) for tensor in tensors)
            and all(map(_lie_side_by_side, tensors))
            and sum(map(_num_bytes, tensors)) * self._num_samples <= self._most_bytes * len(inputs)
            and before == self._touched(inputs, foreign)
            and self._is_passed(inputs, tensors)
        )
        if self._may_keep:
            self._columns = tuple(self._room(tensor) for tensor in tensors)
            self._is_one_map = not isinstance(features, tuple)
        return features

    def _is_passed(self, inputs: Tensor, tensors: tuple[Tensor, ...]) -> bool:
        return self._trial is None or self._trial.is_passed(inputs, tensors)

    def _room(self, features: Tensor) -> _Column:
        table = features.new_empty((self._num_samples, features[0].numel()))
        return _Column(table, features.shape[1:], features.stride()[1:])

    def _touched(self, inputs: Tensor, foreign: Sequence[nn.Module]) -> list[object]:
        """Return what changes where a part draws random numbers or writes to something that it holds."""
        if isinstance(inputs, FakeTensor):
            return []
        layers = [layer for part in self._fixed for _, layer in layers_of(part)]
        held = [each for layer in layers for each in (*layer._parameters.values(), *layer._buffers.values())]
        held += [value for layer in foreign for value in vars(layer).values()]
        states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(inputs.device)] if inputs.is_cuda else [])
        others = where_they_are() if foreign else ()
        return [*others, *(state.numpy().tobytes() for state in states), *filter(None, map(_mark, held))]


class _Mark:
    """A tensor as it is: equal to one that is the same and was not written to since."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = tensor, tensor._version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Mark) and self._tensor is other._tensor and self._version == other._version

    __hash__ = object.__hash__


def _mark(value: object) -> object:
    if isinstance(value, Tensor):
        return _Mark(value)
    return (value,) if isinstance(value, int | float | str) else None


def _fit(columns: Sequence[_Column], tensors: Sequence[Tensor]) -> bool:
    return len(columns) == len(tensors) and all(map(_Column.fits, columns, tensors))


def _as_tuple(features: Features) -> tuple[Tensor, ...]:
    return features if isinstance(features, tuple) else (features,)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
