"""What `--style`, `--size`, `--title` and `--label` mean, and what is refused."""

import pytest

from neulite_sim.errors import ScenarioError
from neulite_sim.reports.plot_options import PlotOptions, parse_size, plot_options


@pytest.mark.parametrize(
    ("text", "inches"),
    [("3.3x2.4", (3.3, 2.4)), ("8cmx5cm", (8 / 2.54, 5 / 2.54)), ("8x5cm", (8 / 2.54, 5 / 2.54)),
     ("84 mm × 3in", (84 / 25.4, 3)), ("240ptx144pt", (240 / 72, 2)), (" 5in x 127mm ", (5, 5))],
)  # fmt: skip
def test_a_size_is_width_and_height_with_or_without_units(text, inches):
    assert parse_size(text) == pytest.approx(inches)


@pytest.mark.parametrize("text", ["", "3", "3x", "3x2x1", "3furlongx2", "-3x2", "nanx2", "3,3x2"])
def test_what_is_no_size_is_refused_with_an_example(text):
    message = r"--size: '.*' is not WIDTHxHEIGHT; write for example 3.3x2.4, 8cmx5cm \(units: in, cm, mm, pt;"
    with pytest.raises(ScenarioError, match=message):
        parse_size(text)


@pytest.mark.parametrize(("text", "side"), [("0x3", "0"), ("3x0.5", "0.5"), ("100x3", "100"), ("3inx9000mm", "354")])
def test_a_size_that_nobody_prints_is_refused(text, side):
    with pytest.raises(ScenarioError, match=f"--size: '{text}' has a side of {side} inches; use 1 to 50 inches"):
        parse_size(text)


def test_a_style_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(ScenarioError, match="--style: 'poster' is none of screen, paper, slides; use one of them"):
        plot_options(style="poster")


@pytest.mark.parametrize("text", ["a", "=b", "a=", " = "])
def test_a_label_is_a_pair(text):
    with pytest.raises(ScenarioError, match=r"--label: '.*' is not RUN=NAME; write for example --label look"):
        plot_options(labels=[text])


def test_a_run_has_one_label():
    with pytest.raises(ScenarioError, match="--label: 'a' is named twice; remove one"):
        plot_options(labels=["a=b", "a=c"])


def test_a_label_may_hold_what_a_name_of_a_run_cannot():
    assert plot_options(labels=["a=b = c", "d= e "]).labels == {"a": "b = c", "d": "e"}


@pytest.mark.parametrize(("title", "drawn"), [(None, "own"), ("none", ""), ("Mine", "Mine")])
def test_a_title_is_the_figures_own_another_or_none(title, drawn):
    assert plot_options(title=title).title_or("own") == drawn


def test_nothing_asked_for_is_a_figure_for_the_screen():
    assert plot_options() == PlotOptions(style="screen", size_in=None, title=None, labels={})
