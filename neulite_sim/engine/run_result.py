"""What a run gives to who started it from Python: its summary, its rows, and what a user should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulite_sim.notebook.card import card, facts
from neulite_sim.notebook.chart import curve_of
from neulite_sim.notebook.plot import Against, Measured, draw
from neulite_sim.results.cells import OPTIONAL_FILES
from neulite_sim.results.memory import MemorySink, read_devices, read_rows
from neulite_sim.results.row_table import Rows
from neulite_sim.results.rows import DenialRow, DiagnosticRow, Event, FlightRow, Notice, RoundRow, Row, columns
from neulite_sim.results.stored import kept_of, require_whole
from neulite_sim.scenario.schema import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run gave: its summary, and its rows, read from the run folder when they are asked for."""

    summary: dict[str, Any]
    """The content of `summary.json`."""
    run_dir: Path | None
    """The run folder; None of a run that was kept in memory."""
    memory: MemorySink | None = None
    scenario: Scenario | None = None
    notices: tuple[str, ...] = ()
    """What a user should know, each once, in the order in which it was first said; none of a run that is loaded."""
    read: Mapping[str, Any] | None = None
    """Of a run in memory, what its provenance says of the files that it read."""
    left_out: tuple[str, ...] = ()
    """Of a run in memory, what its provenance says that it leaves out."""

    @property
    def rounds(self) -> Rows:
        """A row per aggregation."""
        return self._rows("rounds", RoundRow)

    @property
    def flights(self) -> Rows:
        """A row per participation."""
        return self._rows("flights", FlightRow)

    @property
    def denials(self) -> Rows:
        """Why devices could not be offered work, a row per round and reason."""
        return self._rows("denials", DenialRow)

    @property
    def devices(self) -> Rows:
        """A row per device of the fleet: who it is, what fits it, and what happened to it."""
        if self.memory is not None:
            return self.memory.devices
        assert self.run_dir is not None
        return read_devices(self.run_dir)

    @property
    def diagnostics(self) -> Rows:
        """What `evaluation.diagnostics` measured at each test; no rows where it asks for nothing."""
        file, run_dir = OPTIONAL_FILES[DiagnosticRow], self.run_dir
        if self.memory is None and run_dir is not None and not kept_of(run_dir, file):
            return Rows(columns=columns(DiagnosticRow))
        return self._rows("diagnostics", DiagnosticRow)

    def plot(self, *, against: Against = "time", axes: Any = None, measure: Measured | None = None) -> Any:
        """Draw accuracy in percent (the training loss where nothing was tested) against "time" or "round".

        Returns matplotlib's figure. Time is the virtual one. `measure` is "accuracy", "perplexity" (of runs that
        predict tokens) or "loss", that of training. With `axes` the run is drawn into these, beside what they hold,
        and labelled with its name, its method and its seed.

        Raises:
            NeuliteError: matplotlib is not installed, or there is nothing to draw.
        """
        names = "{name}, {method}, seed {seed}".format_map(self.summary)
        return draw(self.rounds, against=against, axes=axes, label=names, measure=measure)

    def _repr_html_(self) -> str:
        """Show the run as a card in a notebook."""
        place = None if self.run_dir is None else str(self.run_dir)
        return card(self.summary, curve_of(self.rounds), run_dir=place)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Say at IPython's prompt what came out."""
        del cycle
        place = None if self.run_dir is None else str(self.run_dir)
        printer.text("\n".join(f"{label}: {text}" for label, text in facts(self.summary, run_dir=place)))

    def _rows(self, name: str, kind: type[Row]) -> Rows:
        if self.memory is not None:
            rows: Rows = getattr(self.memory, name)
            return rows
        assert self.run_dir is not None
        require_whole(self.run_dir, f"{name}.csv")
        return read_rows(self.run_dir / f"{name}.csv", kind)


class Heard:
    """Observer that keeps the notices of a run, each once."""

    may_be_told_late = True

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}

    def notify(self, event: Event) -> None:
        """Keep a notice."""
        if isinstance(event, Notice):
            self._messages.setdefault(event.message)

    @property
    def messages(self) -> tuple[str, ...]:
        """What was said, in the order in which it was first said."""
        return tuple(self._messages)
