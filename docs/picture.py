"""Draw the README's picture: the live console in the middle of a real run of scenarios/jetson_mix.yaml.

python docs/picture.py            # writes docs/images/console.svg
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from rich.console import Console

from neulite_sim import load_scenario, simulate
from neulite_sim.reports.board import Board
from neulite_sim.reports.console import dashboard
from neulite_sim.results.rows import Event, Progress

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 130, 36
ROUND, RESULTS = 61, 4


class TakenError(Exception):
    """The picture is drawn: the rest of the run is not needed."""


class Photographer:
    """Keeps a board of the run and draws it once: in round `ROUND`, when `RESULTS` devices have trained."""

    def __init__(self, target: Path) -> None:
        self._board = Board()
        self._target = target

    def notify(self, event: Event) -> None:
        """Take note of an event, and draw at the chosen moment."""
        self._board.notify(event)
        if isinstance(event, Progress) and (event.round, event.trained) == (ROUND, RESULTS):
            console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
            console.print(dashboard(self._board, width=WIDTH, height=HEIGHT), height=HEIGHT)
            self._target.write_text(
                console.export_svg(title="neulite-sim run scenarios/jetson_mix.yaml", unique_id="neulite-sim"),
                encoding="utf-8",
            )
            raise TakenError


if __name__ == "__main__":
    with contextlib.suppress(TakenError):
        simulate(
            load_scenario(ROOT / "scenarios/jetson_mix.yaml"),
            observers=[Photographer(ROOT / "docs/images/console.svg")],
        )
