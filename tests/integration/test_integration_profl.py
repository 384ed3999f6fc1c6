"""ProFL in whole runs: its phases in rows and studies, the learning rate and the epochs of a distillation, refusals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from listeners import Listener
from tiny_scenarios import ScriptedBackend, tiny

from neulite_sim.engine import building
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.run_result import RunResult
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import InfeasibleError, ScenarioError
from neulite_sim.studies.whatif import Budgets, Entrant, study

LENET = ("model=lenet", "data.image_size=8", "stop.rounds=7", "training.learning_rate_schedule=cosine")
FIXED = "method={kind: profl, shrinking_rounds: 2, growing_rounds: 1, distillation_learning_rate: 0.25}"
pytestmark = pytest.mark.usefixtures("shared_profiles")
PHASES = ["shrink-2", "shrink-2", "distil-2", "grow-1", "grow-2", "grow-2", "grow-2"]


def run(*options: str, listener: Listener | None = None) -> RunResult:
    return simulate(tiny(*LENET, FIXED, *options), observers=[listener] if listener else [])


def test_rows_tell_the_phase_and_the_learning_rate_that_its_devices_trained_with() -> None:
    whole, rehearsed = run(), run("backend=dry-run")
    for result in (whole, rehearsed):
        assert [row["stage"] for row in result.rounds] == PHASES
        rates = [row["learning_rate"] for row in result.rounds]
        assert rates[2] == 0.25
        # The others follow the scenario's cosine over seven rounds.
        falling = [0.05 * (1 + np.cos(np.pi * number / 7)) / 2 for number in (0, 1, 3, 4, 5, 6)]
        assert rates[:2] + rates[3:] == pytest.approx(falling)
    assert [row["virtual_time_s"] for row in whole.rounds] == [row["virtual_time_s"] for row in rehearsed.rounds]


def test_devices_are_asked_to_train_with_the_learning_rate_and_the_epochs_of_the_phase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = ScriptedBackend()
    monkeypatch.setattr(building, "build_backend", lambda scenario: backend)
    run("method.distillation_epochs=4")
    asked = {task.submodel: (task.learning_rate, task.epochs) for task in backend.tasks}
    assert asked["distil-2"] == (0.25, 4)
    assert {epochs for name, (_, epochs) in asked.items() if name != "distil-2"} == {None}


def test_a_distillation_is_charged_for_its_own_epochs() -> None:
    devices = np.arange(6)
    one, four, all_four = (
        assemble(tiny(*LENET, FIXED, *more)).ledger
        for more in ((), ("method.distillation_epochs=4",), ("workload.epochs=4",))
    )
    for name in ("shrink-2", "grow-1", "full"):
        assert np.array_equal(one.compute_s(name, devices), four.compute_s(name, devices))
    np.testing.assert_allclose(four.compute_s("distil-2", devices), 4 * one.compute_s("distil-2", devices))
    np.testing.assert_allclose(four.compute_s("distil-2", devices), all_four.compute_s("distil-2", devices))
    assert one.least_peak_bytes("distil-2") == four.least_peak_bytes("distil-2")


def test_what_a_device_keeps_of_its_samples_goes_by_the_epochs_of_the_phase() -> None:
    """In one epoch there is nothing to keep; the blocks before the last are frozen."""
    keeping = (*LENET, "training.prefix_cache=device", "training.epochs=3")
    one, three = (assemble(tiny(*keeping, FIXED, *more)).ledger for more in (("method.distillation_epochs=1",), ()))
    assert one.profiles["distil-2"].kept_bytes_per_sample == 0
    assert three.profiles["distil-2"].kept_bytes_per_sample > 0
    assert one.profiles["shrink-2"].kept_bytes_per_sample == three.profiles["shrink-2"].kept_bytes_per_sample > 0


def test_a_study_goes_through_the_phases_of_a_run() -> None:
    scenario = tiny(*LENET, FIXED)
    entrant = Entrant(method="profl", variant="profl", scenario=scenario)
    rows = study([entrant], Budgets(kind="scale", values=(1.0,)))["submodels"]
    shares = {row["submodel"]: row["share_of_rounds"] for row in rows}
    assert shares == pytest.approx(
        {name: PHASES.count(name) / 7 for name in ("shrink-2", "distil-2", "grow-1", "grow-2")}
    )


def test_with_fit_auto_devices_take_part_in_phases_whose_whole_batch_they_do_not_hold() -> None:
    """Maps are most of what this network needs, so micro-batches help; nothing is trained here."""
    network = ("model=cnn", "data.image_size=12", "training.batch_size=10", "stop.rounds=3", "backend=dry-run",
               "method={kind: profl, shrinking_rounds: 1, growing_rounds: 1, distillation_rounds: 0}")  # fmt: skip
    short = assemble(tiny(*network)).ledger.profiles["grow-1"].peak_memory_bytes - 1
    memory = f"population.available_memory={{kind: uniform, low: {short}, high: {short}}}"
    plain, fitted = (simulate(tiny(*network, memory, *more)) for more in ((), ("training.fit=auto",)))
    assert "grow-1" not in {row["stage"] for row in plain.rounds}
    assert [row["stage"] for row in fitted.rounds] == ["shrink-2", "grow-1", "grow-2"]
    assert max(row["peak_memory_bytes"] for row in fitted.flights) <= short


def test_a_phase_that_fits_nobody_is_left_out_and_a_run_says_so() -> None:
    """Teacher and student each have a classifier, which is most of this model: a distillation needs the most here."""
    profiles = assemble(tiny(*LENET, FIXED)).ledger.profiles
    peaks = {name: found.peak_memory_bytes for name, found in profiles.items() if name != "full"}
    assert max(peaks, key=lambda name: peaks[name]) == "distil-2"
    below = peaks["distil-2"] - 1
    listener = Listener()
    result = run(f"population.available_memory={{kind: uniform, low: {below}, high: {below}}}", listener=listener)
    assert [row["stage"] for row in result.rounds] == ["shrink-2", "shrink-2", "grow-1", *["grow-2"] * 4]
    assert any(message.startswith("distil-2 fits no device that owns data and is skipped") for message in listener.told)


def test_a_fleet_that_fits_no_phase_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"NA: no device can train anything with method profl: its smallest"):
        run("population.available_memory={kind: uniform, low: 10kB, high: 10kB}")


def test_a_dry_run_whose_phases_end_by_convergence_is_refused() -> None:
    message = (
        r"^--set: backend: dry-run trains nothing, and with shrinking_rounds and growing_rounds: null method profl decides by "
        r"trained weights what comes next; use backend inprocess or ray, or another value of that option$"
    )
    with pytest.raises(ScenarioError, match=message):
        simulate(tiny(*LENET, "method=profl", "backend=dry-run"))


def test_a_model_of_one_block_is_refused_before_anything_is_profiled() -> None:
    with pytest.raises(ScenarioError, match=r"method: profl trains block by block, and this model has 1 block"):
        simulate(tiny("method=profl", "backend=dry-run"))


def test_updates_of_phases_that_are_over_follow_the_protocol() -> None:
    """Four flights are under way at a time, so phases of one round are over before all of theirs have come in."""
    fedasync = "protocol={kind: fedasync, concurrency: 4}"
    merged, discarded = (run("stop.rounds=12", fedasync, *more) for more in ((), ("protocol.other_stage=discard",)))
    counts = [Counter(row["stage"] for row in result.rounds) for result in (merged, discarded)]
    # Three more of the first phase land after its two rounds: merged, they are rounds of a phase that is over.
    assert (counts[0]["shrink-2"], counts[1]["shrink-2"]) == (5, 2)
    assert counts[1] == Counter(PHASES) + Counter({"grow-2": 5})
    assert sum(row["discarded"] for row in discarded.rounds) >= 3
