"""Runs on devices whose memory moves and whose batches shrink: who is dispatched, what is dropped when, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import ScriptedBackend, tiny, waves

from neulite_sim.engine import assembly, building
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.parts import trained_plan
from neulite_sim.engine.run_result import RunResult
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import InfeasibleError, ScenarioError, SimulationError
from neulite_sim.population.sampling import build_population
from neulite_sim.profiling.plans import Plan
from neulite_sim.scenario.schema import Scenario

Row = dict[str, Any]
METHODS = ("neulite", "exclusivefl", "heterofl")
MOVING = "population.memory_motion={kind: walk, step: 0.03, every: 1s}"
SHRINKING = "training.shrink_batch={minimum: 4}"
OF_TRAINING = {"train_loss", "test_loss", "test_accuracy", "loss", "skipped_terms", "wall_time_s"}


def memory_trace(folder: Path, *falls: tuple[int, float, int], header: str = "available_bytes") -> str:
    """Return the override that makes device d of six have `value` from a moment on, (d, moment, value); 15 MB else."""
    path = folder / "memory.csv"
    rows = sorted({(device, 0.0, 15_000_000) for device in range(6) if (device, 0.0) not in {f[:2] for f in falls}}
                  | set(falls))  # fmt: skip
    path.write_text(f"device,t_s,{header}\n" + "".join(f"{d},{t!r},{v}\n" for d, t, v in rows), encoding="utf-8")
    return f"population.memory_motion={{kind: trace, path: '{path}'}}"


def of_time_and_memory(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in OF_TRAINING} for row in rows]


def test_a_flight_is_dropped_at_the_moment_when_memory_falls_below_its_peak(tmp_path: Path) -> None:
    plain = simulate(tiny("backend=dry-run", "stop.rounds=1")).flights
    flight = max(plain, key=lambda row: row["flight"])
    middle_s = flight["download_s"] + flight["compute_s"] / 2
    moment_s = round(middle_s * 2**20) / 2**20
    motion = memory_trace(tmp_path, (flight["device"], moment_s, flight["peak_memory_bytes"] - 1))
    moved = {row["device"]: row for row in simulate(tiny("backend=dry-run", "stop.rounds=1", motion)).flights}
    found = moved.pop(flight["device"])
    assert (found["outcome"], found["reason"]) == ("dropped", "out of memory during compute")
    assert found["ended_s"] == moment_s
    assert found["download_s"] == flight["download_s"]
    assert found["compute_s"] == pytest.approx(moment_s - flight["download_s"])
    assert (found["upload_s"], found["bytes_up"]) == (0, 0)
    assert {row["outcome"] for row in moved.values()} == {"arrived"}


@pytest.mark.parametrize(("share", "phase"), [(0.5, "download"), (0.5, "upload")])
def test_memory_is_held_from_the_download_to_the_upload(tmp_path: Path, share: float, phase: str) -> None:
    flight = simulate(tiny("backend=dry-run", "stop.rounds=1")).flights[0]
    before_s = 0.0 if phase == "download" else flight["download_s"] + flight["compute_s"]
    motion = memory_trace(tmp_path, (flight["device"], before_s + share * flight[f"{phase}_s"], 1000))
    rows = simulate(tiny("backend=dry-run", "stop.rounds=1", motion)).flights
    assert {row["device"]: row["reason"] for row in rows}[flight["device"]] == f"out of memory during {phase}"


def test_memory_that_stays_just_enough_drops_nobody(tmp_path: Path) -> None:
    flight = simulate(tiny("backend=dry-run", "stop.rounds=1")).flights[0]
    motion = memory_trace(tmp_path, (flight["device"], 0.01, flight["peak_memory_bytes"]))
    rows = simulate(tiny("backend=dry-run", "stop.rounds=1", motion)).flights
    assert {row["outcome"] for row in rows} == {"arrived"}


def test_without_a_memory_limit_nobody_runs_out_of_memory(tmp_path: Path) -> None:
    motion = memory_trace(tmp_path, *((device, 0.01, 1) for device in range(6)))
    rows = simulate(tiny("backend=dry-run", "method.memory_limit=false", motion)).flights
    assert {row["outcome"] for row in rows} == {"arrived"}
    assert {row["available_memory_bytes"] for row in rows} == {15_000_000, 1}


def check_promise(result: RunResult, scenario: Scenario) -> set[str]:
    """Check every flight against the memory of its device, asked anew; return the reasons of drops."""
    motion = build_population(scenario.population, scenario.seed).memory_motion
    assert motion is not None
    for row in result.flights:
        device, peak = np.array([row["device"]]), row["peak_memory_bytes"]
        at_dispatch = int(motion.available_bytes_of(device, row["dispatched_s"], row["round"])[0])
        assert row["available_memory_bytes"] == at_dispatch >= peak
        short_s = motion.short_from_s(row["device"], peak, row["dispatched_s"], row["ended_s"])
        if row["reason"].startswith("out of memory"):
            assert short_s == pytest.approx(row["ended_s"], abs=1e-9)
        else:
            assert short_s >= row["ended_s"]
    return {row["reason"].split(" during")[0] for row in result.flights if row["outcome"] == "dropped"}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shrinks", [False, True])
def test_no_flight_leaves_or_arrives_without_its_memory(method: str, shrinks: bool) -> None:
    more = (SHRINKING,) if shrinks else ()
    scenario = waves("backend=dry-run", f"method={method}", "stop.rounds=40", MOVING, *more)
    reasons = check_promise(simulate(scenario), scenario)
    assert "out of memory" in reasons or method == "heterofl"


@pytest.mark.slow
@pytest.mark.parametrize("motion", [MOVING, "population.memory_motion={kind: redrawn, every: 5s}"])
def test_time_and_memory_do_not_depend_on_whether_anything_is_trained(motion: str) -> None:
    trained, dry = (simulate(waves(f"backend={kind}", motion, SHRINKING, "stop.rounds=8")) for kind in
                    ("inprocess", "dry-run"))  # fmt: skip
    assert of_time_and_memory(trained.flights) == of_time_and_memory(dry.flights)
    assert of_time_and_memory(trained.rounds) == of_time_and_memory(dry.rounds)
    assert trained.denials == dry.denials
    assert trained.summary["digest"] == simulate(waves("backend=inprocess", motion, SHRINKING,
                                                       "stop.rounds=8")).summary["digest"]  # fmt: skip


def test_memory_redrawn_per_round_holds_until_a_flight_ends() -> None:
    motion = "population.memory_motion={kind: redrawn, every: round}"
    result = simulate(waves("backend=dry-run", motion, "stop.rounds=20", "population.availability=always"))
    assert {row["outcome"] for row in result.flights} == {"arrived"}
    seen: dict[tuple[int, int], int] = {}
    for row in result.flights:
        seen[row["device"], row["round"]] = row["available_memory_bytes"]
    assert len(set(seen.values())) > 0.9 * len(seen)
    nominal = build_population(waves().population, waves().seed).available_memory_bytes
    assert all(seen[device, number] == nominal[device] for device, number in seen if number == 1)


def test_the_rates_and_the_ladder_are_those_of_the_nominal_memory(tmp_path: Path) -> None:
    motion = memory_trace(tmp_path, *((device, 0.0, 1) for device in (0, 1)))
    result = simulate(tiny("backend=dry-run", motion))
    assert result.summary["participation_rate"] == 1.0
    assert {row["device"] for row in result.flights} <= {2, 3, 4, 5}
    assert {(row["reason"], row["devices"]) for row in result.denials} == {("not enough memory", 2)}


def test_the_clock_waits_until_somebody_has_the_memory(tmp_path: Path) -> None:
    motion = memory_trace(tmp_path, *((d, 0.0, 1) for d in range(6)), (4, 90.0, 15_000_000), (4, 200.0, 1))
    result = simulate(tiny("backend=dry-run", "stop.rounds=2", motion))
    assert [row["dispatched_s"] for row in result.flights if row["round"] == 1] == [90.0]
    assert {row["device"] for row in result.flights} == {4}


def test_a_run_in_which_memory_never_comes_back_says_so(tmp_path: Path) -> None:
    motion = memory_trace(tmp_path, *((d, 0.0, 1) for d in range(6)))
    message = (
        r"nobody can be offered work any more after virtual time 0s \(round 1, full\), although memory moves "
        r"\(population\.memory_motion\): 6 devices denied: not enough memory for full, 11\.\d+ kB at least; raise"
    )
    with pytest.raises(SimulationError, match=message):
        simulate(tiny("backend=dry-run", motion))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_shrinking_lets_everybody_train_who_fits_the_smallest_batch(method: str) -> None:
    memory = "population.available_memory={kind: uniform, low: 1MB, high: 4MB}"
    overrides = ("backend=dry-run", f"method={method}", "stop.rounds=20", memory, "population.availability=always")
    whole, shrunk = simulate(waves(*overrides)), simulate(waves(*overrides, "training.shrink_batch={minimum: 8}"))
    assert {row["batch_size"] for row in whole.flights} == {32}
    sizes = {row["batch_size"] for row in shrunk.flights}
    assert sizes <= {32, 16, 8}
    if method == "heterofl":
        # Batches shrink only for the largest width that then fits: more devices train the full model.
        def full(result: RunResult) -> int:
            return len({row["device"] for row in result.flights if row["submodel"] == "full"})

        assert full(shrunk) > full(whole)
    else:
        assert len(sizes) > 1
        assert shrunk.summary["participation_rate"] > whole.summary["participation_rate"]


@pytest.mark.slow
def test_the_real_training_uses_the_smaller_batch_in_proportion(run_scripted: Callable[..., ScriptedBackend]) -> None:
    # The workload is charged for batches of 32; batches of 4 are trained.
    scenario = waves("population.available_memory={kind: uniform, low: 1MB, high: 4MB}", "stop.rounds=10",
                     "population.availability=always", "training.shrink_batch={minimum: 4}")  # fmt: skip
    backend = run_scripted(scenario)
    costing = assemble(scenario)
    found = {
        (int(costing.ledger.batch_size(task.submodel)[task.device]), task.plan.batch_size) for task in backend.tasks
    }
    assert found == {(32, 4), (16, 2), (8, 2)}
    assert [trained_plan(costing, Plan(batch_size=charged)).batch_size for charged in (32, 16, 8, 4)] == [4, 2, 2, 2]


@pytest.mark.parametrize(
    ("overrides", "charged", "trained"),
    [
        ((), (5, 2, 1), (5, 2, 1)),
        (("proxy.batch_size=10",), (5, 2, 1), (10, 4, 2)),
        (("proxy.batch_size=1",), (5, 2, 1), (1, 1, 1)),
        (("workload.batch_size=40",), (40, 20, 10, 5), (5, 2, 2, 2)),
    ],
)
def test_the_trained_batch_follows_the_charged_one(
    overrides: tuple[str, ...], charged: tuple[int, ...], trained: tuple[int, ...]
) -> None:
    costing = assemble(tiny("training.shrink_batch={minimum: 1}", *overrides))
    assert tuple(trained_plan(costing, Plan(batch_size=size)).batch_size for size in charged) == trained


@pytest.fixture
def run_scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedBackend]:
    def run(scenario: Scenario) -> ScriptedBackend:
        backend = ScriptedBackend()
        monkeypatch.setattr(building, "build_backend", lambda scenario: backend)
        simulate(scenario)
        return backend

    return run


def test_a_fleet_that_fits_not_even_the_smallest_batch_is_refused_with_that_batch() -> None:
    memory = "population.available_memory={kind: uniform, low: 1kB, high: 10kB}"
    message = r"its smallest submodel full needs 10\.89 kB at batch 2; the largest available memory is"
    with pytest.raises(InfeasibleError, match=message):
        simulate(tiny("backend=dry-run", "training.shrink_batch={minimum: 2}", memory))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training.shrink_batch={minimum: 3}",),
         "training.shrink_batch.minimum: is 3, but half of the batch of 5 that devices are charged for is less: no "
         "device could shrink its batch; use 1 to 2, or remove training.shrink_batch"),
        (("training.shrink_batch={minimum: 1}", "workload.batch_size=1"),
         "training.shrink_batch.minimum: is 1, but half of the batch of 1 that devices are charged for is less: no "
         "device could shrink its batch; remove training.shrink_batch"),
        (("training.shrink_batch={minimum: 1}", "method.memory_limit=false"),
         "training.shrink_batch: acts only where memory limits who trains what, and method.memory_limit is false; "
         "remove one of them"),
    ],
)  # fmt: skip
def test_shrinking_that_could_not_act_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        assembly.prepare(tiny(*overrides))
    assert str(refused.value).removeprefix("--set: ") == message
