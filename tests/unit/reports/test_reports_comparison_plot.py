"""The figure of a comparison: which curves it draws, and what it refuses."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pdf_words import needs_pdftotext, pdf_text
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.errors import NeuliteError, OutputError, ScenarioError
from neulite_sim.reports import curves
from neulite_sim.reports.comparison import lines_of
from neulite_sim.reports.comparison_plot import comparison_figure, draw
from neulite_sim.reports.curves import coinciding, joined
from neulite_sim.reports.drawing import SHEETS, look, percent_range, striped
from neulite_sim.reports.plot_options import PlotOptions, check_plot, plot_options
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import write_not_applicable


def curve(*points):
    at, values = np.array(points, dtype=np.float64).T
    return at, values


def drawn(lines):
    """Return the panels of the figure."""
    return comparison_figure(lines).axes


def test_a_curve_that_ends_keeps_its_last_value_in_the_mean_and_its_end_is_told():
    """By hand: the second curve is 0.3, 0.4 and 0.5 at 20, 30 and 40; the first stays at 0.3."""
    found = joined([curve((10, 0.1), (20, 0.2), (30, 0.3)), curve((20, 0.3), (40, 0.5))])
    assert found.at.tolist() == [20, 30, 40]
    np.testing.assert_allclose(found.mean, [0.25, 0.35, 0.4])
    np.testing.assert_allclose(found.low, [0.2, 0.3, 0.3])
    np.testing.assert_allclose(found.high, [0.3, 0.4, 0.5])
    assert (found.count, found.ends.tolist()) == (2, [30])


def test_the_mean_does_not_jump_where_a_seed_ends():
    """Two straight lines of slope 0.01 and 0.001: the mean rises by at most the mean of both slopes per step."""
    at = np.arange(1.0, 41.0)
    found = joined([(at[:20], 0.01 * at[:20]), (at, 0.001 * at)])
    assert np.abs(np.diff(found.mean)).max() <= 0.0055 + 1e-12
    assert found.at[-1] == 40


def test_one_curve_is_its_own_mean_and_limits():
    found = joined([curve((10, 0.1), (30, 0.3))])
    assert found.at.tolist() == [10, 30]
    assert found.mean.tolist() == found.low.tolist() == found.high.tolist() == [0.1, 0.3]


def test_no_curves_give_none():
    assert joined([]) is None


def test_curves_that_never_meet_are_joined_from_the_later_start():
    found = joined([curve((1, 0.1), (2, 0.2)), curve((3, 0.1), (4, 0.2))])
    assert (found.at.tolist(), found.ends.tolist()) == ([3, 4], [3])
    np.testing.assert_allclose(found.mean, [0.15, 0.2])


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
    (legend,) = comparison_figure(lines_of(runs)[0]).legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["a", "nobody (NA)", "dry (not tested)", "cut (cut off)"]
    (legend,) = comparison_figure(lines_of(runs[:1])[0]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["FedAvg"]


def test_no_two_of_many_lines_look_alike(tmp_path):
    line = lines_of([write_run(tmp_path / "a")])[0][0]
    (legend,) = comparison_figure([line] * 20).legends
    looks = {(handle.get_color(), handle.get_linestyle()) for handle in legend.legend_handles}
    assert len(looks) == 20


def test_lines_on_each_other_are_stripes_of_one_period_that_do_not_overlap():
    """The second of three is drawn from 3 to 6 of a period of 9, the third from 6 to 9; the first shows from 0 to 3."""
    sheet = SHEETS["screen"]
    first, second, third = (striped(look(place), place, 3, sheet) for place in range(3))
    assert first["linestyle"] == "-"
    assert second["linestyle"] == (6.0, (3.0, 6.0))
    assert third["linestyle"] == (3.0, (3.0, 6.0))
    assert first["markersize"] > second["markersize"] > third["markersize"]


def test_curves_that_agree_over_most_of_what_they_share_lie_on_each_other():
    at = np.arange(10.0)
    curves = [(at, at), (at[:5], at[:5] + 0.01), (at, 9 - at), None, (at[:1] + 20, at[:1]), (at, at - 0.01)]
    assert coinciding(curves, tolerance=0.1) == [(0, 3), (1, 3), (0, 1), (0, 1), (0, 1), (2, 3)]


def marks(axes, gid):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == gid]


def test_a_line_that_ends_before_others_has_a_ring_at_its_end_and_the_legend_says_what_that_is(tmp_path):
    short = write_run(tmp_path / "a", [(10.0, 0.25), (20.0, 0.5)])
    long = write_run(tmp_path / "b", [(10.0 * number, 0.1 * number) for number in range(1, 10)], "seed=9")
    figure = comparison_figure(lines_of([short, long])[0])
    by_time, by_round = figure.axes
    assert (marks(by_time, "line ends"), marks(by_round, "line ends")) == ([[[20.0, 50.0]]], [[[2.0, 50.0]]])
    assert figure.legends[0].get_title().get_text() == "ring: the end of a line that ends before others"
    alone = comparison_figure(lines_of([long])[0])
    assert marks(alone.axes[0], "line ends") == []
    assert alone.legends[0].get_title().get_text() == ""


def test_where_a_seed_ended_there_is_a_tick_and_the_mean_goes_on(tmp_path):
    runs = [write_run(tmp_path / f"a-{seed}", [(10.0 * number, 0.1) for number in range(1, ends + 1)], f"seed={seed}")
            for seed, ends in ((1, 4), (2, 8))]  # fmt: skip
    figure = comparison_figure(lines_of(runs, grouped=True)[0])
    by_time, by_round = figure.axes
    assert marks(by_time, "seed ends") == [[[40.0, pytest.approx(10.0)]]]
    assert by_round.lines[0].get_xdata()[-1] == 8
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["FedAvg (2 seeds)"]
    assert "a seed ended, and counts with its last accuracy from there on" in legend.get_title().get_text()


@pytest.mark.parametrize(
    ("values", "low", "high"), [([97.0, 97.0], 94.8, 99.2), ([0.0, 0.0], -2.2, 2.2), ([10.0, 90.0], -4.5, 94.5),
                                ([90.0, 98.0], 89.6, 98.4), ([], -5, 105)]
)  # fmt: skip
def test_nothing_touches_the_ends_of_an_axis_of_percentages(values, low, high):
    assert percent_range(values) == (pytest.approx(low), pytest.approx(high))


def test_rounds_have_whole_numbers_and_accuracies_no_ticks_beyond_all_and_nothing(tmp_path):
    by_time, by_round = drawn(lines_of([write_run(tmp_path / "a", [(10.0, 0.0), (20.0, 1.0), (30.0, 1.0)])])[0])
    assert all(float(tick).is_integer() for tick in by_round.get_xticks())
    assert min(by_time.get_yticks()) >= 0
    assert max(by_time.get_yticks()) <= 100
    low, high = by_time.get_ylim()
    assert low < 0 < 100 < high
    assert by_round.get_xlim()[0] < 0
    assert by_round.get_xlim()[1] > 3


def test_tests_without_a_number_are_left_out():
    run = SimpleNamespace(curve=lambda column: [(1, 10.0, math.nan), (2, 20.0, 0.5)])
    found = curves.tested_rounds(run, "test_accuracy")
    assert (found.rounds.tolist(), found.seconds.tolist(), found.values.tolist()) == ([2], [20], [0.5])


@pytest.mark.parametrize("style", ["paper", "slides"])
def test_a_figure_has_the_size_of_its_style_or_what_is_asked_for(style, tmp_path):
    lines, _ = lines_of([write_run(tmp_path / "a")])
    assert comparison_figure(lines, PlotOptions(style=style)).get_figwidth() == SHEETS[style].width_in
    figure = comparison_figure(lines, PlotOptions(style=style, size_in=(5.0, 4.0)))
    assert figure.get_size_inches().tolist() == [5.0, 4.0]


@pytest.mark.slow
@pytest.mark.parametrize(("size_in", "num_panels"), [((3.3, 2.4), 1), ((3.3, 4.0), 2), ((7.0, 2.4), 2)])
def test_a_small_figure_breaks_no_word_and_leaves_room_to_its_panels(tmp_path, size_in, num_panels):
    runs = [write_run(tmp_path / f"a-{seed}", [(60.0, 0.5), (60.0 * seed, 0.7)], f"seed={seed}") for seed in (2, 5)]
    options = PlotOptions(style="paper", size_in=size_in)
    figure = comparison_figure(lines_of(runs, grouped=True)[0], options)
    assert len(figure.axes) == num_panels
    assert figure.axes[0].get_ylabel().split() == ["test", "accuracy", "(%)"]
    figure.draw_without_rendering()
    assert min(axes.get_window_extent().height / figure.dpi for axes in figure.axes) > 0.8


def test_a_figure_too_small_for_what_it_holds_is_refused(tmp_path):
    lines, _ = lines_of([write_run(tmp_path / "a")])
    with pytest.raises(ScenarioError, match=r"^--size: 1x1 inches is too small for this figure; give a larger --size"):
        draw(lines, tmp_path / "x.svg", PlotOptions(style="slides", size_in=(1.0, 1.0)))


def test_text_stays_text_in_every_style(tmp_path):
    lines, _ = lines_of([write_run(tmp_path / "a")])
    draw(
        lines, tmp_path / "x.svg", plot_options(style="paper", title="A $title_ of & words", labels=["a=Ours & theirs"])
    )
    text = (tmp_path / "x.svg").read_text()
    for words in ("A $title_ of &amp; words", "Ours &amp; theirs", "virtual time (seconds)", "test accuracy (%)"):
        assert words in text
    assert "<dc:date>" not in text


@needs_pdftotext
def test_the_text_of_a_pdf_is_found(tmp_path):
    lines, _ = lines_of([write_run(tmp_path / "a")])
    draw(lines, tmp_path / "x.pdf", PlotOptions(style="paper", title="Names of methods"))
    text = pdf_text(tmp_path / "x.pdf")
    for words in ("Names of methods", "FedAvg", "virtual time (seconds)", "rounds (aggregations)"):
        assert words in text


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


def test_perplexity_stands_in_panels_of_its_own_where_runs_have_it(tmp_path):
    text = write_run(tmp_path / "text", [(10.0, 0.1), (20.0, None), (30.0, 0.2)], perplexities=(24.0, None, 18.0))
    other = write_run(tmp_path / "other", [(10.0, 0.3)], "seed=9")
    panels = drawn(lines_of([text, other])[0])
    labels = ["test accuracy (%)", "", "test perplexity", ""]
    assert [axes.get_ylabel() for axes in panels] == labels
    assert [[line.get_xydata().tolist() for line in axes.lines if line.get_gid() is None] for axes in panels[2:]] == [
        [[[10.0, 24.0], [30.0, 18.0]]], [[[1.0, 24.0], [3.0, 18.0]]]
    ]  # fmt: skip
    assert [axes.get_yscale() for axes in panels] == ["linear"] * 4


def test_perplexities_that_differ_much_stand_on_a_logarithmic_axis(tmp_path):
    run = write_run(tmp_path / "a", [(10.0, 0.1), (20.0, 0.2)], perplexities=(50_000.0, 40.0))
    figure = comparison_figure(lines_of([run])[0], PlotOptions(style="paper"))
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear", "log", "log"]
    over_time, over_rounds = figure.axes[2:]
    assert [text.get_text() for text in over_time.get_yticklabels()] == ["100", "1,000", "10,000"]
    assert over_rounds.get_ylim() == over_time.get_ylim()
    low, high = over_time.get_ylim()
    assert low < 40 < 50_000 < high


@pytest.mark.parametrize(
    ("size_in", "names"), [((7.0, 2.2), ["accuracy", ""]), ((7.0, 4.5), ["accuracy", "", "perplexity", ""]),
                           ((3.3, 2.4), ["accuracy"]), ((3.3, 4.5), ["accuracy", "perplexity"])]
)  # fmt: skip
def test_a_small_figure_leaves_out_rounds_and_then_perplexity(tmp_path, size_in, names):
    run = write_run(tmp_path / "a", [(10.0, 0.1), (20.0, 0.2)], perplexities=(24.0, 18.0))
    figure = comparison_figure(lines_of([run])[0], PlotOptions(style="paper", size_in=size_in))
    assert [" ".join(axes.get_ylabel().split()[1:2]) for axes in figure.axes] == names


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), [("x.png", b"\x89PNG"), ("x.SVG", b"<?xml"), ("x.pdf", b"%PDF")])
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
    message = r"^--plot: 'x\.gif' is none of \.png, \.svg, \.pdf; call the figure one of them$"
    with pytest.raises(ScenarioError, match=message):
        check_plot(Path("x.gif"))


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"^--plot needs matplotlib; install it with: python -m pip install matplotlib$"
    with pytest.raises(NeuliteError, match=message):
        check_plot(Path("x.png"))
