"""Go on with a run that was stopped or killed; its result is that of a run that was never broken off."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neulite_sim.engine import assembly, building
from neulite_sim.engine.run_result import Heard, RunResult
from neulite_sim.engine.simulation import data_sha256, drive, keeper_of
from neulite_sim.errors import OutputError
from neulite_sim.registry import Choice
from neulite_sim.results.asking import asked_of
from neulite_sim.results.checkpoint import Found, find_checkpoint
from neulite_sim.results.contract import Observer
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.places import CHECKPOINT, SCENARIO, require_begun, require_own
from neulite_sim.results.provenance import check_inputs, check_resumable, read_provenance, require_incomplete
from neulite_sim.results.writing import ROOM, advising
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.written import naming_places
from neulite_sim.seeding import own_brief_streams
from neulite_sim.training.pinning import pinned_torch


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """A run that was cut off: its folder, its scenario, and its last checkpoint, if it got that far."""

    run_dir: Path
    scenario: Scenario
    found: Found | None


def find_cut_off(run_dir: Path) -> CutOff:
    """Return the run that was cut off in a folder.

    Raises:
        OutputError: there is none, it is complete, or another version made it.
        DataNotFoundError: its checkpoint cannot be read.
    """
    path = run_dir / SCENARIO
    require_own(run_dir)
    require_begun(run_dir)
    if not path.is_file():
        raise OutputError(f"{run_dir}: holds no {SCENARIO}, so it is no run folder", hint="name the folder of a run")
    scenario = load_scenario(path)
    check_resumable(run_dir, scenario)
    return CutOff(run_dir=run_dir, scenario=scenario, found=find_checkpoint(run_dir / CHECKPOINT))


def resume(run: CutOff, *, backend: Choice | None = None, observers: Sequence[Observer] = ()) -> RunResult:
    """Replay a run up to its last checkpoint, go on from there, and return its result.

    `backend` is where the work runs from now on; by default where it ran before. The bits do not depend on it.

    Raises:
        OutputError: the folder cannot be written, or another process is writing it.
        DataNotFoundError: journal or checkpoint cannot be read, or were changed; nothing was changed in the folder.
        BackendUnavailableError: the backend cannot start.
        SimulationError: the run failed, or the replay did not come to what the run had come to.
    """
    scenario = run.scenario
    if backend is not None:
        scenario = scenario.model_copy(update={"backend": backend}).written_in(scenario.written.without("backend"))
    again = f"{ROOM}, then go on with: neulite-sim resume {shlex.quote(str(run.run_dir))}"
    with naming_places(scenario), advising(again):
        return _resumed(run, scenario, observers)


@pinned_torch()
@own_brief_streams()
def _resumed(run: CutOff, scenario: Scenario, observers: Sequence[Observer]) -> RunResult:
    live = building.build_backend(scenario)
    heard = Heard()
    try:
        costing = assembly.ready(scenario, live)
        made = read_provenance(run.run_dir)
        check_inputs(run.run_dir, run.scenario, made, data_sha256=data_sha256(costing))
        # The journal first: its lock keeps others out of the folder.
        keeper = keeper_of(costing, run.run_dir, run.found)
        with (
            contextlib.closing(keeper),
            RunFolder.reopen(run.run_dir, asked=asked_of(scenario, costing.trained.spec)) as folder,
        ):
            # Since this run was looked at, another thread or process may have gone on with it to its end.
            require_incomplete(run.run_dir)
            keeper.on_success = folder.put_in_place
            if run.found is None:
                keeper.begin()
            summary = drive(costing, live, folder, (*observers, heard), run_dir=run.run_dir, keeper=keeper)
        return RunResult(summary=summary, run_dir=run.run_dir, scenario=scenario, notices=heard.messages)
    finally:
        live.close()
