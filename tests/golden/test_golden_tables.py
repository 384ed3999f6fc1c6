"""The tables of commands on terminals of three widths, drawn from stored answers, against the texts in `tables/`.

After a wanted change, run this file as a program to write the texts anew, and look at them.
"""

import io
import json
import tempfile
from pathlib import Path

import pytest
from rich.console import Console
from timeline_runs import two_rounds

from neulite_sim.reports.console import print_table
from neulite_sim.reports.profile_table import profile_tables
from neulite_sim.reports.timeline_table import timeline_report, timeline_tables
from neulite_sim.reports.timeline_window import read_window
from neulite_sim.reports.whatif_table import whatif_tables

FOLDER = Path(__file__).parent / "tables"
WIDTHS = (80, 100, 140)


def stored(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def timeline():
    with tempfile.TemporaryDirectory() as folder:
        return timeline_tables(timeline_report(read_window(two_rounds(Path(folder) / "run"), first=1, count=8)))


TABLES = {
    "profile": lambda: profile_tables(stored("profile")),
    "profile_plans": lambda: profile_tables(stored("profile_plans")),
    "timeline": timeline,
    "whatif": lambda: whatif_tables(stored("whatif")),
}


def draw(name, width):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    for table in TABLES[name]():
        print_table(console, table)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_tables_look_as_they_were_approved(name, width):
    drawn = draw(name, width)
    assert drawn == (FOLDER / f"{name}_{width}.txt").read_text(encoding="utf-8")
    assert max(map(len, drawn.splitlines())) <= width


if __name__ == "__main__":
    for table in TABLES:
        for columns in WIDTHS:
            (FOLDER / f"{table}_{columns}.txt").write_text(draw(table, columns), encoding="utf-8")
