"""A run whose transfers share the server's link: what it costs, and that it repeats and resumes like any other."""

import pytest
from test_integration_resume import PROTOCOLS, broken_off, scenario, tables

from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import parse_scenario

WIDE = {"downlink": "1000Gbps", "uplink": "1000Gbps"}
NARROW = {"downlink": "30Mbps", "uplink": "10Mbps"}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_link_that_is_wide_enough_for_all_changes_nothing(protocol):
    with_it, without = (simulate(scenario(protocol, server=server)) for server in (WIDE, {}))
    for mine, other in zip(with_it.flights, without.flights, strict=True):
        times = ("dispatched_s", "download_s", "compute_s", "upload_s", "ended_s")
        assert {k: v for k, v in mine.items() if k not in times} == {k: v for k, v in other.items() if k not in times}
        assert [mine[name] for name in times] == pytest.approx([other[name] for name in times], rel=1e-9, abs=1e-9)
    assert [row["test_accuracy"] for row in with_it.rounds] == [row["test_accuracy"] for row in without.rounds]


def test_no_round_downloads_faster_than_the_link():
    changes = {"population": {**scenario().dump()["population"], "availability": "always"}, "stop": {"rounds": 4}}
    result = simulate(scenario(server=NARROW, **changes))
    free = simulate(scenario(**changes))
    rows = list(result.flights)
    assert {row["outcome"] for row in rows} == {"arrived"}
    for number in range(1, 5):
        flights = [row for row in rows if row["round"] == number]
        bits = 8 * sum(row["bytes_down"] for row in flights)
        slowest_s = max(row["download_s"] for row in flights)
        assert slowest_s >= bits / 30e6
        # All began at once and none is limited otherwise, so the last ends when the link has carried everything.
        assert slowest_s == pytest.approx(bits / 30e6 + 0.02, rel=1e-6)
    assert result.summary["virtual_time_s"] > free.summary["virtual_time_s"]
    assert [row["selected"] for row in result.rounds] == [row["selected"] for row in free.rounds]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("offline", ["abort", "pause"])
def test_a_run_over_a_narrow_link_is_resumed_to_the_same_digest(tmp_path, protocol, offline):
    given = scenario(protocol, server=NARROW, churn={"offline": offline, "timeout": "30s"})
    whole = simulate(given, out=tmp_path / "whole")
    broken_off(tmp_path / "broken", given, 5)
    assert resume(find_cut_off(tmp_path / "broken")).summary["digest"] == whole.summary["digest"]
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")


def test_flights_that_miss_the_deadline_because_of_the_link_are_dropped_and_not_merged():
    given = scenario("deadline", server=NARROW).dump()
    result = simulate(
        parse_scenario({**given, "protocol": {"kind": "deadline", "maximum_wait": "300ms", "too_few": "abort"}})
    )
    reasons = {row["reason"] for row in result.flights if row["outcome"] == "dropped"}
    assert "missed the deadline" in reasons
    assert all(row["ended_s"] - row["dispatched_s"] <= 0.3 + 1e-9 for row in result.flights)
    assert all((row["loss"] is not None) == (row["outcome"] == "arrived") for row in result.flights)
