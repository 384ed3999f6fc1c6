"""Building: one live object after another from the sections of a scenario, by the registry and by plain calls."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import Any

from neulite_sim.contracts import is_own
from neulite_sim.data.contract import AnyDataset, Partition
from neulite_sim.data.dealt import broken_law
from neulite_sim.data.feature_skew import view_of
from neulite_sim.data.numbers import shortened
from neulite_sim.data.of_users import OwnDeal
from neulite_sim.engine.conflicts import require_power
from neulite_sim.engine.parts import Parts, Timing
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.contract import Method, Setting
from neulite_sim.models.contract import BlockModel, Blueprint, Settling
from neulite_sim.population.batteries import with_batteries
from neulite_sim.population.churn import with_churn
from neulite_sim.population.sampling import DrawnFleet, draw_fleet
from neulite_sim.population.table import Population
from neulite_sim.registry import Choice, component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Scenario, Training
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Selector, SelectorSetting
from neulite_sim.timeline.contract import RoundProtocol, ServerRates
from neulite_sim.timeline.drawn import drawn
from neulite_sim.training.contract import Backend, Workplace
from neulite_sim.user_code.drawing import drawing_where


def drawing_for(scenario: Scenario, field: str) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a component of a scenario is built: that of its own draws where it is of others."""
    return drawing_where(getattr(scenario, field).is_brought, scenario.seed, f"building.{field}")


def build_datasets(scenario: Scenario) -> tuple[InputSpec, AnyDataset]:
    """Return what a sample is that is studied, and the dataset that is really trained on."""
    component_of, options = component("data", scenario.data.kind), scenario.data.options

    def build(options: Any, seed: int) -> AnyDataset:
        with drawing_for(scenario, "data"):
            found: AnyDataset = component_of.build(options, seed)
        return found

    studied = build(options, scenario.seed)
    if scenario.proxy.sequence_length is not None:
        return studied.spec, shortened(studied, scenario.proxy.sequence_length)
    if scenario.proxy.image_size is None:
        return studied.spec, studied
    if "image_size" not in type(options).model_fields:
        wish = "set data.shape to what is trained and workload.input_shape to what is charged"
        raise ScenarioError(
            [Problem.advising(key="proxy.image_size", found=f"{scenario.data.label} has no image_size", hint=wish)]
        )
    return studied.spec, build(options.model_copy(update={"image_size": scenario.proxy.image_size}), scenario.seed)


def build_blueprints(scenario: Scenario, studied: InputSpec, dataset: AnyDataset) -> tuple[Blueprint, Blueprint]:
    """Return what devices are charged for, and what is really trained."""
    workload, proxy = scenario.workload, scenario.proxy
    spec = studied.charged_as(
        workload.input_shape,
        workload.classes,
        sequence_length=workload.sequence_length,
        vocabulary=workload.vocabulary,
    )
    charging = _settled(_built("model", workload.model or scenario.model), spec, scenario)
    charged = Blueprint(
        architecture=charging,
        spec=_read_by(charging, spec, workload.vocabulary),
        name=(workload.model or scenario.model).label,
        norm=scenario.training.norm,
    )
    training = _settled(_built("model", scenario.model), spec, scenario)
    trained = Blueprint(
        architecture=training,
        spec=_read_by(training, dataset.spec),
        width=proxy.width or 1.0,
        name=scenario.model.label,
        norm=scenario.training.norm,
    )
    return charged, trained


def model_remarks(charged: Blueprint, trained: Blueprint) -> tuple[str, ...]:
    """Return what the architectures say of themselves (`remarks`), a sentence each, none of them twice."""
    said = (getattr(blueprint.architecture, "remarks", ()) for blueprint in (charged, trained))
    return tuple(dict.fromkeys(itertools.chain(*said)))


def _built(group_field: str, choice: Choice) -> Any:
    """Return what a component that may take an argument after a colon builds."""
    found = component(group_field, choice.kind)
    argument = choice.kind.partition(":")[2]
    return found.build(choice.options, argument) if found.takes_argument else found.build(choice.options)


def _read_by(architecture: Any, spec: InputSpec, vocabulary: int | None = None) -> InputSpec:
    """Return what samples are for a model: one may have a vocabulary of its own.

    Raises:
        ScenarioError: the model cannot read them, or `vocabulary` is given and is not the model's own.
    """
    found: InputSpec = architecture.reads(spec) if hasattr(architecture, "reads") else spec
    if vocabulary is not None and found.vocabulary != vocabulary:
        message = f"is {vocabulary}, but the model has a vocabulary of its own, {found.vocabulary}; remove it"
        raise ScenarioError([Problem(key="workload.vocabulary", message=message)])
    return found


def _settled(architecture: Any, spec: InputSpec, scenario: Scenario) -> Any:
    """Return an architecture cut into blocks as what is charged says, so that charged and trained blocks are the same.

    One that needs no settling stays as it is.
    """
    if not isinstance(architecture, Settling):
        return architecture
    training = scenario.training
    copies = 2 if training.optimizer.kind == "adam" else int(training.momentum > 0)
    batch_size = scenario.workload.batch_size or training.batch_size
    return architecture.settled(spec, batch_size=batch_size, state_copies=copies)


def build_fleet(scenario: Scenario, fleet: DrawnFleet | None = None) -> Population:
    """Return the fleet of a scenario under its churn; `fleet` is drawn anew only where it is that of another.

    Raises:
        ScenarioError: an unknown device, an `explicit` list of another length, or a trace or table that is wrong.
        DataNotFoundError: a trace, or a table of devices, is not where the scenario says.
    """
    if fleet is None or not fleet.is_of(scenario.population, scenario.seed):
        fleet = draw_fleet(scenario.population, scenario.seed)
    population = with_churn(fleet.population, scenario.churn, scenario.seed)
    require_power(scenario)
    return with_batteries(population, scenario.energy, scenario.seed)


def build_partition(scenario: Scenario, dataset: AnyDataset) -> Partition:
    """Return which training samples each device owns, and how it sees them."""
    choice = scenario.data.options.partition
    with drawing_where(choice.is_brought, scenario.seed, "building.partition"):
        partition = _dealt(_built("partition", choice), dataset, scenario)
    # Options of a plug-in need not be those of every dataset.
    skew = getattr(scenario.data.options, "feature_skew", None)
    view = view_of(skew, dataset.spec, scenario.population.devices, scenario.seed)
    return partition if view is None else replace(partition, view=view)


def _dealt(deal: Any, dataset: AnyDataset, scenario: Scenario) -> Partition:
    if isinstance(deal, OwnDeal):
        return deal.of(dataset, scenario.population.devices, scenario.seed)
    rng = stream(scenario.seed, "partition")
    owners = {} if dataset.groups is None else {"groups": dataset.groups}
    # The next tokens are no classes that samples could be dealt by; a dataset of texts may know their topics.
    labels = getattr(dataset, "topics", None)
    if labels is None:
        labels = dataset.train_labels
    partition: Partition = deal(labels, scenario.population.devices, rng, **owners)
    if is_own(deal):
        return partition
    # What this project deals is right; of a plug-in's each law is looked at before samples are counted twice.
    if broken := broken_law(partition, len(labels), scenario.population.devices):
        found = f"{scenario.data.options.partition.label} is no partition of the samples: {broken}"
        hint = "mend it; neulite_sim.data.conformance.check_partition tests it"
        raise ScenarioError([Problem.advising(key="data.partition", found=found, hint=hint)])
    return partition


def build_method(
    scenario: Scenario, model: BlockModel, charged: Blueprint | None = None, training: Training | None = None
) -> Method:
    """Return the scenario's method for models of as many blocks and layers as `model` has, which may be on meta.

    `charged` and `training` are what devices are charged for.
    """
    setting = Setting(
        num_blocks=model.num_blocks,
        num_layers=tuple(map(len, model.layers)),
        num_devices=scenario.population.devices,
        max_rounds=scenario.stop.rounds,
        seed=scenario.seed,
        charged=charged,
        training=training,
    )
    with drawing_for(scenario, "method"):
        method: Method = component("method", scenario.method.kind).build(scenario.method.options, setting)
    return method


def overridden(training: Training, section: Any, dataset: AnyDataset) -> Training:
    """Return the training with what `workload` or `proxy` says in its place.

    Devices keep no features of samples that are altered anew in each epoch.
    """
    names = ("batch_size", "epochs", "precision", "micro_batch_size", "checkpointing")
    changes = {name: getattr(section, name) for name in names if getattr(section, name) is not None}
    if keeps_in_vain(training, dataset):
        changes["prefix_cache"] = "none"
    return training.model_copy(update=changes)


def keeps_in_vain(training: Training, dataset: AnyDataset) -> bool:
    """Return whether devices are to keep features, and no two epochs read the same samples."""
    return training.prefix_cache == "device" and dataset.augments


def build_selector(scenario: Scenario) -> Selector:
    """Return the scenario's selector."""
    setting = SelectorSetting(num_devices=scenario.population.devices, max_rounds=scenario.stop.rounds)
    with drawing_for(scenario, "selection"):
        selector: Selector = component("selection", scenario.selection.kind).build(scenario.selection.options, setting)
    return selector


def build_timing(scenario: Scenario) -> Timing:
    """Return the scenario's protocol, and the rates of its server's link."""
    with drawing_for(scenario, "protocol"):
        protocol: RoundProtocol = component("protocol", scenario.protocol.kind).build(scenario.protocol.options)
    if scenario.protocol.is_brought:
        protocol = drawn(protocol, scenario.seed)
    return Timing(protocol=protocol, rates=server_rates(scenario))


def server_rates(scenario: Scenario) -> ServerRates | None:
    """Return what the server's link carries; None where it is no bottleneck in either direction."""
    server = scenario.server
    if server.downlink is None and server.uplink is None:
        return None
    return ServerRates(down=server.downlink, up=server.uplink)


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
        takes_turns=bool(scenario.brought),
    )
