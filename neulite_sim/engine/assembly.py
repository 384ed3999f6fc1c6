"""Assembly: the only place that turns a scenario into live objects, each built once and handed on.

Two ledgers come out of one scenario: devices are charged for the workload, and really trained is the proxy.
"""

from __future__ import annotations

import contextlib
from dataclasses import fields, replace

from neulite_sim.engine.building import (
    build_blueprints,
    build_datasets,
    build_fleet,
    build_method,
    build_partition,
    build_timing,
    keeps_in_vain,
    model_remarks,
    overridden,
    workplace,
)
from neulite_sim.engine.capacity import check_data
from neulite_sim.engine.charging import Profiler, build_ledger, settle
from neulite_sim.engine.compatibility import (
    require_compatible,
    require_matching_models,
    require_somebody,
    require_training,
)
from neulite_sim.engine.conflicts import fleet_remarks
from neulite_sim.engine.parts import Costing, Parts
from neulite_sim.outside import printable
from neulite_sim.population.sampling import DrawnFleet
from neulite_sim.scenario.remarks import remarks
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.written import naming_places
from neulite_sim.training.contract import Backend
from neulite_sim.user_code.drawing import drawing_where
from neulite_sim.user_code.own_generators import generator_notices

_IN_VAIN = (
    "training.prefix_cache is device, but data.augmentation alters each sample anew in each epoch: devices keep "
    "nothing and are charged for nothing kept"
)


def ready(scenario: Scenario, backend: Backend, fleet: DrawnFleet | None = None) -> Costing:
    """Return the profiled parts of a scenario, the backend equipped for them.

    Raises:
        ScenarioError: what `prepare` refuses, training that the backend lacks or that this machine does not hold.
        DataNotFoundError: a dataset or trace is missing.
        InfeasibleError: no device can ever train anything.
    """
    parts = prepare(scenario, fleet)
    require_training(parts, trains=backend.trains)
    backend.equip(workplace(parts))
    costing = charge(parts)
    require_somebody(costing)
    return costing


def assemble(scenario: Scenario, fleet: DrawnFleet | None = None) -> Costing:
    """Return the live objects of a scenario, profiled, without a backend. Raises what `prepare` raises."""
    return charge(prepare(scenario, fleet))


def prepare(scenario: Scenario, fleet: DrawnFleet | None = None) -> Parts:
    """Return the live objects of a scenario.

    `fleet` is that of its section `population`, where it has been drawn already; any other is drawn anew.

    Raises:
        ScenarioError: a component refuses its options on this data or fleet.
        DataNotFoundError: a dataset or trace is missing.
    """
    with naming_places(scenario), _drawing(scenario):
        return _prepared(scenario, fleet)


def _drawing(scenario: Scenario) -> contextlib.AbstractContextManager[None]:
    """Leave the generators of the process to the caller as they were, whatever code of others draws as it is read."""
    return drawing_where(bool(scenario.brought), scenario.seed, "assembly")


def _prepared(scenario: Scenario, fleet: DrawnFleet | None) -> Parts:
    check_data(scenario)
    studied, dataset = build_datasets(scenario)
    charged, trained = build_blueprints(scenario, studied, dataset)
    population = build_fleet(scenario, fleet)
    partition = build_partition(scenario, dataset)
    charged_model = charged.look()
    charged_training = overridden(scenario.training, scenario.workload, dataset)
    method = build_method(scenario, charged_model, charged, charged_training)
    said = [
        *remarks(scenario),
        *fleet_remarks(scenario, population),
        *model_remarks(charged, trained),
        *generator_notices(scenario),
    ]
    if keeps_in_vain(scenario.training, dataset):
        said.append(_IN_VAIN)
    parts = Parts(
        scenario=scenario,
        charged=charged,
        trained=trained,
        charged_training=charged_training,
        trained_training=overridden(scenario.training, scenario.proxy, dataset),
        method=method,
        dataset=dataset,
        partition=partition,
        population=population,
        timing=build_timing(scenario),
        left_out=tuple(map(printable, (*said, *dataset.left_out, *partition.left_out, *population.notes))),
    )
    require_compatible(parts, charged_model)
    return parts


def prepare_variation(parts: Parts, scenario: Scenario) -> Parts:
    """Return the live objects of a scenario that differs from that of `parts` in its method and its training only.

    Raises:
        ScenarioError: the method does not go with the models.
    """
    charged_model = parts.charged.look()
    charged_training = overridden(scenario.training, scenario.workload, parts.dataset)
    with naming_places(scenario):
        varied = replace(
            parts,
            scenario=scenario,
            charged_training=charged_training,
            trained_training=overridden(scenario.training, scenario.proxy, parts.dataset),
            method=build_method(scenario, charged_model, parts.charged, charged_training),
        )
        require_matching_models(varied, charged_model)
    return varied


def charge(parts: Parts, profiler: Profiler | None = None) -> Costing:
    """Return the parts with their ledger: profiles every submodel, which takes a second or a few.

    `profiler` is called in place of `profile`. A method that chooses its submodels by their costs has done so after it.
    """
    with naming_places(parts.scenario), _drawing(parts.scenario):
        parts, profiler = settle(parts, profiler)
        ledger = build_ledger(parts, profiler)
    return Costing(**{item.name: getattr(parts, item.name) for item in fields(parts)}, ledger=ledger)
