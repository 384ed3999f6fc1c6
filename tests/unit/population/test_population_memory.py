"""Available memory: what each kind draws, what it refuses, and what is capped."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from neulite_sim.errors import ScenarioError
from neulite_sim.population.memory.distributions import CHOICE, EXPLICIT, INSTALLED, LOGNORMAL, UNIFORM, draw_memory
from neulite_sim.registry import Choice, Component, component
from neulite_sim.seeding import stream

GIB = 2**30
COUNT = 100_000


def sample(kind: Component, count: int = COUNT, installed: int = 4 * GIB, **options: Any) -> np.ndarray:
    sampler = kind.build(kind.options(**options))
    return sampler(count, np.full(count, installed, np.int64), stream(5, "test"))


@pytest.mark.parametrize("kind", ["uniform", "lognormal", "choice", "explicit", "installed"])
def test_every_kind_is_registered_under_its_name(kind: str) -> None:
    assert component("available_memory", kind).kind == kind


def test_uniform_memory_has_the_moments_of_the_uniform_distribution() -> None:
    values = sample(UNIFORM, low="100MB", high="900MB")
    assert values.dtype == np.int64
    assert 100e6 <= values.min() < 101e6
    assert 899e6 < values.max() <= 900e6
    # Standard errors: 231 MB / sqrt(n) = 0.73 MB for the mean; four of them are allowed.
    assert values.mean() == pytest.approx(500e6, abs=3e6)
    assert values.std() == pytest.approx(800e6 / math.sqrt(12), rel=0.01)


def test_uniform_memory_reaches_both_ends() -> None:
    assert set(sample(UNIFORM, 100, low=7, high=8)) == {7, 8}
    assert set(sample(UNIFORM, 100, low=7, high=7)) == {7}


def test_lognormal_memory_has_the_moments_of_the_lognormal_distribution() -> None:
    values = sample(LOGNORMAL, median="400MB", sigma=0.5)
    logs = np.log(values)
    assert np.median(values) == pytest.approx(400e6, rel=0.01)
    assert logs.mean() == pytest.approx(math.log(400e6), abs=0.007)
    assert logs.std() == pytest.approx(0.5, rel=0.01)
    assert values.mean() == pytest.approx(400e6 * math.exp(0.125), rel=0.01)


def test_cut_lognormal_memory_stays_inside_and_keeps_its_shape() -> None:
    values = sample(LOGNORMAL, median="400MB", sigma=0.5, low="200MB", high="400MB")
    assert values.min() >= 200e6
    assert values.max() <= 400e6
    below = NormalDist().cdf(math.log(0.5) / 0.5)
    up_to_300 = NormalDist().cdf(math.log(0.75) / 0.5)
    assert np.mean(values < 300e6) == pytest.approx((up_to_300 - below) / (0.5 - below), abs=0.006)


def test_the_mass_between_the_limits_is_that_of_the_normal_distribution() -> None:
    options = LOGNORMAL.options(median="400MB", sigma=0.5, low="200MB", high="600MB")
    normal = NormalDist(math.log(400e6), 0.5)
    assert options.mass() == pytest.approx(normal.cdf(math.log(600e6)) - normal.cdf(math.log(200e6)), abs=1e-12)
    assert LOGNORMAL.options(median="400MB", sigma=0.5).mass() == 1


def test_lognormal_memory_without_spread_is_its_median() -> None:
    assert set(sample(LOGNORMAL, 10, median="400MB", sigma=0)) == {400_000_000}


def test_extreme_lognormal_memory_stays_inside_its_integer_type() -> None:
    values = sample(LOGNORMAL, median=10**15, sigma=5)
    assert values.min() > 0
    assert values.max() == 2**60


def test_choice_follows_its_weights() -> None:
    values = sample(CHOICE, values=["256MB", "512MB", "1GB"], weights=[1, 2, 5])
    sizes, counts = np.unique(values, return_counts=True)
    assert list(sizes) == [256_000_000, 512_000_000, 1_000_000_000]
    assert counts / COUNT == pytest.approx([0.125, 0.25, 0.625], abs=0.006)


def test_choice_without_weights_is_even() -> None:
    values = sample(CHOICE, values=[1, 2])
    assert np.mean(values) == pytest.approx(1.5, abs=0.006)


def test_explicit_memory_is_taken_in_order() -> None:
    assert list(sample(EXPLICIT, 3, values=["1MB", "3MB", 2])) == [1_000_000, 3_000_000, 2]


def test_explicit_memory_of_another_length_names_both_numbers() -> None:
    with pytest.raises(ScenarioError, match=r"available_memory\.values: has 3 values for 5 devices"):
        sample(EXPLICIT, 5, values=[1, 2, 3])


def test_installed_memory_is_a_share_of_each_device() -> None:
    sampler = INSTALLED.build(INSTALLED.options(share=0.25))
    installed = np.array([4 * GIB, 8 * GIB], np.int64)
    assert list(sampler(2, installed, stream(0, "test"))) == [GIB, 2 * GIB]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (UNIFORM, {"low": "900MB", "high": "100MB"}, "low 900 MB is above high 100 MB; swap them"),
        (UNIFORM, {"low": -1, "high": 5}, "greater than or equal to 0"),
        (UNIFORM, {"low": 0, "high": 10**15 + 1}, "less than or equal to 1000000000000000"),
        (LOGNORMAL, {"median": 0, "sigma": 1}, "greater than or equal to 1"),
        (LOGNORMAL, {"median": "1GB", "sigma": -1}, "greater than or equal to 0"),
        (LOGNORMAL, {"median": "1GB", "sigma": 1, "low": "3GB", "high": "2GB"}, "low 3 GB is above high 2 GB"),
        (
            LOGNORMAL,
            {"median": "1GB", "sigma": 0.1, "low": "2GB"},
            r"only 0\.00% of a lognormal of median 1 GB and sigma 0\.1 lies between low 2 GB and high no limit",
        ),
        (LOGNORMAL, {"median": "1GB", "sigma": 0, "high": "900MB"}, r"only 0\.00% .* must be at least 1%"),
        (CHOICE, {"values": [1, 2], "weights": [1, 2, 3]}, "3 weights for 2 values; write one weight per value"),
        (CHOICE, {"values": [1, 2], "weights": [0, 0]}, "all 2 weights are 0"),
        (CHOICE, {"values": [1, 2], "weights": [1, -1]}, "greater than or equal to 0"),
        (CHOICE, {"values": []}, "at least 1 item"),
        (EXPLICIT, {"values": ["many"]}, "'many' is not a size"),
        (INSTALLED, {"share": 1.5}, "less than or equal to 1"),
        (INSTALLED, {"share": 0}, "greater than 0"),
        (INSTALLED, {"share": 0.5, "of": "gpu"}, "Extra inputs"),
    ],
)
def test_impossible_options_are_refused_with_their_numbers(kind: Component, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.options(**options)


def draw(kind: Component, **options: Any) -> tuple[list[int], list[bool]]:
    installed = np.array([4 * GIB, 8 * GIB], np.int64)
    values, above = draw_memory(
        Choice(kind.kind, kind.options(**options)),
        installed_memory_bytes=installed,
        usable_memory_bytes=installed - GIB,
        rng=stream(0, "test"),
    )
    return list(values), list(above)


def test_memory_above_what_a_device_can_use_is_capped_and_reported() -> None:
    assert draw(UNIFORM, low=5 * GIB, high=5 * GIB) == ([3 * GIB, 5 * GIB], [True, False])
    assert draw(INSTALLED, share=1) == ([3 * GIB, 7 * GIB], [True, True])


def test_explicit_memory_is_reported_but_never_capped() -> None:
    assert draw(EXPLICIT, values=[5 * GIB, 5 * GIB]) == ([5 * GIB, 5 * GIB], [True, False])
