"""Legs of a flight: download, compute and upload as work that takes time and can be interrupted.

A leg answers two questions, both without state: when is it done if it goes on from now without a break, and what is
left of it after it went on from one moment to another. What is left is a leg again, in the leg's own unit (seconds,
bits): no share of it is ever rounded twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from neulite_sim.population.link.contract import Throughput


class Leg(Protocol):
    """Work of one phase of a flight."""

    def ends_s(self, start_s: float) -> float:
        """Return when the leg is done, going on from `start_s` without a break.

        `inf` means never, and then never for any later start either.
        """
        ...

    def rest(self, start_s: float, end_s: float) -> Leg:
        """Return what is left of the leg after it went on from `start_s` to `end_s`, which lies before its end."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """A leg that takes the same number of seconds whenever it begins."""

    seconds: float

    def ends_s(self, start_s: float) -> float:
        """Return `start_s + seconds`."""
        return start_s + self.seconds

    def rest(self, start_s: float, end_s: float) -> Steady:
        """Return the seconds that are left, 0 at least."""
        return Steady(max(0.0, self.seconds - (end_s - start_s)))


@dataclass(frozen=True, slots=True)
class TracedTransfer:
    """Bits over a link whose rate changes over time, after a latency that is paid once, at the beginning.

    A transfer that was interrupted goes on where it stopped, whatever the rate is by then.
    """

    throughput: Throughput
    num_bits: float
    latency_s: float = 0.0

    def ends_s(self, start_s: float) -> float:
        """Return when the last bit has passed."""
        return self.throughput.ends_s(start_s + self.latency_s, self.num_bits)

    def rest(self, start_s: float, end_s: float) -> TracedTransfer:
        """Return the latency and the bits that are left."""
        first_bit_s = start_s + self.latency_s
        if end_s <= first_bit_s:
            return TracedTransfer(self.throughput, self.num_bits, first_bit_s - end_s)
        return TracedTransfer(self.throughput, max(0.0, self.num_bits - self.throughput.bits(first_bit_s, end_s)))
