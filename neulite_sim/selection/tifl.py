"""TiFL: devices of one round come from one tier of equal speed, and tiers that do badly are chosen more often.

Chai et al., HPDC 2020 (https://arxiv.org/abs/2001.09249). Devices are sorted by latency and split into m equal tiers.
A round draws a tier by its probability, takes one of the tier's credits, and draws its devices uniformly and without
replacement inside the tier. Every I rounds the global model is tested on the data of each tier's members; if the
current tier did no better than I rounds before, the i-th worst (i from 0) of n tiers with credits gets (n - i) / D,
D = n (n + 1) / 2.

Choices where the sources are silent. The latency of a device is the expected seconds of the submodel that it is
offered, times how much slower than expected it was in the profiling rounds: so tiers follow the submodel, and a
staged method has tiers per stage. Credits, accuracies and probabilities belong to the tier's number, fast to slow.
When all credits are gone they are dealt anew; a round in which only tiers without credits are online charges none.
A tier with fewer devices online than a round wants gives all it has.

Where the sources differ. The paper waits for a stall of the current tier before it gives new probabilities; the codes
(fltk, easyFL) do not wait (`waits_for_stall: false`). Waiting needs two tests, so probabilities first change after 2 I
rounds; without, after I rounds as in easyFL. The paper and easyFL test the tiers in every round, here it is done where
the accuracies are used; a tier's accuracy is that of its members' samples together, in easyFL the mean of its members'.
Credits are equal, as in fltk; easyFL can draw them from a Dirichlet, fewer for slow tiers. With no credits left easyFL
never ends and fltk fails. Tiers differ in size by one at most; fltk's last ones are smaller, easyFL wants equal ones.
easyFL draws a tier's devices with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from neulite_sim.arrays import Integers
from neulite_sim.bounds import MOST_TIERS, DeviceCount, Duration, RoundCount, RoundsOrNone, ShareOrNone, TierCount
from neulite_sim.methods.contract import Offers
from neulite_sim.registry import Component, refusal, refuse_inert
from neulite_sim.selection.contract import Feedback, Selector, SelectorOptions, SelectorSetting
from neulite_sim.selection.latency_tiers import SpeedProfile, Tiering

Floats = NDArray[np.float64]
Policy = Literal["adaptive", "uniform", "random", "fast", "slow", "explicit"]

RANDOM_POLICY = (0.7, 0.1, 0.1, 0.05, 0.05)
"""Probabilities of the paper's policy `random`, fast to slow: made for five tiers."""


class TiflOptions(SelectorOptions):
    """Options of `tifl`."""

    tiers: TierCount = 5
    """Number of tiers (paper 5)."""
    policy: Policy = "adaptive"
    """`adaptive`, or one of the paper's static policies: `random` needs 5 tiers; `explicit` takes `probabilities`."""
    probabilities: tuple[ShareOrNone, ...] = Field((), max_length=MOST_TIERS)
    """Probability of each tier from fast to slow, with policy `explicit` only."""
    interval: RoundCount = 10
    """Rounds between two tests of the tiers, I (easyFL 10)."""
    waits_for_stall: bool = True
    """Whether probabilities change only if the current tier stalled (paper); false: at every test (most codes)."""
    credits: tuple[RoundsOrNone, ...] = Field((), max_length=MOST_TIERS)
    """Credits of each tier from fast to slow, with `adaptive`; `stop.rounds` / tiers, rounded up, where not given."""
    test_devices: DeviceCount = 100
    """Most members of a tier on whose data the tier is tested, spread evenly over its members."""
    profiling_rounds: RoundsOrNone = 0
    """Rounds at the start in which every device trains and is timed; 0 takes the offers' expected seconds."""
    time_out: Duration | None = None
    """Seconds after which profiling gives a device up; one that never was in time is left out."""

    @model_validator(mode="after")
    def _fit_together(self) -> TiflOptions:
        if self.policy == "random" and self.tiers != len(RANDOM_POLICY):
            raise refusal(f"is {self.tiers}, but policy random is made for 5 tiers; use policy explicit", "tiers")
        if (self.policy == "explicit") != bool(self.probabilities):
            raise refusal("go with policy explicit, and only with it", "probabilities", given=self.probabilities)
        if self.probabilities and len(self.probabilities) != self.tiers:
            message = f"has {len(self.probabilities)} values for {self.tiers} tiers; give one per tier"
            raise refusal(message, "probabilities", given=self.probabilities)
        if self.probabilities and not math.isclose(sum(self.probabilities), 1):
            message = f"must sum to 1, found the sum {sum(self.probabilities):g}"
            raise refusal(message, "probabilities", given=self.probabilities)
        if self.credits and len(self.credits) != self.tiers:
            message = f"has {len(self.credits)} values for {self.tiers} tiers; give one per tier"
            raise refusal(message, "credits", given=self.credits)
        if self.credits and self.policy != "adaptive":
            raise refusal(f"act only with policy adaptive, found {self.policy}", "credits", given=self.credits)
        if self.credits and not any(self.credits):
            raise refusal("must be above 0 for some tier", "credits", given=self.credits)
        if self.policy != "adaptive":
            refuse_inert(self, dict.fromkeys(("interval", "waits_for_stall", "test_devices"), "policy adaptive"))
        return self


def equal_credits(rounds: int, num_tiers: int) -> tuple[int, ...]:
    """Return the rounds divided among the tiers, rounded up: 500 in 5 are 100 each, 7 in 3 are 3 each."""
    return (-(-rounds // num_tiers),) * num_tiers


def static_probabilities(options: TiflOptions) -> Floats:
    """Return the probabilities of a static policy, fast to slow; `adaptive` starts like `uniform`."""
    table: Mapping[str, Sequence[float]] = {
        "random": RANDOM_POLICY,
        "fast": [1.0] + [0.0] * (options.tiers - 1),
        "slow": [0.0] * (options.tiers - 1) + [1.0],
        "explicit": options.probabilities,
    }
    return np.array(table.get(options.policy, [1 / options.tiers] * options.tiers))


def adaptive_probabilities(accuracies: Floats, credits_left: NDArray[np.int64]) -> Floats:
    """Return (n - i) / D for the i-th worst of the n tiers with credits and 0 for the others.

    An accuracy that is not a number is unknown and counts as the best. Equal accuracies keep the order of the tiers.
    """
    probabilities = np.zeros(len(accuracies))
    able = np.flatnonzero(credits_left > 0)
    worst_first = able[np.argsort(accuracies[able], kind="stable")]
    num_able = len(able)
    probabilities[worst_first] = np.arange(num_able, 0, -1) / max(num_able * (num_able + 1) / 2, 1)
    return probabilities


class Tifl(Selector):
    """Draws a tier, then devices inside it."""

    def __init__(self, options: TiflOptions, setting: SelectorSetting) -> None:
        self._options = options
        self._num_devices = setting.num_devices
        self._full_credits = np.array(options.credits or equal_credits(setting.max_rounds, options.tiers))
        self._credits = self._full_credits.copy()
        self._probabilities = static_probabilities(options)
        self._tierings: dict[tuple[str, ...], Tiering] = {}
        self._profile = SpeedProfile(setting.num_devices)
        self._rounds = 0
        self._current: tuple[Tiering, int] | None = None
        self._accuracies: Floats | None = None
        self._tested: list[int] = []

    @property
    def probabilities(self) -> Floats:
        """Probability of each tier, fast to slow, before tiers without credits or members online are left out."""
        return self._probabilities.copy()

    @property
    def credits_left(self) -> NDArray[np.int64]:
        """Credits of each tier, fast to slow."""
        return self._credits.copy()

    @property
    def _is_profiling(self) -> bool:
        return self._rounds < self._options.profiling_rounds

    def num_to_choose(self, count: int, num_offers: int) -> int:
        """Return `count`, or all while devices are profiled."""
        return max(num_offers, 1) if self._is_profiling else count

    def choose(self, offers: Offers, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return devices of one tier drawn uniformly without replacement; all that are offered while profiling."""
        self._profile.expect(offers)
        if self._is_profiling or not len(offers):
            return _drawn(np.arange(len(offers), dtype=np.int64), count, rng)
        tiers = self._tiers_of(offers)
        if not (tiers >= 0).any():
            # Everybody was given up in profiling: training on them is better than never going on.
            return _drawn(np.arange(len(offers), dtype=np.int64), count, rng)
        tier = self._draw_tier(np.bincount(tiers[tiers >= 0], minlength=self._options.tiers) > 0, rng)
        self._current = (self._tierings[offers.submodels], tier)
        return _drawn(np.flatnonzero(tiers == tier).astype(np.int64), count, rng)

    def _tiers_of(self, offers: Offers) -> NDArray[np.int64]:
        """Return the tier of each offer; -1 for a device that profiling gave up."""
        tiering = self._tierings.setdefault(offers.submodels, Tiering.empty(self._num_devices))
        tiering.follow(offers.devices, self._profile.latency_s(offers, self._options.time_out), self._options.tiers)
        return tiering.tier[offers.devices]

    def _draw_tier(self, is_online: NDArray[np.bool_], rng: np.random.Generator) -> int:
        """Return a tier with members online by probability, and take a credit of it where it has one."""
        if self._options.policy != "adaptive":
            return _draw_tier(self._probabilities, is_online, rng)
        if not self._credits.any():
            self._credits = self._full_credits.copy()
            if self._accuracies is not None and not self._probabilities.all():
                self._probabilities = adaptive_probabilities(self._accuracies, self._credits)
        has_credits = is_online & (self._credits > 0)
        tier = _draw_tier(self._probabilities, has_credits if has_credits.any() else is_online, rng)
        self._credits[tier] -= has_credits[tier]
        return tier

    def observe(self, feedback: Sequence[Feedback]) -> None:
        """Count the round; while profiling, note how long each device took."""
        if self._is_profiling:
            for item in feedback:
                self._profile.note(item, self._options.time_out)
        self._rounds += 1

    def groups_to_test(self) -> Sequence[Integers]:
        """Return members of each tier of the present tiering, every `interval` rounds with policy `adaptive`."""
        if self._options.policy != "adaptive" or self._current is None or self._rounds % self._options.interval:
            return ()
        members = [np.flatnonzero(self._current[0].tier == number) for number in range(self._options.tiers)]
        self._tested = [number for number, devices in enumerate(members) if len(devices)]
        return [_spread(members[number], self._options.test_devices) for number in self._tested]

    def observe_accuracies(self, accuracies: Sequence[float]) -> None:
        """Give new probabilities, unless the current tier became better since the last test."""
        assert self._current is not None
        before, now = self._accuracies, np.full(self._options.tiers, np.nan)
        now[self._tested] = accuracies
        self._accuracies = now
        current = self._current[1]
        has_stalled = before is not None and now[current] <= before[current]
        if has_stalled or not self._options.waits_for_stall:
            self._probabilities = adaptive_probabilities(now, self._credits)


def _drawn(positions: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if len(positions) <= count:
        return positions
    return np.sort(rng.choice(positions, size=count, replace=False))


def _draw_tier(probabilities: Floats, is_able: NDArray[np.bool_], rng: np.random.Generator) -> int:
    """Return a tier among those able, by probability among them; all alike where theirs are all zero."""
    shares = np.where(is_able, probabilities, 0.0)
    shares = shares if shares.any() else is_able.astype(np.float64)
    return int(rng.choice(len(shares), p=shares / shares.sum()))


def _spread(devices: Integers, most: int) -> Integers:
    if len(devices) <= most:
        return devices
    return devices[np.linspace(0, len(devices) - 1, most).astype(np.int64)]


def _build(options: TiflOptions, setting: SelectorSetting) -> Tifl:
    return Tifl(options, setting)


COMPONENT = Component(
    kind="tifl",
    summary="devices of one tier of equal speed; tiers on whose data the model is bad come more often",
    source="Chai et al., HPDC 2020, arXiv 2001.09249",
    options=TiflOptions,
    build=_build,
)
