"""`sweep`: many runs over a grid of values and seeds, some at a time, and their comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from neulite_sim.api.compare import ComparisonResult, compare, compared
from neulite_sim.api.finding import read_runs
from neulite_sim.api.result import FilePath, Result
from neulite_sim.api.sources import Chosen, Values, source_of
from neulite_sim.api.views import AskedView
from neulite_sim.arguments import ArgumentError, path_of, texts_of
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.results.places import COMPLETE
from neulite_sim.results.row_table import Rows
from neulite_sim.scenario.sources import AnyScenario, Settings, Source, setting_texts, value_text
from neulite_sim.scenario.sweep_files import GRID_OPTION, SEEDS_OPTION, load_sweep

if TYPE_CHECKING:
    from neulite_sim.api.running import Telling
    from neulite_sim.notebook.figure import Figure
    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.reports.table import TextTable
    from neulite_sim.studies.sweeps import EndedRun, PlannedRun

SEED = "seed"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SweepResult(Result):
    """The runs of a sweep and their comparison, a row per group of runs that differ in the seed only.

    `planned` are its runs, in the order of the grid, seeds last; `failed` those that failed, with their reason.
    """

    out: Path
    planned: tuple[PlannedRun, ...]
    failed: tuple[EndedRun, ...]
    comparison: ComparisonResult
    problems: tuple[DataNotFoundError, ...] = ()
    """Of runs that finished and cannot be read."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the runs that finished."""
        return tuple(run.folder for run in self.planned if (run.folder / COMPLETE).exists())

    @property
    def runs(self) -> tuple[Any, ...]:
        """The runs that finished, as `simulate` returns them: `RunResult`s that read their rows when asked."""
        from neulite_sim.api.loading import load_run

        return tuple(map(load_run, self.folders))

    @property
    def rows(self) -> Rows:
        """A row per group of runs that differ in the seed only."""
        return self.comparison.rows

    def compare(self, **how: Any) -> ComparisonResult:
        """Return the comparison of the runs that finished; `how` is as in `neulite_sim.compare`.

        Raises:
            DataNotFoundError: none finished, or one cannot be read.
            ScenarioError: an option is not understood.
        """
        return compare(self, **how)

    def check(self) -> None:
        """Say which runs failed, if any did.

        Raises:
            RunsFailedError: runs failed; it holds this result.
        """
        from neulite_sim.api.running import failure_of_runs

        if self.failed:
            raise failure_of_runs(self.failed, len(self.planned), self)

    def tables(self, *, width: int | None = None) -> list[TextTable]:
        """Return the table that `sweep` prints at its end; none where no run finished."""
        return self.comparison.tables(width=width) if self.comparison.lines else []

    def to_json(self, path: FilePath | None = None) -> dict[str, Any]:
        """Return the object of `sweep --json`, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
        """
        from neulite_sim.api.result import as_json

        return as_json({"rows": list(self.rows)}, path)

    def to_html(self, path: FilePath | None = None) -> str:
        """Return the page that `report` makes of these runs, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
            DataNotFoundError: a file of a run is missing or damaged.
        """
        return self.comparison.to_html(path)

    def drawn(self, file: Path | None, options: PlotOptions) -> Figure:
        """Return the figure of `compare --group --plot`, for options that have been checked."""
        return self.comparison.drawn(file, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSweep:
    """A sweep that has been checked: its runs, and where they go."""

    out: Path
    runs: tuple[PlannedRun, ...]

    def run(self, *, jobs: int | None, telling: Telling) -> SweepResult:
        """Run what is not finished, and return all that finished, compared.

        Raises:
            OutputError: the folder cannot be written, or another sweep is at work in it.
        """
        from neulite_sim.api.running import run_planned

        failed = run_planned(self.runs, self.out, jobs, telling)
        found = read_runs([run.folder for run in self.runs if (run.folder / COMPLETE).exists()])
        comparison = compared(found.runs, AskedView(), group=True)
        return SweepResult(
            out=self.out, planned=self.runs, failed=failed, comparison=comparison, problems=found.problems
        )


def planned_sweep(
    scenario: Source,
    *,
    grid: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    out: FilePath | None = None,
) -> PlannedSweep:
    """Return a sweep as it would run, after checking every combination.

    Raises:
        ScenarioError: with every problem of the sweep and of its combinations.
        OutputError: a folder holds a run of another scenario, or no run.
    """
    from neulite_sim.api.checks import check_fleet
    from neulite_sim.scenario.sweeps import variants

    found = load_sweep(scenario, grid=grid, overrides=overrides, seeds=seeds)
    varied = variants(found, checks=[check_fleet])
    folder = (
        path_of("out", out, "the path of a folder, or None")
        if out is not None
        else Path("runs") / (found.name or varied[0].scenario.name)
    )

    from neulite_sim.studies.sweeps import plan

    return PlannedSweep(out=folder, runs=plan(varied, scenario=found.scenario, out=folder))


def sweep(
    scenario: AnyScenario,
    grid: Mapping[str, Sequence[Any]] | Sequence[str] = (),
    *,
    seeds: int | Sequence[int] | None = None,
    overrides: Settings = (),
    out: FilePath | None = None,
    jobs: int | None = None,
    progress: bool | None = None,
    check: bool = True,
    **values: Unpack[Values],
) -> SweepResult:
    """Run a scenario over a grid of values and seeds, and return the runs and their comparison.

    What `neulite-sim sweep` does: each run is a process of its own. Called again, it resumes what was cut off and runs
    what is missing. What no device can train is a result (NA); a run that fails does not stop the others.

    Args:
        scenario: a path (also of a sweep file), a mapping of plain values, or a `Scenario`.
        grid: keys with the values that each takes, `{"method": ["neulite", "fedavg", MyMethod]}`, every combination of
            which is run; or texts as `--grid` takes them. The key "seed" names the seeds.
        seeds: how many per combination, from the scenario's own on, or a list of them; 1 by default.
        overrides: dotted keys with values, `{"stop.rounds": 20}`, or texts as `--set` takes them.
        out: folder of the run folders; `runs/NAME` by default.
        jobs: runs at a time; by default as many as the processors hold, one with Ray or a GPU.
        progress: whether to show how it goes: by default in a notebook only.
        check: raise where runs failed, after the others are done; else they are in `failed`.
        values: model, data, partition, method, selector, protocol and availability as `simulate` takes them.

    Raises:
        ScenarioError: with every problem of the sweep and of its combinations.
        OutputError: a folder cannot be written, holds something else, or another sweep is at work in it.
        RunsFailedError: runs failed; `runs` says which and why, `result` holds the others.
    """
    require_jobs(jobs)
    given = source_of(scenario, values)
    chosen = Chosen(given, overrides)
    texts, seeds = grid_texts(grid, seeds, chosen)
    planned = planned_sweep(given, grid=texts, seeds=seeds, overrides=setting_texts(overrides), out=out)

    from neulite_sim.api.running import telling_of

    result = planned.run(jobs=jobs, telling=telling_of(progress))
    if check:
        result.check()
    return result


def require_jobs(jobs: int | None) -> None:
    """Refuse a number of runs at a time that is none.

    Raises:
        ScenarioError: it is below 1.
    """
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        raise ScenarioError([Problem(key="--jobs", message=f"must be at least 1, found {jobs!r}")])


def grid_texts(
    grid: Mapping[str, Sequence[Any]] | Sequence[str], seeds: int | Sequence[int] | None, chosen: Chosen
) -> tuple[list[str], int | Sequence[int] | None]:
    """Return a grid as `--grid` takes it, and the seeds that it names.

    Raises:
        ScenarioError: the values of a key are no list, or no plain values, or seeds are named twice.
        ArgumentError: one text, where a list of them is meant, or nothing of the kind.
    """
    if isinstance(grid, str):
        raise ArgumentError(f"grid is a mapping, or a list of key=v1,v2 texts, not one text: [{grid!r}]")
    if not isinstance(grid, Mapping):
        return texts_of("grid", grid, "a mapping of keys to their values, or a list of key=v1,v2 texts"), seeds
    texts = []
    for key, items in grid.items():
        listed = items.tolist() if hasattr(items, "tolist") else items
        if isinstance(listed, str | bytes | os.PathLike | Mapping) or not hasattr(listed, "__iter__"):
            raise ScenarioError(
                [Problem(key=key, message=f"must be a list of values, found {items!r}", file=GRID_OPTION)]
            )
        if key != SEED:
            texts.append(f"{key}={','.join(value_text(key, chosen.plain(key, value)) for value in listed)}")
        elif seeds is None:
            seeds = list(listed)
        else:
            hint = "name them in one of the two"
            raise ScenarioError(
                [Problem.advising(key=SEED, found="is varied by grid and by seeds", hint=hint, file=SEEDS_OPTION)]
            )
    return texts, seeds
