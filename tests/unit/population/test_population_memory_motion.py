"""Kinds of memory motion: what they are called, what they build, and what could not act and is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_scenarios import tiny

from neulite_sim.errors import ScenarioError
from neulite_sim.population.memory.steps import RoundMemory, SteppedMemory
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.registry import component


def population(motion: str, *overrides: str) -> Population:
    scenario = tiny(f"population.memory_motion={motion}", *overrides)
    return build_population(scenario.population, scenario.seed)


@pytest.mark.parametrize("kind", ["constant", "redrawn", "trace", "walk"])
def test_every_kind_is_registered_under_its_name(kind: str) -> None:
    assert component("memory_motion", kind).kind == kind


def test_constant_memory_is_the_default_and_holds_nothing() -> None:
    assert tiny().population.memory_motion.kind == "constant"
    assert population("constant").memory_motion is None


@pytest.mark.parametrize(
    ("motion", "kind"),
    [
        ("redrawn", SteppedMemory),
        ("{kind: redrawn, every: 90s}", SteppedMemory),
        ("{kind: redrawn, every: round}", RoundMemory),
        ("{kind: redrawn, every: round, spread: 0.5}", RoundMemory),
        ("{kind: walk, step: 0.1}", SteppedMemory),
    ],
)
def test_a_motion_begins_at_time_zero_and_moves_the_fleet(motion: str, kind: type) -> None:
    found = population(motion)
    memory = found.memory_motion
    assert isinstance(memory, kind)
    late = memory.available_bytes(1e5, 40)
    assert late.shape == (6,)
    assert late.dtype == np.int64
    assert (late != memory.available_bytes(0.0, 1)).any()


def test_redrawn_memory_begins_with_the_nominal_memory() -> None:
    found = population("redrawn")
    assert found.memory_motion is not None
    assert list(found.memory_motion.available_bytes(0.0, 1)) == list(found.available_memory_bytes)


def test_a_fleet_with_motion_is_drawn_as_without() -> None:
    plain, moved = population("constant"), population("{kind: walk, step: 0.1}")
    assert list(plain.available_memory_bytes) == list(moved.available_memory_bytes)


@pytest.mark.parametrize(
    ("memory", "kinds"),
    [
        ("{kind: installed, share: 0.1}", "installed"),
        ("{kind: explicit, values: [1MB, 2MB, 3MB, 4MB, 5MB, 6MB]}", "explicit"),
        ("{kind: uniform, low: 1MB, high: 1MB}", "uniform"),
        ("{kind: lognormal, median: 1MB, sigma: 0}", "lognormal"),
        ("{kind: choice, values: [1MB, 2MB], weights: [1, 0]}", "choice"),
    ],
)
def test_redraws_that_would_always_give_the_same_are_refused(memory: str, kinds: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        population("redrawn", f"population.available_memory={memory}")
    assert str(refused.value) == (
        f"population.memory_motion: redrawn draws from population.available_memory, and every draw from {kinds} is "
        "the same; set population.memory_motion.spread, or use available_memory uniform, lognormal or choice with "
        "different values"
    )
    spread = population("{kind: redrawn, spread: 0.5}", f"population.available_memory={memory}").memory_motion
    assert spread is not None


def test_a_group_whose_memory_is_written_out_keeps_it_while_others_are_redrawn() -> None:
    groups = (
        "population.groups=[{device: jetson-nano-4gb, share: 1}, {device: jetson-tx2-8gb, share: 1, available_memory: "
        "{kind: explicit, values: [1MB, 2MB, 3MB]}}]"
    )
    found = population("redrawn", groups)
    assert found.memory_motion is not None
    later = found.memory_motion.available_bytes(1e5, 1)
    kept = found.available_memory_bytes < 9_000_000
    assert sorted(later[kept]) == [1_000_000, 2_000_000, 3_000_000]
    assert (later != found.available_memory_bytes)[~kept].all()


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        ("walk", "population.memory_motion.step: is missing"),
        ("{kind: redrawn, every: often}", "'often' is not a duration; write for example 90s, 15min or 48h"),
        ("{kind: redrawn, every: 0.5}", "population.memory_motion.every"),
        ("{kind: walk, step: 0.1, reversion: 0}", "population.memory_motion.reversion"),
    ],
)
def test_options_that_mean_nothing_are_refused_under_their_key(motion: str, message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        population(motion)
    assert message in str(refused.value)


def test_a_scenario_with_motion_can_be_written_down_and_read_again() -> None:
    for every in ("round", "90s"):
        scenario = tiny(f"population.memory_motion={{kind: redrawn, every: {every}}}")
        again: dict[str, Any] = scenario.dump()
        assert type(scenario).model_validate(again) == scenario
