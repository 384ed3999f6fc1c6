"""A rate that changes in steps: the bits before each step are summed once, and a moment is found by bisection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Floats

# Sums of bits are rounded; a transfer that lacks less than this share of them must not wait for the next step.
ROUNDING = 4 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A rate over `[0, span_s)`: `rates[i]` bits per second from `at_s[i]` to `at_s[i + 1]`.

    `at_s` and `volume_bits` are float64 `[n + 1]`, `rates` float64 `[n]`; `volume_bits[i]` is what passed before
    `at_s[i]`. Made by `steps`.
    """

    at_s: Floats
    rates: Floats
    volume_bits: Floats

    @property
    def span_s(self) -> float:
        """Seconds from the first step to the end of the last."""
        return float(self.at_s[-1])

    @property
    def total_bits(self) -> float:
        """Bits that pass in one span."""
        return float(self.volume_bits[-1])

    def volume_until(self, at_s: float) -> float:
        """Return the bits that pass in `[0, at_s)`, 0 <= at_s <= span_s."""
        place = min(int(self.at_s.searchsorted(at_s, side="right")), len(self.rates)) - 1
        return float(self.volume_bits[place] + self.rates[place] * (at_s - self.at_s[place]))

    def passed_s(self, volume_bits: float) -> float:
        """Return the first moment before which `volume_bits` passed, 0 < volume_bits <= total_bits up to rounding."""
        place = int(self.volume_bits.searchsorted(min(volume_bits * (1 - ROUNDING), self.total_bits), side="left"))
        # The volume rises over the step that ends at `place`, so its rate is above zero.
        before = place - 1
        into_s = (volume_bits - self.volume_bits[before]) / self.rates[before]
        return min(float(self.at_s[before] + into_s), float(self.at_s[place]))


def steps(at_s: Floats, rates: Floats) -> Steps:
    """Return the steps that begin at `at_s[:-1]` and end at `at_s[-1]`, seconds counted from the first.

    `at_s` is `[n + 1]` and ascending, `rates` `[n]` in bits per second.

    Raises:
        ValueError: no step, moments that do not ascend, a rate below zero or not finite, or no bit at all.
    """
    if len(at_s) != len(rates) + 1 or not len(rates):
        raise ValueError(f"{len(at_s)} moments for {len(rates)} rates; n rates above 0 stand between n + 1 moments")
    lengths_s = np.diff(at_s)
    if not (np.isfinite(at_s).all() and (lengths_s > 0).all()):
        raise ValueError("the moments of a throughput must be finite and ascend")
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError("a rate of a throughput must be 0 or more and finite")
    # Summed in the widest float there is, so that the rounding of many steps does not add up.
    volume = np.concatenate([np.zeros(1), np.cumsum((rates * lengths_s).astype(np.longdouble)).astype(np.float64)])
    if not volume[-1] > 0:
        raise ValueError("a throughput must carry something: all its rates are 0")
    return Steps(at_s=at_s - at_s[0], rates=np.asarray(rates, np.float64), volume_bits=volume)
