"""What the documentation says is run: its commands, its code, its links, its generated pages, its tables of columns."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from docs_pages import DOCS, PAGES, ROOT, Block, blocks, run_page, runs
from slow_cases import some_slow
from tiny_scenarios import TINY
from typer.testing import CliRunner

from neulite_sim import registry
from neulite_sim.cli import app
from neulite_sim.population.hardware.catalogue import Status
from neulite_sim.results.cells import DEVICES_CSV, FILES, OPTIONAL_FILES
from neulite_sim.results.provenance import provenance
from neulite_sim.results.rows import EVERYTHING, DenialRow, DeviceRow, DiagnosticRow, FlightRow, RoundRow, columns
from neulite_sim.results.summary import Identity, Tally
from neulite_sim.scenario.loading import parse_scenario

pytestmark = pytest.mark.usefixtures("shared_profiles")

RUN = [page for page in PAGES if any(map(runs, blocks(page.read_text(encoding="utf-8"))))]
LONG = ("availability_and_links", "backends_and_reproducibility", "churn", "compare_methods", "energy", "export",
        "from_python", "language", "memory_budgets", "memory_model", "moving_memory", "own_data", "own_scenario",
        "participation", "plug_in", "protocols", "read_a_run_folder", "report", "stop_and_resume", "time_model",
        "timeline", "whatif", "write_a_method", "write_a_protocol", "your_own_code")  # fmt: skip
"""Pages that run for seconds."""
LINKED = [*PAGES, *(ROOT / name for name in ("README.md", "CHANGELOG.md") if (ROOT / name).is_file())]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def command(arguments: list[str]) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, prog_name="neulite-sim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the scenarios, as the current directory; what is installed or imported from it goes with it."""
    shutil.copytree(ROOT / "scenarios", tmp_path / "scenarios")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    monkeypatch.undo()
    importlib.invalidate_caches()
    registry.forget_installed()


@pytest.mark.parametrize("page", some_slow(RUN, lambda page: page.stem in LONG), ids=name_of)
def test_commands_and_code_of_a_page_do_what_it_says(
    page: Path, checkout: Path, request: pytest.FixtureRequest
) -> None:
    if re.search(r"^neulite-sim .*(sweep|--train)|neulite_sim\.sweep\(", page.read_text(encoding="utf-8"), re.M):
        request.getfixturevalue("forked_sweeps")
    wrong = run_page(page, command)
    assert not wrong, "\n\n".join(wrong)


def test_the_pages_that_teach_by_commands_are_among_those_that_run() -> None:
    assert {"first_run.md", "own_scenario.md", "write_a_method.md", "memory_model.md"} <= {page.name for page in RUN}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "says\n2\nbut this was printed:\n1"),
        ("```python\nassert 1 > 2\n```\n", "AssertionError"),
        ("```bash\nneulite-sim validate scenarios/none.yaml\n```\n", "ended with exit code 2"),
        ("```bash\nneulite-sim components uniform  # exit code 2\n```\n", "ended with exit code 0"),
    ],
)
def test_a_page_that_is_wrong_is_found(text: str, complaint: str, checkout: Path) -> None:
    page = checkout / "page.md"
    page.write_text(text, encoding="utf-8")
    (wrong,) = run_page(page, command)
    assert complaint in wrong


def test_an_output_may_leave_out_what_differs_and_a_long_block_is_not_run(checkout: Path) -> None:
    page = checkout / "page.md"
    page.write_text("```python\nprint('a', 1)\n```\n\n```text\na ...\n```\n\n<!-- long -->\n```python\n1 / 0\n```\n")
    assert run_page(page, command) == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} in {name_of(page)}"
        assert not anchor or anchor in anchors(found), f"{target} in {name_of(page)}"


def test_every_page_stands_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    missing = [name_of(page) for page in PAGES if page.name != "README.md" and page.name not in index]
    assert not missing


def generate() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_page_of_commands_holds_what_help_prints(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    page = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    for words in ((), ("run",), ("validate",), ("traces", "import")):
        assert generate().help_of(words) in page
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    printed = CliRunner().invoke(app, ["run", "--help"], prog_name="neulite-sim", terminal_width=80)
    lines = [line.rstrip() for line in printed.stdout.strip().splitlines()]
    assert "\n".join(lines) == generate().help_of(("run",))


def test_generated_pages_are_up_to_date() -> None:
    outdated = [name_of(path) for path in generate().outdated()]
    assert not outdated, f"run: python docs/generate.py ({', '.join(outdated)})"


def test_every_status_of_the_catalogue_is_explained() -> None:
    assert set(generate()._STATUSES) == set(get_args(Status))


def table(heading: str) -> list[str]:
    """Return the names in the first column of the table below a heading of rows.md; a cell may hold several."""
    text = (DOCS / "reference" / "rows.md").read_text(encoding="utf-8")
    section = text.split(f"## `{heading}`\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?`) \|", section, re.M)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("kind", [RoundRow, FlightRow, DenialRow, DeviceRow, DiagnosticRow])
def test_every_column_is_explained_in_its_order(kind: Any) -> None:
    file = {**FILES, **OPTIONAL_FILES, DeviceRow: DEVICES_CSV}[kind]
    assert tuple(table(file)) == columns(kind, asked=EVERYTHING)


def test_every_key_of_the_summary_and_of_the_provenance_is_explained() -> None:
    words = dict.fromkeys(("name", "method", "selection", "model", "dataset", "backend"), "x")
    identity = Identity(seed=1, **words)
    summary = Tally([1]).summary(identity, participation_rate=1.0, proxy=None, wall_time_s=1.0, digest="x")
    assert table("summary.json") == list(summary)
    assert table("provenance.json") == list(provenance(parse_scenario(TINY), ()))


def test_blocks_know_their_language_note_and_line() -> None:
    text = "# A\n\n<!-- file: a.yaml -->\n```yaml\na: 1\n```\n\n```bash\nls\n```\n"
    first, second = blocks(text)
    assert first == Block(language="yaml", code="a: 1\n", note="file: a.yaml", line=5)
    assert (second.language, second.note, second.line) == ("bash", "", 9)
