"""The Gantt picture: what it draws where, whom it leaves out, and what it refuses."""

import sys

import pytest
from pdf_words import needs_pdftotext, pdf_text
from timeline_runs import aggregation, flight, two_rounds, write_rows

from neulite_sim.errors import NeuliteError, OutputError, ScenarioError
from neulite_sim.reports.gantt import LOOKS, draw_gantt, gantt_figure, lines_of
from neulite_sim.reports.plot_options import PlotOptions
from neulite_sim.reports.timeline_window import read_window


@pytest.fixture
def drawn(tmp_path):
    def draw(path=None, **given):
        return gantt_figure(read_window(path or two_rounds(tmp_path / "run"), **given))

    return draw


def bars(axes, phase):
    """Return (start, length, line) of the bars that have the colour of a phase."""
    from matplotlib.colors import to_rgba

    colour = to_rgba(LOOKS[phase]["facecolor"])
    found = []
    for item in axes.collections:
        if not hasattr(item, "get_offsets") or tuple(item.get_facecolor()[0]) != colour:
            continue
        for path in item.get_paths():
            (left, low), (right, high) = path.get_extents().get_points()
            found.append((left, right - left, (low + high) / 2))
    return sorted(tuple(float(round(value, 6)) for value in item) for item in found)


def test_devices_stand_by_class_and_number_below_the_name_of_their_class(tmp_path):
    lines = lines_of(read_window(two_rounds(tmp_path / "run")))
    assert (lines.headings, lines.place) == ({"a": 0, "b": 2}, {7: 1, 2: 3, 3: 4})
    assert (lines.count, lines.num_left_out) == (5, {})


def test_each_phase_is_a_bar_where_it_happened(drawn):
    (axes,) = drawn().axes
    assert axes.get_xlabel() == "virtual time (seconds)"
    assert bars(axes, "waiting") == [(15.0, 14.0, 1.0)]
    assert bars(axes, "compute") == [(1, 2, 3), (2, 6, 1), (11, 2, 3), (12, 3, 1), (29, 3, 1)]
    assert len(bars(axes, "download")) == 5
    assert len(bars(axes, "upload")) == 4


def test_a_drop_is_a_mark_with_its_reason_in_the_legend(drawn):
    figure = drawn()
    (axes,) = figure.axes
    (marks,) = [item for item in axes.collections if str(item.get_label()).startswith("went")]
    assert marks.get_offsets().tolist() == [[1.0, 4.0]]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["download", "compute", "upload", "waiting", "went offline during download (1)"]


def test_aggregations_are_lines_with_round_and_stage_above(drawn):
    (axes,) = drawn().axes
    assert [line.get_xdata()[0] for line in axes.lines] == [10.0, 34.0]
    texts = {text.get_text() for text in axes.texts}
    assert {"round 1", "stage-1", "round 2", "stage-2", "a", "b"} == texts


def test_rounds_too_short_for_their_name_have_a_number_or_nothing(tmp_path, drawn):
    rounds = [aggregation(number, 10.0 + 0.01 * number, "stage-1") for number in range(1, 5)]
    path = write_rows(tmp_path / "short", [flight(1, 1, 0, 0.0, (1, 1, 1))], [*rounds, aggregation(5, 20.0, "stage-2")])
    (axes,) = drawn(path, count=9).axes
    assert [text.get_text() for text in axes.texts if text.get_text() != "a"] == ["round 1", "stage-1", "2", "5",
                                                                                  "stage-2"]  # fmt: skip


def many(path, count):
    """One round of many devices of two classes; device 13 ends last."""
    flights = [flight(number + 1, 1, number, 0.0, (1.0, 1.0 + 5 * (number == 13), 1.0),
                      device_class="ab"[number % 2]) for number in range(count)]  # fmt: skip
    return write_rows(path, flights, [aggregation(1, 8.0)])


def test_of_many_devices_some_are_shown_the_last_to_end_among_them_and_the_others_counted(tmp_path, drawn):
    window = read_window(many(tmp_path / "many", 100))
    lines = lines_of(window, most=10)
    assert len(lines.place) == 10
    assert 13 in lines.place
    assert sum(lines.num_left_out.values()) == 90
    shown = [device % 2 for device in lines.place]
    assert shown.count(0) == 5
    (axes,) = drawn(tmp_path / "many").axes
    (legend,) = axes.figure.legends
    assert legend.get_title().get_text() == "60 more devices flew and are not shown: 30 a, 30 b"
    assert len(axes.get_yticks()) == 40


def test_more_reasons_than_marks_share_the_last_one(tmp_path, drawn):
    flights = [flight(number, 1, number, 0.0, (1, 0, 0), outcome="dropped", reason=f"reason {number % 7}")
               for number in range(1, 15)]  # fmt: skip
    figure = drawn(write_rows(tmp_path / "reasons", flights, [aggregation(1, 2.0)]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["download", *(f"reason {number} (2)" for number in range(4)), "other reasons (6)"]


@pytest.mark.parametrize(
    ("second", "unit"), [(0.2, "milliseconds"), (100.0, "seconds"), (7000.0, "minutes"), (9000.0, "hours")]
)
def test_time_has_a_unit_of_its_size(tmp_path, drawn, second, unit):
    path = write_rows(tmp_path / "run", [flight(1, 1, 0, 0.0, (second, 0, 0))], [aggregation(1, second)])
    assert drawn(path).axes[0].get_xlabel() == f"virtual time ({unit})"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), [("x.png", b"\x89PNG"), ("x.SVG", b"<?xml"), ("x.pdf", b"%PDF")])
def test_equal_runs_give_equal_pictures(tmp_path, name, head):
    path = two_rounds(tmp_path / "run")
    written = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        draw_gantt(path, tmp_path / place / name, rounds=2)
        written.append((tmp_path / place / name).read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(head)


@needs_pdftotext
def test_the_text_of_a_picture_as_pdf_is_found(tmp_path):
    draw_gantt(two_rounds(tmp_path / "run"), tmp_path / "x.pdf", rounds=2, options=PlotOptions(style="paper"))
    text = pdf_text(tmp_path / "x.pdf")
    for words in ("run: rounds 1 to 2", "round 1", "stage-2", "went offline during download (1)"):
        assert words in text


def test_a_picture_of_a_given_height_has_as_many_devices_as_can_be_read_and_counts_the_others(tmp_path):
    window = read_window(many(tmp_path / "many", 100))
    figure = gantt_figure(window, PlotOptions(style="paper", size_in=(3.3, 3.0), title=""))
    (axes,) = figure.axes
    shown = len(axes.get_yticks())
    assert 3 <= shown < 15
    assert "13" in [tick.get_text() for tick in axes.get_yticklabels()]
    assert figure.legends[0].get_title().get_text().startswith(f"{100 - shown} more devices flew and are not shown")
    assert figure.get_suptitle() == ""


def test_a_picture_that_cannot_be_written_is_refused(tmp_path):
    message = r"gone/x\.png: cannot write: No such file or directory; choose another place with --plot$"
    with pytest.raises(OutputError, match=message):
        draw_gantt(two_rounds(tmp_path / "run"), tmp_path / "gone" / "x.png")


def test_another_kind_of_picture_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match=r"--plot: '.*x\.jpg' is none of \.png, \.svg, \.pdf"):
        draw_gantt(two_rounds(tmp_path / "run"), tmp_path / "x.jpg")


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NeuliteError, match="--plot needs matplotlib; install it with"):
        draw_gantt(two_rounds(tmp_path / "run"), tmp_path / "x.png")
