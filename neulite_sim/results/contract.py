"""Where rows and events go: sinks keep them, observers show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from neulite_sim.results.device_rows import DeviceRows
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import Event, Row


class Sink(Protocol):
    """Keeps the rows of a run. The engine writes rows as they happen and calls `finish` once, at the end."""

    def write(self, row: Row) -> None:
        """Keep one row."""
        ...

    def write_flights(self, rows: FlightRows) -> None:
        """Keep rows of flights, one by one unless a sink knows better."""
        for row in rows:
            self.write(row)

    def write_devices(self, rows: DeviceRows) -> None:
        """Keep the rows of the devices, all of them, in the place of those kept before; not every sink does."""
        del rows

    def finish(self, summary: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Keep the summary and the final global model, and mark the run complete."""
        ...


class Observer(Protocol):
    """Is told what happens while it happens; must not slow the run down."""

    # It may also have `may_be_told_late = True`: where rounds take next to no time it is told of some together, up to a
    # fifth of a second late, and of no moment within them. A run is faster where all who are told say so.

    def notify(self, event: Event) -> None:
        """Take note of an event."""
        ...
