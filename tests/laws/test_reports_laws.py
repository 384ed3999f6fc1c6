"""Laws of the numbers that the console draws."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.reports.figures import History, Mark, Rung, bar, memory_ladder, plot, resampled, sparkline

BUDGETS = st.lists(st.integers(0, 20 * 10**9), min_size=1, max_size=60).map(lambda sizes: np.sort(np.array(sizes)))
THRESHOLDS = st.lists(st.integers(0, 20 * 10**9), max_size=12).map(
    lambda sizes: [(f"stage-{number}", size) for number, size in enumerate(sizes)]
)
ACCURACIES = st.lists(st.floats(0, 1), max_size=200)


@given(BUDGETS, THRESHOLDS, st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_ladder_holds_every_device_once_and_marks_count_the_devices_above(budgets, thresholds, rows):
    ladder = memory_ladder(budgets, thresholds, rows=rows)
    assert sum(step.devices for step in ladder if isinstance(step, Rung)) == len(budgets)
    for place, step in enumerate(ladder):
        above = sum(later.devices for later in ladder[place:] if isinstance(later, Rung))
        if isinstance(step, Mark):
            assert step.devices == above == int((budgets >= step.needed_bytes).sum())


@given(BUDGETS, THRESHOLDS, st.integers(3, 40))
@settings(max_examples=40, deadline=None)
def test_ladder_ascends_and_keeps_to_its_rows(budgets, thresholds, rows):
    ladder = memory_ladder(budgets, thresholds, rows=rows)
    places = [step.needed_bytes if isinstance(step, Mark) else step.low_bytes for step in ladder]
    assert places == sorted(places)
    assert len(ladder) <= rows


@given(BUDGETS, THRESHOLDS, st.integers(3, 40))
@settings(max_examples=40, deadline=None)
def test_every_device_of_a_rung_fits_as_many_submodels_as_it_says(budgets, thresholds, rows):
    shown = len([step for step in memory_ladder(budgets, thresholds, rows=rows) if isinstance(step, Mark)])
    for step in memory_ladder(budgets, thresholds, rows=rows):
        if isinstance(step, Rung) and step.devices and shown == len(thresholds):
            inside = budgets[(budgets >= step.low_bytes) & (budgets <= step.high_bytes)]
            first = int(inside[0])
            assert step.submodels == sum(needed <= first for _, needed in thresholds)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.integers(2, 64))
@settings(max_examples=40, deadline=None)
def test_curve_stays_within_its_capacity_and_within_the_values(values, capacity):
    curve = History(capacity=capacity)
    for value in values:
        curve.add(value)
    kept = curve.values()
    assert len(kept) <= capacity + capacity % 2
    assert min(values) - 1e-9 <= min(kept) <= max(kept) <= max(values) + 1e-9


@given(ACCURACIES, st.integers(1, 80), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_drawings_keep_to_their_size(values, width, height):
    assert len(sparkline(values, width)) == len(resampled(values, width)) <= width
    assert len(bar(values[0] if values else 0.0, width)) <= width
    drawn = plot(values, width=width, height=height)
    assert len(drawn.rows) == height
    assert {len(row) for row in drawn.rows} == {width}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=80), st.integers(1, 60), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_line_of_a_plot_has_no_gap_between_columns(values, width, height):
    rows = plot(values, width=width, height=height).rows
    assert all(any(row[column] != "\u2800" for row in rows) for column in range(width))
