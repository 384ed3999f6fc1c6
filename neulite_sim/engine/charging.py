"""Charging: what every submodel of a scenario's method costs on every device of its fleet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.engine.parts import Parts
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.contract import Method
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.names import FULL
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.profiling.identity import identity_of
from neulite_sim.profiling.kept import KeptProfiles, kept_profiles
from neulite_sim.profiling.ledger import Ledger, merges_last_batch
from neulite_sim.profiling.plans import Choice, Plan, Rung, rungs_of
from neulite_sim.profiling.profile import CHECKPOINTING, Profile, profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training

Profiler = Callable[..., Profile]


def build_ledger(parts: Parts, profiler: Profiler | None = None) -> Ledger:
    """Return what every submodel costs on every device; `profiler` is called in place of `profile`.

    Neither is called for a profile that the user's folder keeps.
    """
    method, charged, training = parts.method, parts.charged, parts.charged_training
    num_samples, allocator = _charged_samples(parts), parts.scenario.allocator
    profiler = profiler or profile
    if allocator.kind != "none":
        profiler = functools.partial(profiler, allocator=allocator)
    if (kept := kept_profiles()) is not None:
        profiler = _KeepingProfiler(kept, parts, profiler)
    profiled = functools.partial(profile_all, profiler=profiler)
    rungs, merged = rungs_of(training), None
    first = rungs[0][0].applied(training)
    if merges_last_batch(num_samples, first.batch_size).any():
        larger = first.model_copy(update={"batch_size": first.batch_size + 1})
        merged = profiled(method, charged, larger)
    profiles = profiled(method, charged, first)
    return Ledger(
        profiles,
        parts.population,
        num_samples,
        epochs=training.epochs,
        own_epochs={name: own_training(method, name, training).epochs for name in profiles},
        own_steps=_own_steps(method),
        owns_data=parts.partition.sizes > 0,
        merged_profiles=merged,
        choice=_choice(rungs, method, charged, training, profiler),
    )


def _own_steps(method: Method) -> dict[str, int]:
    """Return how many steps a local training takes, by the submodels that are not trained for whole epochs."""
    found = {submodel: method.own_training(submodel).steps for submodel in method.submodels}
    return {submodel: steps for submodel, steps in found.items() if steps is not None}


@dataclass(frozen=True, slots=True)
class Remembering:
    """Profiles each submodel of a scenario once: what it is called says all of it."""

    profiler: Profiler
    known: dict[tuple[object, ...], Profile] = field(default_factory=dict)

    def __call__(self, submodel: str, build: Callable[[], Trainee], **how: Any) -> Profile:
        """Return what the profiler returns of the same arguments."""
        key = submodel, how["batch_size"], how["training"]
        if key not in self.known:
            self.known[key] = self.profiler(submodel, build, **how)
        return self.known[key]


def settle(parts: Parts, profiler: Profiler | None = None) -> tuple[Parts, Profiler]:
    """Return the parts with the method as it chooses its submodels by their costs, and a profiler that knows these.

    Raises:
        ScenarioError: the method does not go with the model, or with the budget that it was given.
    """
    remembering = profiler if isinstance(profiler, Remembering) else Remembering(profiler or profile)

    def ledger_of(method: Method) -> Ledger:
        return build_ledger(replace(parts, method=method), remembering)

    return replace(parts, method=parts.method.settled(parts.charged, ledger_of)), remembering


@dataclass(frozen=True, slots=True)
class _KeepingProfiler:
    """Finds the profiles of a scenario's submodels among those kept on disk, and keeps those that it has made."""

    kept: KeptProfiles
    parts: Parts
    profiler: Profiler

    def __call__(self, submodel: str, build: Callable[[], Trainee], **how: Any) -> Profile:
        """Return what the profiler returns of the same arguments."""
        known = self.profiler.known if isinstance(self.profiler, Remembering) else {}
        key = submodel, how["batch_size"], how["training"]
        if key in known:
            return known[key]
        identity = identity_of(
            submodel=submodel,
            how=how,
            blueprint=self.parts.charged,
            allocator=self.parts.scenario.allocator,
            method=_shaping(self.parts, submodel),
            built_by=build_trainee,
        )
        if identity is None:
            return self.profiler(submodel, build, **how)
        found = self.kept.find(identity, submodel, how["batch_size"])
        if found is None:
            found = self.profiler(submodel, build, **how)
            self.kept.keep(identity, found)
        known[key] = found
        return found


def _shaping(parts: Parts, submodel: str) -> tuple[Any, ...]:
    """Return what decides, beside the blueprint, what is trained as a submodel; nothing for the reference."""
    if submodel not in parts.method.submodels:
        return ()
    scenario, kind = parts.scenario, type(parts.method)
    by = (kind, component("method", scenario.method.kind).build, scenario.method, parts.method.shaped_by)
    if kind.__module__.startswith("neulite_sim.methods."):
        # Rounds, devices and seed give the built-in methods their course, not the shape of a submodel.
        return by
    return (*by, scenario.stop.rounds, scenario.population.devices, scenario.seed)


def _charged_samples(parts: Parts) -> Integers:
    samples = parts.scenario.workload.samples_per_device
    return parts.partition.sizes if samples is None else np.full(parts.partition.num_devices, samples, dtype=np.int64)


def _choice(
    rungs: tuple[Rung, ...], method: Method, charged: Blueprint, training: Training, profiler: Profiler
) -> Choice:
    """Return the plans that devices choose from."""

    def profile_of(submodel: str, plan: Plan) -> Profile | None:
        try:
            return profile_submodel(method, submodel, charged, plan.applied(training), profiler)
        except ScenarioError as error:
            # What has no blocks to compute again is trained without checkpointing.
            if plan.checkpointing and [problem.key for problem in error.problems] == [CHECKPOINTING]:
                return None
            raise

    return Choice(rungs=rungs, profile_of=profile_of)


def build_trainee(method: Method, submodel: str, blueprint: Blueprint) -> Trainee:
    """Return a submodel of a method, or the full model as the reference that every method is compared with."""
    return method.trainee(submodel, blueprint) if submodel in method.submodels else FullModel(blueprint)


def profile_all(
    method: Method, charged: Blueprint, training: Training, profiler: Profiler = profile
) -> dict[str, Profile]:
    """Return the profile of every submodel of a method, in the method's order, and of the full model.

    The full model is profiled with every method: it is where the memory wall stands.
    """
    return {
        submodel: profile_submodel(method, submodel, charged, training, profiler)
        for submodel in dict.fromkeys((*method.submodels, FULL))
    }


def own_training(method: Method, submodel: str, training: Training) -> Training:
    """Return how a submodel is trained where a scenario says `training`; the reference as the scenario says."""
    return method.own_training(submodel).applied(training) if submodel in method.submodels else training


def profile_submodel(
    method: Method, submodel: str, charged: Blueprint, training: Training, profiler: Profiler = profile
) -> Profile:
    """Return the profile of one submodel of a method, or of the full model."""
    return profiler(
        submodel,
        lambda: build_trainee(method, submodel, charged),
        spec=charged.spec,
        batch_size=training.batch_size,
        training=own_training(method, submodel, training),
    )
