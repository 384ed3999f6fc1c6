"""Asynchronous runs event by event: a device is free the moment its flight ends, whether its update waits or not."""

from __future__ import annotations

import math

import pytest
from tiny_scenarios import online_trace, tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import SimulationError
from neulite_sim.results.rows import Notice

WORK_S = 0.02
"""More than a flight takes beside its latencies: 5 to 15 ms, on a link of 20 and 8 Mbit/s."""


def fleet(*latencies_s, **changes):
    """One device per latency; a flight of each takes twice that, and a few milliseconds of work."""
    groups = ", ".join(
        f"{{device: jetson-nano-4gb, share: 1, link: {{downlink: 20Mbps, uplink: 8Mbps, latency: {s}s}}}}"
        for s in latencies_s
    )
    given = {"backend": "dry-run", "population.speed_jitter": 0, "population.devices": len(latencies_s),
             "population.groups": f"[{groups}]", "evaluation.every_rounds": 1000, **changes}  # fmt: skip
    return tiny(*(f"{key}={value}" for key, value in given.items()))


def by_latency(result):
    """Return the flights with each device named a, b, c ... from the fastest on."""
    fastest_s = {}
    for row in result.flights:
        fastest_s.setdefault(row["device"], row["download_s"] or math.inf)
        fastest_s[row["device"]] = min(fastest_s[row["device"]], row["download_s"] or math.inf)
    letters = {device: "abc"[place] for place, device in enumerate(sorted(fastest_s, key=fastest_s.get))}
    return [{**row, "device": letters[row["device"]]} for row in sorted(result.flights, key=lambda row: row["flight"])]


def test_three_devices_by_hand():
    """Flights of 2, 5.2 and 9.4 s (a, b, c), a buffer of two: a's first two updates share the first buffer.

    a ends at 2, 4, 6, 8; b at 5.2; c at 9.4. Buffers are full at 4 (a, a), 6 (b, a) and 9.4 (a, c). b left before the
    first aggregation and c before the first two; a's third flight left at 4, after the first.
    """
    protocol = "{kind: fedbuff, concurrency: 3, buffer_size: 2}"
    result = simulate(fleet(1, 2.6, 4.7, protocol=protocol, **{"stop.rounds": 3}))
    rows = by_latency(result)
    arrived = [row for row in rows if row["outcome"] == "arrived"]
    found = sorted((row["round"], row["device"], row["staleness"]) for row in arrived)
    assert found == [(1, "a", 0), (1, "a", 0), (2, "a", 0), (2, "b", 1), (3, "a", 0), (3, "c", 2)]
    assert [row["virtual_time_s"] for row in result.rounds] == pytest.approx([4, 6, 9.4], abs=4 * WORK_S)
    # Whoever ends flies again at that very moment.
    for device in "abc":
        own = [row for row in rows if row["device"] == device]
        assert [row["dispatched_s"] for row in own] == [0.0, *(row["ended_s"] for row in own[:-1])]


@pytest.mark.parametrize(
    "protocol", ["{kind: fedbuff, concurrency: 3, buffer_size: 4}", "{kind: fedasync, concurrency: 3}"]
)
def test_as_many_are_in_flight_as_wanted_at_every_moment(protocol):
    """Then the seconds of all flights, cut ones too, add up to as many times the length of the run."""
    result = simulate(fleet(1, 2.6, 4.7, 0.3, 0.9, protocol=protocol, **{"stop.rounds": 20}))
    flown_s = math.fsum(row["ended_s"] - row["dispatched_s"] for row in result.flights)
    assert flown_s == pytest.approx(3 * result.summary["virtual_time_s"], rel=1e-12)


@pytest.mark.parametrize(("selection", "most"), [("uniform", 2), ("oort, over_commit: 2", 4)])
def test_a_selector_that_asks_for_more_has_more_in_flight_than_wanted(selection, most):
    changes = {"selection": f"{{kind: {selection}, devices_per_round: 2}}", "stop.rounds": 15}
    result = simulate(fleet(1, 1.1, 1.3, 1.6, 2, protocol="{kind: fedasync, concurrency: 2}", **changes))
    spans = [(row["dispatched_s"], row["ended_s"]) for row in result.flights]
    assert max(sum(start_s <= at_s < end_s for start_s, end_s in spans) for at_s, _ in spans) == most


def test_a_flight_that_drops_is_replaced_at_that_moment(tmp_path):
    """Device 0 leaves at 1 s and is back at 3 s; the third device takes its place at once, and it flies again later."""
    trace = online_trace(tmp_path, (0, 0, 1), (0, 3, 1e6), (1, 0, 1e6), (2, 0, 1e6), devices=3)
    key, value = trace.split("=", 1)
    protocol = "{kind: fedbuff, concurrency: 2, buffer_size: 50}"
    result = simulate(fleet(1, 1, 1, protocol=protocol, **{key: value, "stop.rounds": 1}))
    rows = sorted(result.flights, key=lambda row: row["flight"])
    (dropped,) = (row for row in rows if row["outcome"] == "dropped")
    assert (dropped["device"], dropped["ended_s"]) == (0, pytest.approx(1, abs=1e-6))
    (replacement,) = (row for row in rows if row["dispatched_s"] == dropped["ended_s"])
    assert replacement["device"] in (1, 2)
    assert any(row["device"] == 0 and row["dispatched_s"] >= 3 for row in rows)
    flown_s = math.fsum(row["ended_s"] - row["dispatched_s"] for row in rows)
    assert flown_s == pytest.approx(2 * result.summary["virtual_time_s"], rel=1e-12)


@pytest.mark.parametrize("protocol", ["fedasync", "fedbuff"])
def test_a_small_fleet_that_comes_and_goes_never_runs_out(protocol):
    """Eight devices of which every one drops again and again, with a concurrency of ten by default."""
    churn = "{kind: markov, mean_on: 10s, mean_off: 5s}"
    changes = {"protocol": protocol, "population.availability": churn, "selection.devices_per_round": 10}
    result = simulate(fleet(*[2.5] * 8, **changes, **{"stop.rounds": 30}))
    assert len(result.rounds) == 30
    dropped = {row["device"] for row in result.flights if row["outcome"] == "dropped"}
    arrived = {row["device"] for row in result.flights if row["outcome"] == "arrived"}
    assert dropped == arrived == set(range(8))


def test_more_time_is_needed_for_larger_buffers_and_nobody_is_waited_for():
    """One device behind a link of a thousand seconds; a buffer of all devices does not wait for it."""
    lasted_s = []
    for buffer_size in (3, 4, 5):
        protocol = f"{{kind: fedbuff, concurrency: 4, buffer_size: {buffer_size}}}"
        result = simulate(fleet(1, 1.1, 1.2, 1000, protocol=protocol, **{"stop.rounds": 5}))
        lasted_s.append(result.summary["virtual_time_s"])
    assert lasted_s == sorted(lasted_s)
    assert lasted_s[-1] < 5 * 5 * 2.5


class Heard:
    def __init__(self):
        self.messages = []

    def notify(self, event):
        if isinstance(event, Notice):
            self.messages.append(event.message)


def test_a_concurrency_above_the_fleet_is_said():
    heard = Heard()
    changes = {"protocol": "{kind: fedasync, concurrency: 50}", "stop.rounds": 1}
    simulate(fleet(1, 1, 1, **changes), observers=[heard])
    assert "protocol.concurrency is 50, more than the fleet of 3: never more are in flight" in heard.messages


def test_the_end_of_a_run_names_every_true_reason(tmp_path):
    """Of three devices one has the memory and never comes back, one comes back without it, one does neither."""
    trace = online_trace(tmp_path, (0, 0, 3), (1, 0, 1e6), (2, 0, 1), devices=3)
    key, value = trace.split("=", 1)
    memory = {"population.available_memory": "{kind: explicit, values: [1MB, 1kB, 1kB]}"}
    message = (
        r"^nobody can be offered work any more after virtual time 3\S*s \(round 2, full\): 1 device that fits never comes "
        r"online again; 1 device denied: not enough memory for full, \S+ kB at least; 1 device that could be offered "
        r"nothing either never comes online again; let devices come online for longer \(population\.availability; a trace "
        r"can be repeated with `repeat`\), or raise population\.available_memory or lower the batch size that is charged "
        r"\(workload\.batch_size\), or stop before \(stop\.rounds or stop\.virtual_time\)$"
    )
    changes = {**memory, key: value, "protocol": "{kind: fedasync, concurrency: 3}"}
    with pytest.raises(SimulationError, match=message):
        simulate(fleet(1, 1, 1, **changes))
