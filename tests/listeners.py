"""Observers that keep what a run tells them."""

from __future__ import annotations

from neulite_sim.results.rows import Event, Notice


class Listener:
    """Keeps the notices of a run."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.told.append(event.message)
