"""What a scenario's submodels cost on its fleet, without training: the content of `profile --json`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from neulite_sim.engine.announcing import announcements, other_batches
from neulite_sim.engine.charging import build_trainee, own_training
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import Method
from neulite_sim.population.hardware.power import powers_of
from neulite_sim.profiling.audit import audited
from neulite_sim.profiling.plans import Plan
from neulite_sim.profiling.profile import Profile
from neulite_sim.results.energy import joules_of
from neulite_sim.studies.whatif_missed import FEW_ROUNDS
from neulite_sim.studies.whatif_rounds import rounds_of
from neulite_sim.units import format_bytes


def cost_report(costing: Costing, *, audits: bool = False) -> dict[str, Any]:
    """Return participation rate and a mapping per submodel, in the shape that scripts rely on.

    `compared_with_memory` names the key of the peak that decides who can train: `allocator_bytes` where the scenario
    models a caching allocator, `process_bytes` where it says `glibc`, else `tensor_bytes`. `peak_memory_bytes` repeats
    that one. `process_bytes`, the peak of the whole process on a processor, stands there in any case. A device that
    keeps the features of frozen layers needs `kept_bytes_per_sample` on top for each of its samples.

    With `training.fit: auto` there is a mapping per submodel and `plan`: `fits_share` is the share of devices that hold
    that plan's peak, `chosen_share` of those that take it, because it is the fastest that they hold.

    The full model stands last where the method does not train it itself, as a `reference`.

    With `audits` each submodel is really built and trained for two steps, and the tracked peak stands beside the
    prediction; that takes the memory it describes. On a machine with CUDA, `audited_cuda_allocated_bytes` is the peak
    of its allocator in the same steps.
    """
    method = costing.method
    rate = costing.ledger.participation_rate(method.submodels) if method.enforces_memory else 1.0
    return {
        "scenario": costing.scenario.name,
        "participation_rate": rate,
        "compared_with_memory": costing.scenario.allocator.compared_with_memory,
        "notices": [*announcements(costing), *other_batches(costing), *_missed(costing)],
        "submodels": [_entry(costing, *line, audits=audits) for line in _lines(costing)],
    }


def _missed(costing: Costing) -> list[str]:
    """Return in a sentence what a flight downloads beside its submodel, where a device has to catch up."""
    scenario, method = costing.scenario, costing.method
    if type(method).owed_bytes is Method.owed_bytes:
        return []
    rounds = rounds_of(
        method,
        costing.ledger,
        costing.charged,
        seed=scenario.seed,
        num_rounds=min(scenario.stop.rounds, FEW_ROUNDS),
        devices_per_round=scenario.selection.options.devices_per_round,
    )
    if not rounds.missed_bytes:
        return []
    return [
        f"{scenario.method.label} lets a device download what it missed since it took part last, here about "
        f"{format_bytes(rounds.missed_bytes)} a flight: down, seconds and joules leave it out, whatif counts it"
    ]


def _lines(costing: Costing) -> Iterator[tuple[Profile, Plan]]:
    """Yield the profiles of all plans by which devices may train a submodel of the method; one of the reference."""
    ledger = costing.ledger
    for submodel in ledger.profiles:
        for plan in (
            ledger.plans if submodel in costing.method.submodels and costing.chooses_plans else ledger.plans[:1]
        ):
            found = ledger.profile_of(submodel, plan)
            if found is not None:
                yield found, plan


def _entry(costing: Costing, profile: Profile, plan: Plan, *, audits: bool) -> dict[str, Any]:
    ledger = costing.ledger
    fits = ledger.available_memory_bytes >= ledger.peak_by(profile.submodel, plan)
    entry: dict[str, Any] = {
        "method": costing.scenario.method.label,
        "submodel": profile.submodel,
        "is_reference": profile.submodel not in costing.method.submodels,
        "model": costing.charged.name,
        "batch_size": profile.batch_size,
        "plan": {
            "micro_batch_size": plan.micro_batch_size,
            "checkpointing": plan.checkpointing,
            "precision": plan.precision,
        },
        "parameters": profile.parameters,
        "trainable_parameters": profile.trainable_parameters,
        "peak_memory_bytes": profile.peak_memory_bytes,
        "tensor_bytes": profile.tensor_bytes,
        "allocator_bytes": profile.allocator_bytes,
        "process_bytes": profile.process_bytes,
        "kept_bytes_per_sample": profile.kept_bytes_per_sample,
        "memory_bytes": asdict(profile.memory),
        "flops_per_step": profile.flops_per_step,
        "bytes_down": profile.bytes_down,
        "bytes_up": profile.bytes_up,
        "fits_share": float((fits if costing.chooses_plans else ledger.fits(profile.submodel)).mean()),
        "seconds_per_flight": _seconds_by_class(costing, profile.submodel, plan),
        "energy_per_flight_j": _joules_by_class(costing, profile.submodel, plan),
    }
    if costing.chooses_plans:
        chosen = ledger.fits(profile.submodel) & (ledger.chosen(profile.submodel) == ledger.plans.index(plan))
        entry["chosen_share"] = float(chosen.mean())
    if audits:
        measured = audited(
            lambda: build_trainee(costing.method, profile.submodel, costing.charged),
            spec=costing.charged.spec,
            batch_size=profile.batch_size,
            training=own_training(costing.method, profile.submodel, plan.applied(costing.charged_training)),
        )
        entry["audited_peak_memory_bytes"] = measured.tracked.total
        entry["audited_memory_bytes"] = asdict(measured.tracked)
        if measured.cuda_allocated_bytes is not None:
            entry["audited_cuda_allocated_bytes"] = measured.cuda_allocated_bytes
    return entry


def _joules_by_class(costing: Costing, submodel: str, plan: Plan) -> dict[str, float | None]:
    """Return the mean joules of an undisturbed flight per device class of the fleet; None where nobody knows them."""
    population, ledger = costing.population, costing.ledger
    everybody = np.arange(population.num_devices)
    chooses = costing.chooses_plans
    computing_s = ledger.seconds_by(submodel, plan, everybody) if chooses else ledger.compute_s(submodel, everybody)
    powers = powers_of((device.name for device in population.classes), costing.scenario.energy)
    joules = joules_of(
        population.class_index.astype(np.int64),
        [powers.get(device.name) for device in population.classes],
        download_s=ledger.download_s(submodel, everybody),
        compute_s=computing_s,
        upload_s=ledger.upload_s(submodel, everybody),
        waiting_s=0.0,
    )
    return {
        device.name: float(joules[population.class_index == index].mean()) if device.name in powers else None
        for index, device in enumerate(population.classes)
        if (population.class_index == index).any()
    }


def _seconds_by_class(costing: Costing, submodel: str, plan: Plan) -> dict[str, float]:
    """Return the mean seconds from dispatch to arrival per device class of the fleet, before jitter.

    By one plan where devices choose theirs for memory and speed, else by what each trains with.
    """
    population, ledger = costing.population, costing.ledger
    everybody = np.arange(population.num_devices)
    if costing.chooses_plans:
        computing_s = ledger.seconds_by(submodel, plan, everybody)
        seconds = ledger.download_s(submodel, everybody) + computing_s + ledger.upload_s(submodel, everybody)
    else:
        seconds = ledger.total_s(submodel, everybody)
    return {
        device.name: float(seconds[population.class_index == index].mean())
        for index, device in enumerate(population.classes)
        if (population.class_index == index).any()
    }
