"""Flat sorted intervals: merging, stacking and bisection, each against a hand-worked table."""

from __future__ import annotations

import numpy as np
import pytest

from neulite_sim.traces.intervals import Intervals, above_on_grid, merged, nearest_tick, on_grid, stacked


def table(*rows: list[tuple[float, float]]) -> Intervals:
    flat = [(number, *pair) for number, row in enumerate(rows) for pair in row]
    numbers, start_s, end_s = (np.array(column) for column in zip(*flat, strict=True))
    return merged(numbers.astype(np.int64), start_s, end_s, num_rows=len(rows))


def listed(intervals: Intervals) -> list[list[tuple[float, float]]]:
    pairs = list(zip(intervals.start_s.tolist(), intervals.end_s.tolist(), strict=True))
    return [pairs[low:high] for low, high in zip(intervals.offsets[:-1], intervals.offsets[1:], strict=True)]


def test_empty_intervals_vanish_and_touching_ones_join() -> None:
    found = table([(0.0, 1.0), (1.0, 1.0), (1.0, 2.0), (3.0, 4.0)], [(5.0, 5.0)], [(0.0, 9.0)])
    assert listed(found) == [[(0.0, 2.0), (3.0, 4.0)], [], [(0.0, 9.0)]]


def test_intervals_of_different_rows_never_join() -> None:
    assert listed(table([(0.0, 1.0)], [(1.0, 2.0)])) == [[(0.0, 1.0)], [(1.0, 2.0)]]


def test_rows_without_any_interval_stay_rows() -> None:
    none = merged(np.empty(0, np.int64), np.empty(0), np.empty(0), num_rows=3)
    assert listed(none) == [[], [], []]
    assert list(none.last_started(np.array([0, 2]), 5.0)) == [-1, -1]


def test_bisection_finds_the_last_interval_that_has_started() -> None:
    found = table([(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)], [(1.0, 2.0)], [(9.0, 10.0)])
    rows = np.array([0, 1, 2])
    assert list(found.last_started(rows, 0.0)) == [0, 2, 3]
    assert list(found.last_started(rows, 3.9)) == [1, 3, 3]
    assert list(found.last_started(rows, 4.0)) == [2, 3, 3]
    assert list(found.last_started(rows[::-1], 9.5)) == [4, 3, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 31])
def test_bisection_equals_counting_for_rows_of_any_length(count: int) -> None:
    found = table([(float(2 * at), 2 * at + 1.0) for at in range(count)])
    for at_s in np.arange(-0.5, 2 * count + 1, 0.5):
        assert found.last_started(np.array([0]), at_s)[0] == sum(start <= at_s for start in found.start_s) - 1


def test_stacked_parts_keep_their_rows_in_order() -> None:
    both = stacked([table([(0.0, 1.0)], [(2.0, 3.0)]), table([(4.0, 5.0), (6.0, 7.0)])])
    assert listed(both) == [[(0.0, 1.0)], [(2.0, 3.0)], [(4.0, 5.0), (6.0, 7.0)]]
    assert both.num_rows == 3
    assert both.num_bytes == 8 * (4 + 4 + 4)


def test_times_on_the_grid_add_up_exactly() -> None:
    times = on_grid(np.array([0.1, 0.2, 1 / 3]))
    for chunk in (3, 1_000_003):
        origin = chunk * nearest_tick(7.7)
        assert np.array_equal((origin + times) - origin, times)


def test_a_duration_on_the_grid_is_never_empty() -> None:
    assert list(above_on_grid(np.array([0.0, 2.0**-20, 1.0]))) == [2.0**-20, 2.0**-20, 1.0]
