"""Weighted sums of tensors that do not depend on their order: whoever adds first, the bits are the same.

Each term w x is rounded to whole multiples of a unit that depends on the largest magnitude in x alone, and multiples of
one unit are added as whole numbers in double precision, which is exact below 2^53. So terms can be added, and partial
sums merged, in any order and any grouping. It is the pre-rounding of Demmel and Nguyen ("Parallel Reproducible
Summation", IEEE Transactions on Computers 64 (2015), 2060-2070, doi 10.1109/TC.2014.2345391) with one slice for a whole
tensor where theirs is one for a scalar.

Let no magnitude exceed M, and n terms have weights of W in total, out of at most `most_weight`. The mean of float32
tensors is then off by at most 2^-43 M n most_weight / W, usually less than a part in 2^30 of M. Tensors in double
precision have a second slice below the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Doubles = NDArray[np.float64]

_GRID = 8
"""Units lie so many powers of two apart: magnitudes that differ by less mostly share one."""
_LOWEST = -100
"""The lowest place of the grid: of magnitudes below 2^-800, which only double precision has."""
_EXACT_BITS = 52


@dataclass(slots=True)
class WeightedSum:
    """The sum of `weight * tensor` over terms; weights are whole numbers that add up to `most_weight` at most.

    Its arrays may travel to other processes, and come back read-only.
    """

    most_weight: int
    weight: int = 0
    slices: dict[int, list[Doubles]] = field(default_factory=dict)
    """Whole numbers, by the place of their unit on the grid, from coarse to fine."""
    not_finite: Doubles | None = None
    """The sum of the scalars that are infinite or no numbers; zero elsewhere."""

    def add(self, tensor: Tensor, weight: int) -> None:
        """Add a term; `tensor` is only read."""
        self._count(weight)
        largest = _magnitude(tensor)
        if not math.isfinite(largest):
            is_finite = torch.isfinite(tensor)
            self._spoil(torch.where(is_finite, 0.0, tensor.double()).numpy())
            tensor = torch.where(is_finite, tensor, 0.0)
            largest = _magnitude(tensor)
        place = self.place_of(largest)
        # A quotient of powers of two: the product with a float32 is exact.
        multiples = tensor.to(torch.float64, copy=True).mul_(weight / self.unit(place))
        if tensor.dtype != torch.float64:
            self.take_in(place, [multiples.round_().numpy()])
            return
        whole = multiples.round()
        rest = multiples.sub_(whole).mul_(self._units_in_unit).round_()
        self.take_in(place, [whole.numpy(), rest.numpy()])

    def merge(self, other: WeightedSum) -> None:
        """Add the terms of another sum of the same bound."""
        assert other.most_weight == self.most_weight, (other.most_weight, self.most_weight)
        self._count(other.weight)
        for place, parts in other.slices.items():
            self.take_in(place, parts)
        if other.not_finite is not None:
            self._spoil(other.not_finite)

    def mean(self) -> Tensor:
        """Return the sum over the total weight, in double precision; at least one term must have been added."""
        total: Any = 0.0
        for place in sorted(self.slices, reverse=True):
            for depth, part in enumerate(self.slices[place]):
                total = total + part * (self.unit(place) / self._units_in_unit**depth)
        if self.not_finite is not None:
            # The sign and the payload of a NaN do depend on the order.
            total = total + np.where(np.isnan(self.not_finite), np.nan, self.not_finite)
        return torch.from_numpy(np.asarray(total / self.weight))

    def _count(self, weight: int) -> None:
        self.weight += weight
        assert self.weight <= self.most_weight, f"weights of {self.weight}, of at most {self.most_weight}"

    @staticmethod
    def place_of(largest: float) -> int:
        """Return the place on the grid of the unit for a tensor whose largest magnitude this is."""
        return max(-(-math.frexp(largest)[1] // _GRID), _LOWEST) if largest else _LOWEST

    @property
    def _weight_bits(self) -> int:
        return self.most_weight.bit_length()

    def unit(self, place: int) -> float:
        """Return the unit at a place of the grid."""
        return math.ldexp(1.0, place * _GRID + self._weight_bits - _EXACT_BITS)

    @property
    def _units_in_unit(self) -> float:
        """How many units of the second slice make one of the first. A term leaves at most half of one to it."""
        return math.ldexp(1.0, _EXACT_BITS - self._weight_bits)

    def take_in(self, place: int, parts: list[Doubles]) -> None:
        """Add whole numbers of units, from coarse to fine, of terms that are counted elsewhere."""
        mine = self.slices.get(place)
        if mine is None:
            self.slices[place] = [part if part.flags.writeable else part.copy() for part in parts]
            return
        if len(mine) < len(parts):
            mine += [np.zeros_like(part) for part in parts[len(mine) :]]
        for own, part in zip(mine, parts, strict=False):
            own += part

    def _spoil(self, scalars: Doubles) -> None:
        with np.errstate(invalid="ignore"):
            self.not_finite = scalars if self.not_finite is None else self.not_finite + scalars


def _magnitude(tensor: Tensor) -> float:
    """Return the largest magnitude in a tensor, 0 of an empty one; not finite where a scalar is not."""
    return float(torch.linalg.vector_norm(tensor, math.inf)) if tensor.numel() else 0.0
