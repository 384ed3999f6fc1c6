"""What a scenario's submodels cost on its fleet, without training: the content of `profile --json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from neulite_sim.engine.charging import build_trainee, own_training
from neulite_sim.engine.parts import Costing
from neulite_sim.profiling.audit import audited
from neulite_sim.profiling.profile import Profile


def cost_report(costing: Costing, *, audits: bool = False) -> dict[str, Any]:
    """Return participation rate and a mapping per submodel, in the shape that scripts rely on.

    `compared_with_memory` names the key of the peak that decides who can train: `allocator_bytes` where the scenario
    models an allocator, else `tensor_bytes`. `peak_memory_bytes` repeats that one. A device that keeps the features of
    frozen layers needs `kept_bytes_per_sample` on top for each of its samples.

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
        "compared_with_memory": "tensor_bytes" if costing.scenario.allocator.kind == "none" else "allocator_bytes",
        "submodels": [_entry(costing, found, audits=audits) for found in costing.ledger.profiles.values()],
    }


def _entry(costing: Costing, profile: Profile, *, audits: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "method": costing.scenario.method.kind,
        "submodel": profile.submodel,
        "is_reference": profile.submodel not in costing.method.submodels,
        "model": costing.charged.name,
        "batch_size": profile.batch_size,
        "parameters": profile.parameters,
        "trainable_parameters": profile.trainable_parameters,
        "peak_memory_bytes": profile.peak_memory_bytes,
        "tensor_bytes": profile.tensor_bytes,
        "allocator_bytes": profile.allocator_bytes,
        "kept_bytes_per_sample": profile.kept_bytes_per_sample,
        "memory_bytes": asdict(profile.memory),
        "flops_per_step": profile.flops_per_step,
        "bytes_down": profile.bytes_down,
        "bytes_up": profile.bytes_up,
        "fits_share": float(costing.ledger.fits(profile.submodel).mean()),
        "seconds_per_flight": _seconds_by_class(costing, profile.submodel),
    }
    if audits:
        measured = audited(
            lambda: build_trainee(costing.method, profile.submodel, costing.charged),
            spec=costing.charged.spec,
            batch_size=profile.batch_size,
            training=own_training(costing.method, profile.submodel, costing.charged_training),
        )
        entry["audited_peak_memory_bytes"] = measured.tracked.total
        entry["audited_memory_bytes"] = asdict(measured.tracked)
        if measured.cuda_allocated_bytes is not None:
            entry["audited_cuda_allocated_bytes"] = measured.cuda_allocated_bytes
    return entry


def _seconds_by_class(costing: Costing, submodel: str) -> dict[str, float]:
    """Return the mean seconds from dispatch to arrival per device class of the fleet, before jitter."""
    population = costing.population
    seconds = costing.ledger.total_s(submodel, np.arange(population.num_devices))
    return {
        device.name: float(seconds[population.class_index == index].mean())
        for index, device in enumerate(population.classes)
        if (population.class_index == index).any()
    }
