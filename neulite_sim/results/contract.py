"""Where rows and events go: sinks keep them, observers show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from neulite_sim.results.rows import Event, Row


class Sink(Protocol):
    """Keeps the rows of a run. The engine calls `write` as rows happen and `finish` once, at the end."""

    def write(self, row: Row) -> None:
        """Keep one row."""
        ...

    def finish(self, summary: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Keep the summary and the final global model, and mark the run complete."""
        ...


class Observer(Protocol):
    """Is told what happens while it happens; must not slow the run down."""

    def notify(self, event: Event) -> None:
        """Take note of an event."""
        ...
