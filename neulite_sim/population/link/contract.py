"""What the wing of links answers: how many bits pass between two moments, and when a transfer is done."""

from __future__ import annotations

from typing import Literal, Protocol

Direction = Literal["down", "up"]
DIRECTIONS: tuple[Direction, ...] = ("down", "up")


class Throughput(Protocol):
    """What a link carries over virtual time. Pure lookups: any order of questions gives the same answers."""

    @property
    def mean_bits_per_second(self) -> float:
        """Bits per second in the long run, above 0."""
        ...

    def bits(self, start_s: float, end_s: float) -> float:
        """Return how many bits pass in `[start_s, end_s)`; both finite, 0 <= start_s <= end_s."""
        ...

    def ends_s(self, start_s: float, num_bits: float) -> float:
        """Return when a transfer of `num_bits` begun at `start_s` is done; `inf` where it never is."""
        ...
