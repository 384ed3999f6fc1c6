"""A run of an app on a fleet, from its beginning to its end."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor

from neulite_sim.engine.device_columns import device_rows
from neulite_sim.engine.tracking import RUN_OVER, TIME_OVER
from neulite_sim.errors import NeuliteError, SimulationError
from neulite_sim.flower.adapting import Kept, adapted
from neulite_sim.flower.app import FlowerApp
from neulite_sim.flower.boarding import Boarding
from neulite_sim.flower.calling import Caller
from neulite_sim.flower.fleet_file import UNUSED, fleet_alone, not_used
from neulite_sim.flower.flying import Fleet, Unseen, fleet_of
from neulite_sim.flower.grid import FleetGrid
from neulite_sim.flower.installed import require_flower
from neulite_sim.flower.loading import load_parts, own_modules, told
from neulite_sim.flower.outcome import outcome_json, test_of, weights_of
from neulite_sim.flower.recording import Logbook
from neulite_sim.flower.waits import TimeIsOver
from neulite_sim.population.churn import with_churn
from neulite_sim.population.sampling import DrawnFleet
from neulite_sim.results.asking import asked_of
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.places import FLOWER
from neulite_sim.results.provenance import provenance
from neulite_sim.results.rows import RunStarted
from neulite_sim.results.summary import Identity, Tally
from neulite_sim.results.writing import as_json, write_whole
from neulite_sim.scenario.inputs import pinned
from neulite_sim.scenario.loading import dump_scenario
from neulite_sim.scenario.schema import CachingAllocator, Scenario
from neulite_sim.training.pinning import pinned_torch
from neulite_sim.units import format_seconds
from neulite_sim.user_code.drawing import drawing

RUN_ID = 1
TASK_ID = 1
_ROUNDS = ("num-server-rounds", "num-rounds", "num_server_rounds", "num_rounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How calls are charged: what is not seen by the tracker, and whether every call is followed."""

    unseen: Unseen = field(default_factory=Unseen)
    tracks_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerRun:
    """What came out: the summary, and the strategy's own result as plain values."""

    summary: dict[str, Any]
    run_dir: Path
    result: dict[str, Any]
    failure: NeuliteError | None = None
    """Why the strategy did not end, where the run was complete all the same."""


@pinned_torch()
def run_app(
    app: FlowerApp,
    scenario: Scenario,
    fleet: DrawnFleet,
    *,
    settings: Settings,
    out: Path | str | None = None,
    observers: Sequence[Observer] = (),
    command: Sequence[str] = (),
    shows_log: bool = True,
) -> FlowerRun:
    """Run an app on a fleet and return what came out; rows are kept in a run folder.

    Raises:
        BackendUnavailableError: Flower is not installed, or another version.
        AppError: the app cannot be loaded.
        SimulationError: its ServerApp raised an exception, it waits for nodes that never come, or the virtual time was
            over before its strategy ended; then the folder is complete all the same.
        OutputError: the run folder cannot be written.
    """
    version = require_flower()
    named = scenario.name if scenario.name != UNUSED["name"] else _fit(app.name)
    unused = not_used(scenario)
    scenario = pinned(fleet_alone(scenario, named))
    population = with_churn(fleet.population, scenario.churn, scenario.seed)
    flying = fleet_of(scenario, population, settings.unseen)
    notes = tuple(filter(None, (*population.notes, unused)))
    with own_modules(app.folder), _log(shows=shows_log):
        _identify()
        server, client = load_parts(app)
        made = {
            **provenance(scenario, command or sys.argv, left_out=notes),
            "flower": {"flwr": version, "app": app.name, "sha256": app.sha256, "files": app.num_files,
                       "run_config": app.overrides},
        }  # fmt: skip
        folder = RunFolder.create(
            out, name=named, seed=scenario.seed, scenario_yaml=dump_scenario(scenario), provenance=made,
            asked=asked_of(scenario),
        )  # fmt: skip
        with folder:
            course = _Course(app, flying, client, settings, folder, observers, named, notes)
            done = course.run(server, folder.path)
    if done.failure is not None:
        raise done.failure
    return done


def _fit(name: str) -> str:
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)
    return kept.lstrip("._-")[:100] or "flower"


class _Course:
    """The course of one run."""

    def __init__(
        self,
        app: FlowerApp,
        fleet: Fleet,
        client: Any,
        settings: Settings,
        sink: Sink,
        observers: Sequence[Observer],
        name: str,
        notes: Sequence[str],
    ) -> None:
        self._app, self._fleet, self._sink, self._observers = app, fleet, sink, observers
        self._name, self._notes = name, notes
        scenario = fleet.scenario
        allocator = scenario.allocator
        self._kept = Kept()
        targets = tuple(sorted(scenario.evaluation.targets))
        self._tally = Tally(fleet.samples, targets=targets, powers=fleet.powers)
        self._logbook = Logbook(fleet, sink, observers, self._tally, lambda label: test_of(self._kept, label))
        self._caller = Caller(
            client=client,
            run_id=RUN_ID,
            config=app.config,
            num_devices=fleet.population.num_devices,
            seed=scenario.seed,
            round_bytes=allocator.round_bytes if isinstance(allocator, CachingAllocator) else 1,
            tracks_all=settings.tracks_all,
            measures=settings.unseen.step_s is None,
        )
        boarding = Boarding(fleet, self._caller, self._logbook.notice, lambda error: told(error, app.folder))
        run = Run.create_empty(run_id=RUN_ID)
        run.override_config = dict(app.overrides)
        self._grid = FleetGrid(boarding, self._logbook, run)
        self._settings = settings

    def run(self, server: Any, run_dir: Path) -> FlowerRun:
        """Run the ServerApp, and write what came out."""
        self._tell(self._started(run_dir))
        for note in self._notes:
            self._logbook.notice(note)
        scenario = self._fleet.scenario
        context = Context(
            run_id=RUN_ID, node_id=SUPERLINK_NODE_ID, node_config={}, state=RecordDict(),
            run_config=dict(self._app.config),
        )  # fmt: skip
        failure: NeuliteError | None = None
        is_cut = False
        try:
            own_numbers = drawing(scenario.seed, "flower-server")
            with adapted(self._grid, self._sleep) as self._kept, _waiting_told(self._grid), own_numbers:
                server(grid=self._grid, context=context)
        except TimeIsOver:
            is_cut, until = True, format_seconds(scenario.stop.virtual_time or 0.0)
            failure = SimulationError(
                f"the virtual time of {until} was over before the strategy ended",
                hint="raise or remove stop.virtual_time, or let the app run fewer rounds",
            )
        except NeuliteError as error:
            failure = error
        except Exception as error:
            if error is self._grid.broken:
                raise
            failure = SimulationError(f"the ServerApp failed: {told(error, self._app.folder)}")
            failure.__cause__ = error
        run = self._finished(run_dir, failure, is_cut=is_cut)
        if failure is not None and not is_cut:
            raise failure
        return run

    def _sleep(self, seconds: float) -> None:
        if self._caller.is_calling:
            self._caller.slept_s += seconds
        else:
            self._grid.sleep(seconds)

    def _finished(self, run_dir: Path, failure: NeuliteError | None, *, is_cut: bool) -> FlowerRun:
        grid, logbook, fleet = self._grid, self._logbook, self._fleet
        reason = TIME_OVER if is_cut else RUN_OVER
        logbook.close(grid.now_s, grid.end(), reason)
        if message := self._tally.nothing_learned():
            logbook.notice(message)
        given: Any = fleet
        self._sink.write_devices(device_rows(given, logbook.roll_call.roll()))
        self._guess_samples()
        weights = weights_of(self._kept, logbook.latest_arrays)
        result = outcome_json(self._kept)
        summary = self._summary(weights, is_ended=failure is None)
        told_json = {
            "strategy_ended": failure is None,
            "app": self._app.name,
            "sha256": self._app.sha256,
            "run_config": self._app.config,
            **result,
            "calls": {name: {"peak_memory_bytes": peak} for name, peak in fleet.ledger.peaks.items()},
        }
        write_whole(run_dir / FLOWER, as_json(told_json))
        if failure is None or is_cut:
            self._sink.finish(summary, weights)
        return FlowerRun(summary=summary, run_dir=run_dir, result=result, failure=failure)

    def _guess_samples(self) -> None:
        """Take those who never told how many samples they have for devices like the others."""
        samples = self._fleet.samples
        if (known := samples > 0).any():
            samples[~known] = int(samples[known].mean())

    def _summary(self, weights: Mapping[str, Tensor], *, is_ended: bool) -> dict[str, Any]:
        scenario, fleet = self._fleet.scenario, self._fleet
        needed = min((peak for name, peak in fleet.ledger.peaks.items() if name.startswith("train")), default=0)
        summary = self._tally.summary(
            self._identity(),
            participation_rate=float((fleet.population.available_memory_bytes >= needed).mean()),
            proxy=None,
            wall_time_s=self._logbook.wall_time_s,
            digest=self._logbook.digest.hexdigest(weights),
        )
        return {**summary, "flower_app": self._app.name, "strategy_ended": is_ended, "deadline": scenario.protocol.kind}

    def _identity(self) -> Identity:
        scenario = self._fleet.scenario
        return Identity(
            name=self._name,
            seed=scenario.seed,
            method=self._kept.strategies[0] if self._kept.strategies else "flower",
            selection="flower",
            model="flower",
            dataset=self._app.name,
            backend="flower",
            compared_with_memory=scenario.allocator.compared_with_memory,
        )

    def _started(self, run_dir: Path) -> RunStarted:
        scenario, population = self._fleet.scenario, self._fleet.population
        config = self._app.config
        rounds = next((config[key] for key in _ROUNDS if isinstance(config.get(key), int)), scenario.stop.rounds)
        return RunStarted(
            name=self._name,
            seed=scenario.seed,
            method=f"Flower app {self._app.name}",
            selection="its own",
            protocol=scenario.protocol.kind,
            backend="flower",
            num_devices=population.num_devices,
            max_rounds=int(rounds),
            max_virtual_time_s=scenario.stop.virtual_time,
            targets=tuple(sorted(scenario.evaluation.targets)),
            stop_accuracy=None,
            thresholds=(),
            available_memory_bytes=tuple(map(int, population.available_memory_bytes)),
            participation_rate=1.0,
            proxy=None,
            run_dir=str(run_dir),
            replays_until=0,
            is_resumable=False,
        )

    def _tell(self, event: Any) -> None:
        for observer in self._observers:
            observer.notify(event)


def _identify() -> None:
    """Give this process the identity that Flower asks for whenever a message is made."""
    TaskIdentity.task_id = TASK_ID
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = SUPERLINK_NODE_ID


class _ToStandardError(logging.Handler):
    """Writes what Flower logs to whatever standard error is at that time: a live view may stand there."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.strip():
            sys.stderr.write(f"{text}\n")


@contextlib.contextmanager
def _log(*, shows: bool) -> Iterator[None]:
    logger = logging.getLogger("flwr")
    before, propagates = list(logger.handlers), logger.propagate
    handler = _ToStandardError(logging.INFO if shows else logging.CRITICAL)
    logger.handlers[:], logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before, propagates


@contextlib.contextmanager
def _waiting_told(grid: FleetGrid) -> Iterator[None]:
    """Learn from Flower's log for how many nodes a strategy waits, and let it say so once."""

    def listen(record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str) and record.msg.startswith("Waiting for nodes to connect") and record.args:
            is_first = grid.patience.wanted is None
            args: Any = record.args
            grid.patience.wanted = int(args[-1])
            return is_first
        return True

    keep: Callable[[logging.LogRecord], bool] = listen
    logger = logging.getLogger("flwr")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
