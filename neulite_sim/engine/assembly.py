"""Assembly: the only place that turns a scenario into live objects.

Two ledgers come out of one scenario. The charged blueprint is the workload (what devices pay for), the trained one
the proxy (what is really learned); without `workload` and `proxy` they are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.data.contract import AnyDataset, Partition
from neulite_sim.engine.capacity import check_costs, check_data, check_training
from neulite_sim.errors import InfeasibleError, Problem, ScenarioError
from neulite_sim.methods.contract import Method, Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.names import FULL
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.outside import printable
from neulite_sim.population.churn import with_churn
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.profiling.ledger import Ledger, Shrinking, halvings, merges_last_batch
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.registry import Choice, component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.remarks import remarks
from neulite_sim.scenario.schema import Scenario, Training
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Selector, SelectorSetting
from neulite_sim.timeline.contract import RoundProtocol, ServerRates
from neulite_sim.training.contract import Backend, Workplace
from neulite_sim.units import format_bytes

NARROW = 0.5
"""Any width far enough from 1 for every layer that scales to show it."""

Profiler = Callable[..., Profile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The live objects of a scenario before anything is profiled: all that workers need."""

    scenario: Scenario
    charged: Blueprint
    trained: Blueprint
    charged_training: Training
    trained_training: Training
    method: Method
    dataset: AnyDataset
    partition: Partition
    population: Population

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of scenario and files is left out, or taken otherwise than it stands there: a sentence each."""
        found = (*remarks(self.scenario), *self.dataset.left_out, *self.partition.left_out, *self.population.notes)
        return tuple(map(printable, found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Costing(Parts):
    """The same objects with the ledger of what every submodel costs on every device."""

    ledger: Ledger


def assemble(scenario: Scenario) -> Costing:
    """Return the live objects of a scenario, profiled, without a backend. Raises what `prepare` raises."""
    return charge(prepare(scenario))


def prepare(scenario: Scenario) -> Parts:
    """Return the live objects of a scenario.

    Raises:
        ScenarioError: a component refuses its options on this data or fleet.
        DataNotFoundError: a dataset or trace is missing.
    """
    check_data(scenario)
    studied, dataset = _datasets(scenario)
    charged, trained = _blueprints(scenario, studied, dataset)
    population = with_churn(build_population(scenario.population, scenario.seed), scenario.churn, scenario.seed)
    partition = _partition(scenario, dataset)
    method = build_method(scenario, charged)
    _check_models(scenario, method, charged, trained)
    _check_protocol(scenario, method)
    _check_server(scenario, population)
    check_costs(scenario.population.devices, len(method.submodels))
    return Parts(
        scenario=scenario,
        charged=charged,
        trained=trained,
        charged_training=_overridden(scenario.training, scenario.workload),
        trained_training=_overridden(scenario.training, scenario.proxy),
        method=method,
        dataset=dataset,
        partition=partition,
        population=population,
    )


def prepare_variation(parts: Parts, scenario: Scenario) -> Parts:
    """Return the live objects of a scenario that differs from that of `parts` in its method and its training only.

    Raises:
        ScenarioError: the method does not go with the models.
    """
    method = build_method(scenario, parts.charged)
    _check_models(scenario, method, parts.charged, parts.trained)
    return replace(
        parts,
        scenario=scenario,
        charged_training=_overridden(scenario.training, scenario.workload),
        trained_training=_overridden(scenario.training, scenario.proxy),
        method=method,
    )


def charge(parts: Parts, profiler: Profiler | None = None) -> Costing:
    """Return the parts with their ledger: profiles every submodel, which takes a second or a few.

    `profiler` is called in place of `profile`.
    """
    ledger = _ledger(parts.scenario, parts.method, parts.charged, parts.population, parts.partition, profiler)
    return Costing(**{item.name: getattr(parts, item.name) for item in fields(parts)}, ledger=ledger)


def _datasets(scenario: Scenario) -> tuple[InputSpec, AnyDataset]:
    """Return what a sample is that is studied, and the dataset that is really trained on."""
    build, options = component("data", scenario.data.kind).build, scenario.data.options
    studied: AnyDataset = build(options, scenario.seed)
    if scenario.proxy.image_size is None:
        return studied.spec, studied
    if "image_size" not in type(options).model_fields:
        wish = "set data.shape to what is trained and workload.input_shape to what is charged"
        raise ScenarioError(
            [Problem(key="proxy.image_size", message=f"{scenario.data.kind} has no image_size; {wish}")]
        )
    return studied.spec, build(options.model_copy(update={"image_size": scenario.proxy.image_size}), scenario.seed)


def _blueprints(scenario: Scenario, studied: InputSpec, dataset: AnyDataset) -> tuple[Blueprint, Blueprint]:
    workload, proxy = scenario.workload, scenario.proxy
    charged = Blueprint(
        architecture=_architecture(workload.model or scenario.model),
        spec=studied.charged_as(workload.input_shape, workload.classes),
        name=(workload.model or scenario.model).kind,
    )
    trained = Blueprint(
        architecture=_architecture(scenario.model),
        spec=dataset.spec,
        width=proxy.width or 1.0,
        name=scenario.model.kind,
    )
    return charged, trained


def _check_models(scenario: Scenario, method: Method, charged: Blueprint, trained: Blueprint) -> None:
    """Refuse what does not act on this model and method, and a workload whose submodels are not those trained."""
    problems = []
    shapes = _shapes(trained)
    if scenario.evaluation.batch_norm == "recalibrated" and not any("running_mean" in name for name in shapes):
        message = f"recalibrated acts on BatchNorm layers only, and {trained.name} has none; remove it"
        problems.append(Problem(key="evaluation.batch_norm", message=message))
    if trained.width < 1 and shapes == _shapes(trained.at_width(1.0)):
        wish = "remove it, or choose a model with layers that it makes thinner"
        problems.append(Problem(key="proxy.width", message=f"{trained.width:g} leaves {trained.name} as it is; {wish}"))
    if scenario.training.shrink_batch is not None and not method.enforces_memory:
        message = "acts only where memory limits who trains what, and method.memory_limit is false; remove one of them"
        problems.append(Problem(key="training.shrink_batch", message=message))
    if method.scales_width:
        problems += _unscalable(scenario, {"workload.model": charged, "model": trained})
    num_charged, num_trained = charged.build_meta().num_blocks, trained.build_meta().num_blocks
    if num_charged != num_trained and build_method(scenario, trained).submodels != method.submodels:
        message = (
            f"{charged.name} has {num_charged} blocks, {trained.name} has {num_trained}; method {scenario.method.kind} "
            f"trains block by block ({', '.join(method.submodels)}), so use a workload.model of {num_trained} blocks, "
            "or a method that trains the full model"
        )
        problems.append(Problem(key="workload.model", message=message))
    if problems:
        raise ScenarioError(problems)


def _check_protocol(scenario: Scenario, method: Method) -> None:
    """Refuse a protocol that merges old updates with a method that needs the latest."""
    if method.needs_current_version and build_protocol(scenario).mixes_versions:
        message = (
            f"{scenario.protocol.kind} merges updates of older versions, and with {method.needs_current_version} "
            f"method {scenario.method.kind} needs those of the latest; use synchronous or deadline, or another value "
            "of that option"
        )
        raise ScenarioError([Problem(key="protocol", message=message)])


def _check_server(scenario: Scenario, population: Population) -> None:
    """Refuse a link of the server beside what it cannot be combined with: flights that cannot be planned ahead."""
    if server_rates(scenario) is None:
        return
    others = {
        "links that follow a trace (population.link)": population.throughput is not None,
        "churn.battery": scenario.churn.battery is not None,
    }
    problems = [
        Problem(key="server", message=f"a shared link of the server does not go with {other}; leave out one of them")
        for other, is_there in others.items()
        if is_there
    ]
    if problems:
        raise ScenarioError(problems)


def server_rates(scenario: Scenario) -> ServerRates | None:
    """Return what the server's link carries; None where it is no bottleneck in either direction."""
    server = scenario.server
    if server.downlink is None and server.uplink is None:
        return None
    return ServerRates(down=server.downlink, up=server.uplink)


def _unscalable(scenario: Scenario, blueprints: Mapping[str, Blueprint]) -> list[Problem]:
    """Return a problem for each model that stays as it is at any width; one for both where they are the same."""
    stiff = {
        blueprint.name: Problem(
            key=key,
            message=f"method {scenario.method.kind} trains {blueprint.name} at several widths, but no width makes it "
            "thinner; choose a model with hidden layers (cnn, resnet18), or a method that trains the full model",
        )
        for key, blueprint in blueprints.items()
        if _shapes(blueprint.at_width(1.0)) == _shapes(blueprint.at_width(NARROW))
    }
    return list(stiff.values())


def _shapes(blueprint: Blueprint) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in blueprint.build_meta().state_dict().items()}


def _architecture(choice: Choice) -> Any:
    found = component("model", choice.kind)
    argument = choice.kind.partition(":")[2]
    return found.build(choice.options, argument) if found.takes_argument else found.build(choice.options)


def _overridden(training: Training, section: Any) -> Training:
    names = ("batch_size", "epochs", "precision", "micro_batch_size", "checkpointing")
    changes = {name: getattr(section, name) for name in names if getattr(section, name) is not None}
    return training.model_copy(update=changes)


def _partition(scenario: Scenario, dataset: AnyDataset) -> Partition:
    choice: Choice = scenario.data.options.partition
    deal = component("partition", choice.kind).build(choice.options)
    rng = stream(scenario.seed, "partition")
    owners = {} if dataset.groups is None else {"groups": dataset.groups}
    partition: Partition = deal(dataset.train_labels, scenario.population.devices, rng, **owners)
    return partition


def _charged_samples(scenario: Scenario, partition: Partition) -> Integers:
    if scenario.workload.samples_per_device is None:
        return partition.sizes
    return np.full(partition.num_devices, scenario.workload.samples_per_device, dtype=np.int64)


def _ledger(
    scenario: Scenario,
    method: Method,
    charged: Blueprint,
    population: Population,
    partition: Partition,
    profiler: Profiler | None,
) -> Ledger:
    training, num_samples = _overridden(scenario.training, scenario.workload), _charged_samples(scenario, partition)
    if scenario.allocator.kind != "none":
        profiler = functools.partial(profiler or profile, allocator=scenario.allocator)
    profiled = profile_all if profiler is None else functools.partial(profile_all, profiler=profiler)
    merged = None
    if merges_last_batch(num_samples, training.batch_size).any():
        larger = training.model_copy(update={"batch_size": training.batch_size + 1})
        merged = profiled(method, charged, larger)
    profiles = profiled(method, charged, training)
    return Ledger(
        profiles,
        population,
        num_samples,
        epochs=training.epochs,
        owns_data=partition.sizes > 0,
        merged_profiles=merged,
        shrinking=_shrinking(method, charged, training, profiler or profile),
    )


def _shrinking(method: Method, charged: Blueprint, training: Training, profiler: Profiler) -> Shrinking | None:
    """Return the smaller batches that devices may train with; None where the scenario allows none."""
    if training.shrink_batch is None:
        return None

    def profile_of(submodel: str, batch_size: int) -> Profile:
        smaller = training.model_copy(update={"batch_size": batch_size})
        return profile_submodel(method, submodel, charged, smaller, profiler)

    sizes = halvings(training.batch_size, training.shrink_batch.minimum)
    return Shrinking(batch_sizes=sizes, profile_of=profile_of)


def trained_batch_size(costing: Costing, charged: int) -> int:
    """Return the batch size of the real training where a device is charged for batches of `charged` samples.

    It is smaller in the same proportion as the charged one, rounded down, and not below two samples unless either is:
    BatchNorm cannot train on one.
    """
    whole, trained = costing.charged_training.batch_size, costing.trained_training.batch_size
    return max(min(2, charged, trained), trained * charged // whole)


def build_method(scenario: Scenario, charged: Blueprint) -> Method:
    """Return the scenario's method for models of as many blocks as the charged one has."""
    model = charged.build_meta()
    setting = Setting(
        num_blocks=model.num_blocks,
        num_layers=tuple(map(len, model.layers)),
        num_devices=scenario.population.devices,
        max_rounds=scenario.stop.rounds,
        seed=scenario.seed,
    )
    method: Method = component("method", scenario.method.kind).build(scenario.method.options, setting)
    return method


def build_trainee(method: Method, submodel: str, blueprint: Blueprint) -> Trainee:
    """Return a submodel of a method, or the full model as the reference that every method is compared with."""
    return method.trainee(submodel, blueprint) if submodel in method.submodels else FullModel(blueprint)


def profile_all(
    method: Method, charged: Blueprint, training: Training, profiler: Profiler = profile
) -> dict[str, Profile]:
    """Return the profile of every submodel of a method, in the method's order, and of the full model."""
    return {
        submodel: profile_submodel(method, submodel, charged, training, profiler)
        for submodel in dict.fromkeys((*method.submodels, FULL))
    }


def profile_submodel(
    method: Method, submodel: str, charged: Blueprint, training: Training, profiler: Profiler = profile
) -> Profile:
    """Return the profile of one submodel of a method, or of the full model."""
    return profiler(
        submodel,
        lambda: build_trainee(method, submodel, charged),
        spec=charged.spec,
        batch_size=training.batch_size,
        training=training,
    )


def require_somebody(costing: Costing) -> None:
    """Refuse a fleet in which no device that owns data can train any submodel.

    Raises:
        InfeasibleError: with the smallest shortfall, and what would help.
    """
    method, ledger = costing.method, costing.ledger
    if not method.enforces_memory or any(map(ledger.fits_somebody, method.submodels)):
        return
    owners = np.flatnonzero(ledger.owns_data)
    profiles = {name: ledger.smallest_profile(name) for name in method.submodels}
    smallest = min(profiles, key=lambda name: profiles[name].peak_memory_bytes)
    memory = costing.population.available_memory_bytes[owners]
    best = int(np.argmax(memory))
    needed = int(ledger.peak_memory_bytes(smallest)[owners[best]])
    raise InfeasibleError(
        f"NA: no device can train anything with method {costing.scenario.method.kind}: its smallest submodel "
        f"{smallest} needs {format_bytes(needed)} at batch {profiles[smallest].batch_size}; the largest "
        f"available memory is {format_bytes(int(memory[best]))} (device {int(owners[best])}), which is "
        f"{format_bytes(needed - int(memory[best]))} too little; raise population.available_memory, lower the batch "
        "size that is charged (workload.batch_size), or choose a method with smaller submodels"
    )


def require_training(parts: Parts, backend: Backend) -> None:
    """Refuse a run without training of a method whose offers depend on trained weights, or of what looks at these.

    Also one with training that this machine's memory does not hold.

    Raises:
        ScenarioError: with the option because of which they do, or with the bytes needed and those that are free.
    """
    if not backend.trains and parts.scenario.evaluation.diagnostics:
        message = (
            f"{parts.scenario.backend.kind} trains nothing and tests nothing, so there is nothing to measure; remove "
            "it, or use backend inprocess or ray"
        )
        raise ScenarioError([Problem(key="evaluation.diagnostics", message=message)])
    if backend.trains:
        check_training(
            parts.scenario,
            parts.trained,
            parts.trained_training,
            most_samples=int(parts.partition.sizes.max()),
            test_samples=len(parts.dataset.test_labels),
        )
    if backend.trains or not parts.method.decides_by_weights:
        return
    message = (
        f"{parts.scenario.backend.kind} trains nothing, and with {parts.method.decides_by_weights} method "
        f"{parts.scenario.method.kind} decides by trained weights what comes next; use backend inprocess or ray, or "
        "another value of that option"
    )
    raise ScenarioError([Problem(key="backend", message=message)])


def build_selector(scenario: Scenario) -> Selector:
    """Return the scenario's selector."""
    setting = SelectorSetting(num_devices=scenario.population.devices, max_rounds=scenario.stop.rounds)
    selector: Selector = component("selection", scenario.selection.kind).build(scenario.selection.options, setting)
    return selector


def build_protocol(scenario: Scenario) -> RoundProtocol:
    """Return the scenario's protocol."""
    protocol: RoundProtocol = component("protocol", scenario.protocol.kind).build(scenario.protocol.options)
    return protocol


def build_backend(scenario: Scenario) -> Backend:
    """Return the scenario's backend, its workers starting; they have to be equipped before the first task.

    Raises:
        BackendUnavailableError: it cannot start on this machine.
    """
    backend: Backend = component("backend", scenario.backend.kind).build(scenario.backend.options)
    return backend


def workplace(parts: Parts) -> Workplace:
    """Return what the workers of a scenario's backend need beside their tasks."""
    scenario = parts.scenario
    options = scenario.backend.options
    return Workplace(
        dataset=parts.dataset,
        partition=parts.partition,
        method=parts.method,
        blueprint=parts.trained,
        training=parts.trained_training,
        evaluation=scenario.evaluation,
        seed=scenario.seed,
        threads=getattr(options, "threads_per_worker", 1),
        device=getattr(options, "device", "cpu"),
    )
