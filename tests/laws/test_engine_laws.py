"""Law 1 of the project: the same scenario and seed give the same rows and weights, wherever the training ran.

`WAVES` is built to make that hard: drops, denials, devices of one class, a learning rate that moves, late tests.
"""

import itertools

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from ray_pools import cluster, lent_pools
from slow_cases import some_slow
from tiny_scenarios import tiny, waves

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import InfeasibleError

pytestmark = pytest.mark.usefixtures("shared_profiles")

BATCH_NORM = ("method=fedavg", "model=resnet18", "data.image_size=8", "proxy.width=0.0625", "stop.rounds=4",
              "population.available_memory={kind: uniform, low: 200MB, high: 400MB}",
              "population.availability={kind: markov, mean_on: 3min, mean_off: 1min}",
              "evaluation={every_rounds: 2, batch_norm: recalibrated, recalibration_samples: 20}",
              "data.augmentation=crop-flip")  # fmt: skip
SKEWED = ("data.feature_skew={kind: noise, strength: 1, test: true}",)
SCENARIOS = {"neulite": (), "fedavg": BATCH_NORM, "skewed": SKEWED}
TIMELINE = {"train_loss", "test_loss", "test_accuracy", "loss", "skipped_terms", "wall_time_s"}
"""The columns that only training fills."""


@pytest.fixture(scope="module")
def _actors():
    """Two actors, of which a run takes as many as it asks for, and four more for one that asks for four."""
    with cluster(6), lent_pools(most=2):
        yield


@pytest.fixture(scope="module")
def once():
    """The run of each scenario in the driver, as every other run is compared with it."""
    return {name: simulate(waves(*overrides)) for name, overrides in SCENARIOS.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenarios_are_hard_enough(name, once):
    result = once[name]
    assert {row["outcome"] for row in result.flights} == {"arrived", "dropped"}
    assert {row["reason"] for row in result.denials} >= {"offline"}
    assert len({row["samples"] for row in result.flights}) > 3
    tested = [row["round"] for row in result.rounds if row["test_accuracy"] is not None]
    assert tested == list(range(2, len(result.rounds) + 1, 2))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_scenario_twice_gives_the_same_digest(name, once):
    assert simulate(waves(*SCENARIOS[name])).summary["digest"] == once[name].summary["digest"]


@pytest.mark.usefixtures("_actors")
@pytest.mark.parametrize(
    ("name", "workers"),
    some_slow(itertools.product(SCENARIOS, (1, 2, 4)), lambda run: run not in (("neulite", 2), ("fedavg", 1))),
)
def test_any_number_of_actors_gives_the_digest_of_the_driver(name, workers, once):
    scenario = waves(*SCENARIOS[name], f"backend={{kind: ray, workers: {workers}}}")
    assert simulate(scenario).summary["digest"] == once[name].summary["digest"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_dry_run_has_the_timeline_of_the_real_one(name, once):
    dry = simulate(waves(*SCENARIOS[name], "backend=dry-run"))
    for kind in ("rounds", "flights", "denials"):
        found, expected = (
            [{column: cell for column, cell in row.items() if column not in TIMELINE} for row in getattr(result, kind)]
            for result in (dry, once[name])
        )
        assert found == expected
    assert {row["loss"] for row in dry.flights} == {None}


def test_another_seed_gives_another_digest(once):
    assert simulate(waves("seed=4")).summary["digest"] != once["neulite"].summary["digest"]


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1), devices=st.integers(1, 9), mean_on_s=st.floats(0.05, 5), alpha=st.floats(0.05, 5)
)
def test_whatever_the_fleet_rows_agree_with_one_another(seed, devices, mean_on_s, alpha):
    """Every device has an offer or a reason, sums are sums, time goes forward, and promises of memory are kept."""
    fleet = (
        f"population={{devices: {devices}, groups: [{{device: jetson-nano-4gb, share: 1}}], available_memory: {{kind: "
        f"uniform, low: 11kB, high: 13kB}}, availability: {{kind: markov, mean_on: {mean_on_s}, mean_off: 1s}}}}"
    )
    data = f"data.partition={{kind: dirichlet, alpha: {alpha}}}"
    scenario = tiny(f"seed={seed}", fleet, data, "backend=dry-run", "training.batch_size=4")
    try:
        result = simulate(scenario)
    except InfeasibleError:
        reject()
    assert [row["round"] for row in result.rounds] == [1, 2, 3, 4][: len(result.rounds)]
    ended_s = 0.0
    for row in result.rounds:
        own = [flight for flight in result.flights if flight["round"] == row["round"]]
        assert row["offered"] + row["denied"] == devices
        assert row["selected"] == len(own) == row["arrived"] + row["dropped"]
        assert all(ended_s <= flight["dispatched_s"] <= flight["ended_s"] <= row["virtual_time_s"] for flight in own)
        assert all(flight["peak_memory_bytes"] <= flight["available_memory_bytes"] for flight in own)
        ended_s = row["virtual_time_s"]
    assert sorted(flight["flight"] for flight in result.flights) == list(range(1, len(result.flights) + 1))
