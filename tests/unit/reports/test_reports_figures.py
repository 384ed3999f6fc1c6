import math

import numpy as np
import pytest

from neulite_sim.reports.figures import (
    BLANK,
    History,
    Mark,
    Rung,
    bar,
    counted,
    memory_ladder,
    nice_range,
    plot,
    reach_s,
    resampled,
    sparkline,
    time_left_s,
)

MB = 10**6


def curve_of(*values, capacity=4):
    curve = History(capacity=capacity)
    for value in values:
        curve.add(value)
    return curve.values()


def test_short_history_is_kept_as_it_is():
    assert curve_of(0.1, 0.5, 0.3) == [0.1, 0.5, 0.3]


def test_full_history_is_averaged_in_pairs_and_goes_on_in_pairs():
    assert curve_of(1, 3, 5, 7) == [2, 6]
    assert curve_of(1, 3, 5, 7, 10) == [2, 6, 10]
    assert curve_of(1, 3, 5, 7, 10, 20) == [2, 6, 15]


def test_long_history_stays_bounded_and_keeps_its_ends():
    kept = curve_of(*range(100_000), capacity=64)
    assert 32 <= len(kept) <= 64
    assert kept[0] < 2000
    assert kept[-1] > 97_000
    assert kept == sorted(kept)


def test_resampling_takes_means_of_equal_shares():
    assert resampled([1, 3, 5, 7, 9, 11], 3) == [2, 6, 10]
    assert resampled([1, 2], 3) == [1, 2]


def test_sparkline_goes_from_the_lowest_to_the_highest_block():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.5, 0.5], 8) == "▄▄"
    assert sparkline([], 8) == ""


def test_sparkline_never_grows_beyond_its_width():
    assert len(sparkline(range(1000), 38)) == 38


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, ""), (1, "████"), (0.5, "██"), (0.53125, "██▏"), (1e-9, "▏"), (2, "████")]
)
def test_bar_is_exact_to_an_eighth(share, drawn):
    assert bar(share, 4) == drawn


def test_range_of_a_plot_is_whole_tenths_within_zero_and_one():
    assert nice_range([0.31, 0.78]) == pytest.approx((0.3, 0.8))
    assert nice_range([0.3, 0.8]) == pytest.approx((0.3, 0.8))
    assert nice_range([1.0]) == pytest.approx((0.9, 1.0))
    assert nice_range([0.0]) == pytest.approx((0.0, 0.1))
    assert nice_range([]) == (0.0, 1.0)


def test_rising_line_runs_from_the_bottom_left_to_the_top_right():
    drawn = plot([0.0, 1.0], width=3, height=3)
    assert [row.count(BLANK) for row in drawn.rows] == [1, 1, 1] or drawn.rows[1][1] != BLANK
    assert drawn.rows[2][0] != BLANK
    assert drawn.rows[0][2] != BLANK
    assert drawn.rows[0][0] == drawn.rows[2][2] == BLANK


def test_plot_of_one_value_is_one_dot():
    drawn = plot([0.5], width=4, height=2)
    assert sum(cell != BLANK for row in drawn.rows for cell in row) == 1


def test_plot_knows_the_row_of_a_value():
    drawn = plot([0.0, 0.5, 1.0], width=8, height=5)
    assert [drawn.row_of(value) for value in (1.0, 0.5, 0.0, 1.5)] == [0, 2, 4, None]
    assert [drawn.value_at(row) for row in (0, 2, 4)] == [1.0, 0.5, 0.0]


def test_time_left_goes_on_at_the_pace_so_far():
    assert time_left_s([(10.0, 5), (20.0, 10)], 30, 20.0) == pytest.approx(40.0)


def test_time_since_the_last_round_counts_as_spent():
    assert time_left_s([(10.0, 5), (20.0, 10)], 30, 25.0) == pytest.approx(35.0)
    assert time_left_s([(10.0, 5), (20.0, 10)], 11, 60.0) == 0.0


@pytest.mark.parametrize("marks", [[], [(1.0, 1)], [(1.0, 1), (2.0, 1)], [(1.0, 1), (1.0, 2)]])
def test_there_is_no_time_left_without_a_pace(marks):
    assert time_left_s(marks, 10, 5.0) is None


def test_target_lies_where_the_straight_line_meets_it():
    assert reach_s([(0.0, 0.1), (10.0, 0.2), (20.0, 0.3)], 0.5) == pytest.approx(20.0)


def test_slope_is_that_of_least_squares():
    points = [(0.0, 0.1), (10.0, 0.3), (20.0, 0.2), (40.0, 0.45)]
    slope, offset = np.polyfit(*np.transpose(points), 1)
    assert reach_s(points, 0.8) == pytest.approx((0.8 - offset) / slope - 40.0)


def test_a_curve_that_flattens_goes_on_from_its_best_value():
    # Slope 0.0215 a second (10.75 / 500) and mean 0.5125 at 15 s, so the line is at 0.835 where the curve is at 0.75.
    points = [(0.0, 0.1), (10.0, 0.5), (20.0, 0.7), (30.0, 0.75)]
    assert reach_s(points, 0.8) == pytest.approx(0.05 / 0.0215)


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 0.1), (10.0, 0.2)],
        [(0.0, 0.3), (10.0, 0.2), (20.0, 0.1)],
        [(5.0, 0.1), (5.0, 0.2), (5.0, 0.3)],
        [(0.0, 0.1), (10.0, 0.1001), (20.0, 0.1002)],
    ],
)
def test_there_is_no_telling_without_points_without_a_rise_or_far_away(points):
    assert reach_s(points, 0.9) is None


def test_ladder_of_a_small_fleet_is_the_one_worked_out_by_hand():
    budgets = np.array([100, 150, 250, 250, 400]) * MB
    ladder = memory_ladder(budgets, [("full", 300 * MB), ("half", 200 * MB)], rows=5)
    assert ladder == [
        Rung(low_bytes=100 * MB, high_bytes=200 * MB, devices=2, submodels=0),
        Mark(name="half", needed_bytes=200 * MB, devices=3),
        Rung(low_bytes=200 * MB, high_bytes=300 * MB, devices=2, submodels=1),
        Mark(name="full", needed_bytes=300 * MB, devices=1),
        Rung(low_bytes=300 * MB, high_bytes=400 * MB, devices=1, submodels=2),
    ]


def test_widest_rungs_are_halved_where_there_is_room():
    budgets = np.arange(0, 1001, 10) * MB
    rungs = memory_ladder(budgets, [], rows=4)
    assert [rung.high_bytes - rung.low_bytes for rung in rungs] == pytest.approx([250 * MB] * 4, rel=0.05)


@pytest.mark.parametrize("scale", [1e-2, 1, 1e2])
def test_rungs_of_small_and_large_devices_are_as_many_and_begin_and_end_at_other_numbers(scale):
    budgets = (np.linspace(1, 9.9, 1000) * scale * MB).astype(np.int64)
    rungs = memory_ladder(budgets, [], rows=30)
    assert len(rungs) == 30
    for rung in rungs:
        low, high = rung.label().split(" ")[0].split("–")
        assert float(low) < float(high)


def test_a_few_giants_do_not_take_the_room():
    budgets = np.sort(np.append(np.linspace(100, 200, 100), [64_000]) * MB).astype(np.int64)
    rungs = memory_ladder(budgets, [], rows=6)
    assert sum(rung.high_bytes <= 220 * MB for rung in rungs) >= 4


def test_device_with_exactly_the_needed_memory_fits():
    ladder = memory_ladder(np.array([100, 200]) * MB, [("full", 200 * MB)], rows=4)
    assert [step.devices for step in ladder if isinstance(step, Mark)] == [1]
    assert ladder[-1] == Rung(low_bytes=200 * MB, high_bytes=200 * MB, devices=1, submodels=1)


def test_submodel_that_nobody_holds_stands_above_the_fleet():
    ladder = memory_ladder(np.array([100, 200]) * MB, [("full", 700 * MB)], rows=3)
    assert ladder[-1] == Mark(name="full", needed_bytes=700 * MB, devices=0)


def test_equal_budgets_are_one_rung():
    ladder = memory_ladder(np.array([500, 500]) * MB, [("full", 300 * MB)], rows=10)
    assert ladder == [
        Mark(name="full", needed_bytes=300 * MB, devices=2),
        Rung(low_bytes=500 * MB, high_bytes=500 * MB, devices=2, submodels=1),
    ]


def test_too_many_thresholds_keep_the_smallest_and_the_largest():
    thresholds = [(f"width-{number}", number * 10 * MB) for number in range(1, 21)]
    ladder = memory_ladder(np.arange(1, 300) * MB, thresholds, rows=9)
    names = [step.name for step in ladder if isinstance(step, Mark)]
    assert len(ladder) <= 9
    assert (names[0], names[-1], len(names)) == ("width-1", "width-20", 4)


def test_million_devices_are_no_trouble():
    budgets = np.linspace(100e6, 900e6, 1_000_000).astype(np.int64)
    assert sum(rung.devices for rung in memory_ladder(budgets, [], rows=10)) == 1_000_000


def test_mark_says_as_much_as_fits():
    mark = Mark(name="stage-1", needed_bytes=424_900_000, devices=61)
    assert mark.text(40) == "stage-1 424.9 MB: 61 devices fit"
    assert mark.text(25) == "stage-1 424.9 MB: 61 fit"
    assert mark.text(16) == "stage-1 424.9 MB"
    assert mark.text(5) == "stage"
    assert Mark(name="full", needed_bytes=MB, devices=1).text(40) == "full 1 MB: 1 device fits"


def test_rungs_are_labelled_in_one_unit():
    assert Rung(low_bytes=250 * MB, high_bytes=310 * MB, devices=1, submodels=0).label() == "250–310 MB"
    assert Rung(low_bytes=500 * MB, high_bytes=500 * MB, devices=1, submodels=0).label() == "500 MB"
    assert Rung(low_bytes=2_370_000, high_bytes=9_350_000, devices=1, submodels=0).label() == "2.37–9.35 MB"
    assert Rung(low_bytes=9_350_000, high_bytes=42 * MB, devices=1, submodels=0).label() == "9.3–42.0 MB"
    assert Rung(low_bytes=4_000, high_bytes=90_000, devices=1, submodels=0).label() == "4–90 kB"
    assert Rung(low_bytes=4_000 * MB, high_bytes=12_000 * MB, devices=1, submodels=0).label() == "4.0–12.0 GB"


def test_counts_stay_short():
    assert [counted(count) for count in (7, 12_345, 123_456, 1_234_567)] == ["7", "12,345", "123k", "1.23M"]


def test_curve_of_constant_values_is_constant():
    assert all(math.isclose(value, 0.7) for value in curve_of(*[0.7] * 999, capacity=16))
