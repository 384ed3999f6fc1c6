"""What the server works out ahead of the clock, or holds back to write it with more, is what it does step by step.

Fleets are drawn in which much happens at once: flights are as short as a stay online, all devices are alike, buffers
are as large as what is in flight, updates are refused, the run ends at any moment.
"""

from __future__ import annotations

import gzip

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tiny_scenarios import tiny

from neulite_sim.engine import holding
from neulite_sim.engine.candidates import Whereabouts
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import InfeasibleError, ScenarioError, SimulationError
from neulite_sim.selection.uniform import Uniform
from neulite_sim.timeline import asynchronous, skies

pytestmark = pytest.mark.usefixtures("shared_profiles")

WALL_CLOCK = {"wall_time_s"}
FILES = ("rounds.csv", "flights.csv", "denials.csv", "timeline.json.gz")

protocols = st.one_of(
    st.builds(
        "{{kind: fedbuff, buffer_size: {}, concurrency: {}, maximum_staleness: {}, other_stage: {}}}".format,
        st.sampled_from([1, 2, 5, 40]),
        st.sampled_from([1, 4, 12]),
        st.sampled_from(["null", "0", "2"]),
        st.sampled_from(["merge", "discard"]),
    ),
    st.builds("{{kind: fedasync, concurrency: {}}}".format, st.sampled_from([1, 5, 30])),
)
fleets = st.fixed_dictionaries(
    {
        "protocol": protocols,
        "seed": st.integers(0, 20),
        "method": st.sampled_from(["fedavg", "neulite"]),
        "population.devices": st.sampled_from([3, 12, 20]),
        "population.speed_jitter": st.sampled_from([0, 0.3]),
        "population.availability": st.sampled_from(
            ["always", "{kind: markov, mean_on: 3s, mean_off: 2s}", "{kind: markov, mean_on: 200s, mean_off: 100s}"]
        ),
        "churn": st.sampled_from(["{}", "{failures_per_hour: 300}", "{timeout: 4s}", "{offline: pause}"]),
        "population.link": st.sampled_from(["{downlink: 100kbps, uplink: 50kbps}", "{downlink: 20Mbps, uplink: 8Mbps}"]),
        "stop.virtual_time": st.sampled_from(["null", "20s", "300s"]),
        "selection.kind": st.sampled_from(["uniform", "oort"]),
    }
)  # fmt: skip


def scenario(fleet):
    return tiny(
        "model=lenet", "data.image_size=12", "population.available_memory={kind: uniform, low: 1MB, high: 3MB}",
        "backend=dry-run", "stop.rounds=12", "evaluation.every_rounds=5", "selection.devices_per_round=4",
        *(f"{key}={value}" for key, value in fleet.items()),
    )  # fmt: skip


def told(fleet, folder=None):
    """Return all that a run says, but for what the wall clock does; the message where it fails."""
    try:
        result = simulate(scenario(fleet), **({} if folder is None else {"out": folder}))
    except SimulationError as error:
        return str(error)
    tables = {
        kind: [{name: cell for name, cell in row.items() if name not in WALL_CLOCK} for row in getattr(result, kind)]
        for kind in ("rounds", "flights", "denials", "devices")
    }
    return {**tables, "digest": result.summary["digest"], "notices": result.notices}


def assert_the_same(fleet, reach) -> None:
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setattr(skies, "MOST_AHEAD", reach)
            patch.setattr(asynchronous, "PATIENCE", 20)
            ahead = told(fleet)
            patch.setattr(Uniform, "chooses_afresh", False)
            patch.setattr(holding, "BRISK_S", 0.0)
            assert told(fleet) == ahead
        except (InfeasibleError, ScenarioError):
            assume(False)


@settings(deadline=None, max_examples=12)
@given(fleet=fleets, reach=st.sampled_from([1, 3, 128]))
@example(
    fleet={"protocol": "{kind: fedbuff, buffer_size: 5, concurrency: 12}", "population.devices": 20}, reach=128
)  # fmt: skip
@example(
    fleet={"protocol": "{kind: fedasync, concurrency: 5}", "population.devices": 12, "churn": "{timeout: 4s}",
           "population.availability": "{kind: markov, mean_on: 200s, mean_off: 100s}",
           "population.link": "{downlink: 100kbps, uplink: 50kbps}"}, reach=3,
)  # fmt: skip
def test_dispatching_ahead_comes_to_what_each_moment_would(fleet, reach) -> None:
    assert_the_same(fleet, reach)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(fleet=fleets, reach=st.sampled_from([1, 3, 128]))
def test_dispatching_ahead_comes_to_what_each_moment_would_in_many_fleets(fleet, reach) -> None:
    assert_the_same(fleet, reach)


def test_the_fleets_are_hard_enough(monkeypatch):
    """Many dispatches go along with landings, and some of these have to be taken back."""
    retracted, along = [], []
    retract, took_along = Whereabouts.retract, skies.Foreseen.took_along
    monkeypatch.setattr(Whereabouts, "retract", lambda self, mark: (retracted.append(mark), retract(self, mark)))
    monkeypatch.setattr(
        skies.Foreseen, "took_along", lambda self, count: (along.append(count), took_along(self, count))
    )
    told(
        {
            "protocol": "{kind: fedbuff, buffer_size: 40, concurrency: 12}",
            "population.devices": 20,
            "population.availability": "{kind: markov, mean_on: 20s, mean_off: 2s}",
        }
    )
    assert len(retracted) > 2
    assert max(along) > 5


@pytest.mark.parametrize("protocol", ["{kind: fedbuff, buffer_size: 3}", "fedasync", "synchronous", "deadline"])
def test_rows_that_are_held_back_are_those_of_each_round(protocol, tmp_path, monkeypatch):
    fleet = {"protocol": protocol, "population.availability": "{kind: markov, mean_on: 3s, mean_off: 2s}",
             "energy": "{}", "churn": "{offline: pause}", "stop.rounds": 40}  # fmt: skip
    found = []
    for name, brisk_s in (("at-once", 0.0), ("held", 1e9)):
        monkeypatch.setattr(holding, "BRISK_S", brisk_s)
        monkeypatch.setattr(holding, "HELD_S", 1e9)
        told_ = told(fleet, tmp_path / name)
        texts = [(tmp_path / name / file).read_bytes() for file in FILES]
        rows = [line.split(b",") for line in texts[0].splitlines()]
        wall = rows[0].index(b"wall_time_s")
        found.append((told_, [row[:wall] + row[wall + 1 :] for row in rows], texts[1:3], gzip.decompress(texts[3])))
    assert found[0] == found[1]
