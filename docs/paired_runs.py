"""Tables of methods over the same seeds: what `methods_compared.py` and `ablation.py` have in common.

A table is a scenario and its entries, each with settings of its own. Every entry runs with every seed, for the virtual
time that the table's clock entry needs, and is compared with the table's baseline seed by seed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from paired_cells import COLUMNS, Runs, accuracy, difference_cell, markdown, mean_cell, placed, time_cell, values

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import NeuliteError
from neulite_sim.results.provenance import read_provenance
from neulite_sim.scenario.loading import load_scenario

CHECKOUT = Path(__file__).parents[1]
SEEDS = (42, 43, 44)
MOST_ROUNDS_SHARE = 2
"""No entry does more than so many times the rounds of its table, however short its own are."""
CLOSE_ENOUGH, MOST_STEPS = 0.01, 4
"""How near the rounds of an entry come to the virtual time of the clock, and after how many dry runs at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of a table.

    `settings` are `--set` texts, in which {rounds} stands for the number of rounds and {rounds/4} for a quarter of it,
    rounded up. What its next round is may hang on trained weights, which no dry run has: then `as_long_as` names an
    entry that does as many rounds in the same time.
    """

    name: str
    label: str
    settings: tuple[str, ...] = ()
    as_long_as: str = ""

    def at(self, rounds: int) -> list[str]:
        """Return the settings for a run of so many rounds."""

        def share(match: re.Match[str]) -> str:
            return str(math.ceil(rounds / int(match[1] or 1)))

        texts = (re.sub(r"\{rounds(?:/(\d+))?\}", share, text) for text in self.settings)
        return [*texts, f"stop.rounds={rounds}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A scenario, its entries in the order of their lines, and what they are compared with.

    `target` is an accuracy, as `time_to_accuracy_s` names it. All entries run for the virtual time that `clock` needs
    for `rounds`, or for `rounds` where it is empty.
    """

    name: str
    scenario: Path
    rounds: int
    target: str
    entries: tuple[Entry, ...]
    clock: str = "neulite"
    baseline: str = "fedavg-fit"
    seeds: tuple[int, ...] = SEEDS
    settings: tuple[str, ...] = ()
    reads_files: bool = False
    """Whether its data lie in files, so that `--data-root` says where."""
    page: Path
    """Where it stands, between `<!-- table: NAME -->` and `<!-- end -->`."""
    is_sideways: bool = False
    """Whether methods are its columns."""

    def entry(self, name: str) -> Entry:
        """Return an entry by its name."""
        return next(entry for entry in self.entries if entry.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a table."""

    table: Table
    entry: Entry
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """Its run folder; runs of a table of another length lie elsewhere."""
        return self.out / f"{self.table.name}-{self.table.rounds}-{self.entry.name}-{self.seed}"

    @property
    def is_complete(self) -> bool:
        """Whether it has been run to its end."""
        return (self.folder / "COMPLETE").exists()


def jobs_of(tables: Sequence[Table], out: Path, *, order: Sequence[str] = ()) -> list[Job]:
    """Return all runs: entries in `order` first, then as they stand; of an entry all tables and seeds together."""
    jobs = [
        Job(table=table, entry=entry, seed=seed, out=out)
        for table in tables for entry in table.entries for seed in table.seeds
    ]  # fmt: skip
    place = {name: number for number, name in enumerate(order)}
    return sorted(jobs, key=lambda job: place.get(job.entry.name, len(place)))


class AbsentError(Exception):
    """An entry cannot be run here; says why."""


_dry = threading.Lock()
_processes: set[subprocess.Popen[bytes]] = set()
_stopped = threading.Event()


def rounds_in_the_same_time(job: Job) -> int:
    """Return how many rounds an entry does in the virtual time of the table's clock.

    Found by dry runs, which train nothing: more than one, because the time of a method that grows with the number of
    rounds is not proportional to it.

    Raises:
        AbsentError: this version does not have what the entry names, or the scenario does not go with it.
    """
    table, entry = job.table, job.entry
    try:
        load_scenario(table.scenario, [*table.settings, *entry.at(table.rounds)])
        entry = table.entry(entry.as_long_as) if entry.as_long_as else entry
        if not table.clock or entry.name == table.clock:
            return table.rounds
        most = MOST_ROUNDS_SHARE * table.rounds
        wanted_s, rounds = _virtual_s(job, table.entry(table.clock), table.rounds), table.rounds
        for _ in range(MOST_STEPS):
            taken_s = _virtual_s(job, entry, rounds)
            if abs(taken_s / wanted_s - 1) <= CLOSE_ENOUGH or (rounds == most and taken_s < wanted_s):
                break
            rounds = max(1, min(round(rounds * wanted_s / taken_s), most))
    except NeuliteError as error:
        raise AbsentError(str(error)) from None
    return rounds


def _virtual_s(job: Job, entry: Entry, rounds: int) -> float:
    changes = [*job.table.settings, *entry.at(rounds), f"seed={job.seed}", "backend=dry-run"]
    with _dry:
        return float(simulate(load_scenario(job.table.scenario, changes)).summary["virtual_time_s"])


def run(job: Job) -> None:
    """Run a job in a process of its own, unless it is complete; what fails is told and keeps no other from running."""
    if job.is_complete or _stopped.is_set():
        return
    try:
        rounds = rounds_in_the_same_time(job)
    except AbsentError as absent:
        _say(f"{job.folder.name}: skipped: {absent}")
        return
    shutil.rmtree(job.folder, ignore_errors=True)
    command = [sys.executable, "-m", "neulite_sim", "run", str(job.table.scenario), "--seed", str(job.seed)]
    command += ["--backend", "inprocess", "--out", str(job.folder), "--quiet"]
    command += [word for text in (*job.table.settings, *job.entry.at(rounds)) for word in ("--set", text)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if _stopped.is_set():
        return
    # In a group of its own, so that Ctrl-C reaches it through this script alone.
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, start_new_session=True)
    _processes.add(process)
    code = process.wait()
    _processes.discard(process)
    if _stopped.is_set():
        return
    if code:
        _say(f"{job.folder.name}: failed with exit code {code}")
        return
    found = json.loads((job.folder / "summary.json").read_text())
    accuracy = found["tail_accuracy"]
    told = "not tested" if accuracy is None else f"accuracy {accuracy:.3f}"
    _say(f"{job.folder.name}: {rounds} rounds, {told}, {found['wall_time_s']:.0f} s")


def run_all(jobs: Sequence[Job], *, at_once: int) -> bool:
    """Run jobs in their order, so many at once; return whether nobody stopped it. SIGINT and SIGTERM do."""

    def stop(number: int, frame: FrameType | None) -> None:
        _stopped.set()
        for process in list(_processes):
            process.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, jobs))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return not _stopped.is_set()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- What came out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The complete runs of a table, by entry, and what all of them have in common."""

    table: Table
    runs: Mapping[str, Runs]
    origins: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    @property
    def origin(self) -> str:
        """Commit and kind of processor in words."""
        return "; ".join(f"commit {commit[:12]}, {processor}" for commit, processor in sorted(self.origins))


class MixedOriginsError(Exception):
    """The runs of a table are not of one commit and one kind of processor."""


def found_in(table: Table, out: Path) -> Found:
    """Return the complete runs of a table.

    Raises:
        MixedOriginsError: they come from several commits or kinds of processor; names a run of each.
    """
    runs: dict[str, dict[int, Mapping[str, Any]]] = {entry.name: {} for entry in table.entries}
    origins: dict[tuple[str, str], str] = {}
    for job in jobs_of([table], out):
        if job.is_complete:
            made = read_provenance(job.folder)
            origins.setdefault((str(made.get("git_commit")), str(made.get("processor"))), job.folder.name)
            runs[job.entry.name][job.seed] = json.loads((job.folder / "summary.json").read_text())
    if len(origins) > 1:
        each = "; ".join(f"{name}: commit {commit}, {kind}" for (commit, kind), name in origins.items())
        raise MixedOriginsError(
            f"{table.name}: runs of several commits or processors: {each}; remove one kind and run again"
        )
    return Found(table=table, runs=runs, origins=frozenset(origins))


def rows(found: Found) -> Iterator[tuple[str, ...]]:
    """Yield the head of a table, then a line per entry with complete runs."""
    table = found.table
    versus = f"difference to {table.entry(table.baseline).label}"
    yield ("method", "accuracy, %", versus, f"time to {float(table.target):.0%}, h", *(name for name, _, _ in COLUMNS))
    baseline = values(found.runs[table.baseline], accuracy)
    for entry in table.entries:
        runs = found.runs[entry.name]
        if not runs:
            continue
        own = values(runs, accuracy)
        some = f" ({len(runs)} of {len(table.seeds)} seeds)" if len(runs) < len(table.seeds) else ""
        is_baseline = entry.name == table.baseline
        yield (
            entry.label + some,
            mean_cell(own, ".1f"),
            "-" if is_baseline else difference_cell(own, baseline, ".1f"),
            time_cell(runs, table.target),
            *(mean_cell(values(runs, of), form) for _, of, form in COLUMNS),
        )


def written(found: Found) -> str:
    """Return what stands between a table's markers: the table and where its runs come from."""
    lines = list(rows(found))
    if found.table.is_sideways:
        lines = [tuple(cells) for cells in zip(*lines, strict=True)]
    return f"{markdown(lines)}\n\n({found.origin}.)"


def main(tables: Sequence[Table], *, about: str, folder: str, order: Sequence[str] = ()) -> int:
    """Run what is not complete, print the tables of what is, and write them into their page where that is asked."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / folder, help="where the run folders are")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, each on one thread")
    parser.add_argument("--tables", default=",".join(table.name for table in tables), help="which tables, by name")
    parser.add_argument("--share", type=float, default=1.0, help="run each table for this share of its rounds")
    parser.add_argument("--data-root", help="where CIFAR-10 is, if not under data/")
    parser.add_argument("--plan", action="store_true", help="only say how many rounds each run would have")
    parser.add_argument("--tables-only", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="write the tables into their pages")
    given = parser.parse_args()
    names = given.tables.split(",")
    if unknown := set(names) - {table.name for table in tables}:
        parser.error(f"no table is called {', '.join(sorted(unknown))}")
    chosen = [_shortened(_reading(table, given.data_root), given.share) for table in tables if table.name in names]
    jobs = jobs_of(chosen, given.out.resolve(), order=order)
    if given.plan:
        for job in jobs:
            _say_plan(job)
        return 0
    if not given.tables_only and not run_all(jobs, at_once=given.jobs):
        _say("stopped; the same command goes on with what is not complete")
    return max([_shown(table, given.out.resolve(), writes=given.write) for table in chosen], default=0)


def _reading(table: Table, root: str | None) -> Table:
    is_elsewhere = table.reads_files and root is not None
    return replace(table, settings=(*table.settings, f"data.root={root}")) if is_elsewhere else table


def _shortened(table: Table, share: float) -> Table:
    return replace(table, rounds=max(1, round(table.rounds * share)))


def _say_plan(job: Job) -> None:
    try:
        _say(f"{job.folder.name}: {rounds_in_the_same_time(job)} rounds")
    except AbsentError as absent:
        _say(f"{job.folder.name}: skipped: {absent}")


def _shown(table: Table, out: Path, *, writes: bool) -> int:
    try:
        found = found_in(table, out)
    except MixedOriginsError as mixed:
        _say(str(mixed))
        return 1
    missing = [job.folder.name for job in jobs_of([table], out) if not job.is_complete]
    if missing:
        _say(f"{table.name}: {len(missing)} runs are not complete: {', '.join(missing)}")
    if not any(found.runs.values()):
        return 0
    text = written(found)
    print(f"\n{table.name}\n\n{text}")
    if writes:
        table.page.write_text(placed(table.page.read_text(), table.name, text))
    return 0
