"""`whatif`: who could take part at other memory budgets, at what cost, and with what accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from neulite_sim.api.lists import Listed, Methods, budgets_of, counts_of, fits_of, methods_text, refused
from neulite_sim.api.result import FilePath, Result, as_html, as_json, rows_of
from neulite_sim.api.sources import Chosen, Values, source_of
from neulite_sim.api.sweep import require_jobs
from neulite_sim.arguments import path_of
from neulite_sim.results.row_table import Rows
from neulite_sim.scenario.sources import AnyScenario, Settings, Source, setting_texts

if TYPE_CHECKING:
    from neulite_sim.api.running import Telling
    from neulite_sim.notebook.figure import Figure
    from neulite_sim.population.sampling import DrawnFleet
    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.reports.table import TextTable
    from neulite_sim.studies.sweeps import EndedRun
    from neulite_sim.studies.whatif import Budgets, Entrant


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StudyResult(Result):
    """A memory-budget study: a row per method, way to train and budget.

    `failed` are the runs of `train` that failed, with their reason.
    """

    content: Mapping[str, Any]
    has_details: bool = False
    failed: tuple[EndedRun, ...] = ()
    num_runs: int = 0

    @property
    def rows(self) -> Rows:
        """A row per variant and budget: participation, what stops the others, and what a round costs."""
        return rows_of(self.content["rows"])

    @property
    def submodels(self) -> Rows:
        """A row per variant, budget and submodel: who holds it, and what the others are short of."""
        return rows_of(self.content["submodels"])

    @property
    def device_classes(self) -> Rows:
        """A row per variant and class of device: what it lacks to take part, and to train the full model."""
        return rows_of(self.content["device_classes"])

    @property
    def includes_everyone_at_bytes(self) -> dict[str, int]:
        """By variant, the memory from which every device takes part, where all have exactly that."""
        return dict(self.content["includes_everyone_at_bytes"])

    def tables(self, *, width: int | None = None) -> list[TextTable]:
        """Return the tables of `whatif`, in blocks below each other where they are to fit `width` characters."""
        from neulite_sim.reports.whatif_table import whatif_tables

        return whatif_tables(self.content, width=width, details=self.has_details)

    def text(self) -> str:
        """Return what the command prints where there is no terminal: tables with a line between them."""
        return "\n\n".join(table.text() for table in self.tables())

    def to_json(self, path: FilePath | None = None) -> dict[str, Any]:
        """Return the object of `whatif --json`, written into a file too if one is named: `report` takes it.

        Raises:
            OutputError: the file cannot be written.
        """
        return as_json(self.content, path)

    def to_html(self, path: FilePath | None = None) -> str:
        """Return the page that `report` makes of this study, written into a file too if one is named.

        Raises:
            OutputError: the file cannot be written.
        """
        from neulite_sim.reports.html.study import study_of
        from neulite_sim.reports.html.study_page import page_of

        study = study_of(self.content, Path(f"{self.content['scenario']}-whatif.json"))
        return as_html(lambda most_rows: page_of(study, shown_as=study.path.name), path)

    def drawn(self, file: Path | None, options: PlotOptions) -> Figure:
        """Return the figure as `plot` does, for options that have been checked."""
        from neulite_sim.reports.whatif_plot import draw_whatif

        return draw_whatif(self.content, file, options)

    def check(self) -> None:
        """Say which runs failed, if any did.

        Raises:
            RunsFailedError: runs failed; it holds this result.
        """
        from neulite_sim.api.running import failure_of_runs

        if self.failed:
            raise failure_of_runs(self.failed, self.num_runs, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStudy:
    """A study that has been checked: who takes part in it, and at which budgets."""

    entrants: tuple[Entrant, ...]
    left_out: Mapping[str, str]
    budgets: Budgets
    fleet: DrawnFleet | None

    @property
    def variants(self) -> list[str]:
        """What its lines are called."""
        return [entrant.variant for entrant in self.entrants]

    def answer(self, *, command: str = "", has_details: bool = False) -> StudyResult:
        """Return the study without training; `command` is what the user typed.

        Raises:
            ScenarioError: no entrant goes with the scenario.
            DataNotFoundError: a dataset or trace is missing.
        """
        from neulite_sim.studies.helping import helped
        from neulite_sim.studies.whatif import study

        with helped(self.entrants, self.budgets) as help_:
            report = study(self.entrants, self.budgets, self.fleet, before_each=help_.before_profile)
        report["not_applicable"] |= self.left_out
        report["command"] = command
        return StudyResult(content=report, has_details=has_details)

    def trained(self, found: StudyResult, *, out: FilePath | None, jobs: int | None, telling: Telling) -> StudyResult:
        """Run what is not finished of every method at every budget; return the study with what was learned.

        Raises:
            OutputError: the folder cannot be written, or another sweep is at work in it.
        """
        from neulite_sim.api.running import run_planned
        from neulite_sim.studies.whatif_training import planned_runs, with_learning

        known = {row["variant"] for row in found.content["rows"]}
        runners = [entrant for entrant in self.entrants if entrant.variant in known]
        folder = (
            Path("runs") / f"{found.content['scenario']}-whatif"
            if out is None
            else path_of("out", out, "the path of a folder, or None")
        )
        runs = planned_runs(runners, self.budgets, out=folder)
        failed = run_planned(list(runs.values()), folder, jobs, telling)
        content = with_learning(found.content, self.budgets, runs)
        return StudyResult(content=content, has_details=found.has_details, failed=failed, num_runs=len(runs))


def planned_study(
    scenario: Source,
    *,
    memory: Listed = None,
    scale_memory: Listed = None,
    cap_memory: Listed = None,
    methods: Methods = None,
    batch_sizes: Listed = None,
    micro_batch: Listed = None,
    checkpointing: bool = False,
    fit: Listed = None,
    overrides: Sequence[str] = (),
) -> PlannedStudy:
    """Return a study as it would be made, after checking all that does not take profiling.

    Raises:
        ScenarioError: the scenario, a method or an option is wrong.
        DataNotFoundError: a dataset or trace is missing.
    """
    budgets = budgets_of({"memory": memory, "scale": scale_memory, "cap": cap_memory})
    from neulite_sim.api.checks import FleetCheck
    from neulite_sim.studies.whatif_entrants import entrants, tunings

    ways = tunings(
        batch_sizes=counts_of("--batch-sizes", batch_sizes),
        micro_batch_sizes=counts_of("--micro-batch", micro_batch),
        checkpointing=checkpointing,
        fits=fits_of(fit),
    )
    check, chosen = FleetCheck(), Chosen(scenario, overrides)
    found, left_out = entrants(
        scenario, methods=methods_text(methods, chosen), overrides=overrides, ways=ways, checks=[check]
    )
    if check.fleet is not None:
        budgets.require_possible(check.fleet.population.available_memory_bytes)
    return PlannedStudy(entrants=tuple(found), left_out=left_out, budgets=budgets, fleet=check.fleet)


def whatif(
    scenario: AnyScenario, *, memory: Listed = None, scale_memory: Listed = None, cap_memory: Listed = None,
    methods: Methods = None, batch_sizes: Listed = None,
    micro_batch: Listed = None, checkpointing: bool = False, fit: Listed = None, train: bool = False,
    jobs: int | None = None, out: FilePath | None = None, details: bool = False, overrides: Settings = (),
    seed: int | None = None, progress: bool | None = None, check: bool = True, **values: Unpack[Values],
) -> StudyResult:  # fmt: skip
    """Return for other memory budgets who can take part with each method, what stops the others, what a round costs.

    What `neulite-sim whatif` prints. Give one of `memory`, `scale_memory` and `cap_memory`, or
    none for half of the fleet's own budgets, these, and twice as much.

    Args:
        scenario: a path, a mapping of plain values, or a `Scenario`.
        memory: budgets that every device is given, `["100MB", "1.6GB"]`, `"100MB,1.6GB"`, or numbers of bytes.
        scale_memory: factors of the fleet's own budgets, `[0.5, 1, 2]`.
        cap_memory: limits of the fleet's own budgets, as `memory`.
        methods: names, mappings with options, or classes and functions of your own,
            `["neulite", {"kind": "depthfl"}, MyMethod]`; all by default.
        batch_sizes: also vary the batch size.
        micro_batch: also with micro-batches of these sizes, beside whole batches.
        checkpointing: also with activation checkpointing, beside training without it.
        fit: ways to fit steps into memory, "none", "auto" or both.
        train: also train each method at each budget: accuracy and time to accuracy.
        jobs: with `train`, runs at a time.
        out: with `train`, folder of the runs; `runs/NAME-whatif` by default.
        details: also say in the tables who holds each submodel.
        overrides: dotted keys with values, `{"stop.rounds": 20}`, or texts as `--set` takes them.
        seed: in the place of the scenario's own.
        progress: whether to show how training goes: by default in a notebook only.
        check: raise where runs failed, after the others are done; else they are in `failed`.
        values: model, data, partition, method, selector, protocol and availability as `simulate` takes them.

    Raises:
        ScenarioError: the scenario, a method or an option is wrong, or no method goes with the scenario.
        DataNotFoundError: a dataset or trace is missing.
        OutputError: with `train`, the folder cannot be written, or another sweep is at work in it.
        RunsFailedError: with `train`, runs failed; `result` holds the study with the others.
    """
    require_training(train=train, jobs=jobs, out=out)
    texts = [*setting_texts(overrides), *([] if seed is None else [f"seed={seed}"])]
    planned = planned_study(
        source_of(scenario, values), memory=memory, scale_memory=scale_memory, cap_memory=cap_memory, methods=methods,
        batch_sizes=batch_sizes, micro_batch=micro_batch, checkpointing=checkpointing, fit=fit, overrides=texts,
    )  # fmt: skip
    found = planned.answer(has_details=details)
    if train:
        from neulite_sim.api.running import telling_of

        found = planned.trained(found, out=out, jobs=jobs, telling=telling_of(progress))
        if check:
            found.check()
    return found


def require_training(*, train: bool, jobs: int | None, out: FilePath | None) -> None:
    """Refuse what acts only where something is trained.

    Raises:
        ScenarioError: it is given without `train`.
    """
    for option, value in (("--jobs", jobs), ("--out", out)):
        if value is not None and not train:
            raise refused(option, f"acts only with --train, found {value}", "remove it, or add --train")
    require_jobs(jobs)
