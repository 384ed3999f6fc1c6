"""Tests of the global model: their rounds, the order of the rows, and a run that stops at its target."""

import pytest
from tiny_scenarios import ScriptedBackend, tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import RoundRow

RISING = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
ALIKE = ("population.speed_jitter=0",)
"""All flights of `tiny` then take equally long."""
PATIENCE = {"at once": 0, "a round later": 1, "always late": 10**6}


def accuracies(result):
    return {row["round"]: row["test_accuracy"] for row in result.rounds if row["test_accuracy"] is not None}


@pytest.fixture(params=PATIENCE)
def patience(request):
    return PATIENCE[request.param]


def test_the_model_is_tested_after_each_so_many_rounds_and_after_the_last(run_with, patience):
    backend = ScriptedBackend(RISING, patience=patience)
    result = run_with(tiny("evaluation.every_rounds=2", "stop.rounds=5"), backend)
    assert accuracies(result) == {2: 0.3, 4: 0.7, 5: 0.9}
    assert backend.tested == [2, 4, 5]


def test_rows_come_in_the_order_of_rounds_however_late_the_tests_are(run_with, patience):
    seen = []

    class Watching:
        def notify(self, event):
            if isinstance(event, RoundRow):
                seen.append((event.round, event.test_accuracy))

    scenario = tiny("evaluation.every_rounds=3", "stop.rounds=8")
    result = run_with(scenario, ScriptedBackend(RISING, patience=patience), observers=[Watching()])
    assert [row["round"] for row in result.rounds] == list(range(1, 9))
    assert [number for number, _ in seen] == list(range(1, 9))
    assert {number for number, accuracy in seen if accuracy is not None} == {3, 6, 8}


def test_at_most_one_test_is_on_its_way(run_with, patience):
    backend = ScriptedBackend(RISING, patience=patience)
    run_with(tiny("stop.rounds=6"), backend)
    assert backend.most_open_evaluations == 1
    assert not backend.open_evaluations


def test_a_late_test_does_not_hold_up_the_next_round(run_with):
    """The task of round 3 is dispatched while the test of round 2 is open."""
    open_at_dispatch = []

    class Watching(ScriptedBackend):
        def submit_training(self, task, payload, personal):
            open_at_dispatch.append(bool(self.open_evaluations))
            return super().submit_training(task, payload, personal)

    run_with(tiny("selection.devices_per_round=1"), Watching(RISING, patience=10**6))
    assert open_at_dispatch == [False, True, True, True]


def test_the_run_stops_in_the_very_round_that_reached_the_target(run_with, patience):
    result = run_with(tiny("stop={rounds: 6, target_accuracy: 0.5}"), ScriptedBackend(RISING, patience=patience))
    assert accuracies(result) == {1: 0.1, 2: 0.3, 3: 0.5}
    assert result.summary["rounds"] == 3
    assert result.summary["flights_arrived"] == 9
    assert result.summary["time_to_accuracy_s"]["0.5"] == result.rounds[2]["virtual_time_s"]


def test_the_target_counts_in_tested_rounds_only(run_with, patience):
    stop = ("stop={rounds: 6, target_accuracy: 0.5}", "evaluation.every_rounds=2")
    assert accuracies(run_with(tiny(*stop), ScriptedBackend(RISING, patience=patience))) == {2: 0.3, 4: 0.7}


def test_a_stopped_run_has_the_same_digest_however_late_its_tests_are(run_with):
    scenario = tiny("stop={rounds: 6, target_accuracy: 0.5}")
    found = {run_with(scenario, ScriptedBackend(RISING, patience=late)).summary["digest"] for late in PATIENCE.values()}
    assert len(found) == 1


@pytest.mark.parametrize("rounds_until_cut", [2.5, 3.5, 4.5])
def test_a_virtual_time_that_ends_beside_the_target_gives_the_same_rows_to_all(run_with, rounds_until_cut):
    """The target is reached in round 3; a backend that is late has dispatched round 4 when the time is over."""
    round_s = simulate(tiny("backend=dry-run", *ALIKE)).rounds[0]["virtual_time_s"]
    end_s = rounds_until_cut * round_s
    scenario = tiny(f"stop={{rounds: 6, target_accuracy: 0.5, virtual_time: {end_s}}}", *ALIKE)
    found = [run_with(scenario, ScriptedBackend(RISING, patience=late)) for late in PATIENCE.values()]
    assert len({result.summary["digest"] for result in found}) == 1
    assert found[0].summary["rounds"] == min(3, int(rounds_until_cut))
    assert {row["outcome"] for row in found[0].flights} == ({"arrived", "cut"} if rounds_until_cut < 3 else {"arrived"})


def test_the_last_round_is_tested_also_where_the_virtual_time_ends_the_run(run_with, patience):
    backend = ScriptedBackend(RISING, patience=patience)
    round_s = simulate(tiny("backend=dry-run", *ALIKE)).rounds[0]["virtual_time_s"]
    stop = f"stop={{rounds: 9, virtual_time: {5.5 * round_s}}}"
    result = run_with(tiny(stop, "evaluation.every_rounds=2", *ALIKE), backend)
    assert accuracies(result) == {2: 0.3, 4: 0.7, 5: 0.9}
    assert [row["round"] for row in result.rounds] == [1, 2, 3, 4, 5]
    assert result.summary["final_accuracy"] == 0.9
    assert backend.most_open_evaluations == 1


def test_a_failed_run_keeps_the_row_of_each_round_that_was_aggregated(run_with, tmp_path):
    """The third round fails while the test of the second is on its way."""

    class Failing(ScriptedBackend):
        def collect_update(self, ticket):
            if len(self.collected) == 6:
                raise RuntimeError("lost")
            return super().collect_update(ticket)

    with pytest.raises(RuntimeError, match="lost"):
        run_with(tiny(), Failing(RISING, patience=10**6), out=tmp_path / "run")
    rows = (tmp_path / "run" / "rounds.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2"]
    assert not (tmp_path / "run" / "COMPLETE").exists()


def test_a_dry_run_is_never_accuracies():
    result = simulate(tiny("backend=dry-run", "stop={rounds: 3, target_accuracy: 0.01, virtual_time: 1h}"))
    assert accuracies(result) == {}
    assert result.summary["final_accuracy"] is None
    assert result.summary["rounds"] == 3
