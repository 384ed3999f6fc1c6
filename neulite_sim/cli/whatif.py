"""`neulite-sim whatif`: who could take part at other memory budgets, at what cost, and with what accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulite_sim.cli.answers import answer, command_line
from neulite_sim.cli.brief import seldom_collected
from neulite_sim.cli.compare import write_csv
from neulite_sim.cli.failures import Failed, failure_of
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

    from neulite_sim.api.whatif import PlannedStudy, StudyResult
    from neulite_sim.reports.plot_options import PlotOptions

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

    Give one of --memory, --scale-memory and --cap-memory, or none for half of the fleet's own budgets, these, and twice
    as much. Nothing is trained without --train.
    """
    with seldom_collected():
        from neulite_sim.api.whatif import planned_study, require_training

    _check_outputs(as_json=as_json, csv_file=csv_file)
    options = plot_asked(plot, style=style, size=size, title=title, labels=label)
    require_training(train=train, jobs=jobs, out=out)
    with seldom_collected():
        planned = planned_study(
            scenario, memory=memory, scale_memory=scale_memory, cap_memory=cap_memory, methods=methods,
            batch_sizes=batch_sizes, micro_batch=micro_batch, checkpointing=checkpointing, fit=fit,
            overrides=overrides or (),
        )  # fmt: skip
        _check_files(scenario, planned, {"--csv": None if csv_file == "-" else csv_file, "--plot": plot, "--out": out})
        _check_labels(planned.variants, options)
        result = planned.answer(command=command_line(), has_details=details)
    if train:
        result = _trained(planned, result, out=out, jobs=jobs, quiet=as_json or csv_file == "-")
    _show(result, as_json=as_json, csv_file=csv_file)
    if plot is not None:
        result.drawn(plot, options)
    if result.failed:
        from neulite_sim.api.running import failure_of_runs

        raise Failed(failure_of(failure_of_runs(result.failed, result.num_runs, result)))


def _check_files(scenario: str, planned: PlannedStudy, outputs: Mapping[str, Path | str | None]) -> None:
    """Refuse outputs that would replace or damage what the study is read from, before anything is counted or trained.

    With --train the scenarios of the runs are written as well: not beside the one that is read, which one may replace.
    """
    from neulite_sim.api.lists import refused
    from neulite_sim.results.outputs import check_outputs
    from neulite_sim.scenario.reading import files_read
    from neulite_sim.studies.sweeps import SCENARIOS

    read = files_read(scenario, planned.entrants[0].scenario)
    folders = [path for path in read if path.is_dir()]
    check_outputs(outputs, [path for path in read if path not in folders], kept=folders)
    if (out := outputs["--out"]) is not None and any(
        file.resolve().parent == (Path(out) / SCENARIOS).resolve() for file in read
    ):
        raise refused("--out", f"{out} holds the scenario {scenario}, which a run's may replace", "name another folder")


def _check_labels(variants: Sequence[str], options: PlotOptions) -> None:
    """Refuse names in the figure for what is no variant, before anything is counted or trained."""
    if options.labels:
        from neulite_sim.reports.whatif_plot import check_labels

        check_labels(variants, options)


def _check_outputs(*, as_json: bool, csv_file: str | None) -> None:
    if as_json and csv_file == "-":
        from neulite_sim.api.lists import refused

        raise refused("--csv -", "prints to standard output, and so does --json", "choose one, or name a file")


def _trained(
    planned: PlannedStudy, found: StudyResult, *, out: Path | None, jobs: int | None, quiet: bool
) -> StudyResult:
    """Train every method at every budget, and say which runs failed."""
    from neulite_sim.cli.sweep import telling_on
    from neulite_sim.reports.screen import screen

    result = planned.trained(found, out=out, jobs=jobs, telling=telling_on(screen(stderr=quiet)))
    for ended in result.failed:
        typer.echo(f"error: {ended.run.name}: {ended.message}", err=True)
    return result


def _show(result: StudyResult, *, as_json: bool, csv_file: str | None) -> None:
    if csv_file is not None:
        write_csv(result.rows, csv_file)
    if as_json:
        answer(result.to_json())
    elif csv_file != "-":
        from neulite_sim.reports.screen import screen

        _print(screen(), result)


def _print(console: Console, result: StudyResult) -> None:
    from neulite_sim.reports.console import print_table

    for place, table in enumerate(result.tables(width=console.width if console.is_terminal else None)):
        if place and table.title:
            console.print()
        print_table(console, table)
