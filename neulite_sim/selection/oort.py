"""Oort: devices whose samples still have much to teach, unless they are slow; some others are explored.

Lai, Zhu, Madhyastha and Chowdhury, OSDI 2021 (https://arxiv.org/abs/2010.06081). The utility of a device is

    U_i = |B_i| sqrt(1/|B_i| sum_k loss_k^2)                                              statistical
    score_i = ((min(U_i, clip) - U_min) / range + sqrt(0.1 ln R / L_i)) (T / t_i)^alpha   the last factor if t_i > T

with R the round, L_i the round of the device's last feedback, t_i its seconds and T the preferred duration.
Normalisation and the factor 0.1 are those of the authors' code (Oort, FedScale); the paper leaves them open.

Choices where the sources differ. |B_i| is all of the device's samples, and losses are those of the whole last local
epoch, not of its last batch. Unexplored devices are drawn by speed alone (the paper's SampleBySpeed): the server does
not know what data they hold. The seconds of a device are those measured with the submodel that it is offered now,
else the offer's own estimate; so the preferred duration follows the submodel, and the utility is that of whatever it
trained last. A flight that tells no loss counts as the average of its aggregation.

Pacer. Both codes keep for each round the *mean* utility of the exploited devices that reported, 0 where there was
none, and compare the sums of two windows of rounds: within 10 % of each other T is relaxed, five times apart it is
tightened. The paper's algorithm 1 compares sums of U over the same windows, relaxes T where utility fell and never
tightens it; what U of a round is it leaves open. Read as the sum over the devices (`pacer_utility: sum`), more is
exploited while exploration falls, and utility seems to grow where every device is always worth the same. Here as in
the codes; but the pacer acts when a window's last round is aggregated, where the codes act in the selection after it,
a lost flight is left out of the mean (FedScale counts one cut off with the average), and after a window in which
nothing was exploited T stays as it is (the codes relax it if nothing follows either, else tighten it).

Normalisation. In both codes U_min, clip and range are those of all registered devices that are feasible now, the
unexplored ones with the reward that they registered with: their samples, at most those of one local training, which
is the utility of losses of 1. The paper does not say (`normalise_over: explored`). Here as in the codes; but a
registered device counts with all of its samples, and who is blacklisted is normalised with. T is the percentile over
the devices on offer; over all registered ones in the codes.

Rounding. int(K epsilon) devices are explored and the others exploited (FedScale), so that one is exploited from the
second round on; Oort's code exploits int(K (1 - epsilon)), none of five at first, and its first window lies lower.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from neulite_sim.arrays import Flags, Integers
from neulite_sim.bounds import DeviceCount, RoundCount, Share
from neulite_sim.methods.contract import Offers
from neulite_sim.registry import Component, refusal, refuse_inert
from neulite_sim.selection.contract import Feedback, Selector, SelectorOptions, SelectorSetting
from neulite_sim.selection.drawing import draw_weighted

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

LEAST_RANGE = 1e-4
UNBOUNDED_PERCENTILE = 100.0


class OortOptions(SelectorOptions):
    """Options of `oort`."""

    exploration: float = Field(0.9, ge=0, le=1)
    """Share of devices explored, before the first decay (paper 0.9)."""
    exploration_decay: Share = 0.98
    """Factor on that share per selection (paper 0.98)."""
    exploration_floor: float = Field(0.2, ge=0, le=1)
    """Least share explored (paper 0.2, FedScale 0.3)."""
    speed_penalty: float = Field(2.0, ge=0, le=1000)
    """Exponent alpha on T/t for a device slower than preferred (paper 2); 0 ignores speed."""
    preferred_percentile: float = Field(30.0, gt=0, le=100)
    """Percentile of durations that is preferred at first (FedScale 30, Oort's code 10); 100 sets no limit."""
    pacer_rounds: RoundCount = 20
    """Length of the windows whose utilities the pacer compares (both codes 20)."""
    pacer_step: float = Field(5.0, ge=0, le=100)
    """Percentile points that the pacer adds or takes; 0 switches it off (both codes 5)."""
    pacer_utility: Literal["mean", "sum"] = "mean"
    """Utility of a round in the pacer's windows: over the exploited devices that reported (both codes the mean)."""
    normalise_over: Literal["registered", "explored"] = "registered"
    """Whose utilities set minimum, clip and range: all on offer, unexplored ones as of loss 1 (both codes), or not."""
    clip: float = Field(0.95, gt=0, le=1)
    """Quantile at which utilities are clipped (paper 0.95, FedScale 0.9, Oort's code 0.98)."""
    cut_off: float = Field(0.95, ge=0, le=1)
    """Share of the last exploited rank's score that still enters the draw (paper 0.95, Oort's code 0.7)."""
    exploration_window: DeviceCount = 5
    """Fastest unexplored devices that enter the draw, as a multiple of those needed (both codes 5)."""
    over_commit: float = Field(1.0, ge=1, le=1000)
    """Devices asked per device wanted (paper 1.3). `synchronous` waits for all: it then only replaces drop-outs."""
    blacklist_after: RoundCount | None = None
    """Devices chosen more often than this are left out; none where it is not given (both codes: off)."""
    blacklist_share: float = Field(0.3, ge=0, le=1)
    """Largest share of the offers that the blacklist may leave out (both codes 0.3)."""
    fairness: float = Field(0.0, ge=0, le=1)
    """Weight of having been chosen rarely, against the score (paper: f, section 4.4; 0 in its experiments)."""

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        if self.exploration < self.exploration_floor:
            message = f"is {self.exploration:g}, below exploration_floor {self.exploration_floor:g}; lower that as well"
            raise refusal(message, "exploration", given=self.exploration)
        inert: dict[str, str] = {}
        if self.exploration == self.exploration_floor:
            inert["exploration_decay"] = "exploration above exploration_floor"
        if not self.pacer_step:
            inert |= dict.fromkeys(("pacer_rounds", "pacer_utility"), "pacer_step above 0")
        if not self.speed_penalty:
            pace = ("preferred_percentile", "pacer_rounds", "pacer_step", "pacer_utility")
            inert |= dict.fromkeys(pace, "speed_penalty above 0")
        if self.blacklist_after is None:
            inert["blacklist_share"] = "blacklist_after"
        refuse_inert(self, inert)
        return self


def statistical_utility(num_samples: int, loss_rms: float) -> float:
    """Return |B| sqrt(mean of squared losses): losses 1, 2, 3 give 3 sqrt(14/3) = 6.480741."""
    return num_samples * loss_rms


def exploration_share(options: OortOptions, selections: int) -> float:
    """Return the share explored in the n-th selection, counted from 1: decayed n times, never below the floor."""
    return max(options.exploration * options.exploration_decay**selections, options.exploration_floor)


def preferred_duration_s(durations_s: Floats, percentile: float) -> float:
    """Return T: the duration at a percentile of those given, an observed one; infinite from 100 on or for none."""
    if percentile >= UNBOUNDED_PERCENTILE or not len(durations_s):
        return np.inf
    rank = min(int(len(durations_s) * percentile / 100), len(durations_s) - 1)
    return float(np.partition(durations_s, rank)[rank])


def speed_factor(durations_s: Floats, preferred_s: float, alpha: float) -> Floats:
    """Return (T/t)^alpha where a device is slower than T, else 1: twice T and alpha 2 give 0.25."""
    factors = np.ones(len(durations_s))
    slow = durations_s > preferred_s
    factors[slow] = (preferred_s / durations_s[slow]) ** alpha
    return factors


def normalised_utilities(utilities: Floats, clip: float) -> Floats:
    """Return (min(U, clip) - U_min) / range: U_min is 0.999 of the least, the range never below 1e-4.

    The clip is the value at the quantile `clip` of the sorted utilities, an observed one.
    """
    rank = min(int(len(utilities) * clip), len(utilities) - 1)
    ceiling = np.partition(utilities, rank)[rank]
    floor = 0.999 * utilities.min()
    normalised: Floats = (np.minimum(utilities, ceiling) - floor) / max(utilities.max() - floor, LEAST_RANGE)
    return normalised


def staleness_bonus(last_rounds: NDArray[np.int64], current_round: int) -> Floats:
    """Return sqrt(0.1 ln R / L): the longer ago the last feedback of a device, the larger. Rounds count from 1."""
    bonus: Floats = np.sqrt(0.1 * np.log(current_round) / last_rounds)
    return bonus


def paced(percentile: float, history: Sequence[float], *, window: int, step: float) -> float:
    """Return the next percentile, given the exploited utility of each round so far.

    At the end of each window from the second on: a sum that changed by at most 10 % asks for more patience, one that
    changed by five times itself or more for less. The percentile stays within `step` and 100, and stays as it is
    after a window in which nothing was exploited.
    """
    if len(history) < 2 * window or len(history) % window:
        return percentile
    before, now = sum(history[-2 * window : -window]), sum(history[-window:])
    if before <= 0:
        return percentile
    change = abs(now - before)
    if change <= 0.1 * before:
        return min(UNBOUNDED_PERCENTILE, percentile + step)
    if change >= 5 * before:
        return min(percentile, max(step, percentile - step))
    return percentile


@dataclass(slots=True, kw_only=True)
class _Columns:
    """What is known per device; `last_round` 0 means unexplored, `submodel` -1 that nothing was measured.

    The utility of an unexplored device is what it registered with, 0 where it did not.
    """

    utility: Floats
    measured_s: Floats
    expected_s: Floats
    submodel: NDArray[np.int64]
    last_round: NDArray[np.int64]
    times_chosen: NDArray[np.int64]

    @classmethod
    def empty(cls, num_devices: int) -> _Columns:
        """Return columns that know nothing of any device."""
        return cls(
            utility=np.zeros(num_devices),
            measured_s=np.zeros(num_devices),
            expected_s=np.zeros(num_devices),
            submodel=np.full(num_devices, -1, dtype=np.int64),
            last_round=np.zeros(num_devices, dtype=np.int64),
            times_chosen=np.zeros(num_devices, dtype=np.int64),
        )


class Oort(Selector):
    """Exploits what it has learned of explored devices and explores the rest, fast ones first."""

    def __init__(self, options: OortOptions, num_devices: int) -> None:
        self._options = options
        self._known = _Columns.empty(num_devices)
        self._submodels: dict[str, int] = {}
        self._percentile = options.preferred_percentile
        self._selections = 0
        self._round = 1
        self._exploited: Counter[int] = Counter()
        self._history: list[float] = []

    @property
    def preferred_percentile(self) -> float:
        """Percentile of durations that is preferred now; the pacer moves it."""
        return self._percentile

    def register(self, num_samples: Integers) -> None:
        """Note the sizes of the devices' data: what an unexplored device counts with where it is normalised with."""
        self._known.utility[:] = num_samples

    def num_to_choose(self, count: int, num_offers: int) -> int:
        """Return `count` times the over-commitment, rounded down."""
        del num_offers
        # 10 x 1.1 is 11.000000000000002 and 100 x 1.15 is 114.99999999999999; both mean whole numbers.
        return int(round(count * self._options.over_commit, 9))

    def scores(self, offers: Offers) -> Floats:
        """Return the score of each offer, at least zero; not a number where the device is unexplored."""
        found = np.full(len(offers), np.nan)
        is_explored = self._known.last_round[offers.devices] > 0
        explored = np.flatnonzero(is_explored)
        if not len(explored):
            return found
        devices = offers.devices[explored]
        bonus = staleness_bonus(self._known.last_round[devices], self._round)
        found[explored] = (self._normalised(offers, is_explored) + bonus) * self._speed_factors(offers)[explored]
        if self._options.fairness:
            times = self._known.times_chosen[devices]
            rarity = (times.max() - times) / max(times.max(), 1)
            found[explored] = (1 - self._options.fairness) * found[explored] + self._options.fairness * rarity
        return found

    def _normalised(self, offers: Offers, is_explored: Flags) -> Floats:
        """Return the normalised utilities of the explored devices on offer."""
        utilities = self._known.utility[offers.devices]
        counts = is_explored
        if self._options.normalise_over == "registered":
            counts = is_explored | (utilities > 0)
        return normalised_utilities(utilities[counts], self._options.clip)[is_explored[counts]]

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> Positions:
        """Return explored devices drawn by score, and unexplored ones drawn by speed; all alike in the first round."""
        if not len(offers):
            return np.empty(0, dtype=np.int64)
        self._selections += 1
        allowed, found = self._allowed(offers, count), self.scores(offers)
        need = min(count, len(allowed))
        is_explored = ~np.isnan(found[allowed])
        explored, unexplored = allowed[is_explored], allowed[~is_explored]
        explore = min(int(need * exploration_share(self._options, self._selections)), len(unexplored))
        exploit = min(need - explore, len(explored))
        exploited = self._exploit(explored, found[explored], exploit, rng)
        factors = self._speed_factors(offers)[unexplored]
        chosen = np.sort(np.concatenate([exploited, self._explore(unexplored, factors, need - exploit, rng)]))
        self._exploited.update(map(int, offers.devices[exploited]))
        self._known.times_chosen[offers.devices[chosen]] += 1
        self._known.expected_s[offers.devices[chosen]] = offers.expected_s[chosen]
        return chosen

    def _allowed(self, offers: Offers, count: int) -> Positions:
        """Return the positions that are not blacklisted: the most chosen go first, and enough stay."""
        everyone = np.arange(len(offers), dtype=np.int64)
        if self._options.blacklist_after is None:
            return everyone
        times = self._known.times_chosen[offers.devices]
        tired = everyone[times > self._options.blacklist_after]
        limit = min(int(self._options.blacklist_share * len(offers)), max(0, len(offers) - count))
        return np.setdiff1d(everyone, tired[np.argsort(-times[tired], kind="stable")][:limit])

    def _durations_s(self, offers: Offers) -> Floats:
        """Return the seconds of each offer: measured with this very submodel, else as expected."""
        numbers = np.array([self._submodels.get(name, -2) for name in offers.submodels], dtype=np.int64)
        known = self._known
        is_measured = known.submodel[offers.devices] == numbers[offers.submodel_index]
        return np.where(is_measured, known.measured_s[offers.devices], offers.expected_s)

    def _speed_factors(self, offers: Offers) -> Floats:
        durations_s = self._durations_s(offers)
        return speed_factor(
            durations_s, preferred_duration_s(durations_s, self._percentile), self._options.speed_penalty
        )

    def _exploit(self, explored: Positions, found: Floats, need: int, rng: np.random.Generator) -> Positions:
        if not need:
            return explored[:0]
        rank = len(found) - need
        entering = np.flatnonzero(found >= self._options.cut_off * np.partition(found, rank)[rank])
        return explored[entering[draw_weighted(found[entering], need, rng)]]

    def _explore(self, unexplored: Positions, factors: Floats, need: int, rng: np.random.Generator) -> Positions:
        if not need:
            return unexplored[:0]
        # Shuffled first: devices of one speed must not enter the window by their number.
        shuffled = rng.permutation(len(unexplored))
        if self._round == 1:
            return unexplored[shuffled[:need]]
        ranked = shuffled[np.argsort(-factors[shuffled], kind="stable")]
        entering = ranked[: self._options.exploration_window * need]
        return unexplored[entering[draw_weighted(factors[entering], need, rng)]]

    def observe(self, feedback: Sequence[Feedback]) -> None:
        """Note utility and duration of each flight; what told no loss counts as average. Then let the pacer act."""
        known_losses = [(item, _loss(item)) for item in feedback]
        told = [statistical_utility(item.num_samples, loss) for item, loss in known_losses if loss is not None]
        average = sum(told) / len(told) if told else None
        exploited: list[float] = []
        for item, loss in known_losses:
            if loss is not None:
                utility = statistical_utility(item.num_samples, loss)
            else:
                utility = average if average is not None else self._utility_before(item)
            if self._exploited[item.device]:
                # A device may have flown again before it is told what became of its first flight.
                self._exploited[item.device] -= 1
                if item.has_arrived:
                    exploited.append(utility)
            self._note(item, utility)
        if feedback:
            self._round = max(self._round, max(item.round for item in feedback) + 1)
            self._pace(sum(exploited), len(exploited))

    def _utility_before(self, item: Feedback) -> float:
        """Return the utility kept where a whole round told no loss: the device's last, or its number of samples."""
        is_explored = self._known.last_round[item.device] > 0
        return float(self._known.utility[item.device]) if is_explored else float(item.num_samples)

    def _note(self, item: Feedback, utility: float) -> None:
        known, device = self._known, item.device
        # A flight that was lost says only that the device takes at least that long.
        lasted_s = item.duration_s if item.has_arrived else max(item.duration_s, float(known.expected_s[device]))
        known.utility[device] = utility
        known.measured_s[device] = lasted_s
        known.submodel[device] = self._submodels.setdefault(item.submodel, len(self._submodels))
        known.last_round[device] = item.round

    def _pace(self, exploited: float, num_exploited: int) -> None:
        shared_by = max(num_exploited, 1) if self._options.pacer_utility == "mean" else 1
        self._history.append(exploited / shared_by)
        if self._options.pacer_step:
            self._percentile = paced(
                self._percentile, self._history, window=self._options.pacer_rounds, step=self._options.pacer_step
            )


def _loss(item: Feedback) -> float | None:
    """Return the root mean square of the losses, or their mean, which is never above it; None where none is known."""
    if not item.has_arrived or item.loss_rms is not None or item.loss is None:
        return item.loss_rms if item.has_arrived else None
    return max(item.loss, 0.0)


def _build(options: OortOptions, setting: SelectorSetting) -> Oort:
    return Oort(options, setting.num_devices)


COMPONENT = Component(
    kind="oort",
    summary="devices whose samples still teach much, fast ones first, and a share of new ones",
    source="Lai et al., OSDI 2021, arXiv 2010.06081",
    options=OortOptions,
    build=_build,
)
