"""Tensors on their way through Ray's object store, as arrays.

A network has a hundred tensors of a few numbers. Each array by itself costs as much to send, and to take out again, as
tens of kilobytes do; so small ones travel as one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from neulite_sim.training.contract import Payload

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]

_SMALL_BYTES = 65_536
_ALIGNED_BYTES = 64


class Packed(Mapping[str, Array]):
    """Arrays by name, of which the small ones lie in one memory; read-only for whoever takes them out of the store."""

    def __init__(self, arrays: Arrays) -> None:
        self._places: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]] | None] = {}
        self._large: dict[str, Array] = {}
        num_bytes = 0
        for name, array in arrays.items():
            if array.nbytes > _SMALL_BYTES:
                self._places[name], self._large[name] = None, array
                continue
            self._places[name] = (num_bytes, array.dtype, array.shape)
            num_bytes += -(-array.nbytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
        self._small = np.zeros(num_bytes, dtype=np.uint8)
        for name, array in arrays.items():
            if self._places[name] is not None:
                self[name][...] = array

    def __getitem__(self, name: str) -> Array:
        place = self._places[name]
        if place is None:
            return self._large[name]
        start, dtype, shape = place
        # Of any shape, the empty one included.
        return np.ndarray(shape, dtype, self._small, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.values())


def as_arrays(tensors: Payload) -> Arrays:
    """Return the arrays of tensors, which share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def as_tensors(arrays: Arrays) -> Payload:
    """Return tensors with what arrays of the object store hold; these are read-only, so it is copied."""
    return {name: torch.from_numpy(array if array.flags.writeable else array.copy()) for name, array in arrays.items()}


def as_readonly_tensors(arrays: Arrays) -> Payload:
    """Return tensors over arrays of the object store: for whoever is certain not to write to them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
