"""What `compare` does for its views: the options they take, their rows and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from neulite_sim.reports.comparison import Line
    from neulite_sim.reports.intervals import Kind
    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.reports.views import View, ViewName

ViewOption = Annotated[
    str | None,
    typer.Option(metavar="VIEW", help="quality-under-budget, cost-to-target or robustness. Groups the runs."),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(metavar="BOUNDS", help="Of quality-under-budget, such as memory=300MB,time=2h,traffic=1GB."),
]
TargetOption = Annotated[
    str | None,
    typer.Option(metavar="ACCURACY", help="Of cost-to-target, such as 0.9; without it, the highest reached."),
]
IntervalOption = Annotated[
    str, typer.Option(metavar="KIND", help="Of the 95 % intervals: t, or bca (a bootstrap) from eight seeds on.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedView:
    """Which view is asked for, with its options; none where `name` is None."""

    name: ViewName | None = None
    budget: Mapping[str, float] = field(default_factory=dict)
    target: float | None = None
    kind: Kind = "t"

    def of(self, lines: Sequence[Line], baseline: Line | None) -> View:
        """Return the view of lines.

        Raises:
            ScenarioError: they have nothing that it could show.
            DataNotFoundError: the rounds.csv of a run is missing or damaged.
        """
        from neulite_sim.reports.budget_views import cost_to_target, quality_under_budget
        from neulite_sim.reports.churn_view import robustness
        from neulite_sim.reports.views import COST, QUALITY

        if self.name == QUALITY:
            return quality_under_budget(lines, self.budget, baseline=baseline, kind=self.kind)
        if self.name == COST:
            return cost_to_target(lines, self.target, baseline=baseline, kind=self.kind)
        return robustness(lines, baseline=baseline, kind=self.kind)


def asked_view(name: str | None, *, budget: str | None, target: str | None, interval: str) -> AskedView:
    """Return what `--view`, `--budget`, `--target` and `--interval` ask for.

    Raises:
        ScenarioError: one of them is not understood, missing, or does not go with the view.
    """
    from neulite_sim.reports.budget_views import parse_budget, parse_target
    from neulite_sim.reports.intervals import KINDS
    from neulite_sim.reports.views import COST, QUALITY, VIEWS, refused

    kind = next((kind for kind in KINDS if kind == interval), None)
    if kind is None:
        raise refused("--interval", f"{interval!r} is none of {', '.join(KINDS)}", "use one of them")
    found = next((view for view in VIEWS if view == name), None)
    if name is not None and found is None:
        raise refused("--view", f"{name!r} is none of {', '.join(VIEWS)}", "use one of them")
    for option, value, wanted in (("--budget", budget, QUALITY), ("--target", target, COST)):
        if value is not None and found != wanted:
            raise refused(option, f"acts only with --view {wanted}", "add it, or remove the option")
    if found == QUALITY and budget is None:
        raise refused("--view quality-under-budget", "needs a budget", "add --budget memory=300MB,time=2h,traffic=1GB")
    return AskedView(
        name=found,
        budget={} if budget is None else parse_budget(budget),
        target=None if target is None else parse_target(target),
        kind=kind,
    )


def view_rows(view: View) -> list[dict[str, Any]]:
    """Return the rows of a view: those of `compare --group` with what it adds."""
    base = {} if view.baseline is None else {"baseline": view.baseline.name}
    return [line.row() | base | own for line, own in zip(view.lines, view.rows(), strict=True)]


def answered(
    rows: Sequence[Mapping[str, Any]],
    view: View | None,
    lines: Sequence[Line],
    notes: Sequence[str],
    baseline: Line | None,
) -> dict[str, Any]:
    """Return the answer to `compare --json`: the rows, what has to be said of them, and which view they are of."""
    from neulite_sim.reports.baseline import pairing_notes
    from neulite_sim.reports.comparison import notes_of

    if view is None:
        said = [*(pairing_notes(lines, baseline) if baseline is not None else ()), *notes, *notes_of(lines)]
        return {"rows": rows, "notes": said}
    return {"rows": rows, "notes": [*view.notes, *notes], "view": view.name, **view.asked}


def show_view(console: Console, view: View, notes: Sequence[str] = ()) -> None:
    """Print the table of a view: in blocks as wide as a terminal, a line per group anywhere else."""
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.view_table import view_tables

    for table in view_tables(view, notes=notes, width=console.width if console.is_terminal else None):
        print_table(console, table)


def check_names(lines: Sequence[Line], options: PlotOptions) -> None:
    """Refuse names in the figure for what is no line, before anything is printed.

    Raises:
        ScenarioError: a label names nothing.
    """
    from neulite_sim.reports.run_names import names_of

    if options.labels:
        names_of(lines, options.labels)


def draw_comparison(drawn: Sequence[Line] | View, plot: Path, options: PlotOptions) -> None:
    """Write the figure of a comparison or of a view of it."""
    from neulite_sim.reports.comparison_plot import draw
    from neulite_sim.reports.view_plot import draw_view
    from neulite_sim.reports.views import View

    if isinstance(drawn, View):
        draw_view(drawn, plot, options)
    else:
        draw(drawn, plot, options)
