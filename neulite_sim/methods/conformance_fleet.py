"""The fleet of the laws of the method contract: seven devices of one kind, from one that fits nothing on."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.methods.contract import Method
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.names import FULL
from neulite_sim.models.trainee import FullModel
from neulite_sim.population.availability.kinds import AlwaysOnline
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.table import Population
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.scenario.schema import Training

NUM_DEVICES = 7
BATCH_SIZE = 4


def settled(method: Method, blueprint: Blueprint) -> Method:
    """Return the method as it settles on devices from half of what its smallest submodel needs to twice the full model.

    Trainees of what it names must not depend on that: workers make them without it. That it has settled on other
    devices before must not matter: a study asks one method for every budget.
    """
    if type(method).settled is Method.settled:
        return method
    reference = profile(FULL, lambda: FullModel(blueprint), **_how(blueprint))
    most = reference.peak_memory_bytes
    least = min(found.peak_memory_bytes for found in _profiles(method, blueprint).values())
    memory = np.linspace(least / 2, 2 * max(least, most), NUM_DEVICES).astype(np.int64)
    one, _, same = (_settled_on(method, blueprint, each) for each in (memory, memory // 2, memory))
    assert one.submodels == same.submodels, f"settled: the same fleet gave {one.submodels}, then {same.submodels}"
    for submodel in one.submodels:
        early, late = (
            {name: tuple(tensor.shape) for name, tensor in found.trainee(submodel, blueprint).state_dict().items()}
            for found in (method, one)
        )
        assert early == late, f"settled: {submodel} is another trainee after it than before"
    return one


def _settled_on(method: Method, blueprint: Blueprint, memory: Integers) -> Method:
    return method.settled(blueprint, lambda other: ledger_of(other, blueprint, memory))


def _how(blueprint: Blueprint) -> dict[str, Any]:
    return {"spec": blueprint.spec, "batch_size": BATCH_SIZE, "training": Training(batch_size=BATCH_SIZE)}


def _profiles(method: Method, blueprint: Blueprint) -> dict[str, Profile]:
    return {
        submodel: profile(submodel, functools.partial(method.trainee, submodel, blueprint), **_how(blueprint))
        for submodel in method.submodels
    }


def ledger_of(method: Method, blueprint: Blueprint, memory: Integers | None = None) -> Ledger:
    """Return the costs on devices of some memory, by default from half the smallest to twice the largest submodel."""
    profiles = _profiles(method, blueprint)
    if memory is None:
        peaks = [found.peak_memory_bytes for found in profiles.values()]
        memory = np.linspace(min(peaks) / 2, 2 * max(peaks), NUM_DEVICES).astype(np.int64)
    return Ledger(profiles, _population(memory), np.full(NUM_DEVICES, 2 * BATCH_SIZE), epochs=1)


def _population(memory: Integers) -> Population:
    device = DeviceClass(
        name="board",
        family="board",
        installed_memory_bytes=int(memory.max()),
        usable_memory_bytes=int(memory.max()),
        peak_flops_per_second=1e9,
        memory_bytes_per_second=1e9,
        efficiency=0.5,
        operator_overhead_s=1e-5,
        downlink_bits_per_second=1e7,
        uplink_bits_per_second=1e7,
    )
    return Population(
        classes=(device,),
        class_index=np.zeros(len(memory), dtype=np.int16),
        available_memory_bytes=memory,
        downlink_bits_per_second=np.full(len(memory), 1e7),
        uplink_bits_per_second=np.full(len(memory), 1e7),
        latency_s=np.zeros(len(memory)),
        speed_jitter=0.0,
        availability=AlwaysOnline(num_devices=len(memory)),
    )
