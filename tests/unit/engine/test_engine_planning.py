"""From offers to flights: what a scenario's `churn` and links come to for one flight, and the drop rate in theory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.planning import Dispatch, Planner
from neulite_sim.engine.simulation import simulate
from neulite_sim.timeline.flights import Outcome

SAME = "population.speed_jitter=0"


def planned(costing: Costing, dispatched_s: float = 0.0) -> Outcome:
    return planned_of(Planner(costing), dispatched_s=dispatched_s)


def planned_of(planner: Planner, flight: int = 1, dispatched_s: float = 0.0) -> Outcome:
    """How a flight of device 0 is planned to end that leaves alone."""
    dispatch = Dispatch(at_s=dispatched_s, round=1, version=0, stage="full", first_flight=flight)
    return planner.flights(dispatch, np.array([0]), ["full"])[0].planned


def test_the_server_gives_up_at_the_time_out_counted_from_dispatch() -> None:
    whole = planned(assemble(tiny(SAME)), dispatched_s=100.0)
    timeout_s = (whole.ended_s - 100.0) / 2
    found = planned(assemble(tiny(SAME, f"churn.timeout={timeout_s}")), dispatched_s=100.0)
    assert found.reason.startswith("timed out during ")
    assert found.ended_s == 100.0 + timeout_s


@pytest.mark.parametrize("seed", [1, 2])
def test_the_drop_rate_is_that_of_the_hazard(seed: int) -> None:
    """A flight of D seconds with hazard h fails with probability p = 1 - exp(-h D); failures are spread over D.

    4000 flights: four standard errors of the share. Among those that fail, (1 - exp(-h t)) / p is uniform over [0, 1],
    whose mean has a standard error of sqrt(1 / 12 / n).
    """
    costing = assemble(tiny(SAME, f"seed={seed}", "workload.epochs=60", "churn.failures_per_hour=3600"))
    planner = Planner(costing)
    plans = [planned_of(planner, flight) for flight in range(1, 4001)]
    whole_s = planned(assemble(tiny(SAME, f"seed={seed}", "workload.epochs=60"))).ended_s
    hazard = 1.0
    chance = -math.expm1(-hazard * whole_s)
    assert 0.2 < chance < 0.8, "a chance that the share can differ from"
    failed_s = np.array([plan.ended_s for plan in plans if not plan.has_arrived])
    assert abs(len(failed_s) / 4000 - chance) < 4 * math.sqrt(chance * (1 - chance) / 4000)
    assert {plan.reason.split(" during ")[0] for plan in plans if not plan.has_arrived} == {"failed"}
    places = -np.expm1(-hazard * failed_s) / chance
    assert abs(places.mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(places))


def test_the_hazard_changes_no_other_draw() -> None:
    plain, risky = (simulate(tiny("backend=dry-run", *more)) for more in ((), ("churn.failures_per_hour=1.0e-9",)))
    assert plain.summary["digest"] == risky.summary["digest"]


BATTERY = ("churn.battery={capacity_watt_hours: 0.1, idle_watts: 0.0001, working_watts: 1000, charging_watts: 3, "
           "plugged_in_at: 12h, plugged_in_spread: 0}")  # fmt: skip


def test_a_flight_whose_battery_runs_out_is_dropped_at_that_moment() -> None:
    """Four hours after it was unplugged 0.1 Wh less 0.0004 Wh are left, 358.56 J: 0.35856 s at 1000 W."""
    whole = planned(assemble(tiny(SAME, "workload.epochs=60")))
    found = planned(assemble(tiny(SAME, "workload.epochs=60", BATTERY)))
    assert whole.ended_s > 0.4
    assert found.ended_s == pytest.approx(0.35856)
    assert found.reason == "battery empty during compute"


def test_a_flight_that_waits_draws_what_an_idle_device_draws() -> None:
    """A device that comes and goes: with the drain of its pauses alone, its flight ends as it would without battery."""
    away = "population.availability={kind: markov, mean_on: 100ms, mean_off: 2s}"
    changes = (SAME, away, "workload.epochs=5", "churn.offline=pause", "seed=5")
    whole = planned(assemble(tiny(*changes)), dispatched_s=0.0)
    assert whole.waiting_s > 1.0, "more than the 0.35 s that the battery lasts at work"
    assert planned(assemble(tiny(*changes, BATTERY))) == whole


def test_a_pausing_flight_works_as_long_as_one_that_is_never_interrupted() -> None:
    away = ("population.availability={kind: markov, mean_on: 50ms, mean_off: 50ms}", "workload.epochs=10")
    changes = ("backend=dry-run", SAME, *away, "stop.rounds=10")
    paused, aborted = (simulate(tiny(*changes, f"churn.offline={policy}")) for policy in ("pause", "abort"))
    assert {row["outcome"] for row in paused.flights} == {"arrived"}
    assert len({(row["download_s"], row["compute_s"], row["upload_s"]) for row in paused.flights}) == 1
    assert any(row["pauses"] for row in paused.flights)
    for row in paused.flights:
        worked_s = row["download_s"] + row["compute_s"] + row["upload_s"]
        assert row["ended_s"] - row["dispatched_s"] == pytest.approx(worked_s + row["waiting_s"], abs=1e-9)
    assert any(row["reason"].startswith("went offline during") for row in aborted.flights)


def test_links_that_follow_a_trace_become_transfers_and_others_stay_as_they_are(tmp_path: Path) -> None:
    trace = tmp_path / "rates.csv"
    trace.write_text("trace,t_s,bits_per_second\na,0,10000\na,1,1000000\na,5,\n")
    link = f"population.link={{downlink: {{trace: {trace}, start: beginning}}, uplink: 5Mbps, latency: 10ms}}"
    costing = assemble(tiny(SAME, link))
    num_bits = 8 * costing.ledger.profiles["full"].bytes_down
    # The first second less the latency carries 9.9 kbit, 1 Mbit/s the rest.
    assert num_bits > 9_900
    found = planned(costing)
    assert found.download_s == pytest.approx(1 + (num_bits - 9_900) / 1e6)
    assert found.upload_s == costing.ledger.cost("full", 0).upload_s


def test_memory_ends_a_flight_in_the_same_way() -> None:
    """A device whose memory moves: the flight ends at the moment at which its motion falls below the peak."""
    costing = assemble(tiny(SAME))

    class Short:
        def short_from_s(self, device: int, needed_bytes: int, at_s: float, until_s: float) -> float:
            return at_s + 0.25 * (until_s - at_s)

        def available_bytes_of(self, devices: np.ndarray, at_s: float, round_number: int) -> np.ndarray:
            return np.full(len(devices), 10**9)

    whole = planned(costing)
    moving = replace(costing, population=replace(costing.population, memory_motion=Short()))
    found = planned(moving)
    assert found.ended_s == pytest.approx(0.25 * whole.ended_s)
    assert found.reason.startswith("out of memory during ")
