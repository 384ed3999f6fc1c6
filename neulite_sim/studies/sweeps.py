"""Studies: the runs of a sweep, each a process of its own, some at a time.

A finished run is not run again. A cut-off one goes on from its last checkpoint, as `neulite-sim resume` does, and ends
with the digest of an unbroken one; where it cannot, it is run anew and the reason is told. A run that fails does not
stop the others, and a method that no device can train is a result
(docs/decisions/0015-not-applicable-is-a-result.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from neulite_sim.engine.resuming import find_cut_off
from neulite_sim.engine.simulation import describe_proxy, identity_of, targets_of
from neulite_sim.errors import InfeasibleError, NeuliteError, NotResumableError, OutputError
from neulite_sim.machine import usable_processors
from neulite_sim.outside import create_regular, open_own, what_stands
from neulite_sim.results.asking import asked_of
from neulite_sim.results.folder import RunFolder, clear_cut_off
from neulite_sim.results.places import COMPLETE, PROVENANCE, SCENARIO, require_own
from neulite_sim.results.provenance import changed_inputs, is_of, provenance, read_provenance
from neulite_sim.results.seals import SEAL
from neulite_sim.results.summary import Tally
from neulite_sim.results.writing import write_whole
from neulite_sim.scenario.inputs import pinned
from neulite_sim.scenario.loading import dump_scenario
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sources import Source, is_path
from neulite_sim.scenario.sweeps import Variant
from neulite_sim.studies.children import ChildFailure, child_failure
from neulite_sim.studies.handing import VARIABLE, hand_over
from neulite_sim.studies.starting import Starter

WORK = ".sweep"
"""Inside the folder of a sweep: its lock, what runs answer while they work, and what they said where they failed."""

_POLL_S, _PATIENCE_S = 0.1, 30.0
# -P: as for the installed command, the current directory holds data and not modules.
_PROGRAM = (sys.executable, "-P", "-m", "neulite_sim")
_ANSWERS = "--json"
SCENARIOS = "scenarios"

FolderState = Literal["new", "finished", "cut off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of a sweep: its folder, what is there already, and the command that runs it from its start.

    A cut-off run has either a `resume_command`, which goes on after `checkpoint_round`, or in `anew_because` a few
    words on why it is run from its start.
    """

    name: str
    folder: Path
    state: FolderState
    scenario: Scenario
    command: tuple[str, ...]
    resume_command: tuple[str, ...] = ()
    checkpoint_round: int = 0
    anew_because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that ended. `message` says why it failed, or why no device could train anything.

    `error` is what a failed run answered: `kind`, `message` and `hint`, as `run --json` prints them.
    """

    run: PlannedRun
    outcome: Literal["done", "NA", "failed"]
    message: str
    wall_time_s: float
    error: Mapping[str, Any] = field(default_factory=dict)


Working = dict["subprocess.Popen[bytes]", tuple[PlannedRun, float]]
"""The processes of the runs at work, and when each of these began."""


def plan(variants: Sequence[Variant], *, scenario: Source, out: Path) -> tuple[PlannedRun, ...]:
    """Return the runs of a sweep over a scenario, in folders of `out`.

    Where it is no file, each variant is written into one, from which its run starts.

    Raises:
        OutputError: a folder is there that holds a run of another scenario, one that read other files than there
            are now, or no run.
        DataNotFoundError: something else stands in the place of a file of a run.
    """
    if is_path(scenario):
        return tuple(_planned(variant, os.fspath(scenario), out / variant.name) for variant in variants)
    return tuple(plan_written(variant.scenario, variant.name, out=out) for variant in variants)


def plan_written(scenario: Scenario, name: str, *, out: Path) -> PlannedRun:
    """Write a scenario into a folder, and return the run that starts from its file.

    Raises:
        OutputError: the folder cannot be written, or holds another run, or none, under that name.
        DataNotFoundError: something else stands in the place of a file of a run.
    """
    file = out / SCENARIOS / f"{name}.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{file}: cannot write: {error.strerror}", hint="choose another place with --out") from error
    # A run of another scenario is refused before its own file is replaced.
    planned = _planned(Variant(name=name, overrides=(), scenario=scenario), str(file), out / name)
    write_whole(file, dump_scenario(pinned(scenario)))
    return planned


def _planned(variant: Variant, scenario: str, folder: Path) -> PlannedRun:
    settings = [part for text in variant.overrides for part in ("--set", text)]
    seed = ("--seed", str(variant.scenario.seed))
    command = (*_PROGRAM, "run", scenario, *settings, *seed, "--out", str(folder), "--quiet")
    state = _state(folder, variant.scenario)
    run = PlannedRun(name=variant.name, folder=folder, state=state, scenario=variant.scenario, command=command)
    return _with_past(run) if state == "cut off" else run


def _state(folder: Path, scenario: Scenario) -> FolderState:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return "new"
    require_own(folder)
    if not (folder / SCENARIO).is_file():
        raise OutputError(
            f"{folder}: holds other files and no run", hint="choose another place with --out, or remove it"
        )
    is_complete = (folder / COMPLETE).exists()
    if (folder / PROVENANCE).exists():
        # A cut-off run of an older version is run anew, a finished one must not pass for what it may not be.
        made = read_provenance(folder, takes_older=not is_complete)
        if not is_of(scenario, made):
            raise OutputError(
                f"{folder}: holds a run of another scenario than this sweep has under that name (compare its "
                f"{SCENARIO})",
                hint="choose another place with --out, or remove it",
            )
        if SEAL in made and (changed := changed_inputs(scenario, made)):
            raise OutputError(
                f"{folder}: holds a run that read other files than there are now: {changed}",
                hint="put them back, choose another place with --out, or remove it",
            )
    return "finished" if is_complete else "cut off"


def _with_past(run: PlannedRun) -> PlannedRun:
    """Return a cut-off run with the command that resumes it, or with the reason why none can."""
    try:
        found = find_cut_off(run.folder).found
    except NeuliteError as error:
        return replace(run, anew_because=_in_short(error.what, run.folder))
    if found is None:
        return replace(run, anew_because="it has no checkpoint yet")
    command = (*_PROGRAM, "resume", str(run.folder), "--quiet")
    return replace(run, resume_command=command, checkpoint_round=found.round)


def _in_short(what: str, folder: Path) -> str:
    """Return the first line of an error about a run folder, without the folder."""
    return what.replace(f"{folder}{os.sep}", "").removeprefix(f"{folder}: ").partition("\n")[0]


def default_jobs(runs: Sequence[PlannedRun]) -> int:
    """Return how many runs may work at once: as many as the processors hold, one where a run fills the machine."""
    backends = [run.scenario.backend for run in runs]
    if any(item.kind not in ("inprocess", "dry-run") or getattr(item.options, "device", "cpu") != "cpu"
           for item in backends):  # fmt: skip
        return 1
    threads = max((_threads_of(item.options) for item in backends), default=1)
    return max(1, usable_processors() // threads)


def _threads_of(options: Any) -> int:
    return int(getattr(options, "num_workers", 1) * getattr(options, "threads_per_worker", 1))


def run_all(runs: Sequence[PlannedRun], *, out: Path, jobs: int) -> Generator[PlannedRun | EndedRun, None, None]:
    """Run what is not finished, `jobs` at a time; yield each run when it starts, and again when it ended.

    A run whose journal or weights turn out to be damaged when it is resumed is run anew, and yielded once more when
    that starts. Closing the iterator, or Ctrl-C, ends the runs at work; the next time they go on from their last
    checkpoint.

    Raises:
        OutputError: `out` cannot be written, or another sweep is at work in it.
        NeuliteError: what was given from Python cannot be sent to other processes.
    """
    waiting = deque(run for run in runs if run.state != "finished")
    working: Working = {}
    with _claimed(out / WORK) as lock, contextlib.ExitStack() as stack:
        given = hand_over([run.scenario for run in waiting])
        held = (lock,) if given is None else (lock, stack.enter_context(given).fileno())
        starter = Starter()
        try:
            while waiting or working:
                while waiting and len(working) < jobs:
                    run = waiting.popleft()
                    starter.do(_start, run, out / WORK, held, working)
                    yield run
                time.sleep(_POLL_S)
                for process in [process for process in working if process.poll() is not None]:
                    run, started_s = working.pop(process)
                    ending = _ending(run, process.returncode, out / WORK)
                    if reason := _why_not_resumed(run, ending):
                        waiting.appendleft(replace(run, resume_command=(), anew_because=reason))
                    else:
                        yield _ended(run, process.returncode, ending, out / WORK, time.monotonic() - started_s)
        finally:
            try:
                starter.close()
            finally:
                _stop(working)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[int]:
    """Hold a sweep's folder; runs inherit the lock, so that one left behind by a killed sweep holds it as well."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if what_stands(folder) != "a folder":
            raise OSError(errno.ENOTDIR, "is a link, where a sweep has a folder of its own")
        file = open_own(folder / "lock")
    except OSError as error:
        wish = "make room or rights there, or choose another place with --out"
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", hint=wish) from None
    with file:
        _lock(file.fileno(), folder.parent)
        yield file.fileno()


def _lock(lock: int, out: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        wish = "wait for it, or choose another place with --out"
        raise OutputError(f"{out}: another sweep, or a run it left behind, is at work there", hint=wish) from None


def _log(run: PlannedRun, work: Path) -> Path:
    return work / f"{run.name}.log"


def _answer(run: PlannedRun, work: Path) -> Path:
    return work / f"{run.name}.json"


def _start(run: PlannedRun, work: Path, held: Sequence[int], working: Working) -> None:
    """Start a run, which inherits the lock of the sweep, and what was given from Python if anything was."""
    if run.state == "cut off" and not run.resume_command:
        clear_cut_off(run.folder)
    # A checkout that is not installed is found as well.
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if len(held) > 1:
        environment[VARIABLE] = str(held[1])
    paths_of_run = _answer(run, work), _log(run, work)
    for path in paths_of_run:
        path.unlink(missing_ok=True)
    with create_regular(paths_of_run[0]) as answer, create_regular(paths_of_run[1]) as log:
        # A session of its own: Ctrl-C reaches a run once, through `_stop`.
        process = subprocess.Popen(
            (*(run.resume_command or run.command), _ANSWERS), stdin=subprocess.DEVNULL, stdout=answer, stderr=log,
            start_new_session=True, pass_fds=() if sys.platform == "win32" else held, env=environment,
        )  # fmt: skip
    working[process] = (run, time.monotonic())


def _stop(working: Working) -> None:
    for process in working:
        process.terminate()
    until_s = time.monotonic() + _PATIENCE_S
    for process in working:
        try:
            process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ending(run: PlannedRun, exit_code: int, work: Path) -> ChildFailure | None:
    """Return why a run failed, None where it did not; its answer has then been read."""
    answer = _answer(run, work)
    on_ray = run.scenario.backend.kind not in ("inprocess", "dry-run")
    ending = child_failure(answer, _log(run, work), exit_code, may_be_spoken_for=on_ray) if exit_code else None
    answer.unlink(missing_ok=True)
    return ending


def _why_not_resumed(run: PlannedRun, ending: ChildFailure | None) -> str:
    """Return why what a run left behind cannot be used; empty where it was used, or did not fail for that."""
    if not run.resume_command or ending is None or ending.kind != NotResumableError.kind:
        return ""
    return _in_short(str(ending.details.get("what", ending.message)), run.folder)


def _ended(run: PlannedRun, exit_code: int, ending: ChildFailure | None, work: Path, wall_time_s: float) -> EndedRun:
    log = _log(run, work)
    if ending is None:
        log.unlink(missing_ok=True)
        return EndedRun(run=run, outcome="done", message="", wall_time_s=wall_time_s)
    # A run that is resumed has trained: that it now cannot has a cause outside it, and its folder is kept.
    if ending.kind == InfeasibleError.kind and not run.resume_command:
        write_not_applicable(run.scenario, ending.message, out=run.folder, command=run.command)
        log.unlink(missing_ok=True)
        return EndedRun(run=run, outcome="NA", message=ending.message, wall_time_s=wall_time_s)
    # Errors for users, with exit code 2, say themselves what to do.
    may_be_past = bool(run.resume_command) and exit_code != NeuliteError.exit_code
    wish = f"; to run it anew, remove {run.folder}" if may_be_past else ""
    message = f"{ending.in_a_line} (all it said: {log}{wish})"
    return EndedRun(run=run, outcome="failed", message=message, wall_time_s=wall_time_s, error=ending.to_json())


def write_not_applicable(scenario: Scenario, reason: str, *, out: Path, command: Sequence[str] = ()) -> dict[str, Any]:
    """Write the run folder of a method that no device can train, and return its summary.

    Nothing ran: no rows, no model, no digest; participation, data share and traffic are zero, accuracies and times
    None, and `not_applicable` says why.

    Raises:
        OutputError: the folder holds something or cannot be written.
    """
    tally = Tally([0], targets=targets_of(scenario))
    summary = tally.summary(
        identity_of(scenario), participation_rate=0.0, proxy=describe_proxy(scenario), wall_time_s=0.0, digest=""
    )
    unknown = dict.fromkeys(("virtual_time_s", "peak_memory_bytes", "wall_time_s", "digest"))
    summary |= {**unknown, "not_applicable": reason}
    scenario = pinned(scenario)
    folder = RunFolder.create(
        out,
        name=scenario.name,
        seed=scenario.seed,
        scenario_yaml=dump_scenario(scenario),
        provenance=provenance(scenario, command),
        asked=asked_of(scenario),
    )
    with folder:
        folder.finish(summary, None)
    return summary
