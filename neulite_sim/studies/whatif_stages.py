"""The rounds of a stage and of a run in a study, and what the slowest of devices drawn at random takes in the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neulite_sim.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRound:
    """The rounds of one stage: how many there are, who has an offer, and what such a round costs in the mean."""

    stage: str
    rounds: int
    able_devices: int
    round_s: float
    bytes_down: float
    bytes_up: float
    missed_bytes: float = 0.0
    """Of a device's download, what is not its submodel's but what it missed: the mean over the flights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The rounds of a run by stage. `ends_after` counts the rounds before the first in which nobody has an offer."""

    stages: tuple[StageRound, ...]
    ends_after: int | None

    @property
    def round_s(self) -> float | None:
        """Expected seconds of a round, the mean over the rounds of a run; None where there is none."""
        return self._mean([stage.round_s for stage in self.stages])

    @property
    def bytes_down(self) -> float | None:
        """Expected bytes that the devices of a round receive together; None where there is no round."""
        return self._mean([stage.bytes_down for stage in self.stages])

    @property
    def bytes_up(self) -> float | None:
        """Expected bytes that the devices of a round send together; None where there is no round."""
        return self._mean([stage.bytes_up for stage in self.stages])

    @property
    def missed_bytes(self) -> float:
        """Expected bytes that a flight downloads beyond its submodel's own, the mean over the rounds of a run."""
        return self._mean([stage.missed_bytes for stage in self.stages]) or 0.0

    def _mean(self, values: list[float]) -> float | None:
        weights = [stage.rounds for stage in self.stages]
        return float(np.average(values, weights=weights)) if self.stages else None


def expected_maximum(values: Floats, count: int) -> float:
    """Return the mean of the largest of `count` of the values, drawn without replacement, all sets equally likely.

    Of n values in rising order the i-th is the largest of K drawn if the other K - 1 are among the i - 1 before it:
    p_i = C(i - 1, K - 1) / C(n, K), so p_n = K / n and p_(i-1) = p_i (i - K) / (i - 1). With K >= n it is the maximum.
    """
    number = len(values)
    drawn = min(count, number)
    places = np.arange(number, 1, -1, dtype=np.float64)
    ratios = np.maximum(places - drawn, 0) / (places - 1)
    chances = drawn / number * np.concatenate([[1.0], np.cumprod(ratios)])
    return float(np.sort(values)[::-1] @ chances)
