"""Fitting the time model: it finds known constants again, and is judged on what it has not seen."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from neulite_sim.profiling.fit_quality import quality, spearman
from neulite_sim.profiling.fitting import (
    Board,
    Constants,
    Machine,
    Measurement,
    Spread,
    Steps,
    boards_left_out,
    bytes_only,
    fit,
    fit_boards,
    flops_only,
    four_rates,
    left_out,
    networks_left_out,
    plain_roofline,
    roofline,
    share_of,
)
from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.seeding import stream

MACHINE = Machine(peak_flops_per_second=1e9, memory_bytes_per_second=1e8)
TRUE = Constants(
    efficiency=0.6,
    convolution_efficiency=0.3,
    pointwise_efficiency=0.1,
    bandwidth_efficiency=0.4,
    grouped_bandwidth_efficiency=0.01,
    grouped_backward_efficiency=0.02,
    operator_overhead_s=1e-4,
    step_overhead_s=0.05,
)
START = Constants(
    efficiency=0.4,
    convolution_efficiency=0.4,
    pointwise_efficiency=0.3,
    bandwidth_efficiency=0.6,
    grouped_bandwidth_efficiency=0.05,
    grouped_backward_efficiency=0.05,
    operator_overhead_s=3e-4,
    step_overhead_s=0.2,
)


def steps(
    count: int, truth: Constants = TRUE, noise: float = 0.0, machine: Machine = MACHINE, seed: int = 5
) -> list[Measurement]:
    """Return steps of made-up networks, each with operators of its own mixture of kinds."""
    found = []
    for number in range(count):
        rng = stream(seed, "made-up networks", number)
        size = int(rng.integers(20, 400))
        kinds = rng.choice(5, size=size, p=rng.dirichlet(np.ones(5))).astype(np.int8)
        flops = np.where(kinds == OperatorKind.GROUPED, 1e3, rng.uniform(0, 2e8, size) * rng.integers(0, 2, size))
        num_bytes = rng.uniform(1e4, 4e6, size)
        bare = Measurement(
            network=f"n{number}", what="full", seconds=1.0, flops=flops, num_bytes=num_bytes, kinds=kinds
        )
        seconds = float(roofline(Steps.of([bare]), truth, machine)[0]) * math.exp(noise * rng.standard_normal())
        found.append(replace(bare, seconds=seconds))
    return found


SHARES = [name for name in asdict(TRUE) if name.endswith("efficiency")]


def test_known_constants_are_found_again() -> None:
    found = fit(steps(40), MACHINE, START, spread=Spread(noise=1e-4)).constants
    for name in SHARES:
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.01), name


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for seed in range(12):
        found = fit(steps(25, noise=0.1, seed=seed), MACHINE, START)
        for name in SHARES:
            low, value, high = (getattr(each, name) for each in (found.low, found.constants, found.high))
            assert low < value < high
            held.append(low <= getattr(TRUE, name) <= high)
    # 95 % of 72, give or take three standard deviations.
    assert len(held) == 72
    assert sum(held) >= 72 * 0.95 - 3 * math.sqrt(72 * 0.95 * 0.05)


def test_more_measurements_make_an_interval_narrower_and_none_leave_it_as_wide_as_supposed() -> None:
    few, many, none = (fit(steps(count, noise=0.1), MACHINE, START) for count in (5, 40, 0))
    widths = [math.log(found.high.pointwise_efficiency / found.low.pointwise_efficiency) for found in (many, few, none)]
    assert widths == sorted(widths)
    assert widths[-1] == pytest.approx(2 * 1.96 * Spread().start, rel=1e-3)


def board(name: str, speed: float, count: int, *, peak: float = 1.0, seed: int = 5) -> Board:
    """Return a board that is so many times faster than `TRUE` on `MACHINE` in everything."""
    machine = Machine(peak_flops_per_second=peak * 1e9, memory_bytes_per_second=1e8)
    shares = {key: value * speed / (1 if "bandwidth" in key else peak) for key, value in asdict(TRUE).items()}
    seconds = {key: getattr(TRUE, key) / speed for key in ("operator_overhead_s", "step_overhead_s")}
    truth = replace(TRUE, **{**shares, **seconds})
    return Board(name=name, machine=machine, steps=tuple(steps(count, truth, 0.05, machine, seed)))


def error_of(found: Constants, one: Board) -> float:
    predicted = roofline(Steps.of(one.steps), found, one.machine)
    return quality(predicted, np.array([step.seconds for step in one.steps])).median_error


def test_a_board_with_one_point_moves_as_a_whole() -> None:
    well_known, unknown = board("a", 1.0, 30), board("b", 1.9, 12, peak=3.0, seed=8)
    one_point = replace(unknown, steps=unknown.steps[:1])
    together = fit_boards([well_known, one_point], START)["b"].constants
    alone = fit(one_point.steps, one_point.machine, START).constants
    assert error_of(together, unknown) < 0.1 < error_of(alone, unknown)


def test_a_board_with_no_point_is_where_its_data_sheet_puts_it() -> None:
    sheet = math.sqrt(3.0)  # The mean of a ratio of peaks of 3 and the same bandwidth.
    well_known, unknown = board("a", 1.0, 30), board("b", sheet, 12, peak=3.0, seed=8)
    found = fit_boards([well_known, replace(unknown, steps=())], START)
    assert error_of(found["b"].constants, unknown) < 0.1
    ends = [(each.low.pointwise_efficiency, each.high.pointwise_efficiency) for each in found.values()]
    assert ends[1][1] / ends[1][0] > 1.5 * ends[0][1] / ends[0][0]
    same_shares = fit_boards([well_known, replace(unknown, steps=())], START, spread=Spread(mixing=0.0))
    for name in SHARES:
        assert getattr(same_shares["b"].constants, name) == pytest.approx(getattr(found["a"].constants, name), rel=1e-3)


def test_a_network_is_left_out_on_every_board() -> None:
    boards = [board("a", 1.0, 6), board("b", 1.5, 6)]
    before = networks_left_out(boards, START)
    shifted = [
        replace(one, steps=tuple(replace(step, seconds=9.0) if step.network == "n2" else step for step in one.steps))
        for one in boards
    ]
    after = networks_left_out(shifted, START)
    assert all(before[name][2] == after[name][2] for name in "ab")
    assert all(before[name][1] != after[name][1] for name in "ab")


def test_a_board_left_out_does_not_touch_its_own_prediction() -> None:
    boards = [board("a", 1.0, 6), board("b", 1.5, 6)]
    before = boards_left_out(boards, START)["b"]
    slow = replace(boards[1], steps=tuple(replace(step, seconds=50.0) for step in boards[1].steps))
    assert boards_left_out([boards[0], slow], START)["b"].tolist() == before.tolist()


def test_constants_stay_below_their_most() -> None:
    found = fit(steps(20), MACHINE, START, most={"pointwise_efficiency": 0.05}).constants
    assert found.pointwise_efficiency == pytest.approx(0.05, rel=1e-3)
    assert found.pointwise_efficiency <= 0.05


def test_operators_that_happen_often_count_as_often() -> None:
    step = steps(1)[0]
    twice = replace(step, counts=np.full(len(step.flops), 2.0))
    once_s, twice_s = roofline(Steps.of([step, twice]), replace(TRUE, step_overhead_s=0.0), MACHINE)
    assert twice_s == pytest.approx(2 * once_s)


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
    found = fit(only_products, MACHINE, START).constants
    assert found.convolution_efficiency == pytest.approx(START.convolution_efficiency)
    assert found.grouped_bandwidth_efficiency == pytest.approx(START.grouped_bandwidth_efficiency)


def test_what_is_held_or_zero_stays_and_everything_stays_positive() -> None:
    found = fit(steps(5), MACHINE, replace(START, step_overhead_s=0.0), held=["efficiency"]).constants
    assert (found.efficiency, found.step_overhead_s) == (START.efficiency, 0.0)
    assert all(value > 0 for name, value in asdict(found).items() if name != "step_overhead_s")


def test_the_rivals_count_one_thing_each() -> None:
    step = steps(1)[0]
    every = Steps.of([step])
    assert flops_only(every, TRUE, MACHINE) == pytest.approx(step.flops.sum() / 0.6e9)
    assert bytes_only(every, TRUE, MACHINE) == pytest.approx(step.num_bytes.sum() / 0.4e8)
    same = replace(
        TRUE, convolution_efficiency=0.6, pointwise_efficiency=0.6, grouped_backward_efficiency=0.6,
        grouped_bandwidth_efficiency=0.4,
    )  # fmt: skip
    assert plain_roofline(every, TRUE, MACHINE) == roofline(every, same, MACHINE) != roofline(every, TRUE, MACHINE)
    fewer = replace(every, kinds=np.where(every.kinds == 3, 1, np.where(every.kinds == 4, 2, every.kinds)))
    assert four_rates(every, TRUE, MACHINE) == roofline(fewer, TRUE, MACHINE)


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
