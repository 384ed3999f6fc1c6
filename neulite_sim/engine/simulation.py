"""Run one scenario from start to end."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.arguments import observers_of, path_of, wrong
from neulite_sim.engine import assembly, building
from neulite_sim.engine.announcing import announcements, other_batches
from neulite_sim.engine.device_file import DeviceFile
from neulite_sim.engine.federation import Federation
from neulite_sim.engine.fitting import plan_notices
from neulite_sim.engine.given import with_given
from neulite_sim.engine.idle import idle
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.replay import FolderKeeper, Keeper
from neulite_sim.engine.run_result import Heard, RunResult
from neulite_sim.engine.tracking import Recorder
from neulite_sim.errors import BackendUnavailableError
from neulite_sim.methods.state_files import packages_of
from neulite_sim.notebook.progress import following
from neulite_sim.population.hardware.power import powers_of
from neulite_sim.population.sampling import DrawnFleet
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Choice
from neulite_sim.results.asking import asked_of
from neulite_sim.results.checkpoint import Found
from neulite_sim.results.claiming import require_free
from neulite_sim.results.contract import Observer, Sink
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.memory import MemorySink
from neulite_sim.results.provenance import provenance, read_now
from neulite_sim.results.rows import AS_FITTED, RunStarted
from neulite_sim.results.summary import Identity, Tally
from neulite_sim.scenario.inputs import pinned
from neulite_sim.scenario.loading import dump_scenario
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sources import AnyScenario
from neulite_sim.scenario.written import naming_places
from neulite_sim.seeding import own_brief_streams
from neulite_sim.timeline.contract import run_protocol
from neulite_sim.training.contract import Backend, nodes_of
from neulite_sim.training.pinning import pinned_torch
from neulite_sim.turns import my_turn
from neulite_sim.units import format_bytes
from neulite_sim.user_code.drawing import drawing_where
from neulite_sim.user_code.fingerprint import fingerprint
from neulite_sim.user_code.records import is_of_a_user


@my_turn()
def simulate(
    scenario: AnyScenario,
    *,
    model: Any = None,
    data: Any = None,
    partition: Any = None,
    method: Any = None,
    selector: Any = None,
    protocol: Any = None,
    availability: Any = None,
    out: Path | str | None = None,
    keeps_folder: bool = False,
    observers: Sequence[Observer] = (),
    command: Sequence[str] = (),
    fleet: DrawnFleet | None = None,
    progress: bool | None = None,
) -> RunResult:
    """Run a scenario and return its result.

    `scenario` is a `Scenario`, the path of its file, or a mapping of plain values. What is given beside it takes the
    place of the component of that name: as `model` a PyTorch module, a function that builds one, or blocks and a head;
    as `data` arrays, a pair of PyTorch datasets, or a dataset of the library `datasets`; as `partition` an array of
    sample numbers per device, or the device of each sample; as `method` a function of the present model and the updates
    or a class; as `selector` a function of offers or a class; `protocol` and `availability` are objects or classes.

    `observers` have a method `notify(event)` and are told what happens while it happens: the start, each dispatch and
    result, each round, notices. One that may be told of quick rounds together says `may_be_told_late = True`, and makes
    dry runs faster.

    Runs in threads of one process wait for each other, as PyTorch's random numbers and settings are the process's own.

    Rows are kept in memory, unless `out` names a run folder or `keeps_folder` asks for one under `runs/`.
    `command` is what the user typed, for the provenance. `fleet` is that of the scenario, where it has been
    drawn already; any other is drawn anew. `progress` shows the run while it goes on: in a notebook unless it is
    False, elsewhere, as lines on standard error, if it is True.

    Raises:
        ScenarioError: the parts of the scenario do not go together.
        InfeasibleError: no device can ever train anything.
        OutputError: the run folder cannot be written.
        BackendUnavailableError: the backend cannot start.
        SimulationError: the run failed; rows written so far stay.
        ArgumentError: `out`, `observers` or `fleet` is nothing of the kind.
    """
    given = {"model": model, "data": data, "partition": partition, "method": method, "selector": selector,
             "protocol": protocol, "availability": availability}  # fmt: skip
    scenario, observers = with_given(scenario, **given), observers_of(observers)
    if fleet is not None and not isinstance(fleet, DrawnFleet):
        raise wrong("fleet", fleet, "the fleet of this scenario as draw_fleet returns it, or None")
    out = None if out is None else path_of("out", out, "the path of a run folder, or None")
    with naming_places(scenario), following(progress) as followers:
        return _simulate(
            scenario, out=out, keeps_folder=keeps_folder, observers=(*observers, *followers), command=command,
            fleet=fleet,
        )  # fmt: skip


@pinned_torch()
@own_brief_streams()
def _simulate(
    scenario: Scenario,
    *,
    out: Path | None,
    keeps_folder: bool,
    observers: Sequence[Observer],
    command: Sequence[str],
    fleet: DrawnFleet | None,
) -> RunResult:
    if out is not None:
        require_free(out)
    backend = building.build_backend(scenario)
    heard = Heard()
    try:
        costing = assembly.ready(scenario, backend, fleet)
        # After a download, too; what is kept of the run holds from any folder.
        scenario = pinned(scenario)
        read = read_now(scenario, data_sha256=data_sha256(costing))
        if out is None and not keeps_folder:
            memory = MemorySink(asked=asked_of(scenario, costing.trained.spec))
            summary = drive(costing, backend, memory, (*observers, heard))
            return RunResult(
                summary=summary, run_dir=None, memory=memory, scenario=scenario, notices=heard.messages, read=read,
                left_out=costing.left_out,
            )  # fmt: skip
        folder = RunFolder.create(
            out,
            name=scenario.name,
            seed=scenario.seed,
            scenario_yaml=dump_scenario(scenario),
            provenance=provenance(scenario, command or sys.argv, left_out=costing.left_out, read=read),
            asked=asked_of(scenario, costing.trained.spec),
        )
        with folder:
            try:
                with contextlib.closing(keeper_of(costing, folder.path)) as keeper:
                    keeper.begin()
                    summary = drive(costing, backend, folder, (*observers, heard), run_dir=folder.path, keeper=keeper)
            except BackendUnavailableError:
                folder.discard()
                raise
        return RunResult(summary=summary, run_dir=folder.path, scenario=scenario, notices=heard.messages)
    finally:
        backend.close()


def data_sha256(costing: Costing) -> str | None:
    """Return the SHA-256 of samples that a user's own code gave; None of other data, whose files are hashed."""
    if not is_of_a_user("data", costing.scenario.data):
        return None
    dataset = costing.dataset
    arrays = (dataset.train_inputs, dataset.train_labels, dataset.test_inputs, dataset.test_labels)
    return fingerprint(arrays).sha256


def keeper_of(costing: Costing, run_dir: Path, found: Found | None = None) -> FolderKeeper:
    """Return what keeps journal and checkpoints in a run folder, replaying first up to the checkpoint `found`."""
    given = costing.scenario.checkpoint
    return FolderKeeper(
        run_dir,
        every_rounds=given.every_rounds,
        packages=packages_of(costing.method),
        found=found,
        is_paced="every_rounds" not in given.model_fields_set,
    )


def drive(
    costing: Costing,
    backend: Backend,
    sink: Sink,
    observers: Sequence[Observer],
    *,
    run_dir: Path | None = None,
    keeper: Keeper | None = None,
) -> dict[str, Any]:
    """Run a profiled scenario from its beginning to its end, and return the content of `summary.json`.

    Whatever ends it, and be it before the first round, the keeper is closed.
    """
    scenario, method = costing.scenario, costing.asked_method
    with contextlib.closing(keeper or Keeper()) as keeper:
        powers = powers_of((each.name for each in costing.population.classes), scenario.energy)
        tally = Tally(costing.partition.sizes, targets=targets_of(scenario), powers=powers)
        recorder = Recorder(costing, sink, observers, tally, trains=backend.trains)
        rate = _participation_rate(costing)
        for observer in observers:
            observer.notify(_started(costing, rate, run_dir, keeper.replays_until))
        told = (*costing.left_out, *announcements(costing), *idle(costing), *other_batches(costing))
        for message in (*told, *_skipped(costing), *plan_notices(costing)):
            recorder.notice(message)
        selector = building.build_selector(scenario)
        with drawing_where(scenario.selection.is_brought, scenario.seed, "selector.register"):
            selector.register(costing.partition.sizes)
        federation = Federation(costing, selector, backend, recorder, keeper)
        devices = DeviceFile(costing, recorder.roll_call, sink, recorder.notice)
        try:
            devices.introduce()
            with _kept_from_the_collector():
                ended_s = run_protocol(
                    costing.timing.protocol, federation, until_s=scenario.stop.virtual_time, rates=costing.timing.rates
                )
            state = federation.end(ended_s)
            if message := tally.nothing_learned():
                recorder.notice(message)
        except BaseException:
            federation.abandon()
            devices.rescue()
            raise
    # Of a million devices it holds columns that nobody needs any more.
    del federation
    devices.write()
    weights = method.evaluation_tensors(state)
    summary = tally.summary(
        identity_of(scenario),
        participation_rate=rate,
        proxy=describe_proxy(scenario),
        wall_time_s=recorder.wall_time_s,
        digest=recorder.digest.hexdigest(weights),
    )
    if nodes := nodes_of(backend):
        summary["nodes"] = nodes
    sink.finish(summary, weights)
    return summary


@contextlib.contextmanager
def _kept_from_the_collector() -> Iterator[None]:
    """Spare the garbage collector what is there now and stays: it would look through it again and again."""
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


def targets_of(scenario: Scenario) -> tuple[float, ...]:
    """Return the accuracies whose first virtual time a run reports, rising."""
    wanted = {*scenario.evaluation.targets, *([scenario.stop.target_accuracy] if scenario.stop.target_accuracy else [])}
    return tuple(sorted(wanted))


def _participation_rate(costing: Costing) -> float:
    method = costing.method
    return costing.ledger.participation_rate(method.submodels) if method.enforces_memory else 1.0


def identity_of(scenario: Scenario) -> Identity:
    """Return the names that stand first in a run's summary."""
    return Identity(
        name=scenario.name,
        seed=scenario.seed,
        method=scenario.method.label,
        selection=scenario.selection.label,
        model=scenario.model.label,
        dataset=scenario.data.label,
        backend=scenario.backend.kind,
        compared_with_memory=scenario.allocator.compared_with_memory,
    )


def describe_proxy(scenario: Scenario) -> str | None:
    """Return in words what is really trained where it is not what is studied; None where it is."""
    changes = {name: value for name, value in scenario.proxy.model_dump().items() if value is not None}
    charged = {name: value for name, value in scenario.workload.model_dump().items() if value is not None}
    if not changes and not charged:
        return None
    trained = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changes.items())
    what = f"{scenario.model.label} on {scenario.data.label}" + (f" with {trained}" if trained else "")
    return f"trained: {what}; charged: {_workload(scenario)}"


def _workload(scenario: Scenario) -> str:
    workload = scenario.workload
    model = _sized(workload.model or scenario.model)
    kind = "sequences" if hasattr(scenario.data.options, "sequence_length") else "images"
    shape = f"{scenario.data.label} {kind}"
    if workload.input_shape:
        shape = "x".join(map(str, workload.input_shape))
    elif workload.sequence_length:
        shape = f"sequences of {workload.sequence_length} tokens"
    batch = workload.batch_size or scenario.training.batch_size
    extras = {name: getattr(workload, name) for name in ("precision", "micro_batch_size", "checkpointing")}
    told = (f", {name.replace('_', ' ')} {value}" for name, value in extras.items() if value is not None)
    return f"{model} on {shape}, batch {batch}{''.join(told)}"


def _sized(model: Choice) -> str:
    """Return which model is meant: one of several sizes by its preset, and by what it has in the place of that's."""
    options = model.options.model_dump()
    if "preset" not in options:
        return model.kind
    # A scenario that was written out names every value: what counts is what differs, and not what stands there.
    preset = options.pop("preset")
    usual = type(model.options)(preset=preset).model_dump()
    own = [f"{name.replace('_', ' ')} {value}" for name, value in options.items() if value != usual[name]]
    return f"{model.kind} {preset}" + (f" with {', '.join(own)}" if own else "")


def _skipped(costing: Costing) -> list[str]:
    """Return a message for each submodel of a staged method that fits no device and is therefore left out."""
    ledger: Ledger = costing.ledger
    if not costing.method.skippable_submodels:
        return []
    return [
        f"{name} fits no device that owns data and is skipped: it needs "
        f"{format_bytes(ledger.least_peak_bytes(name))}, "
        f"{format_bytes(int(ledger.shortfall_bytes(name)[ledger.owns_data].min()))} more than the largest of them has"
        for name in costing.method.submodels
        if not ledger.fits_somebody(name)
    ]


def _threshold(costing: Costing, submodel: str) -> tuple[str, int]:
    """Return what a submodel is called and the least memory with which a device of the fleet trains it."""
    ledger = costing.ledger
    whole_bytes = ledger.least_peak_bytes(submodel, ledger.plans[0])
    if len(ledger.plans) > 1 and submodel in costing.method.submodels:
        # A smaller plan may be there; what nobody takes is not profiled here.
        taken_bytes = int(ledger.peak_memory_bytes(submodel).min())
        if taken_bytes < whole_bytes:
            return f"{submodel}{AS_FITTED}", taken_bytes
    return submodel, whole_bytes


def _num_fitting(costing: Costing, submodel: str) -> int:
    """Return how many devices hold a submodel; one that nobody trains is held whole or not at all."""
    ledger = costing.ledger
    if submodel in costing.method.submodels:
        return int(ledger.fits(submodel).sum())
    return int((ledger.available_memory_bytes >= ledger.peak_by(submodel, ledger.plans[0])).sum())


def _started(costing: Costing, rate: float, run_dir: Path | None, replays_until: int) -> RunStarted:
    scenario, ledger = costing.scenario, costing.ledger
    return RunStarted(
        name=scenario.name,
        seed=scenario.seed,
        method=scenario.method.label,
        selection=scenario.selection.label,
        protocol=scenario.protocol.label,
        backend=scenario.backend.kind,
        num_devices=costing.population.num_devices,
        max_rounds=scenario.stop.rounds,
        max_virtual_time_s=scenario.stop.virtual_time,
        targets=targets_of(scenario),
        stop_accuracy=scenario.stop.target_accuracy,
        thresholds=tuple(_threshold(costing, name) for name in ledger.profiles),
        fitting=tuple(_num_fitting(costing, name) for name in ledger.profiles),
        available_memory_bytes=tuple(map(int, costing.population.available_memory_bytes)),
        participation_rate=rate,
        proxy=describe_proxy(scenario),
        run_dir=str(run_dir) if run_dir else None,
        replays_until=replays_until,
    )
