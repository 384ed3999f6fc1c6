"""Runs that are broken off, as a killed process is."""

from __future__ import annotations

from neulite_sim.results.rows import RoundRow


class Broken(BaseException):
    """The end of a process, as far as a test in the same process can have it."""


class BreakAfter:
    """An observer that ends the run when the row of a round, or of a later one, has been written."""

    def __init__(self, rounds: int = 3) -> None:
        self.rounds = rounds

    def notify(self, event: object) -> None:
        if isinstance(event, RoundRow) and event.round >= self.rounds:
            raise Broken
