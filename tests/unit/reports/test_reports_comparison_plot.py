"""The figure of a comparison: which curves it draws, and what it refuses."""

import sys
from pathlib import Path

import numpy as np
import pytest
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.errors import NeuliteError, OutputError, ScenarioError
from neulite_sim.reports import comparison_plot
from neulite_sim.reports.comparison import lines_of
from neulite_sim.reports.comparison_plot import check_plot, draw, joined
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import write_not_applicable


def curve(*points):
    at, values = np.array(points, dtype=np.float64).T
    return at, values


def drawn(lines):
    """Return the panels of the figure."""
    return comparison_plot._figure(lines).axes


def test_curves_are_joined_where_all_of_them_are_known():
    """By hand: the second curve is 0.3, 0.4 and 0.5 at 20, 30 and 40."""
    found = joined([curve((10, 0.1), (20, 0.2), (30, 0.3)), curve((20, 0.3), (40, 0.5))])
    assert found.at.tolist() == [20, 30]
    np.testing.assert_allclose(found.mean, [0.25, 0.35])
    np.testing.assert_allclose(found.low, [0.2, 0.3])
    np.testing.assert_allclose(found.high, [0.3, 0.4])


def test_one_curve_is_its_own_mean_and_limits():
    found = joined([curve((10, 0.1), (30, 0.3))])
    assert found.at.tolist() == [10, 30]
    assert found.mean.tolist() == found.low.tolist() == found.high.tolist() == [0.1, 0.3]


@pytest.mark.parametrize("curves", [[], [curve((1, 0.1), (2, 0.2)), curve((3, 0.1), (4, 0.2))]])
def test_curves_without_a_common_part_give_none(curves):
    assert joined(curves) is None


def test_a_run_that_was_never_tested_gives_none():
    empty = np.empty(0)
    assert joined([(empty, empty)]) is None


def test_accuracy_stands_over_virtual_time_and_over_rounds(tmp_path):
    run = write_run(tmp_path / "a", [(3600.0, 0.25), (7200.0, None), (14400.0, 0.75)])
    by_time, by_round = drawn(lines_of([run])[0])
    assert (by_time.get_xlabel(), by_time.get_ylabel()) == ("virtual time (hours)", "test accuracy (%)")
    assert by_round.get_xlabel() == "rounds (aggregations)"
    assert by_time.lines[0].get_xydata().tolist() == [[1.0, 25.0], [4.0, 75.0]]
    assert by_round.lines[0].get_xydata().tolist() == [[1.0, 25.0], [3.0, 75.0]]


@pytest.mark.parametrize(("seconds", "unit"), [(7199.0, "minutes"), (119.0, "seconds")])
def test_short_runs_have_a_shorter_unit(tmp_path, seconds, unit):
    by_time, _ = drawn(lines_of([write_run(tmp_path / "a", [(seconds, 0.5)])])[0])
    assert by_time.get_xlabel() == f"virtual time ({unit})"


def test_a_group_is_its_mean_and_a_band(tmp_path):
    runs = [write_run(tmp_path / f"a-{seed}", [(10.0, 0.1 * seed), (20.0, 0.2 * seed)], f"seed={seed}")
            for seed in (1, 3)]  # fmt: skip
    _, by_round = drawn(lines_of(runs, grouped=True)[0])
    np.testing.assert_allclose(by_round.lines[0].get_xydata(), [[1, 20], [2, 40]])
    (band,) = by_round.collections
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (pytest.approx(10), pytest.approx(60))


def test_the_legend_names_every_line_and_why_one_is_not_there(tmp_path):
    write_not_applicable(tiny(), "NA: too big", out=tmp_path / "nobody")
    runs = [
        write_run(tmp_path / "a"),
        read_run(tmp_path / "nobody"),
        write_run(tmp_path / "dry", [(10.0, None)]),
        write_run(tmp_path / "cut", is_complete=False),
    ]
    (legend,) = comparison_plot._figure(lines_of(runs)[0]).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["a", "nobody (NA)", "dry (not tested)", "cut (cut off)"]


def test_no_two_of_many_lines_look_alike(tmp_path):
    run = write_run(tmp_path / "a")
    line = lines_of([run])[0][0]
    by_time, _ = drawn([line] * 20)
    looks = {(drawn_line.get_color(), drawn_line.get_linestyle()) for drawn_line in by_time.lines}
    assert len(looks) == 20


@pytest.mark.parametrize(
    ("proxies", "label"),
    [
        ((None, None), "test accuracy (%)"),
        (("thin", "thin"), "test accuracy of the proxy (%)"),
        (("thin", None), "test accuracy, of some runs the proxy's (%)"),
    ],
)
def test_the_axis_says_where_accuracy_is_of_a_proxy(tmp_path, proxies, label):
    runs = [write_run(tmp_path / f"{place}", proxy=proxy) for place, proxy in enumerate(proxies)]
    assert drawn(lines_of(runs)[0])[0].get_ylabel() == label


@pytest.mark.parametrize(("name", "head"), [("x.png", b"\x89PNG"), ("x.SVG", b"<?xml")])
def test_equal_runs_give_equal_files(tmp_path, name, head):
    lines, _ = lines_of([write_run(tmp_path / "a")])
    written = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        draw(lines, tmp_path / place / name)
        written.append((tmp_path / place / name).read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(head)


def test_a_figure_that_cannot_be_written_is_refused(tmp_path):
    lines, _ = lines_of([write_run(tmp_path / "a")])
    message = r"gone/x\.png: cannot write: No such file or directory; choose another place with --plot$"
    with pytest.raises(OutputError, match=message):
        draw(lines, tmp_path / "gone" / "x.png")


def test_another_kind_of_figure_is_refused():
    message = r"^--plot: 'x\.pdf' is neither \.png nor \.svg; call the figure one of them$"
    with pytest.raises(ScenarioError, match=message):
        check_plot(Path("x.pdf"))


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"^--plot needs matplotlib; install it with: python -m pip install matplotlib$"
    with pytest.raises(NeuliteError, match=message):
        check_plot(Path("x.png"))
