"""Rows from what happened: sums and means over flights, denials, and what becomes of a round that is cut off."""

import math
from collections import defaultdict

import numpy as np
import pytest
from tiny_scenarios import ScriptedBackend, online_trace, tiny, waves

from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import Notice

ALIKE = ("population.speed_jitter=0", "backend=dry-run")
FULL_BYTES = 2600


@pytest.fixture(scope="module")
def stormy():
    """A dry run with drops, denials by memory and stages of different sizes."""
    return simulate(waves("backend=dry-run", "stop.rounds=20"))


def test_bytes_and_memory_of_a_round_are_those_of_its_flights(stormy):
    flights = defaultdict(list)
    for row in stormy.flights:
        flights[row["round"]].append(row)
    assert {row["outcome"] for row in stormy.flights} == {"arrived", "dropped"}
    for row in stormy.rounds:
        own = flights[row["round"]]
        assert row["selected"] == len(own)
        assert row["arrived"] == sum(flight["outcome"] == "arrived" for flight in own)
        assert row["dropped"] == row["selected"] - row["arrived"]
        assert row["bytes_down"] == sum(flight["bytes_down"] for flight in own)
        assert row["bytes_up"] == sum(flight["bytes_up"] for flight in own)
        assert row["peak_memory_bytes"] == max(flight["peak_memory_bytes"] for flight in own)
        assert row["virtual_time_s"] == max(flight["ended_s"] for flight in own)


def test_the_summary_adds_up_the_flights(stormy):
    summary = stormy.summary
    for column in ("bytes_down", "bytes_up"):
        assert summary[column] == sum(row[column] for row in stormy.flights)
    assert summary["flights_arrived"] == sum(row["outcome"] == "arrived" for row in stormy.flights)
    assert summary["flights_dropped"] == sum(row["outcome"] == "dropped" for row in stormy.flights)
    samples = {row["device"]: row["samples"] for row in stormy.flights if row["outcome"] == "arrived"}
    assert summary["data_share"] == pytest.approx(sum(samples.values()) / 96)


def test_flights_stand_in_the_order_in_which_they_ended_and_end_when_their_phases_do(stormy):
    places = [(row["round"], row["ended_s"], row["flight"]) for row in stormy.flights]
    assert places == sorted(places)
    for row in stormy.flights:
        spent_s = row["download_s"] + row["compute_s"] + row["upload_s"]
        assert row["ended_s"] == pytest.approx(row["dispatched_s"] + spent_s, rel=1e-12)


def test_flights_that_end_together_stand_in_the_order_of_dispatch():
    flights = simulate(tiny(*ALIKE, "stop.rounds=1", "selection.devices_per_round=6")).flights
    assert len({row["ended_s"] for row in flights}) == 1
    assert [row["flight"] for row in flights] == [1, 2, 3, 4, 5, 6]


def test_the_train_loss_weighs_devices_by_their_samples(run_with):
    """Device d reports a loss of 1.5 + d over 1 + d samples."""
    result = run_with(tiny("stop.rounds=1", "selection.devices_per_round=6"), ScriptedBackend())
    expected = sum((1.5 + d) * (1 + d) for d in range(6)) / sum(1 + d for d in range(6))
    assert result.rounds[0]["train_loss"] == pytest.approx(expected)
    assert {row["device"]: row["loss"] for row in result.flights} == {d: 1.5 + d for d in range(6)}


def test_skipped_terms_are_summed_over_devices(run_with):
    result = run_with(tiny("stop.rounds=1", "selection.devices_per_round=5"), ScriptedBackend())
    assert result.rounds[0]["skipped_terms"] == 10


def test_one_diverged_device_does_not_hide_the_loss_of_the_others(run_with):
    class OneDiverges(ScriptedBackend):
        def collect_update(self, ticket):
            update = super().collect_update(ticket)
            return update if update.device else type(update)(**{**_fields(update), "loss": math.inf})

    result = run_with(tiny("stop.rounds=1", "selection.devices_per_round=6"), OneDiverges())
    expected = sum((1.5 + d) * (1 + d) for d in range(1, 6)) / sum(1 + d for d in range(1, 6))
    assert result.rounds[0]["train_loss"] == pytest.approx(expected)
    assert [row["loss"] for row in result.flights if row["device"] == 0] == [None]


def _fields(update):
    return {name: getattr(update, name) for name in type(update).__dataclass_fields__}


def test_a_denial_by_memory_says_how_much_was_missing():
    """The full model needs 11680 bytes: four devices miss 1, 30, 101 and 680 of them."""
    values = [11_680, 11_679, 11_650, 11_579, 11_000, 20_000]
    memory = f"population.available_memory={{kind: explicit, values: {values}}}"
    denials = simulate(tiny("backend=dry-run", "stop.rounds=1", memory)).denials
    assert denials == [
        {"round": 1, "reason": "not enough memory", "submodel": "full", "devices": 4,
         "shortfall_bytes_min": 1, "shortfall_bytes_median": 65, "shortfall_bytes_max": 680},
    ]  # fmt: skip


def test_charged_peak_and_own_samples_stand_beside_each_other_in_a_flight():
    row = simulate(
        tiny("backend=dry-run", "stop.rounds=1", "workload={samples_per_device: 500, batch_size: 50}")
    ).flights[0]
    assert row["samples"] == 10
    assert row["peak_memory_bytes"] > 11_680
    assert (row["bytes_down"], row["bytes_up"]) == (FULL_BYTES, FULL_BYTES)


@pytest.fixture(scope="module")
def phases_s():
    """Download, compute and upload of every flight of `tiny` without jitter."""
    cost = assemble(tiny(*ALIKE)).ledger.cost("full", 0)
    return np.array([cost.download_s, cost.compute_s, cost.upload_s])


@pytest.mark.parametrize(("passed", "spent"), [(0.25, (0.25, 0, 0)), (1.5, (1, 0.5, 0)), (2.75, (1, 1, 0.75))])
def test_a_flight_that_is_cut_off_spends_what_was_left_of_the_time(passed, spent, phases_s):
    whole = int(passed)
    end_s = float(phases_s[:whole].sum() + (passed - whole) * phases_s[whole])
    result = simulate(tiny(*ALIKE, f"stop.virtual_time={end_s}"))
    assert result.rounds == []
    assert [row["flight"] for row in result.flights] == [1, 2, 3]
    for row in result.flights:
        assert (row["outcome"], row["reason"]) == ("cut", "the virtual time of the run was over")
        assert [row["download_s"], row["compute_s"], row["upload_s"]] == pytest.approx(phases_s * spent)
        assert row["ended_s"] == end_s
        assert (row["bytes_up"], row["loss"]) == (0, None)
    summary = result.summary
    assert (summary["rounds"], summary["flights_arrived"], summary["flights_dropped"]) == (0, 0, 3)


def test_a_cut_round_keeps_what_had_ended_and_what_was_sent(tmp_path):
    """When the time is over one device has sent all, a slower one is still at it, and a third has left."""
    fleet = (
        "population={devices: 3, groups: [{device: jetson-agx-orin-64gb, share: 1}, {device: raspberry-pi-4-4gb, "
        "share: 2}], available_memory: {kind: uniform, low: 10MB, high: 20MB}, speed_jitter: 0}"
    )
    work = ("workload.samples_per_device=2000", "backend=dry-run")
    seconds = assemble(tiny(fleet, *work)).ledger.total_s("full", np.arange(3))
    fast, leaves, slow = np.argsort(seconds, kind="stable").tolist()
    end_s = float(seconds[fast] + seconds[slow]) / 2
    trace = online_trace(tmp_path, (fast, 0, 1e6), (slow, 0, 1e6), (leaves, 0, 0.125), devices=3)
    result = simulate(tiny(fleet, *work, trace, f"stop.virtual_time={end_s}"))
    assert 0.125 < seconds[fast] < end_s < seconds[slow]
    found = {row["device"]: (row["outcome"], row["ended_s"], row["bytes_up"]) for row in result.flights}
    assert found == {
        fast: ("cut", pytest.approx(seconds[fast]), FULL_BYTES),
        slow: ("cut", end_s, 0),
        leaves: ("dropped", 0.125, 0),
    }
    assert result.summary["bytes_up"] == FULL_BYTES


def test_a_cut_round_keeps_its_denials_and_is_told():
    heard = []

    class Listening:
        def notify(self, event):
            if isinstance(event, Notice):
                heard.append(event.message)

    memory = "population.available_memory={kind: explicit, values: [1MB, 1MB, 1MB, 1MB, 1MB, 1kB]}"
    result = simulate(tiny(*ALIKE, memory, "stop.virtual_time=10ms"), observers=[Listening()])
    assert [(row["round"], row["reason"], row["devices"]) for row in result.denials] == [(1, "not enough memory", 1)]
    assert heard == [
        "round 1 was cut off: the virtual time of the run was over",
        "nothing was learned: none of 3 flights arrived (3 the virtual time of the run was over)",
    ]
