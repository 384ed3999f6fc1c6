"""What a notebook shows of a run: card, chart, tables, figure, progress; and that none of it can be taken for code."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_scenarios import ScriptedBackend, tiny

from neulite_sim import simulate
from neulite_sim.engine import building
from neulite_sim.engine.run_result import RunResult
from neulite_sim.errors import NeuliteError
from neulite_sim.notebook import plot
from neulite_sim.notebook.card import card, facts
from neulite_sim.notebook.chart import accuracy_chart, curve_of
from neulite_sim.notebook.progress import Follower, following, is_notebook
from neulite_sim.results.memory import Rows
from neulite_sim.results.rows import RoundRow, columns

SUMMARY: dict[str, Any] = {
    "name": "x", "seed": 3, "method": "fedavg", "model": "lenet", "dataset": "digits", "rounds": 1200,
    "virtual_time_s": 7200.0, "final_accuracy": 0.9444, "tail_accuracy": 0.94, "best_accuracy": 0.95,
    "time_to_accuracy_s": {"0.5": 60.0, "0.99": None}, "participation_rate": 0.82, "data_share": 1.0,
    "peak_memory_bytes": 501_700_000, "bytes_down": 10**9, "bytes_up": 10**9, "flights_arrived": 12_000,
    "flights_dropped": 0, "proxy": None, "wall_time_s": 53.0, "digest": "d",
}  # fmt: skip
CURVE = [(4, 10.0, 0.2), (8, 20.0, 0.41), (12, 30.0, 0.4)]
HOSTILE = "<script>alert('x')</script>&\"'"


class Tags(HTMLParser):
    """Collects the tags of an HTML text, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("br", "img", "meta", "line", "polyline"):
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_card_says_what_came_out_in_percent_and_common_units() -> None:
    said = dict(facts(SUMMARY, run_dir="runs/x-3"))
    assert said["accuracy"] == "94.4 % at the end, 94.0 % over the last tests, 95.0 % at best"
    assert said["time to"] == "50 % in 1m 00s"
    assert said["virtual time"] == "2h 00m in 1,200 rounds"
    assert said["participation"].startswith("82.0 % of the devices can take part")
    assert said["peak memory"] == "501.7 MB (tensor bytes) on one device"
    assert said["results"] == "runs/x-3"
    assert dict(facts({**SUMMARY, "final_accuracy": None}))["accuracy"] == "not measured"
    assert "perplexity" not in said
    of_tokens = dict(facts({**SUMMARY, "final_perplexity": 11.4321, "best_perplexity": 2.5e7}))
    assert of_tokens["perplexity"] == "11.43 at the end, 2.50e+07 at best"
    proxied = dict(facts({**SUMMARY, "proxy": "trained: less"}))
    assert proxied["accuracy"].endswith("at best, of the proxy")
    assert proxied["proxy"] == "trained: less"


def test_a_card_is_whole_html_that_needs_nothing_else() -> None:
    found = Tags(card(SUMMARY, CURVE))
    assert found.open == []
    assert {"table", "svg", "polyline"} <= set(found.tags)
    assert found.references == []
    assert "script" not in found.tags


def test_texts_of_a_run_are_no_tags() -> None:
    hostile = {**SUMMARY, "name": HOSTILE, "method": HOSTILE, "proxy": HOSTILE}
    rows = Rows([dict.fromkeys(("round", HOSTILE), HOSTILE)], columns=("round", HOSTILE))
    for text in (card(hostile, CURVE, run_dir=HOSTILE), rows._repr_html_()):
        found = Tags(text)
        assert found.open == []
        assert "script" not in found.tags
        assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("accuracies", "ticks"),
    [
        ((0.2, 0.75), ["20 %", "40 %", "60 %", "80 %"]),
        ((0.0, 1.0), ["0 %", "25 %", "50 %", "75 %", "100 %"]),
        ((0.971, 0.974), ["97 %", "98 %"]),
        ((0.5, 0.5), ["50 %", "51 %"]),
        ((1.0, 1.0), ["100 %", "101 %"]),
    ],
)
def test_the_axis_of_a_chart_has_a_few_round_marks(accuracies: tuple[float, float], ticks: list[str]) -> None:
    chart = ET.fromstring(accuracy_chart([(1, 0.0, accuracies[0]), (2, 60.0, accuracies[1])]))
    texts = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [*ticks, "0s", "1m 00s virtual"]


def test_a_chart_has_a_point_per_test_with_its_numbers_and_stays_small() -> None:
    chart = ET.fromstring(accuracy_chart(CURVE))
    titles = [title.text for title in chart.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["round 4, 10s: 20.0 %", "round 8, 20s: 41.0 %", "round 12, 30s: 40.0 %"]
    assert accuracy_chart(CURVE[:1]) == ""
    many = [(number, float(number), 0.5) for number in range(1, 100_001)]
    assert len(accuracy_chart(many)) < 100_000
    assert "round 100000" in accuracy_chart(many)


def test_points_of_a_chart_lie_inside_of_it() -> None:
    chart = ET.fromstring(accuracy_chart([(1, 5.0, 0.013), (2, 5.0, 0.987), (3, 9.0, 0.5)]))
    (line,) = chart.iter("{http://www.w3.org/2000/svg}polyline")
    for point in line.attrib["points"].split():
        x, y = map(float, point.split(","))
        assert 44 <= x <= 410
        assert 10 <= y <= 128


def test_rows_are_a_table_of_their_ends() -> None:
    rows = Rows(
        [{"round": number, "loss": None if number else 0.123456789} for number in range(1000)],
        columns=("round", "loss"),
    )
    text = rows._repr_html_()
    assert [cell for cell in re.findall(r">([^<>]+)</td>", text) if cell != "..."] == [
        "0", "0.123457", "1", "2", "3", "4", "995", "996", "997", "998", "999",
    ]  # fmt: skip
    assert "1,000 rows, 2 columns" in text
    assert Tags(text).open == []
    assert "0 rows, 2 columns" in Rows(columns=("round", "loss"))._repr_html_()


def run(progress: bool | None = False, **patches: Any) -> RunResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "build_backend", lambda scenario: ScriptedBackend((0.2, 0.4, 0.6, 0.8)))
        return simulate(tiny("name=shown"), progress=progress, **patches)


def test_a_result_shows_as_a_card_with_its_chart() -> None:
    result = run()
    assert "<svg" in result._repr_html_()
    assert "shown: fedavg, logistic on digits, seed 3" in result._repr_html_()
    printer = SimpleNamespace(text=lambda text: said.append(text))
    said: list[str] = []
    result._repr_pretty_(printer, False)
    result.rounds._repr_pretty_(printer, False)
    assert said[0].startswith("accuracy: 80.0 % at the end")
    assert said[1].startswith("4 rows of round, virtual_time_s, ")


def test_a_result_is_drawn_into_a_figure_that_a_notebook_shows() -> None:
    pytest.importorskip("matplotlib")
    result = run()
    figure = result.plot(against="round")
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 20], [2, 40], [3, 60], [4, 80]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("round", "test accuracy (%)")
    assert result.plot(against="round", axes=axes) is figure
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert figure._repr_png_().startswith(b"\x89PNG")
    over_time = result.plot()
    assert over_time.axes[0].get_xlabel() == "virtual time (seconds)"
    at_s = [row["virtual_time_s"] for row in result.rounds]
    assert over_time.axes[0].lines[0].get_xdata().tolist() == at_s


def test_another_measure_is_drawn_where_the_run_has_it() -> None:
    pytest.importorskip("matplotlib")
    result = run()
    losses = result.plot(against="round", measure="loss").axes[0]
    assert losses.get_ylabel() == "training loss"
    assert losses.lines[0].get_ydata().tolist() == [row["train_loss"] for row in result.rounds]
    perplexities = [{**row, "test_perplexity": 30.0 - row["round"]} for row in result.rounds]
    drawn = plot.draw(perplexities, against="round", axes=None, label="x", measure="perplexity").axes[0]
    assert drawn.get_ylabel() == "test perplexity"
    assert drawn.lines[0].get_ydata().tolist() == [29, 28, 27, 26]
    with pytest.raises(NeuliteError, match=r"^this run has no perplexity to plot$"):
        result.plot(measure="perplexity")
    with pytest.raises(NeuliteError, match="with measure accuracy, perplexity, loss, not 'bytes'"):
        result.plot(measure="bytes")  # type: ignore[arg-type]


def test_what_cannot_be_drawn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    untested = [{"round": 1, "virtual_time_s": 3.0, "test_accuracy": None, "train_loss": -0.5}]
    axes = plot.draw(untested, against="time", axes=None, label="x").axes[0]
    assert (axes.get_ylabel(), axes.lines[0].get_ydata().tolist()) == ("training loss", [-0.5])
    with pytest.raises(NeuliteError, match="plotted against 'time' or 'round', not against 'bytes'"):
        plot.draw(untested, against="bytes", axes=None, label="x")  # type: ignore[arg-type]
    with pytest.raises(NeuliteError, match="nothing was tested or trained in this run"):
        plot.draw([{**untested[0], "train_loss": None}], against="time", axes=None, label="x")
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NeuliteError, match="install it with: python -m pip install matplotlib"):
        plot.draw(untested, against="time", axes=None, label="x")


class Kernel:
    """Stands in for IPython in a notebook; keeps what is displayed and how it is written over."""

    def __init__(self, *, fails: bool = False) -> None:
        self.displayed: list[dict[str, str]] = []
        self.updated: list[dict[str, str]] = []
        self.fails = fails

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        if self.fails:
            raise RuntimeError("the front end is gone")
        self.displayed.append(bundle)
        return SimpleNamespace(update=lambda bundle, raw: self.updated.append(bundle))

    def installed(self, patch: pytest.MonkeyPatch) -> Kernel:
        shell = SimpleNamespace(kernel=object())
        display = SimpleNamespace(display=self.display)
        patch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
        patch.setitem(sys.modules, "IPython.display", display)
        return self


def test_a_run_in_a_notebook_shows_its_progress_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel().installed(monkeypatch)
    assert is_notebook()
    monkeypatch.setattr("neulite_sim.notebook.progress._SHOWN_EVERY_S", 0.0)
    run(progress=None)
    assert len(kernel.displayed) == 1
    shown = [*kernel.displayed, *kernel.updated]
    assert "shown: round 4 of 4" in shown[-2]["text/plain"]
    assert "accuracy 80.0 %" in shown[-2]["text/plain"]
    assert "<svg" in shown[-2]["text/html"]
    assert shown[-1] == {"text/plain": ""}
    assert capsys.readouterr() == ("", "")
    run(progress=False)
    assert len(kernel.displayed) == 1


def test_progress_that_fails_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(fails=True).installed(monkeypatch)
    assert run(progress=True).summary["rounds"] == 4


def test_elsewhere_progress_is_lines_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_notebook()
    run(progress=None)
    assert capsys.readouterr() == ("", "")
    run(progress=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[0] == "shown: round 0 of 4, 0s virtual"


def test_progress_is_shown_now_and_then() -> None:
    seen: list[str] = []
    now = [0.0]
    view = SimpleNamespace(show=lambda line, page: seen.append(line), close=lambda: None)
    with following(False) as nobody:
        assert nobody == ()
    follower = Follower(view, every_s=2.0, clock=lambda: now[0])  # type: ignore[arg-type]

    class Clocked:
        def notify(self, event: Any) -> None:
            follower.notify(event)
            now[0] += 0.5

    run(observers=[Clocked()])
    assert 2 <= len(seen) <= now[0] / 2 + 1


def test_rounds_of_a_result_give_its_curve() -> None:
    result = run()
    assert [(number, accuracy) for number, _, accuracy in curve_of(result.rounds)] == [
        (1, 0.2),
        (2, 0.4),
        (3, 0.6),
        (4, 0.8),
    ]
    assert result.rounds.columns == columns(RoundRow)
