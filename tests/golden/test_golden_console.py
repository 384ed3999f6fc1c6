"""The live view and the summary, drawn from the rehearsal, against the texts in `console/`.

After a wanted change, run this file as a program to write the texts anew, and look at them.
"""

import io
from pathlib import Path

import pytest
from rich.console import Console

from neulite_sim.reports import rehearsal
from neulite_sim.reports.board import Board
from neulite_sim.reports.console import summary_panel
from neulite_sim.reports.dashboard import dashboard

FOLDER = Path(__file__).parent / "console"
VIEWS = {"live_80x24": (80, 24), "live_140x40": (140, 40), "summary_80": (80, 24)}
EVENTS_SHOWN = 2500


def draw(name):
    width, height = VIEWS[name]
    console = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
    if name.startswith("summary"):
        console.print(summary_panel(rehearsal.summary(), run_dir="runs/rehearsal-42"))
    else:
        # Twelve events are a round, which takes 0.4 s.
        now_s = 0.0
        board = Board(clock=lambda: now_s)
        for number, event in zip(range(EVENTS_SHOWN), rehearsal.events(), strict=False):
            now_s = number * 0.4 / 12
            board.notify(event)
        console.print(dashboard(board, width=width, height=height), end="")
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("name", VIEWS)
def test_console_looks_as_it_was_approved(name):
    assert draw(name) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for view in VIEWS:
        (FOLDER / f"{view}.txt").write_text(draw(view), encoding="utf-8")
