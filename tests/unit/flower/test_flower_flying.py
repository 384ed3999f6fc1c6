"""A fleet of Flower's is planned by the planner of all runs, whether or not Flower is installed."""

from __future__ import annotations

import pytest

from neulite_sim.engine.building import build_fleet
from neulite_sim.flower.flying import Flying, Load, Unseen, fleet_of
from neulite_sim.flower.tracking import Work
from neulite_sim.scenario.sources import scenario_from

SCENARIO = {
    "name": "boards",
    "seed": 3,
    "data": {"kind": "digits"},
    "model": "lenet",
    "population": {
        "devices": 4,
        "groups": [{"device": "raspberry-pi-4-4gb", "share": 1}],
        "available_memory": {"kind": "uniform", "low": "100MB", "high": "200MB"},
        "link": {"downlink": "8Mbps", "uplink": "8Mbps", "latency": "0s"},
    },
    "method": "fedavg",
    "stop": {"rounds": 2},
}


@pytest.mark.parametrize("server", [None, {"uplink": "80Mbps"}])
@pytest.mark.parametrize("churn", [{}, {"failures_per_hour": 1.0}])
def test_a_call_is_planned_as_a_flight_with_its_bytes_and_seconds(server, churn):
    given = {**SCENARIO, "churn": churn} | ({"server": server} if server else {})
    scenario = scenario_from(given)
    fleet = fleet_of(scenario, build_fleet(scenario), Unseen())
    load = Load(name="train", device=2, bytes_down=10**6, bytes_up=2 * 10**6, work=Work(), peak_bytes=10**7)
    flight = Flying(fleet).flight(load, at_s=5.0, round_number=1, number=7)
    assert (flight.device, flight.number, flight.round) == (2, 7, 1)
    assert (flight.cost.download_s, flight.cost.compute_s, flight.cost.upload_s) == (1.0, 1.0, 2.0)
    assert flight.cost.peak_memory_bytes == 10**7
