"""Memory-budget studies without training: who could take part at each budget, what stops the others, what it costs.

Everything follows from the profiles of the submodels and the columns of the fleet. A submodel is profiled once for
all budgets, and the full model once for all methods that train it plainly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from neulite_sim.arrays import Flags, Integers
from neulite_sim.engine.assembly import charge, prepare, prepare_variation
from neulite_sim.engine.parts import Costing, Parts
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.methods.contract import Method
from neulite_sim.models.names import FULL
from neulite_sim.population.sampling import DrawnFleet
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.scenario.schema import Scenario
from neulite_sim.studies.shared_profiler import SharedProfiler
from neulite_sim.studies.whatif_notes import notes_of
from neulite_sim.studies.whatif_rounds import FirstStates, rounds_of
from neulite_sim.studies.whatif_settling import Settling
from neulite_sim.studies.whatif_stages import Rounds
from neulite_sim.training.pinning import pinned_torch
from neulite_sim.units import MOST_BYTES, format_bytes

BudgetKind = Literal["memory", "scale", "cap"]
SCALE_OPTION = "--scale-memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The budgets of a study: bytes for everybody (`memory`), factors (`scale`) or limits in bytes (`cap`)."""

    kind: BudgetKind
    values: tuple[float, ...]

    def require_possible(self, own_bytes: Integers) -> None:
        """Refuse factors that make more of the fleet's own budgets than any device has.

        Raises:
            ScenarioError: the largest factor does.
        """
        factor, most = max(self.values), int(own_bytes.max(initial=1))
        if self.kind == "scale" and factor * most > MOST_BYTES:
            found = (
                f"{factor:g} times {format_bytes(most)}, the largest of the fleet, is above {format_bytes(MOST_BYTES)}"
            )
            hint = f"use factors of at most {MOST_BYTES / most:.3g}"
            raise ScenarioError([Problem.advising(key=SCALE_OPTION, found=found, hint=hint)])

    def memory_bytes(self, value: float, own_bytes: Integers) -> Integers:
        """Return the budget of every device at one value; hardware limits nothing here."""
        if self.kind == "memory":
            return np.full(len(own_bytes), round(value), dtype=np.int64)
        if self.kind == "cap":
            return np.minimum(own_bytes, round(value))
        scaled: Integers = np.rint(own_bytes * value).astype(np.int64)
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One method, trained in one way: what a line of the study is about. `variant` is unique in a study."""

    method: str
    variant: str
    scenario: Scenario


class BudgetedLedger(Ledger):
    """A ledger with other available memory; answers about who fits are kept, so that asking again costs nothing."""

    def __init__(self, ledger: Ledger, memory_bytes: Integers) -> None:
        self.__dict__.update(ledger.with_memory(memory_bytes).__dict__)
        self.population = replace(ledger.population, available_memory_bytes=memory_bytes, memory_motion=None)
        self._fits_somebody: dict[str, bool] = {}

    def fits_somebody(self, submodel: str) -> bool:
        """Return whether the submodel fits any device that owns data."""
        if submodel not in self._fits_somebody:
            self._fits_somebody[submodel] = super().fits_somebody(submodel)
        return self._fits_somebody[submodel]


def costings(
    entrants: Sequence[Entrant], fleet: DrawnFleet | None = None, *, before_each: Callable[[], None] | None = None
) -> tuple[list[tuple[Entrant, Costing]], dict[str, str]]:
    """Return the entrants with their ledgers, and by variant the reason why another does not go with the scenario.

    Their scenarios differ in the method and in what devices are charged per step; data and fleet are made once.
    `fleet` is theirs where it has been drawn already. `before_each` is called before each profile that is made.

    Raises:
        ScenarioError: no entrant goes with the scenario; with the problems of all.
        DataNotFoundError: a dataset or trace is missing.
    """
    found: list[tuple[Entrant, Costing]] = []
    refused: dict[str, ScenarioError] = {}
    parts: Parts | None = None
    profiler = SharedProfiler(before_each)
    for entrant in entrants:
        try:
            parts = _prepared(entrant.scenario, parts, fleet)
            found.append((entrant, charge(parts, profiler)))
        except ScenarioError as error:
            refused[entrant.variant] = error
    if not found:
        raise ScenarioError(dict.fromkeys(problem for error in refused.values() for problem in error.problems))
    return found, {variant: "; ".join(map(str, error.problems)) for variant, error in refused.items()}


def _prepared(scenario: Scenario, parts: Parts | None, fleet: DrawnFleet | None) -> Parts:
    return prepare(scenario, fleet) if parts is None else prepare_variation(parts, scenario)


@pinned_torch()
def study(
    entrants: Sequence[Entrant], budgets: Budgets, fleet: DrawnFleet | None = None,
    *, before_each: Callable[[], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return a mapping in the shape of `whatif --json`: a row per entrant and budget, thresholds, needs per class.

    `fleet` is that of the entrants, where it has been drawn already; `before_each` goes to `costings`.

    Raises:
        ScenarioError: no entrant goes with the scenario.
        DataNotFoundError: a dataset or trace is missing.
    """
    found, refused = costings(entrants, fleet, before_each=before_each)
    first = found[0][1]
    own_bytes = first.population.available_memory_bytes
    settling = [(entrant, Settling(costing, SharedProfiler(before_each))) for entrant, costing in found]
    answers = [
        (entrant, value, answer)
        for entrant, method in settling
        for value, answer in zip(budgets.values, _answers(method, budgets, own_bytes), strict=True)
    ]
    least = [(entrant, method.least(needed_bytes)) for entrant, method in settling]
    return {
        "scenario": first.scenario.name,
        "model": first.charged.name,
        "devices": first.population.num_devices,
        "budget_kind": budgets.kind,
        "compared_with_memory": first.scenario.allocator.compared_with_memory,
        "devices_per_round": first.scenario.selection.options.devices_per_round,
        "rows": [{**_head(entrant, budgets, value, answer), **answer.row()} for entrant, value, answer in answers],
        "submodels": [
            {**_head(entrant, budgets, value, answer), **row} for entrant, value, answer in answers
            for row in answer.submodel_rows()
        ],
        "device_classes": [row for entrant, costing in least for row in class_rows(entrant, costing)],
        "includes_everyone_at_bytes": {entrant.variant: includes_everyone_at(costing) for entrant, costing in least},
        "trains_everything_at_bytes": {entrant.variant: trains_everything_at(costing) for entrant, costing in least},
        "includes_everyone_at_process_bytes": {entrant.variant: process_bytes(costing) for entrant, costing in least},
        **_own_thresholds(least, budgets, own_bytes),
        "not_applicable": refused,
        "notes": notes_of([(entrant.method, entrant.variant, costing) for entrant, costing in found]),
    }  # fmt: skip


def _head(entrant: Entrant, budgets: Budgets, value: float, answer: Answer) -> dict[str, Any]:
    training = answer.costing.charged_training
    median_bytes = int(np.median(answer.ledger.available_memory_bytes))
    return {
        "method": entrant.method,
        "variant": entrant.variant,
        "budget_bytes": median_bytes if budgets.kind == "scale" else round(value),
        **({"scale": value} if budgets.kind == "scale" else {}),
        "batch_size": training.batch_size,
        "micro_batch_size": training.micro_batch_size,
        "checkpointing": training.checkpointing,
        "fit": training.fit.kind,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What holds for one entrant at one budget."""

    costing: Costing
    ledger: BudgetedLedger
    rounds: Rounds

    @property
    def submodels(self) -> tuple[str, ...]:
        """The submodels of the method, the one with the smallest peak first."""
        return by_need(self.ledger, self.costing.method.submodels)

    def able(self) -> Flags:
        """Return for every device whether it fits at least one submodel, all where the method has no memory limit."""
        if not self.costing.method.enforces_memory:
            return np.ones(self.ledger.population.num_devices, dtype=np.bool_)
        able: Flags = np.logical_or.reduce([self.ledger.fits(name) for name in self.submodels])
        return able

    def row(self) -> dict[str, Any]:
        """Return participation, the binding constraint and the expected round, as plain values.

        The binding submodel is the one with the smallest peak that some device cannot hold.
        """
        able, rounds = self.able(), self.rounds
        binding = self._binding()
        return {
            "participation_rate": float(able.mean()),
            "data_share": self._data_share(able),
            "binding_submodel": binding,
            **self._shortfall(binding),
            "round_s": rounds.round_s,
            "bytes_per_round": None if rounds.bytes_down is None else rounds.bytes_down + (rounds.bytes_up or 0.0),
            "bytes_down_per_round": rounds.bytes_down,
            "bytes_up_per_round": rounds.bytes_up,
            "ends_after_rounds": rounds.ends_after,
        }

    def _binding(self) -> str | None:
        if not self.costing.method.enforces_memory:
            return None
        return next((name for name in self.submodels if not self.ledger.fits(name).all()), None)

    def _data_share(self, devices: Flags) -> float:
        sizes = self.costing.partition.sizes
        return float(sizes[devices].sum() / sizes.sum())

    def _shortfall(self, submodel: str | None) -> dict[str, Any]:
        """Return how many devices are short of a submodel, and by how much in the median and at most."""
        if submodel is None:
            return {"short_devices": 0, "shortfall_bytes_median": None, "shortfall_bytes_max": None}
        missing = self.ledger.shortfall_bytes(submodel)
        missing = missing[missing > 0]
        return {
            "short_devices": len(missing),
            "shortfall_bytes_median": int(np.median(missing)) if len(missing) else None,
            "shortfall_bytes_max": int(missing.max()) if len(missing) else None,
        }

    def submodel_rows(self) -> list[dict[str, Any]]:
        """Return a row per submodel, in the method's order: who holds it, who is short, and the rounds of its stage."""
        stages = {stage.stage: stage for stage in self.rounds.stages}
        num_rounds = sum(stage.rounds for stage in self.rounds.stages)
        rows = []
        for name in self.costing.method.submodels:
            stage, fits = stages.get(name), self.ledger.fits(name)
            rows.append({
                "submodel": name,
                "peak_memory_bytes": self.ledger.least_peak_bytes(name),
                "memory": asdict(self.ledger.least_memory(name)),
                "process_bytes": self.ledger.least_process_bytes(name),
                "fits_share": float(fits.mean()),
                "data_share": self._data_share(fits),
                **self._shortfall(name),
                "share_of_rounds": stage.rounds / num_rounds if stage else None,
                "round_s": stage.round_s if stage else None,
                "bytes_per_round": stage.bytes_down + stage.bytes_up if stage else None,
            })  # fmt: skip
        return rows


def _answers(settling: Settling, budgets: Budgets, own_bytes: Integers) -> Iterator[Answer]:
    """Yield the answer at each budget. Where the same devices hold the same, a method has the same rounds."""
    known: dict[tuple[bytes, ...], Rounds] = {}
    before: Method | None = None
    for value in budgets.values:
        memory_bytes = budgets.memory_bytes(value, own_bytes)
        costing = settling.at(memory_bytes)
        if costing.method is not before:
            before, known = costing.method, {}
            states = FirstStates(costing.asked_method, costing.charged, costing.scenario.seed)
        ledger = BudgetedLedger(costing.ledger, memory_bytes)
        names = costing.method.submodels
        pattern = tuple(item.tobytes() for name in names for item in (ledger.fits(name), ledger.chosen(name)))
        if pattern not in known:
            known[pattern] = rounds_of(
                costing.asked_method,
                ledger,
                costing.charged,
                seed=costing.scenario.seed,
                num_rounds=costing.scenario.stop.rounds,
                devices_per_round=costing.scenario.selection.options.devices_per_round,
                states=states,
            )
        yield Answer(costing=costing, ledger=ledger, rounds=known[pattern])


def by_need(ledger: Ledger, submodels: Sequence[str]) -> tuple[str, ...]:
    """Return submodels in the rising order of their peaks at the smallest batch."""
    return tuple(sorted(submodels, key=ledger.least_peak_bytes))


def least_peaks(costing: Costing, submodel: str) -> Integers:
    """Return the least memory in bytes with which each device can train a submodel, at its smallest batch."""
    return BudgetedLedger(costing.ledger, np.zeros_like(costing.population.available_memory_bytes)).peak_memory_bytes(
        submodel
    )


def needed_bytes(costing: Costing) -> Integers:
    """Return for every device the smallest available memory with which it can take part; 0 without a memory limit."""
    if not costing.method.enforces_memory:
        return np.zeros(costing.population.num_devices, dtype=np.int64)
    least: Integers = np.minimum.reduce([least_peaks(costing, name) for name in costing.method.submodels])
    return least


def includes_everyone_at(costing: Costing) -> int:
    """Return the smallest budget in bytes that lets every device take part, if all are given exactly that."""
    return int(needed_bytes(costing).max())


def process_bytes(costing: Costing) -> int | None:
    """Return the lowest peak of the whole process over the submodels; None where a profile was made without it."""
    found = [costing.ledger.least_process_bytes(name) for name in costing.method.submodels]
    return min((num_bytes for num_bytes in found if num_bytes is not None), default=None)


def trains_everything_at(costing: Costing) -> int:
    """Return the smallest budget in bytes at which every device holds every submodel of the method."""
    if not costing.method.enforces_memory:
        return 0
    return max(int(least_peaks(costing, name).max()) for name in costing.method.submodels)


def _own_thresholds(
    found: Sequence[tuple[Entrant, Costing]], budgets: Budgets, own_bytes: Integers
) -> Mapping[str, Any]:
    """Return the factor or the limit of the fleet's own budgets at which everybody is first included; None: never."""
    if budgets.kind == "memory":
        return {}
    needs = {entrant.variant: needed_bytes(costing) for entrant, costing in found}
    if budgets.kind == "cap":
        caps = {name: int(need.max()) if (need <= own_bytes).all() else None for name, need in needs.items()}
        return {"includes_everyone_at_cap_bytes": caps}
    return {"includes_everyone_at_scale": {name: _scale(need, own_bytes) for name, need in needs.items()}}


def _scale(needed: Integers, own_bytes: Integers) -> float | None:
    """Return the factor by which own budgets reach what is needed; None where a device has nothing to multiply."""
    if (own_bytes[needed > 0] == 0).any():
        return None
    return float(np.max(needed / np.maximum(own_bytes, 1)))


def class_rows(entrant: Entrant, costing: Costing) -> list[dict[str, Any]]:
    """Return how much more memory each class of device would need, from the fleet's own budgets as they are.

    A row for taking part, under the name of the submodel with the smallest peak, and one for the full model. Devices of
    a class may need different amounts: `needed_bytes` is the most of them, but missing bytes are of each device's need
    against its own memory, at the one that lacks most and at the median; 0 where it has enough.
    """
    population = costing.population
    smallest = by_need(costing.ledger, costing.method.submodels)[0]
    needs = {smallest: needed_bytes(costing), FULL: least_peaks(costing, FULL)}
    rows = []
    for index, device in enumerate(population.classes):
        members = np.flatnonzero(population.class_index == index)
        if not len(members):
            continue
        memory = population.available_memory_bytes[members]
        for submodel, needed in needs.items():
            left = memory - needed[members]
            rows.append({
                "method": entrant.method,
                "variant": entrant.variant,
                "device_class": device.name,
                "devices": len(members),
                "submodel": submodel,
                "needed_bytes": int(needed[members].max()),
                "memory_bytes_min": int(memory.min()),
                "memory_bytes_median": int(np.median(memory)),
                "missing_bytes_min": max(0, -int(left.min())),
                "missing_bytes_median": max(0, -math.floor(np.median(left))),
                "fits_devices": int((left >= 0).sum()),
            })  # fmt: skip
    return rows
