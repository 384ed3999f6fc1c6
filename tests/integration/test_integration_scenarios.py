"""Every shipped scenario is valid and, where its data is at hand, runs; equal scenarios give equal digests."""

import logging
import math
from pathlib import Path

import pytest
import ray
from tiny_scenarios import waves

from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import load_scenario, parse_scenario

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted([*(ROOT / "scenarios").rglob("*.yaml"), *(ROOT / "benchmarks").glob("*.yaml")])
EMBEDDED = {"digits", "synthetic"}


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SCENARIOS, ids=ids)
def test_a_shipped_scenario_is_valid_and_says_how_to_start_it(path):
    load_scenario(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("neulite-sim run" in line for line in header)


@pytest.mark.parametrize("path", [path for path in SCENARIOS if load_scenario(path).data.kind in EMBEDDED], ids=ids)
def test_a_shipped_scenario_runs(path):
    small = ["stop.rounds=2", "training.epochs=1", "selection.devices_per_round=2", "backend=inprocess",
             "evaluation.every_rounds=1"]  # fmt: skip
    result = simulate(load_scenario(path, small))
    assert [row["round"] for row in result.rounds] == [1, 2]
    assert all(math.isfinite(row["train_loss"]) and 0 <= row["test_accuracy"] <= 1 for row in result.rounds)
    assert result.summary["flights_arrived"] + result.summary["flights_dropped"] == 4


@pytest.mark.parametrize("path", [path for path in SCENARIOS if load_scenario(path).data.kind not in EMBEDDED], ids=ids)
def test_a_shipped_scenario_whose_data_is_elsewhere_runs_dry_on_made_up_images(path):
    scenario = load_scenario(path)
    partition = scenario.dump()["data"]["partition"]
    data = f"data={{kind: synthetic, shape: [3, 32, 32], samples: 5000, test_samples: 10, partition: {partition}}}"
    result = simulate(parse_scenario(scenario.dump(), [data, "stop.rounds=5", "backend=dry-run"]))
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


@pytest.fixture(scope="module")
def one_cluster():
    """A local Ray for all runs of a test: each then only starts its actors."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("one_cluster")
@pytest.mark.parametrize("method", ["neulite", "fedavg"])
def test_the_digest_is_the_same_for_any_backend_and_any_number_of_actors_and_twice_in_a_row(method):
    digests = {}
    for name, backend in {
        "inprocess": "backend=inprocess",
        "again": "backend=inprocess",
        "ray 1": "backend={kind: ray, workers: 1}",
        "ray 2": "backend={kind: ray, workers: 2}",
        "ray 4": "backend={kind: ray, workers: 4}",
    }.items():
        digests[name] = simulate(waves(f"method={method}", backend)).summary["digest"]
    assert len(set(digests.values())) == 1, digests
    assert simulate(waves(f"method={method}", "backend=inprocess", "seed=4")).summary["digest"] not in digests.values()


def test_a_dry_run_has_the_same_timeline_as_real_training():
    columns = ("flight", "device", "submodel", "dispatched_s", "ended_s", "outcome", "reason", "bytes_up")
    dry, real = (simulate(waves(f"backend={kind}")).flights for kind in ("dry-run", "inprocess"))
    assert any(row["outcome"] == "dropped" for row in real)
    assert [[row[name] for name in columns] for row in dry] == [[row[name] for name in columns] for row in real]
