"""`neulite-sim calibrate`: this machine as an entry of the hardware catalogue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson

if TYPE_CHECKING:
    from neulite_sim.studies.calibration import Calibration

_NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
_LEAST_BUDGET_S, _MOST_BUDGET_S = 1.0, 86_400.0
_MOST_THREADS = 1024


def _duration(text: str) -> float:
    from neulite_sim.units import parse_seconds

    try:
        seconds = parse_seconds(text)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from None
    if not _LEAST_BUDGET_S <= seconds <= _MOST_BUDGET_S:
        raise typer.BadParameter(f"{text} must be between 1s and 1d")
    return seconds


def _checked(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise typer.BadParameter(f"{name!r} must be small letters and digits, parted by '-': my-board-8gb, for example")
    from neulite_sim.population.hardware.catalogue import load_catalogue

    if name in load_catalogue():
        raise typer.BadParameter(f"{name!r} is in the catalogue already; choose another name")
    return name


def calibrate(
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--device", help="What trains.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", metavar="N", min=1, max=_MOST_THREADS, help="Threads of PyTorch; its own choice by default."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", callback=_checked, help="Name of the entry.")
    ] = "this-machine",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer networks, one batch size: rougher.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", metavar="DURATION", parser=_duration, help="How long to measure; 2min, or 15s with --quick."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine and print it as hardware that a scenario can name.

    Trains a few networks for some seconds each; let nothing else run meanwhile, it says where something did. Put the
    output into a file, and its path into population.hardware.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from neulite_sim.reports.screen import screen
    from neulite_sim.studies.calibration import calibrate as measure
    from neulite_sim.studies.calibration import catalogue_text, require_physical, tasks

    console = screen(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        measuring = bar.add_task("", total=len(tasks(quick=quick)) + 1)
        found = measure(
            device,
            threads=threads,
            quick=quick,
            budget_s=budget,
            advance=lambda what: bar.update(measuring, advance=1, description=what),
        )
    require_physical(found)
    if found.load.signs:
        typer.echo(f"warning: {_busy(found)}", err=True)
    if as_json:
        answer(_report(found, name), is_ascii=True)
        return
    for line in _lines(found):
        typer.echo(f"# {line}")
    typer.echo(catalogue_text(found, name), nl=False)


def _busy(found: Calibration) -> str:
    signs = "; ".join(found.load.signs)
    return f"the machine was busy while it was measured ({signs}); let nothing else run on it, and calibrate again"


def _lines(found: Calibration) -> list[str]:
    """Return measured against predicted, as comments above the entry."""
    lines = [_busy(found)] if found.load.signs else []
    lines += ["Seconds of a training step: measured, and predicted by constants fitted without its network."]
    for step, seconds in zip(found.steps, found.predicted_s, strict=True):
        lines.append(f"{step.what:48}{step.seconds:10.4f}{seconds:10.4f}{seconds / step.seconds - 1:+8.0%}")
    error = found.quality
    lines.append(
        f"median error {error.median_error:.0%}, 90th percentile {error.p90_error:.0%}, rank correlation "
        f"{error.spearman:.2f} over {error.count} steps"
    )
    return lines


def _report(found: Calibration, name: str) -> dict[str, Any]:
    from dataclasses import asdict

    from neulite_sim.studies.calibration import catalogue_text

    return {
        "name": name,
        "device": found.device,
        "compute_unit": found.compute_unit,
        "threads": found.num_threads,
        "installed_memory_bytes": found.installed_memory_bytes,
        "available_memory_bytes": found.available_memory_bytes,
        "machine": asdict(found.machine),
        "constants": asdict(found.constants),
        "intervals": {"low": asdict(found.low), "high": asdict(found.high)},
        "quality": found.quality.to_json(),
        "load": found.load.to_json(),
        "steps": [
            {"network": step.network, "step": step.what, "measured_s": step.seconds, "predicted_s": seconds}
            for step, seconds in zip(found.steps, found.predicted_s, strict=True)
        ],
        "toml": catalogue_text(found, name),
    }
