"""Throughput: how many bits a link passes between two moments, and when a transfer is done.

A rate that changes in steps is integrated, not averaged: the bits before each step are summed once, and a moment is
found among the sums by bisection. Nothing is remembered between questions, so they may come in any order. Results
are exact up to rounding, a relative error of about 1e-15 in the bits since the beginning of the trace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.population.link.contract import Direction, Throughput
from neulite_sim.traces.steps import ROUNDING, Steps


@dataclass(frozen=True, slots=True)
class ConstantRate:
    """The same rate at all times, in bits per second above 0."""

    mean_bits_per_second: float

    def bits(self, start_s: float, end_s: float) -> float:
        """Return how many bits pass in `[start_s, end_s)`.

        Raises:
            ValueError: the moments are not finite, negative, or in the wrong order.
        """
        _require_order(start_s, end_s)
        return self.mean_bits_per_second * (end_s - start_s)

    def ends_s(self, start_s: float, num_bits: float) -> float:
        """Return `start_s + num_bits / rate`.

        Raises:
            ValueError: a negative or infinite start or size.
        """
        _require_transfer(start_s, num_bits)
        return start_s + num_bits / self.mean_bits_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedRate:
    """A rate that follows `steps`, `scale` times as high, at virtual time 0 already `offset_s` into them.

    With `is_repeated` they start over at their end; without it nothing passes from then on.
    """

    steps: Steps
    offset_s: float = 0.0
    scale: float = 1.0
    is_repeated: bool = True

    @property
    def mean_bits_per_second(self) -> float:
        """Mean over one span, in bits per second."""
        return self.scale * self.steps.total_bits / self.steps.span_s

    def bits(self, start_s: float, end_s: float) -> float:
        """Return how many bits pass in `[start_s, end_s)`.

        Raises:
            ValueError: the moments are not finite, negative, or in the wrong order.
        """
        _require_order(start_s, end_s)
        (first, from_s), (last, until_s) = self._locate(start_s), self._locate(end_s)
        within = self.steps.volume_until(until_s) - self.steps.volume_until(from_s)
        return max(0.0, self.scale * ((last - first) * self.steps.total_bits + within))

    def ends_s(self, start_s: float, num_bits: float) -> float:
        """Return when a transfer of `num_bits` begun at `start_s` is done; `inf` where it never is.

        Raises:
            ValueError: a negative or infinite start or size.
        """
        _require_transfer(start_s, num_bits)
        if num_bits == 0:
            return start_s
        _, since_s = self._locate(start_s)
        total_bits = self.steps.total_bits
        needed = self.steps.volume_until(since_s) + num_bits / self.scale
        if not self.is_repeated and needed * (1 - ROUNDING) > total_bits:
            return math.inf
        # What ends exactly with a repetition belongs to it, not to the beginning of the next.
        whole = max(0, math.ceil(needed * (1 - ROUNDING) / total_bits) - 1)
        passed_s = self.steps.passed_s(needed - whole * total_bits)
        return max(start_s, start_s + (whole * self.steps.span_s + (passed_s - since_s)))

    def _locate(self, at_s: float) -> tuple[int, float]:
        """Return the repetition in which `at_s` lies, and the seconds since its start, in [0, span]."""
        into_s, span_s = at_s + self.offset_s, self.steps.span_s
        if not self.is_repeated:
            return 0, min(into_s, span_s)
        whole = math.floor(into_s / span_s)
        return whole, min(max(into_s - whole * span_s, 0.0), span_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateColumns:
    """The rate of every device in one direction; each array is `[N]`.

    Device d follows `traces[trace_of_device[d]]`, or has the constant `bits_per_second[d]` where that is -1.
    `bits_per_second` is the long-run mean where it follows a trace.
    """

    traces: tuple[Steps, ...]
    trace_of_device: Integers
    offset_s: Floats
    scale: Floats
    is_repeated: Flags
    bits_per_second: Floats

    def of(self, device: int) -> Throughput:
        """Return what the link of one device carries."""
        trace = int(self.trace_of_device[device])
        if trace < 0:
            return ConstantRate(float(self.bits_per_second[device]))
        return SteppedRate(
            steps=self.traces[trace],
            offset_s=float(self.offset_s[device]),
            scale=float(self.scale[device]),
            is_repeated=bool(self.is_repeated[device]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputTraces:
    """The links of a fleet in which at least one follows a trace."""

    down: RateColumns
    up: RateColumns

    def of(self, device: int, direction: Direction) -> Throughput:
        """Return what the link of one device carries towards it ("down") or from it ("up")."""
        return (self.down if direction == "down" else self.up).of(device)

    def is_traced(self) -> NDArray[np.bool_]:
        """Return for every device whether either direction follows a trace."""
        traced: NDArray[np.bool_] = (self.down.trace_of_device >= 0) | (self.up.trace_of_device >= 0)
        return traced


def _require_order(start_s: float, end_s: float) -> None:
    if not 0 <= start_s <= end_s < math.inf:
        raise ValueError(f"bits pass between two moments 0 <= start <= end, found {start_s} s and {end_s} s")


def _require_transfer(start_s: float, num_bits: float) -> None:
    if not (0 <= start_s < math.inf and 0 <= num_bits < math.inf):
        raise ValueError(f"a transfer has a start and a size of 0 or more, found {start_s} s and {num_bits} bits")
