"""Runs on a cluster of two Ray nodes: what comes out, what is sent where, and nodes that are lost or join."""

import time

import pytest
from ray_pools import lent_pools
from tiny_scenarios import waves
from two_nodes import created_bytes, nodes

from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import Notice, RoundRow

pytestmark = pytest.mark.slow

RAY = "backend={kind: ray, workers: auto}"
RUNS = {
    "folded where it is trained": (),
    "classes of their own": ("method=heterofl", "population.available_memory={kind: uniform, low: 1MB, high: 3MB}"),
    "a buffer of updates": (
        "method=fedavg",
        "proxy.width=1",
        "protocol={kind: fedbuff, concurrency: 4, buffer_size: 2}",
    ),
    "one by one": ("method=fedavg", "proxy.width=1", "protocol={kind: fedasync, concurrency: 4}"),
}


@pytest.fixture(scope="module")
def pools():
    return {}


@pytest.fixture(scope="module")
def cluster(pools):
    """Two nodes with room for an actor each, which all runs share."""
    with nodes(1, 1) as found, lent_pools(pools):
        simulate(waves("stop.rounds=1", RAY))
        (pool,) = pools.values()
        while pool._pool.starting:
            pool._settle(None)
        yield found


@pytest.mark.parametrize("name", RUNS)
def test_actors_of_two_nodes_give_the_digest_of_the_driver(name, cluster):
    found = simulate(waves(*RUNS[name], RAY)).summary
    assert found["digest"] == simulate(waves(*RUNS[name])).summary["digest"]
    own, other = found["nodes"]
    assert (own["is_driver"], own["actors"], other["is_driver"], other["actors"]) == (True, 1, False, 1)
    assert own["jobs"] > 0 < other["jobs"]


def lose_a_node(cluster):
    """Kill the node beside the driver's, or one of them, with its actors and all that they hold."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


class Ordeal:
    """Loses the other node after two rounds, adds a larger one, and holds up the rounds after that until it is used."""

    def __init__(self, cluster, pools):
        self.cluster = cluster
        self.pools = pools
        self.told = []

    def notify(self, event):
        if isinstance(event, Notice):
            self.told.append(event.message)
        elif isinstance(event, RoundRow) and event.round == 2:
            lose_a_node(self.cluster)
        elif isinstance(event, RoundRow) and event.round == 4:
            self.cluster.add_node(num_cpus=2)
            until_s = time.monotonic() + 60
            (pool,) = self.pools.values()
            while len(pool._pool.open) < 3 and time.monotonic() < until_s:
                pool._settle(0.5)


@pytest.fixture(scope="module")
def ordeal(cluster, pools):
    """The summary of a run that went through an ordeal, and what it told; a node with two actors is there after it."""
    witness = Ordeal(cluster, pools)
    return simulate(waves("stop.rounds=8", RAY), observers=[witness]).summary, witness.told


def test_a_node_that_is_lost_and_one_that_joins_change_nothing(ordeal):
    found, told = ordeal
    assert found["digest"] == simulate(waves("stop.rounds=8")).summary["digest"]
    assert [row["is_driver"] for row in found["nodes"]] == [True, False, False]
    assert [row["actors"] for row in found["nodes"]] == [1, 1, 2]
    assert all(row["jobs"] > 0 for row in found["nodes"])
    assert any(message.startswith("an actor died during ") for message in told)


def test_what_a_node_needs_is_sent_there_once_whatever_its_number_of_actors(cluster, ordeal):
    """As its raylet counts, too: nearly all of it are the samples, which both actors on the node read."""
    other = next(iter(cluster.worker_nodes)).node_id
    before = created_bytes(other)
    own, there = simulate(waves("data.train_samples=1400", "method=heterofl", RAY)).summary["nodes"]
    created = created_bytes(other) - before
    assert (own["bytes_sent"], own["bytes_back"]) == (0, 0)
    assert (there["node"], there["actors"]) == (other, 2)
    assert 1400 * 144 * 4 < there["bytes_sent"] <= created < 1.05 * there["bytes_sent"]


# The last one: it leaves the driver's node alone.
def test_parts_of_a_model_and_a_buffer_of_updates_outlive_a_node(cluster, ordeal):
    given = (
        "method={kind: fedepth, link: conv}",
        # Most hold two parts, some the last block alone, and some the full model.
        "population.available_memory={kind: choice, values: [1600kB, 2550kB, 2600kB], weights: [1, 5, 2]}",
        "protocol={kind: fedbuff, concurrency: 4, buffer_size: 2}",
    )
    told = []

    class Losing:
        def notify(self, event):
            if isinstance(event, Notice):
                told.append(event.message)
            elif isinstance(event, RoundRow) and event.round == 2:
                lose_a_node(cluster)

    found = simulate(waves(*given, RAY), observers=[Losing()])
    assert found.summary["digest"] == simulate(waves(*given)).summary["digest"]
    assert "parts-2" in {row["submodel"] for row in found.flights}
    assert len(cluster.worker_nodes) == 0
    assert any(message.startswith("an actor died during ") for message in told)
