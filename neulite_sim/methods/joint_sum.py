"""Weighted sums of all tensors of an update at once, to the bits of a `WeightedSum` of each.

A network has dozens of tensors of a few numbers, and a sum costs ten calls whatever its size. So the small ones lie one
behind the other, each with a unit of its own, and are added in one go.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from neulite_sim.methods.summation import Doubles, WeightedSum

_SMALL = 65_536
"""Numbers of a tensor for which calls of its own are dear."""
_JOINT = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(slots=True)
class JointSum:
    """The sums of `weight * tensor` by name; weights are whole numbers that add up to `most_weight` at most.

    Its arrays may travel to other processes, and come back read-only.
    """

    most_weight: int
    weight: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the tensors of every term."""
    small: tuple[str, ...] = ()
    joint: dict[tuple[int, ...], Doubles] = field(default_factory=dict)
    """Whole numbers of the small tensors, by the places of their units on the grid."""
    alone: dict[str, WeightedSum] = field(default_factory=dict)
    """What is large, in double precision, or of infinite numbers or none."""

    def add(self, tensors: Mapping[str, Tensor], weight: int) -> None:
        """Add a term; its tensors are only read."""
        if not self.shapes:
            self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            self.small = tuple(name for name, tensor in tensors.items() if 0 < tensor.numel() <= _SMALL)
        self.weight += weight
        for name in self.shapes.keys() - set(self.small):
            self._alone(name).add(tensors[name], weight)
        if self.small:
            self._add_small([tensors[name] for name in self.small], weight)

    def _add_small(self, tensors: Sequence[Tensor], weight: int) -> None:
        numbers = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(torch.float64, copy=True).numpy()
        bounds = list(_bounds(tensor.numel() for tensor in tensors))
        with np.errstate(invalid="ignore"):
            magnitudes = np.maximum.reduceat(np.abs(numbers), [start for start, _ in bounds]).tolist()
        for number, tensor in enumerate(tensors):
            if tensor.dtype not in _JOINT or not math.isfinite(magnitudes[number]):
                self._alone(self.small[number]).add(tensor, weight)
                numbers[slice(*bounds[number])], magnitudes[number] = 0.0, 0.0
        units = WeightedSum(most_weight=self.most_weight)
        places = tuple(map(units.place_of, magnitudes))
        factors = [weight / units.unit(place) for place in places]
        numbers *= np.repeat(factors, [end - start for start, end in bounds])
        self._take_in(places, np.rint(numbers, out=numbers))

    def merge(self, other: JointSum) -> None:
        """Add the terms of another sum of the same bound, names and shapes."""
        assert other.most_weight == self.most_weight, (other.most_weight, self.most_weight)
        if not self.shapes:
            self.shapes, self.small = other.shapes, other.small
        self.weight += other.weight
        for places, numbers in other.joint.items():
            self._take_in(places, numbers)
        for name, each in other.alone.items():
            self._alone(name).merge(each)

    def means(self) -> dict[str, Tensor]:
        """Return the sums over the total weight, in double precision; at least one term must have been added."""
        totals = {name: self.alone.get(name) or WeightedSum(most_weight=self.most_weight) for name in self.shapes}
        # A sum goes on in the memory that it is first given.
        totals.update({name: copy.deepcopy(totals[name]) for name in self.small})
        bounds = list(_bounds(math.prod(self.shapes[name]) for name in self.small))
        for places, numbers in self.joint.items():
            for name, place, (start, end) in zip(self.small, places, bounds, strict=True):
                totals[name].take_in(place, [numbers[start:end].reshape(self.shapes[name]).copy()])
        for total in totals.values():
            total.weight = self.weight
        return {name: total.mean() for name, total in totals.items()}

    def _alone(self, name: str) -> WeightedSum:
        return self.alone.setdefault(name, WeightedSum(most_weight=self.most_weight))

    def _take_in(self, places: tuple[int, ...], numbers: Doubles) -> None:
        mine = self.joint.get(places)
        if mine is None:
            self.joint[places] = numbers if numbers.flags.writeable else numbers.copy()
        else:
            mine += numbers


def _bounds(sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield where each of several parts begins and ends that lie one behind the other."""
    return itertools.pairwise(itertools.accumulate(sizes, initial=0))
