"""While flights are in the air and memory moves, waiting costs what time passes, and nobody's chance is missed by that."""

import math

import pytest
from tiny_scenarios import tiny

from neulite_sim import simulate
from neulite_sim.engine import waiting
from neulite_sim.engine.lookout import Lookout
from neulite_sim.population.memory.steps import PARTS
from neulite_sim.timeline import skies

pytestmark = pytest.mark.usefixtures("shared_profiles")

EVERY_S = 64
CHANGE_S = EVERY_S / PARTS
PROTOCOLS = {"fedasync": "{kind: fedasync, concurrency: 6}",
             "fedbuff": "{kind: fedbuff, concurrency: 6, buffer_size: 4}"}  # fmt: skip
LINKS = {"alone": "server={}", "shared": "server={downlink: 6kbps, uplink: 3kbps}"}
# Two of six devices always hold the model of 11,680 bytes, the last never does; the others come and go with its walk.
WALKS = f"{{kind: walk, step: 0.02, every: {EVERY_S}s, reversion: 0.1}}"
VALUES = {"never": "[1MB, 1MB, 1kB, 1kB, 1kB, 1kB]", "sometimes": "[1MB, 1MB, 11.6kB, 11.4kB, 11.2kB, 1kB]"}


def run(protocol, link, values, rounds):
    memory = f"population.available_memory={{kind: explicit, values: {VALUES[values]}}}"
    return simulate(
        tiny(
            "backend=dry-run",
            memory,
            f"population.memory_motion={WALKS}",
            f"protocol={PROTOCOLS[protocol]}",
            "population.link={downlink: 20Mbps, uplink: 8Mbps, latency: 5s}",
            LINKS[link],
            f"stop.rounds={rounds}",
        )
    )


@pytest.fixture
def looks(monkeypatch):
    """The moments at which the offers of a wait were looked at."""
    seen, offer = [], Lookout.offer

    def counted(self, state, at_s, round_number, devices):
        seen.append(at_s)
        return offer(self, state, at_s, round_number, devices)

    monkeypatch.setattr(Lookout, "offer", counted)
    return seen


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("rounds", [4, 12])
def test_a_wait_looks_at_no_more_changes_of_memory_than_pass(looks, protocol, link, rounds):
    """So many as pass in the run and one more for each landing; where landings are not foreseen, a few times that."""
    result = run(protocol, link, "never", rounds)
    passed = result.summary["virtual_time_s"] / CHANGE_S
    most = passed + len(result.flights) if link == "alone" else 2 * passed + 9 * len(result.flights)
    assert len(looks) <= most + 2
    assert max(looks) <= 3 * result.summary["virtual_time_s"]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_search_in_pieces_finds_every_chance_that_one_to_the_end_finds(monkeypatch, protocol, link):
    rounds = {"fedasync": 40, "fedbuff": 10}[protocol]
    found = run(protocol, link, "sometimes", rounds)
    # Further than any landing is away, and all that a test can wait for.
    monkeypatch.setattr(waiting, "MOST_CHANGES", 100)
    for sky in (skies.Foreseen, skies._Watched):
        monkeypatch.setattr(sky, "looks_until_s", lambda self: math.inf)
    expected = run(protocol, link, "sometimes", rounds)
    assert found.summary["digest"] == expected.summary["digest"]
    assert (found.flights, found.denials) == (expected.flights, expected.denials)
    ends_s = {row["ended_s"] for row in found.flights}
    # Somebody left at a change of memory, between two landings.
    assert any(row["dispatched_s"] and row["dispatched_s"] not in ends_s for row in found.flights)
