"""Every shipped scenario is valid and, where its data is at hand, runs."""

import math
from pathlib import Path

import pytest
from slow_cases import some_slow

from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import load_scenario, parse_scenario

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(
    path
    for path in [*(ROOT / "scenarios").rglob("*.yaml"), *(ROOT / "benchmarks").glob("*.yaml")]
    if path.parent.name != "sweeps"
)
"""Grids over scenarios are tested in test_integration_sweeps.py."""
EMBEDDED = {"digits", "synthetic", "synthetic-text"}
MADE_UP = {
    "cifar10": "shape: [3, 32, 32], classes: 10, samples: 5000",
    "femnist": "shape: [1, 28, 28], classes: 62, samples: 5000",
    "mini-imagenet": "shape: [3, 84, 84], classes: 100, samples: 1000",
}
"""What stands for each dataset that is elsewhere: images of its shape, in as many classes."""


RUN = [path for path in SCENARIOS if load_scenario(path).data.kind in EMBEDDED]
QUICK = ("jetson_mix.yaml", "jetson_mix_fedavg.yaml", "base.yaml", "digits.yaml")
LIGHTER = {"phones_llm.yaml": ["workload.model={kind: gpt}"]}
"""What a scenario is charged for here, where profiling that itself would take a minute."""


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SCENARIOS, ids=ids)
def test_a_shipped_scenario_is_valid_and_says_how_to_start_it(path):
    load_scenario(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("neulite-sim run" in line for line in header)


@pytest.mark.parametrize("path", some_slow(RUN, lambda path: path.name not in QUICK), ids=ids)
def test_a_shipped_scenario_runs(path):
    small = ["stop.rounds=2", "training.epochs=1", "selection.devices_per_round=2", "backend=inprocess",
             "evaluation.every_rounds=1"]  # fmt: skip
    result = simulate(load_scenario(path, [*small, *LIGHTER.get(path.name, ())]))
    assert [row["round"] for row in result.rounds] == [1, 2]
    assert all(math.isfinite(row["train_loss"]) and 0 <= row["test_accuracy"] <= 1 for row in result.rounds)
    assert result.summary["flights_arrived"] + result.summary["flights_dropped"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in SCENARIOS if load_scenario(path).data.kind not in EMBEDDED], ids=ids)
def test_a_shipped_scenario_whose_data_is_elsewhere_runs_dry_on_made_up_images(path):
    scenario = load_scenario(path)
    partition = scenario.dump()["data"]["partition"]
    # Made-up images have no owners to deal by, and only the size that is charged.
    dealt = "iid" if partition["kind"] == "natural" else partition
    data = f"data={{kind: synthetic, {MADE_UP[scenario.data.kind]}, test_samples: 10, partition: {dealt}}}"
    dry = ["proxy.image_size=null", "stop.rounds=5", "backend=dry-run"]
    result = simulate(parse_scenario(scenario.dump(), [data, *dry]))
    assert [row["round"] for row in result.rounds] == [1, 2, 3, 4, 5]
    assert result.summary["flights_arrived"] > 0


def test_the_memory_wall_shows_in_the_numbers_of_jetson_mix():
    summaries = {}
    for name in ("jetson_mix", "jetson_mix_exclusivefl", "jetson_mix_fedavg"):
        path = ROOT / f"scenarios/{name}.yaml"
        result = simulate(load_scenario(path, ["stop.rounds=4", "backend=dry-run"]))
        summaries[name] = result.summary
        budgets = [row["available_memory_bytes"] for row in result.flights]
        assert all(240e6 <= budget <= 900e6 for budget in budgets)
        if name != "jetson_mix_fedavg":
            assert all(row["peak_memory_bytes"] <= row["available_memory_bytes"] for row in result.flights)
    assert summaries["jetson_mix"]["participation_rate"] == 1.0
    assert 0.1 <= summaries["jetson_mix_exclusivefl"]["participation_rate"] <= 0.25
    assert summaries["jetson_mix_fedavg"]["participation_rate"] == 1.0
    assert summaries["jetson_mix_exclusivefl"]["peak_memory_bytes"] == 711_820_064
