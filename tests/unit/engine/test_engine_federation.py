"""The loop: who gets offers and why not, what is dispatched, what is digested, and when nothing can go on."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from tiny_scenarios import ScriptedBackend, online_trace, tiny, waves

from neulite_sim.engine import holding
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import SimulationError
from neulite_sim.results.rows import Notice, Progress, RoundRow

ALWAYS_S = 1e6


def everyone_online(*, but=(), until_s=ALWAYS_S):
    return [(device, 0, until_s) for device in range(6) if device not in but]


class Heard:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.events = []

    def notify(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def test_devices_that_are_offline_get_no_offers_and_are_denied_for_that_reason(tmp_path):
    away = [(device, 5e5, ALWAYS_S) for device in (0, 4)]
    result = simulate(tiny("backend=dry-run", online_trace(tmp_path, *everyone_online(but=(0, 4)), *away)))
    assert {row["device"] for row in result.flights} <= {1, 2, 3, 5}
    assert [(row["round"], row["reason"], row["devices"]) for row in result.denials] == [
        (number, "offline", 2) for number in (1, 2, 3, 4)
    ]
    assert {(row["online"], row["offered"], row["denied"]) for row in result.rounds} == {(4, 4, 2)}


def test_devices_without_data_get_no_offers_and_are_denied_for_that_reason():
    scenario = tiny("backend=dry-run", "data.train_samples=4")
    owners = np.flatnonzero(assemble(scenario).partition.sizes)
    result = simulate(scenario)
    assert len(owners) == 4
    assert {row["device"] for row in result.flights} <= set(owners.tolist())
    assert [(row["reason"], row["devices"], row["shortfall_bytes_max"]) for row in result.denials] == [
        ("no data", 2, None)
    ] * 4


def test_every_device_of_every_round_has_an_offer_or_a_reason():
    result = simulate(waves("backend=dry-run", "stop.rounds=12", "data.train_samples=16"))
    assert {row["reason"] for row in result.denials} == {"not enough memory", "offline", "no data"}
    denied = Counter()
    for row in result.denials:
        denied[row["round"]] += row["devices"]
    for row in result.rounds:
        assert row["denied"] == denied[row["round"]]
        assert row["offered"] + row["denied"] == 8
        assert row["selected"] == min(4, row["offered"])


def test_no_flight_is_dispatched_to_a_device_with_less_memory_than_its_peak():
    result = simulate(waves("backend=dry-run", "stop.rounds=12"))
    assert all(row["peak_memory_bytes"] <= row["available_memory_bytes"] for row in result.flights)


def test_without_a_memory_limit_everybody_trains_and_no_promise_is_made(run_with):
    backend = ScriptedBackend()
    limit = "population.available_memory={kind: uniform, low: 1kB, high: 2kB}"
    result = run_with(tiny("method={kind: fedavg, memory_limit: false}", limit), backend)
    assert {task.enforces_memory for task in backend.tasks} == {False}
    assert result.summary["participation_rate"] == 1.0
    assert not result.denials


def test_a_task_carries_version_learning_rate_and_the_promise_of_its_flight(run_with):
    backend = ScriptedBackend()
    rate = "training.learning_rate_schedule={kind: step, milestones: [2], factor: 0.1}"
    result = run_with(tiny(rate, "stop.rounds=3"), backend)
    assert [(task.version, task.learning_rate) for task in backend.tasks[::3]] == [
        (0, 0.05), (1, 0.05), (2, pytest.approx(0.005))
    ]  # fmt: skip
    assert [row["learning_rate"] for row in result.rounds] == [task.learning_rate for task in backend.tasks[::3]]
    for task, row in zip(backend.tasks, sorted(result.flights, key=lambda row: row["flight"]), strict=True):
        assert (task.flight, task.device, task.seed) == (row["flight"], row["device"], 3)
        assert (task.cost.peak_memory_bytes, task.cost.available_memory_bytes) == (
            row["peak_memory_bytes"], row["available_memory_bytes"])  # fmt: skip


def test_updates_are_reduced_in_the_order_of_devices(run_with):
    backend = ScriptedBackend()
    result = run_with(tiny("stop.rounds=8", "population.speed_jitter=1"), backend)
    ended = [[row["device"] for row in result.flights if row["round"] == number] for number in range(1, 9)]
    collected = [backend.collected[3 * number : 3 * number + 3] for number in range(8)]
    assert collected == [sorted(devices) for devices in ended]
    assert collected != ended


def test_a_device_that_leaves_mid_flight_is_dropped_and_trains_nothing(tmp_path, run_with):
    """A flight takes 40 ms of latency and about 10 ms of work: device 2 leaves after 40 ms."""
    backend = ScriptedBackend()
    trace = online_trace(tmp_path, *everyone_online(but=(2,)), (2, 0, 0.04))
    result = run_with(tiny(trace, "selection.devices_per_round=6", "stop.rounds=1"), backend)
    dropped = [row for row in result.flights if row["device"] == 2]
    assert [(row["outcome"], row["reason"]) for row in dropped] == [("dropped", "went offline during upload")]
    assert dropped[0]["ended_s"] == pytest.approx(0.04, abs=1e-5)
    assert (dropped[0]["bytes_up"], dropped[0]["loss"]) == (0, None)
    assert sorted(task.device for task in backend.tasks) == [0, 1, 3, 4, 5]
    assert (result.rounds[0]["arrived"], result.rounds[0]["dropped"]) == (5, 1)


def test_a_round_in_which_everybody_drops_is_a_round_and_leaves_the_model_as_it_was(tmp_path):
    """All leave after 30 ms, and are back for good at 7 s: a first round is lost, a second one happens."""
    trace = online_trace(tmp_path, *everyone_online(until_s=0.03), *((device, 7, ALWAYS_S) for device in range(6)))
    result = simulate(tiny(trace, "stop.rounds=1"))
    start = assemble(tiny()).method.start(assemble(tiny()).trained, 3, assemble(tiny()).ledger)
    assert result.memory.weights.keys() == start.tensors.keys()
    assert all(torch.equal(result.memory.weights[name], start.tensors[name]) for name in start.tensors)
    row = result.rounds[0]
    assert (row["arrived"], row["dropped"], row["train_loss"], row["bytes_up"]) == (0, 3, None, 0)
    assert row["test_accuracy"] is not None
    assert row["virtual_time_s"] == pytest.approx(0.03, abs=1e-5)
    again = simulate(tiny(trace, "stop.rounds=2")).rounds
    assert [item["arrived"] for item in again] == [0, 3]
    assert again[1]["virtual_time_s"] > 7


def test_the_stage_of_a_staged_method_is_repeated_when_all_of_its_flights_drop(tmp_path):
    gone = [(device, 0, 0.03) for device in range(8)]
    back = [(device, 7, ALWAYS_S) for device in range(8)]
    result = simulate(waves("backend=dry-run", "stop.rounds=3", online_trace(tmp_path, *gone, *back, devices=8)))
    assert [(row["arrived"], row["stage"]) for row in result.rounds[:2]] == [(0, "stage-1"), (4, "stage-1")]
    assert result.rounds[2]["stage"] == "stage-2"


def test_where_nobody_is_online_the_clock_moves_to_the_next_who_is(tmp_path):
    trace = online_trace(tmp_path, (3, 500, ALWAYS_S), (1, 900, ALWAYS_S))
    result = simulate(tiny("backend=dry-run", "stop.rounds=1", trace))
    assert [(row["device"], row["dispatched_s"]) for row in result.flights] == [(3, 500.0)]


def test_the_clock_passes_over_whoever_comes_online_without_memory_or_data(tmp_path):
    """Device 0 has too little memory and comes first; device 1 is the one to wait for."""
    memory = "population.available_memory={kind: explicit, values: [1kB, 1MB, 1MB, 1MB, 1MB, 1MB]}"
    trace = online_trace(tmp_path, (0, 10, ALWAYS_S), (1, 400, ALWAYS_S))
    result = simulate(tiny("backend=dry-run", "stop.rounds=1", memory, trace))
    assert [(row["device"], row["dispatched_s"]) for row in result.flights] == [(1, 400.0)]


def test_a_fleet_that_never_comes_back_ends_the_run_with_who_and_when(tmp_path):
    message = (
        r"^nobody can be offered work any more after virtual time 0\.03s \(round 2, full\): 6 devices that fit never "
        r"come online again; let devices come online for longer \(population\.availability; a trace can be repeated with "
        r"`repeat`\), or stop before \(stop\.rounds or stop\.virtual_time\)$"
    )
    trace = online_trace(tmp_path, *everyone_online(until_s=0.03))
    with pytest.raises(SimulationError, match=message):
        simulate(tiny(trace))


def test_a_stage_that_fits_only_a_device_without_data_is_skipped():
    """Whoever has all the memory owns nothing: no flight of the stage could ever leave, so it is left out."""
    small = ("data.train_samples=7", "proxy.width=1", "backend=dry-run", "data.partition=iid")
    sizes = assemble(waves(*small)).partition.sizes
    peaks = assemble(waves(*small)).ledger.profiles
    assert np.count_nonzero(sizes == 0) == 1
    first, second = (peaks[name].peak_memory_bytes for name in ("stage-1", "stage-2"))
    assert second < first
    values = [10**9 if size == 0 else second for size in sizes]
    heard = Heard()
    memory = f"population.available_memory={{kind: explicit, values: {values}}}"
    result = simulate(waves(*small, memory, "population.availability=always", "stop.rounds=3"), observers=[heard])
    assert {row["stage"] for row in result.rounds} == {"stage-2"}
    assert [event.message for event in heard.of(Notice) if "is skipped" in event.message] == [
        f"stage-1 fits no device that owns data and is skipped: it needs {first / 1e6:.3f} MB, "
        f"{(first - second) / 1e3:.3f} kB more than the largest of them has"
    ]


def test_the_mean_of_the_jitter_is_one():
    """Of 1200 lognormal factors with sigma 0.5 the mean is within four standard errors of one."""
    scenario = tiny("backend=dry-run", "population.speed_jitter=0.5", "stop.rounds=400")
    mean_s = float(assemble(scenario).ledger.compute_s("full", np.array([0]))[0])
    factors = np.array([row["compute_s"] for row in simulate(scenario).flights]) / mean_s
    assert len(factors) == 1200
    assert abs(factors.mean() - 1) < 4 * math.sqrt(math.expm1(0.25) / 1200)


def test_without_jitter_a_flight_takes_what_the_ledger_says():
    scenario = tiny("backend=dry-run", "population.speed_jitter=0")
    ledger = assemble(scenario).ledger
    for row in simulate(scenario).flights:
        cost = ledger.cost("full", row["device"])
        assert (row["download_s"], row["compute_s"], row["upload_s"]) == (
            cost.download_s, cost.compute_s, cost.upload_s)  # fmt: skip


def test_notices_of_the_backend_reach_observers_even_after_the_last_test(run_with):
    class Troubled(ScriptedBackend):
        def collect_evaluation(self, ticket):
            self.told += [f"trouble with {ticket}", "trouble"]
            return super().collect_evaluation(ticket)

    heard = Heard()
    result = run_with(tiny("stop.rounds=2", "selection.devices_per_round=1"), Troubled(), observers=[heard])
    assert [event.message for event in heard.of(Notice)] == ["trouble with 1", "trouble", "trouble with 3", "trouble"]
    assert result.notices == ("trouble with 1", "trouble", "trouble with 3")


def test_training_that_diverges_is_told_once_a_round_with_who(run_with):
    heard = Heard()
    result = run_with(tiny("stop.rounds=1"), ScriptedBackend(loss=math.nan), observers=[heard])
    devices = sorted(row["device"] for row in result.flights)
    assert [event.message for event in heard.of(Notice)] == [
        f"round 1: local training diverged on 3 of 3 devices ({', '.join(map(str, devices))}); "
        "lower training.learning_rate or set training.clip_norm"
    ]
    assert {row["loss"] for row in result.flights} == {None}
    assert result.rounds[0]["train_loss"] is None


def test_of_many_devices_on_which_training_diverges_the_first_five_are_named(run_with):
    heard = Heard()
    whole = tiny("stop.rounds=1", "selection.devices_per_round=6")
    run_with(whole, ScriptedBackend(loss=math.nan), observers=[heard])
    (notice,) = heard.of(Notice)
    assert "diverged on 6 of 6 devices (0, 1, 2, 3, 4, ...); lower" in notice.message


def test_progress_counts_down_what_is_still_training(run_with):
    heard = Heard()
    run_with(tiny("stop.rounds=1"), ScriptedBackend(), observers=[heard])
    seen = [(event.training, event.trained, event.online, event.offline) for event in heard.of(Progress)]
    assert seen == [(3, 0, 6, 0), (2, 1, 6, 0), (1, 2, 6, 0), (0, 3, 6, 0)]


class Patient(Heard):
    may_be_told_late = True


@pytest.mark.parametrize("others", [(), (Patient(),), (Heard(),)], ids=["alone", "with patient", "with impatient"])
def test_observers_are_told_late_where_all_of_them_may_be(others, monkeypatch):
    """Then nothing of moments within rounds, and of every round in order; one that may not is told of all at once."""
    monkeypatch.setattr(holding, "BRISK_S", 1e9)
    patient = Patient()
    result = simulate(tiny("backend=dry-run", "stop.rounds=20"), observers=[patient, *others])
    assert [row.round for row in patient.of(RoundRow)] == [row["round"] for row in result.rounds] == [*range(1, 21)]
    looks = [(event.round, event.training, event.trained) for event in patient.of(Progress)]
    each = lambda number: [(number, 3 - trained, trained) for trained in range(4)]  # noqa: E731
    if any(type(other) is Heard for other in others):
        assert looks == [look for number in range(1, 21) for look in each(number)]
    else:
        # The first two rounds are not known to be brisk yet; of the others the last one shows where everybody is.
        assert looks == [*each(1), *each(2), (20, 3, 0)]


def test_an_observer_that_ends_the_run_late_leaves_whole_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "BRISK_S", 1e9)
    monkeypatch.setattr(holding, "HELD_S", 1e9)

    class Breaking(Patient):
        def notify(self, event):
            super().notify(event)
            if isinstance(event, RoundRow) and event.round == 3:
                raise LookupError

    breaking = Breaking()
    with pytest.raises(LookupError):
        simulate(tiny("backend=dry-run", "stop.rounds=20"), out=tmp_path / "run", observers=[breaking])
    rounds, flights = (
        [int(line.split(",")[place]) for line in (tmp_path / "run" / name).read_text().splitlines()[1:]]
        for name, place in (("rounds.csv", 0), ("flights.csv", 1))
    )
    # A checkpoint writes what waits.
    assert rounds == [*range(1, 11)]
    assert flights == [number for number in rounds for _ in range(3)]
    assert [row.round for row in breaking.of(RoundRow)] == [1, 2, 3]


def test_updates_that_wait_in_a_buffer_are_not_in_flight_any_more():
    heard = Heard()
    protocol = "protocol={kind: fedbuff, concurrency: 3, buffer_size: 3}"
    simulate(tiny("backend=dry-run", protocol, "stop.rounds=4"), observers=[heard])
    dispatched = [event.training for event in heard.of(Progress) if event.trained == 0]
    assert len(dispatched) > 4
    assert set(dispatched) == {3}


class Notices:
    def __init__(self):
        self.messages = []

    def notify(self, event):
        if isinstance(event, Notice):
            self.messages.append(event.message)


@pytest.mark.parametrize(
    "protocol", ["synchronous", "{kind: deadline, maximum_wait: 10s}", "{kind: fedbuff, buffer_size: 2}"]
)
def test_a_run_with_an_end_in_time_has_ended_where_nothing_can_happen_until_then(tmp_path, protocol):
    """Whether anything lies behind its end does not decide on its success."""
    heard, results = Notices(), []
    for later in ((), ((0, 2e6, 2e6 + 1),)):
        trace = online_trace(tmp_path, *everyone_online(until_s=0.03), *later)
        scenario = tiny("backend=dry-run", "stop.virtual_time=100s", f"protocol={protocol}", trace)
        results.append(simulate(scenario, observers=[heard]))
    none, later = results
    assert none.summary["digest"] == later.summary["digest"]
    assert none.flights == later.flights
    (told,) = [message for message in heard.messages if "nobody" in message]
    assert re.search(
        r"^nobody can be offered work any more from virtual time \S+s to 1m 40s \(stop\.virtual_time\), where the run ends: "
        r"6 devices that fit never come online again$",
        told,
    )
