"""Memory that changes in steps: the laws of its distributions, when devices change, and how far lookups reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neulite_sim.population.memory.contract import FleetMemory
from neulite_sim.population.memory.distributions import CHOICE, EXPLICIT, INSTALLED, UNIFORM
from neulite_sim.population.memory.steps import (
    DEVICES_PER_BLOCK,
    PARTS,
    Redraws,
    RoundMemory,
    SteppedMemory,
    Walk,
    standard,
)
from neulite_sim.registry import Choice
from neulite_sim.seeding import words

MB = 10**6
HALF_AND_DOUBLE = Choice("choice", CHOICE.options(values=("100MB", "300MB")))
RANGE = Choice("uniform", UNIFORM.options(low="100MB", high="900MB"))


def fleet(nominal: object, *choices: Choice, index: object = 0, usable: int = 10**12) -> FleetMemory:
    nominal_bytes = np.asarray(nominal, np.int64)
    count = len(nominal_bytes)
    return FleetMemory(
        nominal_bytes=nominal_bytes,
        installed_bytes=np.full(count, 2 * usable),
        usable_bytes=np.full(count, usable),
        choices=choices or (RANGE,),
        choice_index=np.broadcast_to(np.asarray(index, np.int16), count).copy(),
    )


def test_the_innovations_of_a_walk_have_mean_zero_and_variance_one() -> None:
    count = 200_000
    values = standard(words(1, "test", np.arange(count), np.zeros(count, np.int64)))
    # Standard errors 1 / sqrt(n) and sqrt(kurtosis - 1) / sqrt(n) with kurtosis 2.7; four of them are allowed.
    assert abs(values.mean()) < 4 / math.sqrt(count)
    assert values.var() == pytest.approx(1, abs=4 * math.sqrt(1.7 / count))
    assert np.abs(values).max() <= 2 * math.sqrt(3)


@pytest.mark.parametrize(("step", "reversion"), [(0.1, 0.1), (0.3, 0.5), (0.02, 0.01), (0.2, 1.0)])
def test_a_walk_has_the_deviation_and_the_correlations_of_its_recursion(step: float, reversion: float) -> None:
    count, kept = 20_000, 1 - reversion
    walk = Walk(fleet(np.full(count, 500 * MB)), step=step, reversion=reversion, seed=4)
    everyone = np.arange(count)

    def x(at: int) -> np.ndarray:
        return walk.log_share(everyone, np.full(count, at))

    deviation = step / math.sqrt(1 - kept**2)
    # The start of a block of 2^m steps, just before it and across it: the law does not know about blocks.
    for at in (0, 5, 1023, 1024, 1030):
        assert x(at).mean() == pytest.approx(0, abs=4 * deviation / math.sqrt(count))
        assert x(at).std() == pytest.approx(deviation, rel=4 / math.sqrt(2 * count))
        for lag in (1, 3, 20):
            found = np.corrcoef(x(at), x(at + lag))[0, 1]
            assert found == pytest.approx(kept**lag, abs=4 / math.sqrt(count))
    moved = x(1031) - kept * x(1030)
    assert moved.std() == pytest.approx(step, rel=4 / math.sqrt(2 * count))
    assert abs(np.corrcoef(moved, x(1025))[0, 1]) < 4 / math.sqrt(count)


def test_devices_of_a_walk_are_independent_and_so_are_seeds() -> None:
    count = 20_000
    steps = np.arange(count) * 1000
    one, other = (Walk(fleet([1, 1]), step=0.1, reversion=0.1, seed=seed) for seed in (1, 2))
    first, second = (one.log_share(np.full(count, device), steps) for device in (0, 1))
    again = other.log_share(np.zeros(count, np.int64), steps)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(count)
    assert abs(np.corrcoef(first, again)[0, 1]) < 4 / math.sqrt(count)


def test_a_walk_moves_around_the_nominal_memory_up_to_the_usable_memory() -> None:
    count = 10_000
    walk = Walk(fleet(np.full(count, 500 * MB), usable=700 * MB), step=0.3, reversion=0.3, seed=1)
    found = walk.bytes_at(np.arange(count), np.full(count, 7))
    # Half of the devices lie below the median: a binomial count of standard deviation sqrt(n) / 2.
    assert abs(np.count_nonzero(found < 500 * MB) - count / 2) < 4 * math.sqrt(count) / 2
    assert found.max() == 700 * MB
    assert found.min() > 0


def test_an_explicit_budget_above_the_usable_memory_is_what_caps_its_walk() -> None:
    walk = Walk(fleet(np.full(1000, 900 * MB), usable=700 * MB), step=0.3, reversion=0.3, seed=1)
    assert walk.bytes_at(np.arange(1000), np.full(1000, 7)).max() == 900 * MB


def test_redraws_come_from_the_distribution_and_the_first_is_the_nominal_memory() -> None:
    count = 5 * DEVICES_PER_BLOCK
    nominal = np.full(count, 123)
    source = Redraws(fleet(nominal, RANGE), seed=1)
    everyone = np.arange(count)
    assert (source.bytes_at(everyone, np.zeros(count, np.int64)) == 123).all()
    one, other = (source.bytes_at(everyone, np.full(count, step)) for step in (1, 2))
    for drawn in (one, other):
        assert drawn.min() >= 100 * MB
        assert drawn.max() <= 900 * MB
        assert drawn.mean() == pytest.approx(500 * MB, abs=4 * 231 * MB / math.sqrt(count))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(count)


def test_each_group_is_drawn_anew_from_its_own_distribution_and_what_is_written_out_stays() -> None:
    written = Choice("explicit", EXPLICIT.options(values=("5MB",)))
    share = Choice("installed", INSTALLED.options(share=0.5))
    source = Redraws(
        fleet([1, 2, 3, 4] * 500, RANGE, HALF_AND_DOUBLE, written, share, index=[0, 1, 2, 3] * 500), seed=1
    )
    drawn = source.bytes_at(np.arange(2000), np.full(2000, 9)).reshape(500, 4)
    assert drawn[:, 0].min() >= 100 * MB
    assert set(drawn[:, 1]) == {100 * MB, 300 * MB}
    assert set(drawn[:, 2]) == {3}
    assert set(drawn[:, 3]) == {4}


def test_redraws_are_capped_at_the_usable_memory() -> None:
    source = Redraws(fleet(np.full(100, 1), RANGE, usable=200 * MB), seed=1)
    drawn = source.bytes_at(np.arange(100), np.full(100, 3))
    assert drawn.max() == 200 * MB
    assert drawn.min() < 200 * MB


class Counting:
    """A source whose memory is its step, and which notes how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def bytes_at(self, devices: np.ndarray, steps: np.ndarray) -> np.ndarray:
        self.asked += 1
        return 1_000_000 - steps


def test_every_device_changes_once_per_step_at_one_of_32_moments() -> None:
    memory = SteppedMemory(Counting(), num_devices=2000, every_s=64.0, seed=1)
    moments = np.arange(0, 128.0, 2.0)
    table = np.array([memory.available_bytes(at_s, 1) for at_s in moments])
    changes = table[1:] != table[:-1]
    assert changes.sum(axis=0).max() == 2
    assert changes[:32].any(axis=1).sum() == PARTS
    # Nobody's step is longer or shorter than the others': 32 moments apart.
    first, last = changes.argmax(axis=0), len(changes) - 1 - changes[::-1].argmax(axis=0)
    twice = changes.sum(axis=0) == 2
    assert set((last - first)[twice]) == {PARTS}


def test_asking_twice_for_a_moment_costs_one_look_at_the_source() -> None:
    source = Counting()
    memory = SteppedMemory(source, num_devices=10, every_s=60.0, seed=1)
    memory.available_bytes(100.0, 1)
    memory.available_bytes(100.5, 2)
    assert source.asked == 1


def test_a_column_that_was_handed_out_cannot_be_changed() -> None:
    memory = SteppedMemory(Counting(), num_devices=10, every_s=60.0, seed=1)
    with pytest.raises(ValueError, match="read-only"):
        memory.available_bytes(100.0, 1)[0] = 1


def test_shortness_is_looked_for_as_far_as_asked() -> None:
    memory = SteppedMemory(Counting(), num_devices=1, every_s=1.0, seed=1)
    at_s = memory.short_from_s(0, 1_000_000 - 700 + 1, 0.0, math.inf)
    assert 699.0 < at_s <= 700.0
    assert memory.short_from_s(0, 1_000_000 - 700 + 1, 0.0, at_s) == at_s
    assert memory.short_from_s(0, 1_000_000 - 700 + 1, 0.0, np.nextafter(at_s, 0)) == math.inf
    assert memory.short_from_s(0, 2_000_000, 3.25, 3.25) == 3.25
    assert memory.short_from_s(0, 1, 0.0, math.inf) == math.inf


def test_memory_of_a_round_changes_with_the_round_and_never_within_a_flight() -> None:
    memory = RoundMemory(Redraws(fleet(np.full(50, 123)), seed=1), num_devices=50)
    assert (memory.available_bytes(0.0, 1) == 123).all()
    second = memory.available_bytes(5.0, 2)
    assert (second == memory.available_bytes(1e9, 2)).all()
    assert (second != memory.available_bytes(5.0, 3)).any()
    assert list(memory.available_bytes_of(np.array([7, 3]), 0.0, 2)) == list(second[[7, 3]])
    assert memory.short_from_s(0, 2**60, 0.0, math.inf) == math.inf
    assert memory.next_change_s(0.0) == math.inf


@pytest.mark.parametrize("at_s", [-1.0, math.inf, math.nan])
def test_times_outside_the_run_are_refused(at_s: float) -> None:
    memory = SteppedMemory(Counting(), num_devices=1, every_s=1.0, seed=1)
    with pytest.raises(ValueError, match=rf"virtual time {at_s} s is outside \[0, inf\)"):
        memory.available_bytes(at_s, 1)
