"""`neulite-sim report`: a run, several runs or a memory-budget study as one HTML file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson

if TYPE_CHECKING:
    from neulite_sim.errors import DataNotFoundError
    from neulite_sim.reports.html.page import Builder

OUT = Path("report.html")


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...",
            help="Run folders, folders that hold run folders, or one file of whatif --json or --csv.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file; one that is there is replaced.")] = OUT,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP", help="Of several runs: compare with this group or method, paired by seed; else the first."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file that explains a run, compares several, or shows a study; it needs no network and no server.

    One run folder gives the page of that run; several give their comparison; a file of `whatif` gives its study.
    """
    from neulite_sim.cli.compare import unreadable
    from neulite_sim.reports.html.page import write_page
    from neulite_sim.units import format_bytes

    check_out(out, paths)
    kind, build, problems = _builder(paths, out, baseline)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    num_bytes = write_page(build, out)
    if as_json:
        answer({"report": str(out), "bytes": num_bytes, "kind": kind, "inputs": [str(path) for path in paths]})
    else:
        typer.echo(f"{out} ({format_bytes(num_bytes)})")
    if problems:
        raise unreadable(problems)


def _builder(
    paths: Sequence[Path], out: Path, baseline: str | None
) -> tuple[str, Builder, Sequence[DataNotFoundError]]:
    """Return what the page is about, how to build it, and what of the arguments could not be read.

    Raises:
        ScenarioError: files and folders together, several files, or a baseline where nothing is compared.
        DataNotFoundError: nothing can be read.
    """
    from neulite_sim.api.finding import all_of
    from neulite_sim.cli.compare import read_named

    files = [path for path in paths if path.is_file()]
    if files:
        from neulite_sim.reports.html.study_page import study_page

        if len(paths) > 1:
            what = "several files" if len(files) == len(paths) else "a file beside run folders"
            raise _refused(
                "RUN_DIR",
                f"{what} ({files[0]}): a study and runs are different reports",
                "give run folders, or one file of `whatif --json`",
            )
        _refuse_baseline(baseline, "a study is given")
        return "study", lambda most_rows: study_page(files[0], shown_as=_relative(files[0], out)), []
    named = read_named(paths)
    runs, problems = named.runs, named.problems
    if not runs:
        raise all_of(problems)
    if len(runs) == 1 and not problems:
        from neulite_sim.reports.html.run_page import run_page

        _refuse_baseline(baseline, "one run is given")
        path = runs[0].path
        return "run", lambda most_rows: run_page(path, most_rows=most_rows, shown_as=_relative(path, out)), []
    from neulite_sim.reports.html.comparison_page import comparison_page

    shown_as = [_relative(path, out) for path in paths]
    return "comparison", lambda most_rows: comparison_page(runs, baseline=baseline, shown_as=shown_as), problems


def _refuse_baseline(baseline: str | None, why: str) -> None:
    if baseline is not None:
        raise _refused("--baseline", f"acts only where several runs are compared, but {why}", "remove it")


def check_out(out: Path, paths: Sequence[Path]) -> None:
    """Refuse an `--out` that would replace or damage what the report is made from, or that is a folder.

    Raises:
        ScenarioError: it is one of the inputs, or a folder, or lies in a run folder.
    """
    from neulite_sim.results.outputs import check_outputs

    if out.is_dir():
        raise _refused("--out", f"{out} is a folder", f"name a file, such as {out / OUT.name}")
    if any(path.resolve() == out.resolve() for path in paths):
        raise _refused("--out", f"{out} is what the report is made from", "name another file")
    check_outputs({"--out": out}, paths)


def _refused(key: str, found: str, hint: str) -> Exception:
    from neulite_sim.errors import Problem, ScenarioError

    return ScenarioError([Problem.advising(key=key, found=found, hint=hint)])


def _relative(path: Path, out: Path) -> str:
    """Return a path as a shell takes it in the folder of the report."""
    folder, target = out.absolute().parent.resolve(), path.resolve()
    try:
        return shlex.quote(os.path.relpath(target, folder))
    except ValueError:
        # Another drive has no relative path.
        return shlex.quote(str(target))
