"""`compare`: runs side by side, as tables, rows, a page and a figure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.api.finding import Folder, all_of, paths_of, read_runs
from neulite_sim.api.result import FilePath, Result, as_html, as_json, rows_of
from neulite_sim.api.views import AskedView, asked_view, budget_text
from neulite_sim.errors import DataNotFoundError
from neulite_sim.reports.comparison import Line, lines_of, notes_of
from neulite_sim.results.row_table import Rows
from neulite_sim.results.stored import StoredRun

if TYPE_CHECKING:
    from neulite_sim.notebook.figure import Figure
    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.reports.table import TextTable
    from neulite_sim.reports.views import View


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonResult(Result):
    """Runs side by side: a row per run, or per group of runs that differ in the seed only.

    `lines` are these with their runs, `view` is what a view shows of them, where one was asked for.
    """

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    baseline: Line | None = None
    asked: AskedView = field(default_factory=AskedView)
    view: View | None = None
    folder: Folder | None = None
    """Holds copies of the runs that are in memory, as long as this result lives."""

    @property
    def rows(self) -> Rows:
        """A row per line: the summary of a run, or means, deviations and intervals of a group."""
        return rows_of(self._rows())

    @property
    def runs(self) -> tuple[StoredRun, ...]:
        """The runs of all lines."""
        return tuple(run for line in self.lines for run in line.runs)

    def _rows(self) -> list[dict[str, Any]]:
        if self.view is not None:
            base = {} if self.view.baseline is None else {"baseline": self.view.baseline.name}
            return [line.row() | base | own for line, own in zip(self.view.lines, self.view.rows(), strict=True)]
        from neulite_sim.reports.baseline import difference_row

        held, kind = self.baseline, self.asked.kind
        return [
            line.row() | (difference_row(line, held, kind=kind) if held is not None and line.is_group else {})
            for line in self.lines
        ]

    def tables(self, *, width: int | None = None) -> list[TextTable]:
        """Return the table of `compare`, in blocks below each other where it is to fit `width` characters."""
        if self.view is not None:
            from neulite_sim.reports.view_table import view_tables

            return view_tables(self.view, notes=self.notes, width=width)
        from neulite_sim.reports.comparison_table import comparison_tables

        return comparison_tables(
            self.lines, notes=self.notes, width=width, baseline=self.baseline, kind=self.asked.kind
        )

    def to_json(self, path: FilePath | None = None) -> dict[str, Any]:
        """Return the object of `compare --json`, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
        """
        from neulite_sim.reports.baseline import pairing_notes

        view = self.view
        if view is not None:
            notes = list(dict.fromkeys((*view.notes, *self.notes)))
            content = {"rows": self._rows(), "notes": notes, "view": view.name, **view.asked}
            return as_json(content, path)
        said = pairing_notes(self.lines, self.baseline) if self.baseline is not None else ()
        return as_json({"rows": self._rows(), "notes": [*said, *self.notes, *notes_of(self.lines)]}, path)

    def to_html(self, path: FilePath | None = None) -> str:
        """Return the page that `report` makes of these runs, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
            DataNotFoundError: a file of a run is missing or damaged.
        """
        from neulite_sim.reports.html.comparison_page import comparison_page
        from neulite_sim.reports.html.run_page import run_page

        runs = self.runs
        shown_as = [str(run.path) for run in runs]
        if len(runs) == 1:
            return as_html(lambda most: run_page(runs[0].path, most_rows=most, shown_as=shown_as[0]), path)
        held = None if self.baseline is None else self.baseline.name
        return as_html(lambda most: comparison_page(runs, baseline=held, shown_as=shown_as), path)

    def drawn(self, file: Path | None, options: PlotOptions) -> Figure:
        """Return the figure as `plot` does, for options that have been checked."""
        if self.view is not None:
            from neulite_sim.reports.view_plot import draw_view

            return draw_view(self.view, file, options)
        from neulite_sim.reports.comparison_plot import draw

        return draw(self.lines, file, options)

    def check_labels(self, options: PlotOptions) -> None:
        """Refuse names in the figure for what is no line, before anything is printed.

        Raises:
            ScenarioError: a label names nothing.
        """
        from neulite_sim.reports.run_names import names_of

        if options.labels:
            names_of(self.lines if self.view is None else self.view.lines, options.labels)


def compare(
    runs: Any,
    *,
    group: bool = False,
    baseline: str | None = None,
    view: str | None = None,
    budget: str | Mapping[str, Any] | None = None,
    target: float | str | None = None,
    interval: str = "t",
) -> ComparisonResult:
    """Return accuracy, participation, memory, time to accuracy, traffic and energy of runs side by side.

    What `neulite-sim compare` prints.

    Args:
        runs: run folders, folders that hold run folders, patterns such as "runs/look-*", results of `simulate` and
            `resume` (also of runs in memory), of `sweep`, or a list of any of them.
        group: one row for runs that differ in the seed only.
        baseline: differences to this group or method, paired by seed; groups the runs.
        view: "quality-under-budget", "cost-to-target" or "robustness"; groups the runs.
        budget: of quality-under-budget, such as "memory=300MB,time=2h", or a mapping of that.
        target: of cost-to-target, an accuracy such as 0.9; without it, the highest reached.
        interval: of the 95 % intervals: "t", or "bca" (a bootstrap) from eight seeds on.

    Raises:
        DataNotFoundError: a run cannot be read; with all of them.
        ScenarioError: an option is not understood, or no group is called as the baseline.
    """
    asked = asked_view(
        view, budget=budget_text(budget), target=None if target is None else str(target), interval=interval
    )
    folder = Folder()
    named = read_runs(paths_of(runs, folder))
    for note in named.notes:
        warnings.warn(note, stacklevel=2)
    if named.problems or not named.runs:
        raise all_of(named.problems or [DataNotFoundError("no run was named", hint="name run folders")])
    return compared(named.runs, asked, group=group, baseline=baseline, folder=folder)


def compared(
    runs: Sequence[StoredRun],
    asked: AskedView,
    *,
    group: bool = False,
    baseline: str | None = None,
    folder: Folder | None = None,
) -> ComparisonResult:
    """Return the comparison of runs that have been read.

    Raises:
        ScenarioError: no group is called as the baseline, or the view has nothing to show.
        DataNotFoundError: the rounds.csv of a run is missing or damaged.
    """
    from neulite_sim.reports.baseline import baseline_of

    lines, notes = lines_of(runs, grouped=group or baseline is not None or asked.name is not None)
    held = None if baseline is None else baseline_of(lines, baseline)
    return ComparisonResult(
        lines=tuple(lines),
        notes=tuple(notes),
        baseline=held,
        asked=asked,
        view=None if asked.name is None else asked.of(lines, held),
        folder=folder,
    )
