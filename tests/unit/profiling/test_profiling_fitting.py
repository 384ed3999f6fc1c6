"""Fitting the time model: it finds known constants again, and is judged on what it has not seen."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from neulite_sim.profiling import fitting
from neulite_sim.profiling.fitting import (
    Constants,
    Machine,
    Measurement,
    bytes_only,
    fit,
    flops_only,
    left_out,
    plain_roofline,
    quality,
    roofline,
    share_of,
    spearman,
)
from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.seeding import stream

MACHINE = Machine(peak_flops_per_second=1e9, memory_bytes_per_second=1e8)
TRUE = Constants(
    efficiency=0.6,
    convolution_efficiency=0.3,
    bandwidth_efficiency=0.4,
    grouped_bandwidth_efficiency=0.01,
    operator_overhead_s=1e-4,
    step_overhead_s=0.05,
)
START = Constants(
    efficiency=0.4,
    convolution_efficiency=0.4,
    bandwidth_efficiency=0.6,
    grouped_bandwidth_efficiency=0.05,
    operator_overhead_s=3e-4,
    step_overhead_s=0.2,
)


def steps(count: int, truth: Constants = TRUE, noise: float = 0.0) -> list[Measurement]:
    """Return steps of made-up networks, each with operators of its own mixture of kinds."""
    found = []
    for number in range(count):
        rng = stream(5, "made-up networks", number)
        size = int(rng.integers(20, 400))
        kinds = rng.choice(3, size=size, p=rng.dirichlet(np.ones(3))).astype(np.int8)
        flops = np.where(kinds == OperatorKind.GROUPED, 1e3, rng.uniform(0, 2e8, size) * rng.integers(0, 2, size))
        num_bytes = rng.uniform(1e4, 4e6, size)
        bare = Measurement(
            network=f"n{number}", what="full", seconds=1.0, flops=flops, num_bytes=num_bytes, kinds=kinds
        )
        seconds = roofline(bare, truth, MACHINE) * math.exp(noise * rng.standard_normal())
        found.append(replace(bare, seconds=seconds))
    return found


def test_known_constants_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_PULL", 1e-8)
    found = fit(steps(40), MACHINE, START)
    for name in ("efficiency", "convolution_efficiency", "bandwidth_efficiency", "grouped_bandwidth_efficiency"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.01), name


def test_networks_left_out_are_predicted_within_the_noise() -> None:
    measured = steps(30, noise=0.1)
    predicted = left_out(measured, MACHINE, START)
    found = quality(predicted, np.array([step.seconds for step in measured]))
    # The median of |exp(0.1 z) - 1| is 0.067; the fit adds a little of its own.
    assert found.median_error < 0.12
    assert found.spearman > 0.97


def test_a_network_left_out_does_not_touch_its_own_prediction() -> None:
    measured = steps(8)
    before = left_out(measured, MACHINE, START)
    measured[3] = replace(measured[3], seconds=100 * measured[3].seconds)
    after = left_out(measured, MACHINE, START)
    assert after[3] == before[3]
    assert (np.delete(after, 3) != np.delete(before, 3)).all()


def test_networks_of_one_name_are_left_out_together() -> None:
    measured = [replace(step, network=f"n{place // 2}") for place, step in enumerate(steps(8))]
    before = left_out(measured, MACHINE, START)
    measured[5] = replace(measured[5], seconds=100 * measured[5].seconds)
    assert left_out(measured, MACHINE, START)[4] == before[4]


def test_what_the_measurements_do_not_show_stays_at_the_start() -> None:
    only_products = [replace(step, kinds=np.zeros_like(step.kinds), seconds=1.0) for step in steps(5)]
    found = fit(only_products, MACHINE, START)
    assert found.convolution_efficiency == pytest.approx(START.convolution_efficiency)
    assert found.grouped_bandwidth_efficiency == pytest.approx(START.grouped_bandwidth_efficiency)


def test_what_is_held_or_zero_stays_and_everything_stays_positive() -> None:
    found = fit(steps(5), MACHINE, replace(START, step_overhead_s=0.0), held=["efficiency"])
    assert (found.efficiency, found.step_overhead_s) == (START.efficiency, 0.0)
    assert all(value > 0 for name, value in asdict(found).items() if name != "step_overhead_s")


def test_the_rivals_count_one_thing_each() -> None:
    step = steps(1)[0]
    assert flops_only(step, TRUE, MACHINE) == pytest.approx(step.flops.sum() / 0.6e9)
    assert bytes_only(step, TRUE, MACHINE) == pytest.approx(step.num_bytes.sum() / 0.4e8)
    same = replace(TRUE, convolution_efficiency=TRUE.efficiency, grouped_bandwidth_efficiency=TRUE.bandwidth_efficiency)
    assert plain_roofline(step, TRUE, MACHINE) == roofline(step, same, MACHINE) != roofline(step, TRUE, MACHINE)


def test_shares_of_the_kinds_and_of_the_step_add_up() -> None:
    step = steps(1)[0]
    shares = sum(share_of(step, kind, TRUE, MACHINE) for kind in OperatorKind)
    assert shares == pytest.approx(1 - TRUE.step_overhead_s / step.seconds)


def test_quality_by_hand() -> None:
    found = quality(np.array([1.1, 2.0, 2.0, 8.0, 5.0]), np.array([1.0, 2.0, 4.0, 4.0, 5.0]))
    # Relative errors 0.1, 0, 0.5, 1, 0.
    assert (found.count, found.median_error) == (5, pytest.approx(0.1))
    assert found.p90_error == pytest.approx(0.8)  # 0.6 of the way from 0.5 to 1
    assert found.to_json()["median_error"] == found.median_error


def test_spearman_by_hand() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 100.0, 1000.0])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    assert spearman(np.array([1.0, 5.0, 5.0, 9.0]), np.arange(4.0)) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert math.isnan(spearman(np.ones(3), np.arange(3.0)))
