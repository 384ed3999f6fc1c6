"""The live objects of a scenario, as they are handed on from the assembly to the run and to studies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neulite_sim.data.contract import AnyDataset, Partition
from neulite_sim.methods.contract import Method
from neulite_sim.methods.drawn import drawn
from neulite_sim.models.contract import Blueprint
from neulite_sim.population.table import Population
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.profiling.plans import Plan, plan_of
from neulite_sim.scenario.schema import Scenario, Training
from neulite_sim.timeline.contract import RoundProtocol, ServerRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When the server dispatches and digests, and what its own link carries; None where that is no bottleneck."""

    protocol: RoundProtocol
    rates: ServerRates | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The live objects of a scenario before anything is profiled: all that workers need.

    The charged blueprint is the workload (what devices pay for), the trained one the proxy (what is really learned);
    without `workload` and `proxy` they are the same. `left_out` says, a sentence each, what of scenario and
    files is left out or taken otherwise than it stands there.
    """

    scenario: Scenario
    charged: Blueprint
    trained: Blueprint
    charged_training: Training
    trained_training: Training
    method: Method
    dataset: AnyDataset
    partition: Partition
    population: Population
    timing: Timing
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costing(Parts):
    """The same objects with the ledger of what every submodel costs on every device."""

    ledger: Ledger

    @property
    def asked_method(self) -> Method:
        """The method as the server asks it in the course of a run."""
        scenario = self.scenario
        return drawn(self.method, scenario.seed, is_of_others=scenario.method.is_brought)

    @property
    def chooses_plans(self) -> bool:
        """Whether each device takes its steps in a way of its own: `training.fit: auto`."""
        return self.charged_training.fit.kind != "none"


def trained_plan(costing: Costing, charged: Plan) -> Plan:
    """Return how the real training takes its steps where a device is charged for `charged`.

    Batch and, with `training.fit: auto`, micro-batches are smaller in the same proportion as those charged, rounded
    down, and not below two samples unless either is: BatchNorm cannot train on one. What `proxy` says of micro-batches
    and precision comes first. Nothing is computed twice for a memory that nobody is short of here.
    """
    trained, proxy = costing.trained_training, costing.scenario.proxy
    plan = replace(plan_of(trained), batch_size=_trained_size(costing, charged.batch_size))
    if trained.fit.kind == "none":
        return plan
    if charged.micro_batch_size is not None and proxy.micro_batch_size is None:
        plan = replace(plan, micro_batch_size=_trained_size(costing, charged.micro_batch_size))
    return plan if proxy.precision else replace(plan, precision=charged.precision)


def _trained_size(costing: Costing, charged: int) -> int:
    whole, trained = costing.charged_training.batch_size, costing.trained_training.batch_size
    return max(min(2, charged, trained), trained * charged // whole)
