"""`neulite-sim whatif`: who could take part at other memory budgets, at what cost, and with what accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulite_sim.cli.answers import answer, command_line
from neulite_sim.cli.compare import write_csv
from neulite_sim.cli.failures import Failed
from neulite_sim.cli.options import (
    AsJson,
    NoCache,
    Overrides,
    PlotFile,
    PlotLabels,
    PlotSize,
    PlotStyle,
    PlotTitle,
    ScenarioPath,
    plot_asked,
)

if TYPE_CHECKING:
    from rich.console import Console

    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.studies.sweeps import EndedRun
    from neulite_sim.studies.whatif import Budgets, Entrant
    from neulite_sim.studies.whatif_entrants import FitKind

_BUDGET_OPTIONS = {"memory": "--memory", "scale": "--scale-memory", "cap": "--cap-memory"}


Memory = Annotated[
    str | None, typer.Option(metavar="SIZES", help="Budgets that every device is given, such as 100MB,200MB,1.6GB.")
]
Scale = Annotated[
    str | None, typer.Option(metavar="FACTORS", help="Factors of the fleet's own budgets, such as 0.5,1,2.")
]
Cap = Annotated[
    str | None, typer.Option(metavar="SIZES", help="Limits of the fleet's own budgets, such as 400MB,800MB.")
]
Methods = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Methods, such as neulite,{kind: depthfl, classifier: linear}; all by default."),
]
BatchSizes = Annotated[str | None, typer.Option(metavar="SIZES", help="Also vary the batch size, such as 32,64,128.")]
MicroBatch = Annotated[
    str | None, typer.Option(metavar="SIZES", help="Also with micro-batches, such as 16,32, beside whole batches.")
]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Also with activation checkpointing, beside training without it.")
]
Fits = Annotated[
    str | None,
    typer.Option("--fit", metavar="KINDS", help="Ways to fit steps into memory, such as none,auto (training.fit)."),
]
Train = Annotated[
    bool, typer.Option("--train", help="Also train each method at each budget: accuracy and time to accuracy.")
]
Jobs = Annotated[int | None, typer.Option(min=1, metavar="N", help="With --train: runs at a time.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="With --train: folder of the runs; runs/NAME-whatif by default.")
]
Details = Annotated[bool, typer.Option("--details", help="Also say who holds each submodel.")]
CsvFile = Annotated[
    str | None, typer.Option("--csv", metavar="FILE", help="Also write the rows as CSV; - prints them instead.")
]


def whatif(
    scenario: ScenarioPath,
    memory: Memory = None,
    scale_memory: Scale = None,
    cap_memory: Cap = None,
    methods: Methods = None,
    batch_sizes: BatchSizes = None,
    micro_batch: MicroBatch = None,
    checkpointing: Checkpointing = False,
    fit: Fits = None,
    train: Train = False,
    jobs: Jobs = None,
    out: Out = None,
    details: Details = False,
    overrides: Overrides = None,
    csv_file: CsvFile = None,
    plot: PlotFile = None,
    style: PlotStyle = None,
    size: PlotSize = None,
    title: PlotTitle = None,
    label: PlotLabels = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Say for other memory budgets who can take part with each method, what stops the others, and what a round costs.

    Give exactly one of --memory, --scale-memory and --cap-memory. Nothing is trained without --train.
    """
    from neulite_sim.cli.checks import FleetCheck
    from neulite_sim.cli.sweep import runs_failed
    from neulite_sim.studies.whatif import study
    from neulite_sim.studies.whatif_entrants import entrants, tunings

    budgets = _budgets({"memory": memory, "scale": scale_memory, "cap": cap_memory})
    ways = tunings(
        batch_sizes=_counts("--batch-sizes", batch_sizes),
        micro_batch_sizes=_counts("--micro-batch", micro_batch),
        checkpointing=checkpointing,
        fits=_fits(fit),
    )
    _check_outputs(as_json=as_json, csv_file=csv_file)
    options = plot_asked(plot, style=style, size=size, title=title, labels=label)
    _check_training(train=train, jobs=jobs, out=out)
    check = FleetCheck()
    found, left_out = entrants(scenario, methods=methods, overrides=overrides or (), ways=ways, checks=[check])
    _check_labels(found, options)
    report = study(found, budgets, check.fleet)
    report["not_applicable"] |= left_out
    report["command"] = command_line()
    failed: list[EndedRun] = []
    runners: list[Entrant] = []
    if train:
        known = {row["variant"] for row in report["rows"]}
        runners = [entrant for entrant in found if entrant.variant in known]
        folder = out or Path("runs") / f"{report['scenario']}-whatif"
        report, failed = _trained(report, runners, budgets, folder=folder, jobs=jobs, quiet=as_json or csv_file == "-")
    _show(report, as_json=as_json, csv_file=csv_file, details=details)
    _draw(report, plot, options)
    if failed:
        raise Failed(runs_failed(failed, total=len(runners) * len(budgets.values)))


def _check_labels(found: Sequence[Entrant], options: PlotOptions) -> None:
    """Refuse names in the figure for what is no variant, before anything is counted or trained."""
    if options.labels:
        from neulite_sim.reports.whatif_plot import check_labels

        check_labels([entrant.variant for entrant in found], options)


def _draw(report: dict[str, Any], plot: Path | None, options: PlotOptions) -> None:
    if plot is not None:
        from neulite_sim.reports.whatif_plot import draw_whatif

        draw_whatif(report, plot, options)


def _fits(text: str | None) -> list[FitKind]:
    """Return the kinds of `training.fit` in a list, each once."""
    found: list[FitKind] = []
    for part in () if text is None else text.split(","):
        kind = part.strip()
        if kind not in ("none", "auto") or kind in found:
            raise _refused("--fit", f"must be none, auto or none,auto, found {text!r}")
        found.append(kind)  # type: ignore[arg-type]
    return found


def _budgets(given: dict[str, str | None]) -> Budgets:
    """Return the budgets of the one option that was given, in rising order."""
    from neulite_sim.studies.whatif import Budgets
    from neulite_sim.units import parse_bytes

    chosen = {kind: text for kind, text in given.items() if text is not None}
    if len(chosen) != 1:
        found = " and ".join(_BUDGET_OPTIONS[kind] for kind in chosen) or "none"
        raise _refused("", f"give exactly one of {', '.join(_BUDGET_OPTIONS.values())}; found {found}")
    ((kind, text),) = chosen.items()
    values = _numbers(_BUDGET_OPTIONS[kind], text, _factor if kind == "scale" else parse_bytes)
    return Budgets(kind=kind, values=tuple(sorted(values)))  # type: ignore[arg-type]


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a factor; write for example 0.5")
    return value


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number of samples; write for example 32") from None


def _counts(option: str, text: str | None) -> tuple[int, ...]:
    return () if text is None else tuple(int(value) for value in _numbers(option, text, _count))


def _numbers(option: str, text: str, read: Callable[[str], float]) -> list[float]:
    """Return the values of a list with commas, each above zero and given once."""
    values: list[float] = []
    for item in text.split(","):
        try:
            value = read(item.strip())
        except ValueError as error:
            raise _refused(option, str(error)) from None
        if value <= 0:
            raise _refused(option, f"{item.strip()!r} is not above zero", "leave it out")
        if value in values:
            raise _refused(option, f"{item.strip()!r} is given twice", "remove one")
        values.append(value)
    return values


def _refused(option: str, found: str, hint: str = "") -> Exception:
    from neulite_sim.errors import Problem, ScenarioError

    if hint:
        return ScenarioError([Problem.advising(key=option, found=found, hint=hint)])
    return ScenarioError([Problem(key=option, message=found)])


def _check_outputs(*, as_json: bool, csv_file: str | None) -> None:
    if as_json and csv_file == "-":
        raise _refused("--csv -", "prints to standard output, and so does --json", "choose one, or name a file")


def _check_training(*, train: bool, jobs: int | None, out: Path | None) -> None:
    for option, value in (("--jobs", jobs), ("--out", out)):
        if value is not None and not train:
            raise _refused(option, f"acts only with --train, found {value}", "remove it, or add --train")


def _trained(
    report: dict[str, Any], found: Sequence[Entrant], budgets: Budgets, *, folder: Path, jobs: int | None, quiet: bool
) -> tuple[dict[str, Any], list[EndedRun]]:
    """Run what is not finished of every method at every budget; return the study with it and the runs that failed."""
    from neulite_sim.cli.sweep import run_planned
    from neulite_sim.reports.screen import screen
    from neulite_sim.studies.sweeps import default_jobs
    from neulite_sim.studies.whatif_training import planned_runs, with_learning

    runs = planned_runs(found, budgets, out=folder)
    everything = list(runs.values())
    failed = run_planned(everything, folder, jobs or default_jobs(everything), screen(stderr=quiet))
    for ended in failed:
        typer.echo(f"error: {ended.run.name}: {ended.message}", err=True)
    return with_learning(report, budgets, runs), failed


def _show(report: dict[str, Any], *, as_json: bool, csv_file: str | None, details: bool) -> None:
    if csv_file is not None:
        write_csv(report["rows"], csv_file)
    if as_json:
        answer(report)
    elif csv_file != "-":
        from neulite_sim.reports.screen import screen

        _print(screen(), report, details=details)


def _print(console: Console, report: dict[str, Any], *, details: bool) -> None:
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.whatif_table import whatif_tables

    tables = whatif_tables(report, width=console.width if console.is_terminal else None, details=details)
    for place, table in enumerate(tables):
        if place and table.title:
            console.print()
        print_table(console, table)
