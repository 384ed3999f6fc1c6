"""Dimensions of the tensors of a global model, and which of their scalars a thin one holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neulite_sim.later import Tensor, torch


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension of a global tensor: `outer` x `channels` x `inner` scalars, of which the width scales `channels`.

    `inner` is what each channel is made of: its pixels where a linear layer reads a flattened map, or one scalar of
    each head where those are interleaved. `outer` counts maps of as many channels, one behind the other. Both are 1
    for an ordinary layer. `streams` names, for each map, whose channels they are, where that is known already.
    """

    channels: int
    outer: int = 1
    inner: int = 1
    streams: tuple[int, ...] = field(default=(), compare=False)

    @property
    def size(self) -> int:
        """Number of scalars along the dimension."""
        return self.outer * self.channels * self.inner

    @property
    def channels_of_maps(self) -> tuple[int, ...]:
        """Number of channels of each map."""
        return (self.channels,) * self.outer

    def held(self, size: int, offset: int = 0) -> Tensor | None:
        """Return the positions that a slice of `size` holds: a window of channels from `offset` on, wrapped around.

        None where the slice is the whole dimension, in its own order.
        """
        if size == self.size:
            return None
        return self.positions([window(self.channels, self.num_held(size), offset)] * self.outer)

    def num_held(self, size: int) -> int:
        """Return how many channels of each map a slice of `size` holds."""
        assert size % (self.outer * self.inner) == 0, f"{size} does not divide into {self.outer} x {self.inner}"
        return size // (self.outer * self.inner)

    def counts(self, size: int) -> tuple[int, ...]:
        """Return how many channels a slice of `size` holds, map by map."""
        return (self.num_held(size),) * self.outer

    def resized(self, thinned: Callable[[int], int]) -> int:
        """Return the size of a slice that holds `thinned(n)` of the n channels of each map."""
        return self.outer * thinned(self.channels) * self.inner

    def positions(self, channels: Sequence[Tensor]) -> Tensor:
        """Return where some channels lie, given for each of the `outer` maps; of all equally many."""
        around = torch.arange(self.outer)[:, None, None] * self.channels
        return ((around + torch.stack(list(channels))[:, :, None]) * self.inner + torch.arange(self.inner)).flatten()


@dataclass(frozen=True, slots=True)
class Joined:
    """A dimension of maps that differ, one behind the other; each of `maps` has an `outer` of 1.

    `held_of[size]` says of how many channels of each map a slice of `size` is made.
    """

    maps: tuple[Dimension, ...]
    held_of: Mapping[int, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Number of scalars along the dimension."""
        return sum(part.size for part in self.maps)

    @property
    def streams(self) -> tuple[int, ...]:
        """Whose channels each map has."""
        return tuple(number for part in self.maps for number in part.streams)

    @property
    def channels_of_maps(self) -> tuple[int, ...]:
        """Number of channels of each map."""
        return tuple(part.channels for part in self.maps)

    def held(self, size: int, offset: int = 0) -> Tensor | None:
        """Return the positions that a slice of `size` holds: of each map a window of channels from `offset` on.

        None where the slice is the whole dimension, in its own order; a map that is held whole is in its own order.
        """
        if size == self.size:
            return None
        pairs = zip(self.channels_of_maps, self.counts(size), strict=True)
        return self.positions([window(number, count, offset if count < number else 0) for number, count in pairs])

    def counts(self, size: int) -> tuple[int, ...]:
        """Return how many channels a slice of `size` holds, map by map."""
        return self.held_of[size]

    def resized(self, thinned: Callable[[int], int]) -> int:
        """Return the size of a slice that holds `thinned(n)` of the n channels of each map."""
        return sum(part.resized(thinned) for part in self.maps)

    def positions(self, channels: Sequence[Tensor]) -> Tensor:
        """Return where some channels lie, given for each of the maps."""
        return torch.cat(list(self._each(channels)))

    def _each(self, channels: Sequence[Tensor]) -> Iterator[Tensor]:
        before = 0
        for part, held in zip(self.maps, channels, strict=True):
            yield before + part.positions([held])
            before += part.size


Axis = Dimension | Joined


def window(channels: int, count: int, offset: int) -> Tensor:
    """Return `(offset + i) mod channels` for i < count: `count` channels in a row, in the window's order."""
    return (torch.arange(count) + offset) % channels
