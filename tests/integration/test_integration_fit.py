"""`training.fit: auto` in whole runs: who takes part, in what steps, and what is really trained for it."""

from __future__ import annotations

import pytest
from listeners import Listener
from tiny_scenarios import tiny, waves

from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.parts import trained_plan
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import InfeasibleError
from neulite_sim.profiling.plans import Plan
from neulite_sim.studies.costs import cost_report

STAYING = ("population.availability=always", "backend=dry-run")
SHORT = "population.available_memory={kind: explicit, values: [970kB, 1MB, 1.1MB, 1.3MB, 1.5MB, 2MB, 2.6MB, 2.7MB]}"
"""Bytes for lenet at batch 32, in micro-batches with and without checkpointing: from 2 564 880 down to 968 420."""
IMAGES = ("model=resnet18", "proxy.width=0.0625", "data.image_size=8", "workload.input_shape=[3, 32, 32]",
          "workload.batch_size=32", "training.fit={kind: auto, micro_batch_sizes: [8, 16]}", "stop.rounds=2",
          "selection.devices_per_round=6")  # fmt: skip
ROOM = "population.available_memory={kind: explicit, values: [160MB, 182MB, 185MB, 220MB, 235MB, 280MB]}"
"""One device for each of the plans: 159.7, 181.7, 184.9, 219.5, 234.6 and 270.2 MB."""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedavg", "neulite"])
def test_more_devices_take_part_and_their_rows_say_how(method: str) -> None:
    plain = simulate(waves(f"method={method}", *STAYING, SHORT))
    fitted = simulate(waves(f"method={method}", *STAYING, SHORT, "training.fit=auto"))
    everybody = 1.0 if method == "fedavg" else 0.75
    assert plain.summary["participation_rate"] < fitted.summary["participation_rate"] == everybody
    assert {row["plan"] for row in plain.flights} == {""}
    plans = {row["plan"] for row in fitted.flights}
    assert len(plans) > 2
    assert all(row["peak_memory_bytes"] <= row["available_memory_bytes"] for row in fitted.flights)
    assert {row["batch_size"] for row in fitted.flights} == {32}


def test_whoever_holds_the_whole_batch_is_charged_as_before() -> None:
    plain = simulate(waves("method=fedavg", *STAYING))
    fitted = simulate(waves("method=fedavg", *STAYING, "training.fit={kind: auto, micro_batch_sizes: [32]}"))
    assert {row["plan"] for row in fitted.flights} == {"whole batch"}
    charged = [
        [{**row, "plan": ""} for row in result.flights]
        for result in (plain, fitted)
    ]  # fmt: skip
    assert charged[0] == charged[1]


def test_memory_of_the_moment_decides_the_plan() -> None:
    motion = "population.memory_motion={kind: walk, step: 0.2, every: 1s, reversion: 0.05}"
    given = waves("method=fedavg", *STAYING, SHORT, "training.fit=auto", motion, "stop.rounds=12")
    ledger = assemble(given).ledger
    flights = list(simulate(given).flights)
    plans: dict[int, set[str]] = {}
    for row in flights:
        cost = ledger.cost_at("full", row["device"], row["dispatched_s"], row["round"])
        assert (row["plan"], row["peak_memory_bytes"]) == (cost.plan.label, cost.peak_memory_bytes)
        plans.setdefault(row["device"], set()).add(row["plan"])
    assert max(map(len, plans.values())) > 1


def test_a_fleet_that_holds_no_plan_is_told_of_the_smallest() -> None:
    poor = "population.available_memory={kind: uniform, low: 900kB, high: 900kB}"
    with pytest.raises(InfeasibleError) as refused:
        simulate(waves("method=fedavg", *STAYING, poor, "training.fit=auto"))
    assert (
        "its smallest submodel full needs 968.4 kB at batch 32 (micro-batch 2 + checkpointing, the smallest peak of 10 "
        "plans); the largest available memory is 900 kB"
    ) in str(refused.value)


def test_denials_name_what_is_missing_to_the_smallest_plan() -> None:
    memory = "population.available_memory={kind: explicit, values: [900kB, 960kB, 1MB, 1MB, 1MB, 2MB, 2MB, 3MB]}"
    result = simulate(waves("method=fedavg", *STAYING, memory, "training.fit=auto", "stop.rounds=1"))
    (row,) = result.denials
    assert (row["devices"], row["shortfall_bytes_min"], row["shortfall_bytes_max"]) == (2, 8_420, 68_420)


@pytest.mark.parametrize(
    ("overrides", "charged", "trained"),
    [
        # Charged in batches of 32, trained in batches of 4: an eighth, two samples at least.
        ((), Plan(batch_size=32, micro_batch_size=16), (4, 2, "fp32")),
        ((), Plan(batch_size=32, micro_batch_size=4), (4, 2, "fp32")),
        ((), Plan(batch_size=32, micro_batch_size=1), (4, 1, "fp32")),
        ((), Plan(batch_size=32, checkpointing=True), (4, None, "fp32")),
        ((), Plan(batch_size=32, micro_batch_size=8, precision="bf16"), (4, 2, "bf16")),
        (("proxy.precision=fp32",), Plan(batch_size=32, precision="bf16"), (4, None, "fp32")),
        (("proxy.micro_batch_size=3",), Plan(batch_size=32, micro_batch_size=8), (4, 3, "fp32")),
        (("proxy.batch_size=64",), Plan(batch_size=32, micro_batch_size=8), (64, 16, "fp32")),
    ],
)
def test_what_is_trained_follows_the_plan(
    overrides: tuple[str, ...], charged: Plan, trained: tuple[int, int | None, str]
) -> None:
    costing = assemble(waves("method=fedavg", "training.fit=auto", *overrides))
    found = trained_plan(costing, charged)
    assert (found.batch_size, found.micro_batch_size, found.precision) == trained
    assert not found.checkpointing


@pytest.mark.slow
def test_every_plan_is_taken_by_whom_it_suits_and_the_run_says_so() -> None:
    listener = Listener()
    result = simulate(tiny(*IMAGES, ROOM), observers=[listener])
    found = {row["device"]: row["plan"] for row in result.flights}
    assert [found[device] for device in range(6)] == [
        "micro-batch 8 + checkpointing", "micro-batch 8", "micro-batch 16 + checkpointing", "micro-batch 16",
        "micro-batch 16", "whole batch",
    ]  # fmt: skip
    assert (
        "training.fit auto: 5 of the 6 devices that hold full train it in micro-batches of 8 to 16; BatchNorm "
        "normalises each micro-batch by itself, so memory has an effect on what is learned, which training.norm: group "
        "would not have"
    ) in listener.told


def first_loss(*overrides: str) -> float:
    roomy = "population.available_memory={kind: uniform, low: 1GB, high: 1GB}"
    result = simulate(tiny(*IMAGES, roomy, "training.batch_size=8", "stop.rounds=1", *overrides))
    return float(next(iter(result.rounds))["train_loss"])


@pytest.mark.slow
def test_with_group_norm_micro_batches_change_nothing_but_rounding() -> None:
    """The same flights whole and in micro-batches: with BatchNorm another loss, with GroupNorm the same."""
    distances = {}
    for norm in ("batch", "group"):
        whole = first_loss(f"training.norm={norm}", "training.fit=none")
        assert first_loss(f"training.norm={norm}") == whole
        micro = first_loss(f"training.norm={norm}", "training.fit=none", "training.micro_batch_size=4")
        distances[norm] = abs(micro - whole)
    assert distances["group"] < 1e-5 < 1e-3 < distances["batch"]


@pytest.mark.slow
def test_a_profile_has_a_line_per_plan() -> None:
    costing = assemble(tiny(*IMAGES, ROOM, "method=fedavg"))
    report = cost_report(costing)
    lines = report["submodels"]
    assert [line["plan"] for line in lines] == [
        {"micro_batch_size": micro, "checkpointing": checkpointing, "precision": "fp32"}
        for checkpointing in (False, True)
        for micro in (None, 16, 8)
    ]
    assert report["participation_rate"] == 1.0
    assert [round(6 * line["fits_share"]) for line in lines] == [1, 3, 5, 2, 4, 6]
    assert [round(6 * line["chosen_share"]) for line in lines] == [1, 2, 1, 0, 1, 1]
    assert sum(line["chosen_share"] for line in lines) == pytest.approx(1)
    (seconds,) = zip(*(line["seconds_per_flight"].values() for line in lines), strict=True)
    assert seconds[0] < seconds[1] < seconds[4] < seconds[2] < seconds[5]


def test_a_profile_without_choice_says_its_one_plan() -> None:
    (line,) = cost_report(assemble(tiny("training.micro_batch_size=2")))["submodels"]
    assert line["plan"] == {"micro_batch_size": 2, "checkpointing": False, "precision": "fp32"}
    assert "chosen_share" not in line
