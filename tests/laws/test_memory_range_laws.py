"""Law of devices.csv: its range of memory is that over all dispatches, so that every flight lies within it."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.assembly import ready
from neulite_sim.engine.building import build_backend
from neulite_sim.engine.simulation import simulate

CHURN = (
    "churn={failures_per_hour: 150, timeout: 6s}",
    "population.availability={kind: markov, mean_on: 30s, mean_off: 10s}",
)
PROTOCOLS = {
    "synchronous": "synchronous",
    "deadline": "{kind: deadline, over_selection: 2, maximum_wait: 4s, minimum_wait: 0s}",
    "fedasync": "{kind: fedasync, concurrency: 4}",
    "fedbuff": "{kind: fedbuff, concurrency: 5, buffer_size: 3, maximum_staleness: 1}",
}
MOTIONS = {
    "walk": "{kind: walk, step: 0.3, every: 2s}",
    "redrawn in time": "{kind: redrawn, every: 3s, spread: 0.2}",
    "redrawn each round": "{kind: redrawn, every: round, spread: 0.2}",
}
ENDS = {"rounds": (), "virtual time": ("stop.virtual_time=17s",), "target": ("backend=inprocess", "stop.target_accuracy=0.3"),
        "churn": CHURN}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_memory_of_every_flight_is_within_the_range_of_its_device_and_the_range_is_no_wider(protocol, motion, end):
    link = "population.link={downlink: 20kbps, uplink: 10kbps}"
    scenario = tiny("backend=dry-run", "stop.rounds=8", link, f"protocol={PROTOCOLS[protocol]}",
                    f"population.memory_motion={MOTIONS[motion]}", *ENDS[end])  # fmt: skip
    result = simulate(scenario)
    rows, flights = list(result.devices), list(result.flights)
    assert len(flights) >= 3
    for flight in flights:
        device = rows[flight["device"]]
        assert device["lowest_memory_bytes"] <= flight["available_memory_bytes"] <= device["highest_memory_bytes"]
    if motion == "redrawn each round" and end == "churn":
        # A round that merges nothing changes the memory and not the version, so that no row tells the round.
        return
    moments = {(flight["dispatched_s"], flight["version"] + 1) for flight in flights}
    memory = ready(scenario, build_backend(scenario), None).population.memory_motion
    at_dispatches = [memory.available_bytes(at_s, number) for at_s, number in sorted(moments)]
    assert [row["lowest_memory_bytes"] for row in rows] == np.min(at_dispatches, axis=0).tolist()
    assert [row["highest_memory_bytes"] for row in rows] == np.max(at_dispatches, axis=0).tolist()
