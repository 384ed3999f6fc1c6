"""Axes of charts: limits and ticks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.reports.html.ticks import (
    Axis,
    byte_axis,
    count_axis,
    nice_step,
    number_axis,
    percent_axis,
    perplexity_axis,
    time_axis,
)


def texts(axis: Axis) -> list[str]:
    return [tick.text for tick in axis.ticks]


@pytest.mark.parametrize(
    ("span", "most", "step"), [(10, 5, 2), (1, 5, 0.2), (100, 4, 50), (7, 7, 1), (0.03, 4, 0.01), (1e9, 3, 5e8)]
)
def test_steps_are_one_two_or_five_times_a_power_of_ten(span: float, most: int, step: float) -> None:
    assert nice_step(span, most) == pytest.approx(step)


def test_numbers_end_at_ticks_and_counts_where_the_data_ends() -> None:
    assert texts(number_axis("x", 0.0, 9.3, 5)) == ["0", "2", "4", "6", "8", "10"]
    assert count_axis("rounds", 7, 8).high == 7
    assert texts(count_axis("rounds", 2, 8)) == ["0", "1", "2"]
    assert texts(count_axis("rounds", 120, 8)) == ["0", "20", "40", "60", "80", "100", "120"]


def test_times_take_the_unit_that_suits_their_length() -> None:
    assert time_axis("time", 0.01, 5).title == "time (milliseconds)"
    assert texts(time_axis("time", 90, 4)) == ["0", "30", "60", "90"]
    assert time_axis("time", 600, 6).title == "time (minutes)"
    assert texts(time_axis("time", 600, 6)) == ["0", "2", "4", "6", "8", "10"]
    assert texts(time_axis("time", 86400, 5)) == ["0", "6", "12", "18", "24"]
    assert time_axis("time", 30 * 86400, 5).title == "time (days)"
    assert time_axis("time", 90.0, 4, low_s=60.0).low == 60.0


def test_sizes_are_decimal_and_percentages_stay_within_the_whole() -> None:
    assert byte_axis("memory", 900e6, 5).title == "memory (MB)"
    assert texts(byte_axis("memory", 900e6, 5)) == ["0", "200", "400", "600", "800"]
    found = percent_axis("accuracy", 0.0, 0.974, 5)
    assert (found.title, found.high, texts(found)[-1]) == ("accuracy (%)", 1.0, "100")
    assert percent_axis("accuracy", 0.0, 0.12, 5).high == pytest.approx(0.15)


@given(st.floats(0, 1e15), st.floats(0, 1e15), st.integers(2, 12), st.sampled_from(["number", "count", "time", "byte"]))
def test_any_axis_holds_its_values_with_few_rising_ticks_of_different_texts(
    one: float, other: float, most: int, kind: str
) -> None:
    low, high = sorted((one, other))
    axis = {
        "number": lambda: number_axis("x", low, high, most),
        "count": lambda: count_axis("x", high, most, low=low),
        "time": lambda: time_axis("x", high, most, low_s=low),
        "byte": lambda: byte_axis("x", high, most, low=low),
    }[kind]()
    assert axis.low < axis.high
    slack = 1e-9 * max(abs(axis.low), abs(axis.high))
    assert axis.low <= low + slack
    assert high <= axis.high + slack
    places = [tick.at for tick in axis.ticks]
    assert places == sorted(set(places))
    assert len(places) <= most + 2
    assert all(axis.low - slack <= at <= axis.high + slack for at in places)
    assert 0 <= axis.share(low) <= axis.share(high) <= 1


def test_perplexities_have_an_even_axis_until_they_differ_much() -> None:
    assert texts(perplexity_axis("perplexity", [11.4, 19.6], 5)) == ["10", "12", "14", "16", "18", "20"]
    assert texts(perplexity_axis("perplexity", [19.3, 19.3], 5)) == ["18.0", "18.5", "19.0", "19.5", "20.0", "20.5"]
    found = perplexity_axis("perplexity", [50.0, 50_000.0], 5)
    assert (found.title, texts(found)) == ("perplexity (logarithmic)", ["100", "1,000", "10,000"])
    assert found.share(500.0) == pytest.approx(1 / 3)
    assert (found.share(1.0), found.share(1e9)) == (0, 1)


@given(st.lists(st.floats(1.0, 1e300), min_size=1, max_size=4))
def test_an_axis_of_perplexities_holds_them_in_their_order(values: list[float]) -> None:
    found = perplexity_axis("perplexity", values, 5)
    assert found.low <= min(values) <= max(values) <= found.high
    assert 1 <= len(found.ticks) <= 8
    assert all(found.low <= tick.at <= found.high for tick in found.ticks)
    shares = [found.share(value) for value in sorted(values)]
    assert shares == sorted(shares)
