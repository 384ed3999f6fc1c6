"""Finished runs read back from their folders, and cut-off ones gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from neulite_sim.api.result import FilePath
from neulite_sim.api.sources import Values
from neulite_sim.arguments import observers_of, path_of
from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.places import SCENARIO
from neulite_sim.results.stored import find_runs, read_run, with_energy
from neulite_sim.turns import my_turn

if TYPE_CHECKING:
    from neulite_sim.engine.run_result import RunResult
    from neulite_sim.results.contract import Observer


def load_run(run_dir: FilePath) -> RunResult:
    """Return a finished run from its folder: what `simulate` returned for it.

    Raises:
        DataNotFoundError: there is no run, it was cut off, or a file of it is missing or damaged.
        ArgumentError: `run_dir` is no path.
    """
    from neulite_sim.engine.run_result import RunResult
    from neulite_sim.scenario.loading import load_scenario

    folder = path_of("run_dir", run_dir, "the path of a run folder")
    found = find_runs(folder)
    if found != [folder]:
        hint = f"name one of the runs in it, such as {found[0]}, or compare them with neulite_sim.compare"
        raise DataNotFoundError(f"{folder}: is no run folder, but holds {len(found)}", hint=hint)
    run = with_energy(read_run(folder))
    if not run.is_complete:
        hint = "go on with it: neulite_sim.resume(...), or neulite-sim resume"
        raise DataNotFoundError(f"{folder}: this run was cut off, or still goes on", hint=hint)
    return RunResult(summary=dict(run.summary), run_dir=folder, scenario=load_scenario(folder / SCENARIO))


@my_turn()
def resume(
    run_dir: FilePath,
    *,
    backend: str | None = None,
    workers: int | Literal["auto"] | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    **values: Unpack[Values],
) -> RunResult:
    """Go on where a stopped or killed run ended, and return its result: that of a run that was never broken off.

    What `neulite-sim resume` does.

    Args:
        run_dir: the folder of the run.
        backend: "ray" or "inprocess", where it is to run from now on; by default where it ran before.
        workers: number of Ray actors, or of threads, or "auto" for as many as the processors hold.
        observers: are told what happens, as those of `simulate`.
        progress: whether to show how it goes: by default in a notebook only.
        values: what was given to the run from Python, once more: it is not in the folder.

    Raises:
        OutputError: there is no such run, it is complete, or another process is writing it.
        DataNotFoundError: what the run left behind cannot be read, or was changed; nothing was changed in the folder.
        ScenarioError: no such backend, or `workers` for one that has none.
        BackendUnavailableError: the backend cannot start.
        SimulationError: the run failed, or the replay did not come to what the run had come to.
        ArgumentError: `run_dir` is no path, or `observers` are none.
    """
    from neulite_sim.api.backend import with_backend
    from neulite_sim.engine.given import held_values
    from neulite_sim.engine.resuming import find_cut_off
    from neulite_sim.engine.resuming import resume as go_on
    from neulite_sim.notebook.progress import following

    # Held to the end: the scenario names them by their fingerprints, and messages tell them from others.
    _held = held_values(**values)
    observers = observers_of(observers)
    run = find_cut_off(path_of("run_dir", run_dir, "the path of a run folder"))
    chosen: Any = with_backend(run.scenario, kind=backend, workers=workers).backend
    with following(progress) as followers:
        return go_on(run, backend=chosen, observers=[*observers, *followers])
