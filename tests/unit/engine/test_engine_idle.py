"""A key of a scenario that acts on nothing is told with its name, and one that acts is not; both as runs show it."""

from __future__ import annotations

import pytest
from listeners import Listener
from tiny_scenarios import TINY

from neulite_sim.engine.announcing import announcements
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.idle import idle
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.remarks import remarks

pytestmark = pytest.mark.usefixtures("shared_profiles")

BASE = {
    **TINY,
    "data": {"kind": "synthetic", "shape": [1, 8, 8], "samples": 90, "test_samples": 30, "classes": 3},
    "model": "lenet",
    "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.05},
    "population": {**TINY["population"], "link": {"downlink": "8Mbps", "uplink": "2Mbps"}},
}
RESNET = "model=resnet20"
GROUP = {"device": "jetson-nano-4gb", "share": 1}
OWN_MEMORY = {**GROUP, "available_memory": {"kind": "uniform", "low": "10MB", "high": "20MB"}}
OWN_LINK = {**GROUP, "link": {"downlink": "8Mbps", "uplink": "2Mbps"}}
FEDBUFF = "protocol={kind: fedbuff, buffer_size: 2}"
THREE_FLY = "protocol={kind: fedbuff, buffer_size: 2, concurrency: 3}"
ENERGY = (
    "energy={power: {jetson-nano-4gb: {battery_watt_hours: 0.005}}, "
    "battery: {charging_watts: 5, requires_charging: false, plugged_in_at: 43200, plugged_in_for: 2h, level: 1}}"
)
PROFL = "method={kind: profl, shrinking_rounds: 1, growing_rounds: 1, distillation_rounds: 0}"
SLT = "method={kind: slt, configurations: [[0.25, 0.5], [0.5, 0.75]]}"

# (overrides that make the scenario, key, value)
WITHOUT_EFFECT = [
    ((), "training.prefix_cache", "device"),
    (("method=neulite", "training.epochs=1"), "training.prefix_cache", "device"),
    (("method=lora",), "training.prefix_cache", "device"),
    ((f"population.groups=[{OWN_LINK}]",), "population.link", "{downlink: 1Mbps, uplink: 1Mbps}"),
    ((f"population.groups=[{OWN_MEMORY}]",), "population.available_memory", "{kind: uniform, low: 9MB, high: 9MB}"),
    ((ENERGY,), "energy.battery.capacity_watt_hours", "40"),
    (("method={kind: lora, ranks: [0]}",), "method.alpha", "3"),
    (("method={kind: lora, ranks: [0]}",), "method.aggregation", "flora"),
    (("method={kind: lora, ranks: [0]}",), "method.adapters", "convolutions"),
    (("method=lora",), "method.aggregation", "hetlora"),
    (("method=neulite",), "method.bn_frozen", "train"),
    ((SLT,), "method.bn_frozen", "eval"),
    ((PROFL, "stop.rounds=5"), "method.bn_frozen", "train"),
    (("method=fedepth",), "method.bn_frozen", "train"),
    (("method=partial-variables",), "method.bn_frozen", "train"),
    ((SLT,), "method.averaged_over", "trainers"),
    (("method={kind: depthfl, extended: false}",), "method.ensemble", "all"),
    ((THREE_FLY,), "selection.devices_per_round", "2"),
    ((THREE_FLY,), "selection.devices_per_round", "4"),
    ((FEDBUFF,), "protocol.other_stage", "discard"),
    ((FEDBUFF, "method=depthfl"), "protocol.other_stage", "discard"),
]
WITH_EFFECT = [
    (("method=neulite", RESNET), "training.prefix_cache", "device"),
    ((f"population.groups=[{OWN_LINK}, {GROUP}]",), "population.link", "{downlink: 1Mbps, uplink: 1Mbps}"),
    (("method={kind: lora, ranks: [4, 0], aggregation: hetlora}",), "method.alpha", "3"),
    (("method=lora",), "method.aggregation", "flora"),
    (("method=neulite", RESNET), "method.bn_frozen", "train"),
    (("method=fedepth", RESNET, "population.available_memory={kind: uniform, low: 2.9MB, high: 3.1MB}"),
     "method.bn_frozen", "train"),
    (("method=partial-variables", RESNET, "population.available_memory={kind: uniform, low: 2.3MB, high: 3MB}"),
     "method.bn_frozen", "train"),
    ((SLT, RESNET, "method.training_depths=[1, 4]",
      "population.available_memory={kind: explicit, values: [1.3MB, 9MB, 1.3MB, 9MB, 1.3MB, 9MB]}"),
     "method.averaged_over", "trainers"),
    ((SLT, RESNET, FEDBUFF, "protocol.concurrency=6"), "method.averaged_over", "trainers"),
    ((FEDBUFF,), "selection.devices_per_round", "2"),
    ((FEDBUFF, "method=neulite"), "protocol.other_stage", "discard"),
]  # fmt: skip


def built(overrides, *more):
    return parse_scenario(BASE, (*overrides, *more))


def told(scenario):
    listener = Listener()
    result = simulate(scenario, observers=[listener])
    shown = ("digest", "energy_j", "virtual_time_s", "peak_memory_bytes", "flights_arrived")
    return [result.summary[name] for name in shown], listener.told


@pytest.mark.parametrize(("overrides", "key", "value"), WITHOUT_EFFECT)
def test_a_key_without_effect_is_told_by_its_name(overrides, key, value):
    alone, _ = told(built(overrides))
    came_to, said = told(built(overrides, f"{key}={value}"))
    assert came_to == alone
    assert len([sentence for sentence in said if sentence.startswith(f"{key} ")]) == 1, said


@pytest.mark.parametrize(("overrides", "key", "value"), WITH_EFFECT)
def test_a_key_with_effect_is_not_told(overrides, key, value):
    alone, _ = told(built(overrides))
    came_to, said = told(built(overrides, f"{key}={value}"))
    assert came_to != alone
    assert not [sentence for sentence in said if sentence.startswith(f"{key} ")], said


@pytest.mark.parametrize(("overrides", "key"), [(overrides, key) for overrides, key, _ in WITHOUT_EFFECT[7:]])
def test_a_default_that_is_written_out_is_nobodys_wish(overrides, key):
    costing = assemble(parse_scenario(built(overrides).dump()))
    said = (*costing.left_out, *announcements(costing), *idle(costing))
    assert not [sentence for sentence in said if sentence.startswith(f"{key} ") and "devices_per_round" not in key]


# What a method is for, and the rounds in which it would not come to it: (overrides, stop.rounds, what is told).
SHORT = [
    (("method=zo-warmup",), 50, "method.warmup_rounds is 50 and stop.rounds 50: no device ever sends slopes"),
    (("method=zo-warmup", "method.warmup_rounds=4"), 4, "method.warmup_rounds is 4 and stop.rounds 4: no device"),
    (("method=depthfl",), 90, "method.ramp_rounds is 300 and stop.rounds 90: distillation hardly acts, its weight rises "
     "to 0.084 of 1"),
    (("method=progfed", RESNET), 2, "progfed never trains full: stop.rounds is 2, and full comes after 2 at the earliest "
     "(method.growth_rounds, method.warmup_rounds)"),
    (("method=progfed", RESNET, "method.growth_rounds=[1, 9]"), 9, "progfed never trains full: stop.rounds is 9"),
    (("method=progfed", RESNET, "method.growth_rounds=[1, 3]", "method.warmup_rounds=2"), 9,
     "progfed never trains grow-2: with stop.rounds 9 no round is left for that (method.growth_rounds"),
    (("method=neulite", RESNET), 2, "neulite never trains stage-3: stop.rounds is 2, and stage-3 comes after 2 at the earliest"),
    (("method={kind: neulite, schedule: sequential}", RESNET), 35, "neulite never trains stage-2 and stage-3: stop.rounds is "
     "35, and stage-2 comes after 35 at the earliest (method.convergence)"),
    (("method=profl", RESNET), 4, "profl never trains distil-3, shrink-2, distil-2, grow-1 and 2 more: stop.rounds is 4"),
    ((PROFL, RESNET), 4, "profl never trains grow-3: stop.rounds is 4, and grow-3 comes after 4 at the earliest "
     "(method.shrinking_rounds, method.growing_rounds, method.convergence)"),
    ((SLT,), 3, "slt never trains "),
]  # fmt: skip


def said_of_rounds(overrides, rounds):
    scenario = built(overrides, f"stop.rounds={rounds}")
    return [*remarks(scenario), *idle(assemble(scenario))]


@pytest.mark.parametrize(("overrides", "rounds", "sentence"), SHORT)
def test_a_method_that_never_gets_to_what_it_is_for_is_told_also_at_its_defaults(overrides, rounds, sentence):
    (found,) = said_of_rounds(overrides, rounds)
    assert found.startswith(sentence)


@pytest.mark.parametrize(
    ("overrides", "rounds"),
    [
        (("method=zo-warmup",), 51),
        (("method=zo-warmup", "method.warmup_rounds=0"), 1),
        (("method=depthfl",), 110),
        (("method={kind: depthfl, distillation: false}",), 1),
        (("method=progfed", RESNET), 3),
        (("method=neulite", RESNET), 3),
        (("method={kind: neulite, schedule: sequential}", RESNET), 71),
        ((PROFL, RESNET), 5),
        ((SLT,), 8),
        (("method=fedavg",), 1),
    ],
)
def test_a_method_that_gets_to_all_its_stages_is_not_told(overrides, rounds):
    assert said_of_rounds(overrides, rounds) == []


def test_the_earliest_convergence_is_that_of_a_block_that_does_not_move():
    import torch

    from neulite_sim.methods.convergence import Convergence, Movement

    for rule in (Convergence(), Convergence(window=1, evaluations=2), Convergence(max_rounds=5)):
        movement = Movement()
        while not movement.has_converged(rule):
            movement = movement.seen(torch.ones(3), rule)
        assert movement.rounds == rule.least_rounds
