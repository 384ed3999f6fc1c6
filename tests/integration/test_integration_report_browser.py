"""Reports in a real browser: no error, no request, no overflow, tables that sort and search, with and without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import stored_runs
import timeline_runs
from browser import Tab, browsing, find_browser

from neulite_sim.reports.html.blocks import Grid, Page, Section
from neulite_sim.reports.html.comparison_page import comparison_page
from neulite_sim.reports.html.page import write_page
from neulite_sim.reports.html.run_page import run_page
from neulite_sim.reports.html.study_page import study_page
from neulite_sim.reports.table import TextTable
from neulite_sim.scenario.loading import dump_scenario

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs Chromium")
WIDTHS = (360, 800, 1400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name has a space and letters beyond ASCII, with a report of each kind."""
    folder = tmp_path_factory.mktemp("pages") / "Berichte für Łódź #1 100%"
    folder.mkdir()
    runs = [
        stored_runs.write_run(folder / f"{method}-{seed}", ((10.0, 0.4), (20.0, 0.5 + 0.1 * seed)), f"seed={seed}",
                              f"method={method}", "model=lenet", "data.image_size=12")
        for method in ("fedavg", "heterofl") for seed in (1, 2, 3)
    ]  # fmt: skip
    flown = timeline_runs.two_rounds(folder / "flown", is_complete=False)
    (flown / "provenance.json").unlink()
    (flown / "scenario.yaml").write_text(dump_scenario(stored_runs.tiny("population.devices=8")))
    rows = [
        {"method": "neulite", "variant": "neulite", "budget_bytes": budget, "participation_rate": rate, "data_share": rate,
         "binding_submodel": None, "round_s": 30.0, "bytes_per_round": 1e6}
        for budget, rate in ((100, 0.5), (300, 1.0))
    ]  # fmt: skip
    (folder / "study.json").write_text(json.dumps({"budget_kind": "cap", "rows": rows}))
    write_page(lambda most: run_page(runs[0].path, most_rows=most, shown_as="run"), folder / "run.html")
    write_page(lambda most: run_page(flown, most_rows=most, shown_as="run"), folder / "flown.html")
    write_page(lambda most: comparison_page(runs, baseline=None, shown_as=["runs"]), folder / "runs.html")
    write_page(lambda most: study_page(folder / "study.json", shown_as="study.json"), folder / "study.html")
    write_page(lambda most: table_page(), folder / "table.html")
    return folder


def table_page() -> Page:
    names = ("a very long name of hardware " * 3, "nano", "Zynq", "éclair")
    rows = tuple((str(number), names[number % 4], f"{number * 37 % 100} MB") for number in range(40))
    values = tuple((float(number), None, float(number * 37 % 100)) for number in range(40))
    table = TextTable(headers=("device", "hardware", "memory"), rows=rows, numeric=frozenset(("device", "memory")))
    section = Section(name="devices", title="Devices", blocks=(Grid(table=table, is_tool=True, values=values),))
    return Page(title="t" * 300, subtitle="s", answer="a", tiles=(), sections=(section,), made_of="m")


@pytest.fixture(scope="module")
def tab(folder: Path) -> Iterator[Tab]:
    with browsing() as browser:
        yield browser.new_tab()


@pytest.mark.parametrize("name", ["run", "flown", "runs", "study", "table"])
def test_a_page_opens_without_errors_or_requests_and_fits_every_screen(folder: Path, tab: Tab, name: str) -> None:
    tab.requests.clear()
    url = (folder / f"{name}.html").as_uri()
    for scheme in ("light", "dark"):
        tab.set_media(prefers_color_scheme=scheme)
        for width in WIDTHS:
            tab.set_width(width)
            tab.open(url)
            assert tab.do("document.documentElement.scrollWidth") <= width, (scheme, width)
            assert tab.do(
                "[...document.querySelectorAll('svg.chart')].every(c => c.getBoundingClientRect().width <= innerWidth)"
            )
    assert tab.errors == []
    assert set(tab.requests) == {url}


@pytest.mark.parametrize(("width", "kind"), [(360, "narrow"), (800, "wide"), (1400, "wide")])
def test_one_of_two_drawings_is_shown_and_its_letters_can_be_read(
    folder: Path, tab: Tab, width: int, kind: str
) -> None:
    tab.set_width(width)
    tab.open((folder / "flown.html").as_uri())
    shown = tab.do(
        "[...document.querySelectorAll('svg.chart')].filter(c => c.getBoundingClientRect().width).map(c => c.classList[1])"
    )
    assert set(shown) == {kind}
    pixels = tab.do(
        "Math.min(...[...document.querySelectorAll('svg.chart')].filter(c => c.getBoundingClientRect().width)"
        ".map(c => 10.5 * c.getBoundingClientRect().width / c.viewBox.baseVal.width))"
    )
    assert pixels >= 9.5


def column(tab: Tab, place: int) -> list[str]:
    script = f"[...document.querySelector('table.tool').tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[{place}].textContent)"
    found: list[str] = tab.do(script)
    return found


def test_a_table_sorts_by_its_numbers_and_searches_all_its_words(folder: Path, tab: Tab) -> None:
    tab.open((folder / "table.html").as_uri())
    head = "table.tool th:nth-child(3)"
    tab.click(f"{head} button")
    assert column(tab, 2) == [f"{number} MB" for number in sorted(number * 37 % 100 for number in range(40))]
    assert tab.do(f"document.querySelector('{head}').ariaSort") == "ascending"
    tab.click(f"{head} button")
    assert column(tab, 2)[0] == "99 MB"
    tab.click("table.tool th:nth-child(2) button")
    assert [name[:4] for name in dict.fromkeys(column(tab, 1))] == ["a ve", "écla", "nano", "Zynq"]
    assert tab.do(f"document.querySelector('{head}').ariaSort") is None
    tab.do(
        "const box = document.querySelector('.find input'); box.value = 'NANO 77 mb'; box.dispatchEvent(new Event('input'))"
    )
    assert column(tab, 0) == ["21"]
    assert tab.do("document.querySelector('.find output').textContent") == "1 of 40 rows"
    assert tab.errors == []


def test_the_switch_shows_one_figure_at_a_time(folder: Path, tab: Tab) -> None:
    tab.set_width(800)
    tab.open((folder / "run.html").as_uri())
    shown = "[...document.querySelectorAll('.pane')].map(p => p.getBoundingClientRect().height > 0)"
    assert tab.do(shown) == [True, False, False]
    tab.click("label[for=over-3]")
    assert tab.do(shown) == [False, False, True]


def test_pointing_at_a_chart_says_its_number(folder: Path, tab: Tab) -> None:
    tab.set_width(800)
    tab.open((folder / "run.html").as_uri())
    place = tab.do(
        "(() => { const c = document.querySelector('.pane .wide .touch'); c.scrollIntoView({behavior: 'instant', block:"
        " 'center'}); const r = c.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    assert tab.do("document.querySelector('#tip').textContent") == "round 1, 10s, 150 B: 40.0 %"
    assert tab.do("document.querySelector('#tip').hidden") is False


def test_without_scripts_everything_but_sorting_is_there(folder: Path, tab: Tab) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        for name in ("flown", "table"):
            tab.open((folder / f"{name}.html").as_uri())
            root = tab.call("DOM.getDocument", depth=0)["root"]["nodeId"]
            assert tab.call("DOM.querySelectorAll", nodeId=root, selector="table tbody tr")["nodeIds"]
            assert not tab.call("DOM.querySelectorAll", nodeId=root, selector=".find, #tip, th button")["nodeIds"]
        assert tab.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert tab.errors == []


def test_paper_is_white_whatever_the_screen_and_keeps_the_figures(folder: Path, tab: Tab) -> None:
    tab.set_media(prefers_color_scheme="dark", media="print")
    try:
        tab.open((folder / "flown.html").as_uri())
        assert tab.do("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.do("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert tab.do("[...document.querySelectorAll('svg.wide')].some(c => c.getBoundingClientRect().height > 0)")
        assert len(tab.call("Page.printToPDF")["data"]) > 10_000
    finally:
        tab.set_media()


def test_letters_have_contrast_in_both_schemes(folder: Path, tab: Tab) -> None:
    """At least 4.5:1, what WCAG 2.2 asks of text (1.4.3)."""
    script = """
    (() => {
      const light = (text) => {
        const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(Number)
          .map((v) => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const below = (node) => {
        for (; node; node = node.parentElement) {
          const colour = getComputedStyle(node).backgroundColor;
          if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
        }
        return "rgb(255, 255, 255)";
      };
      const ratio = (one, other) => {
        const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
      };
      return [...document.querySelectorAll("p, dt, dd, li, th, td, h1, h2, h3, a, summary, label, svg text:not(.on)")]
        .map((node) => [ratio(node instanceof SVGElement ? getComputedStyle(node).fill : getComputedStyle(node).color,
                              below(node instanceof SVGElement ? node.ownerSVGElement : node)), node.textContent.trim()])
        .filter(([found]) => found < 4.5).map(([found, text]) => `${found.toFixed(2)} ${text.slice(0, 40)}`);
    })()
    """
    for scheme in ("light", "dark"):
        tab.set_media(prefers_color_scheme=scheme)
        for name in ("flown", "runs"):
            tab.open((folder / f"{name}.html").as_uri())
            assert tab.do(script) == [], scheme
    tab.set_media()
