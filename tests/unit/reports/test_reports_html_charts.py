"""Charts as inline SVG: well-formed, escaped, and at the places that their numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from neulite_sim.reports.html.bar_charts import Bin, Part, dumbbells, histogram, share_rows, stacked_columns
from neulite_sim.reports.html.flight_charts import Bar, Drop, flight_chart
from neulite_sim.reports.html.interval_charts import Difference, interval_chart
from neulite_sim.reports.html.line_charts import MOST_POINTS, Level, Series, line_chart
from neulite_sim.reports.html.svg import NARROW, WIDE, Size, element, number
from neulite_sim.reports.html.ticks import count_axis, number_axis, percent_axis, time_axis

HOSTILE = '<script>alert("x")</script>&\'"'


def parsed(drawing: Markup) -> ET.Element:
    return ET.fromstring(str(drawing))


def found(drawing: Markup, tag: str, kind: str) -> list[ET.Element]:
    return [each for each in parsed(drawing).iter(tag) if kind in each.get("class", "").split()]


def titles(drawing: Markup) -> list[str]:
    return [each.text or "" for each in parsed(drawing).iter("title")]


def test_whatever_is_text_is_escaped() -> None:
    made = element("text", HOSTILE, class_=HOSTILE, data_x=1.5)
    node = parsed(made)
    assert (node.text, node.get("class"), node.get("data-x")) == (HOSTILE, HOSTILE, "1.5")
    assert "<script>" not in made


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.126, "0.13"), (-0.001, "0"), (100.0, "100"), (-2.5, "-2.5")]
)
def test_coordinates_have_at_most_two_decimals(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_line_goes_through_its_points_and_tells_each(size: Size) -> None:
    y = percent_axis("accuracy", 0.0, 1.0, 5)
    line = Series(name="a", at=[0.0, 50.0, 100.0], values=[0.0, 0.5, 1.0], tips=["one", "two", "three"])
    drawn = line_chart(size, [line], x=lambda most: count_axis("rounds", 100, most), y=y, about="what it shows",
                       levels=[Level(value=0.5, text="target 50.0 %")])  # fmt: skip
    assert titles(drawn) == ["one", "two", "three"]
    (curve,) = found(drawn, "path", "line")
    steps = [tuple(map(float, step.split())) for step in curve.get("d", "")[1:].split("L")]
    (x0, y0), (x1, y1), (x2, y2) = steps
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.02)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.02)
    assert x0 < x2 <= size.width
    assert y0 > y2 >= 0
    (level,) = found(drawn, "line", "level")
    assert float(level.get("y1", "")) == pytest.approx(y1, abs=0.02)
    assert parsed(drawn).get("aria-label") == "what it shows"


def test_lines_differ_in_colour_dash_and_marker_and_long_ones_are_thinned() -> None:
    at = [float(place) for place in range(10_000)]
    lines = [Series(name=str(look), at=at, values=[0.5] * 10_000, look=look) for look in range(10)]
    drawn = line_chart(WIDE, lines, x=lambda most: count_axis("x", 9999, most), y=percent_axis("y", 0, 1, 5), about="")
    curves = found(drawn, "path", "line")
    assert len({curve.get("class") for curve in curves}) == 10
    assert all(curve.get("d", "").count("L") == MOST_POINTS - 1 for curve in curves)
    assert len(str(drawn)) < 200_000


def test_a_histogram_draws_every_device_and_every_threshold() -> None:
    bins = [Bin(low=0, high=10, count=3, group=0, tip="three"), Bin(low=10, high=20, count=6, group=1, tip="six")]
    walls = [
        Level(value=10.0, text="full 10 MB: 6 fit"),
        Level(value=19.5, text="a name that has no room at the right"),
    ]
    drawn = histogram(NARROW, bins, walls, x=lambda most: count_axis("memory", 20, most),
                      y=number_axis("devices", 0, 6, 4, is_whole=True), about="")  # fmt: skip
    three, six = found(drawn, "rect", "bar")
    assert float(six.get("height", "")) == pytest.approx(2 * float(three.get("height", "")), abs=0.02)
    assert float(three.get("x", "")) < float(six.get("x", ""))
    lines = found(drawn, "line", "wall")
    assert [float(line.get("x1", "")) == pytest.approx(float(six.get("x", "")), abs=0.02) for line in lines] == [
        True,
        False,
    ]
    labels = [each for each in parsed(drawn).iter("text") if each.text == walls[1].text]
    assert labels[0].get("text-anchor") == "end"


def test_columns_stack_to_their_sum_and_leave_out_nothing_but_nothing() -> None:
    parts = [Part(name="arrived", fill="p0"), Part(name="offline", fill="p4"), Part(name="none", fill="p1")]
    drawn = stacked_columns(
        WIDE, [(0, 1, [2.0, 6.0, 0.0]), (1, 2, [8.0, 0.0, 0.0])], parts, about="",
        x=lambda most: count_axis("rounds", 2, most), y=number_axis("devices", 0, 8, 4),
        tip=lambda column, part: f"{column}/{parts[part].name}",
    )  # fmt: skip
    assert titles(drawn) == ["0/arrived", "0/offline", "1/arrived"]
    low, high, whole = (float(bar.get("height", "")) for bar in found(drawn, "rect", "bar"))
    assert low + high == pytest.approx(whole, abs=0.03)
    assert high == pytest.approx(3 * low, abs=0.05)


def test_shares_fill_a_row_and_small_ones_carry_no_text() -> None:
    parts = [Part(name="compute", fill="t1"), Part(name="idle", fill="t4")]
    drawn = share_rows(WIDE, [("all devices", "3 flights", [0.99, 0.01])], parts, about="")
    widths = [float(bar.get("width", "")) for bar in found(drawn, "rect", "bar")]
    assert sum(widths) == pytest.approx(WIDE.width, abs=0.05)
    assert titles(drawn) == ["all devices: compute 99.0 %", "all devices: idle 1.0 %"]
    assert [each.text for each in found(drawn, "text", "on")] == ["99 %"]


def test_an_interval_without_ends_is_a_dot_and_zero_is_drawn() -> None:
    rows = [Difference(name=HOSTILE, mean=0.02, low=None, high=None, words="+2.0 points", state="unsure"),
            Difference(name="b", mean=-0.01, low=-0.03, high=0.01, words="-1.0 points", state="unsure")]  # fmt: skip
    drawn = interval_chart(WIDE, rows, x=lambda most: number_axis("points", -0.05, 0.05, most), about="")
    assert len(found(drawn, "circle", "dot")) == 2
    assert len(found(drawn, "line", "interval")) == 3
    assert len(found(drawn, "line", "zero")) == 1
    assert "<script>" not in drawn


def test_bars_of_a_flight_touch_and_drops_are_crossed() -> None:
    bars = [
        Bar(row=0, start_s=0, end_s=4, fill="t0", tip="down"),
        Bar(row=0, start_s=4, end_s=10, fill="t1", tip="work"),
    ]
    drawn = flight_chart(
        WIDE, bars, [Drop(row=1, at_s=5, tip="went offline")], names={0: "7", 1: "9"}, headings={}, about="",
        rounds=[(10.0, "round 1", "aggregated")], x=lambda most: time_axis("time", 10, most),
    )  # fmt: skip
    down, work = found(drawn, "rect", "bar")
    assert float(down.get("x", "")) + float(down.get("width", "")) == pytest.approx(float(work.get("x", "")), abs=0.02)
    assert set(titles(drawn)) == {"down", "work", "went offline", "aggregated"}
    assert len(found(drawn, "line", "drop")) == 2


def test_dumbbells_reach_from_the_first_to_the_last_value() -> None:
    drawn = dumbbells(NARROW, [("neulite", 200.0, 500.0, "200 to 500")], x=lambda most: number_axis("MB", 0, 500, most),
                      about="")  # fmt: skip
    (bar,) = found(drawn, "line", "reach")
    (open_end,), (full_end,) = found(drawn, "circle", "open"), found(drawn, "circle", "full")
    assert (bar.get("x1"), bar.get("x2")) == (open_end.get("cx"), full_end.get("cx"))
