"""The Ray backend: same results as in the driver, dead actors replaced, failures told, and nothing left behind.

What is dealt to whom is tested with `Light` actors, which start in a moment because they import nothing of the
project; what comes out of training is tested with real ones.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from made_flights import cost_of
from tiny_scenarios import tiny

from neulite_sim.engine import assembly, building
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import BackendLostError, BackendUnavailableError, SimulationError
from neulite_sim.methods.contract import LocalTask
from neulite_sim.results.rows import Notice
from neulite_sim.training import ray_backend, ray_pool
from neulite_sim.training.ray_backend import RayBackend
from neulite_sim.training.ray_pool import RayOptions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_profiles")]

FOLDER = "NEULITE_SIM_TEST_FOLDER"
HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE, HERE.parents[1], Path(ray_backend.__file__).parents[2])))
PAYLOAD = {"weight": torch.ones(2)}
NOTHING: Mapping[str, torch.Tensor] = {}


@dataclass(frozen=True)
class Place:
    """What a light actor is given in place of a `Workplace`: the folder with its orders and its notes."""

    folder: str
    device: str = "cpu"


@dataclass(frozen=True)
class Answer:
    """What it returns in place of an `Update`."""

    device: int
    tensors: Mapping[str, Any] = field(default_factory=dict)


def note(folder, what):
    with (Path(folder) / "notes").open("a") as file:
        file.write(f"{what} in {os.getpid()}\n")


def die_if_ordered(folder, when):
    """Kill this process as often as the file `die-WHEN` still asks for; a flight's number is a time to die, too."""
    order = Path(folder) / f"die-{when}"
    if order.exists() and (left := int(order.read_text())):
        order.write_text(str(left - 1))
        # What was answered just before is on its way, and would be lost with this process.
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)


class Light:
    """An actor that notes each call, and dies or fails as the files in its folder say."""

    def equip(self, place):
        self.folder = place.folder
        self.folded = {}
        die_if_ordered(place.folder, "at-start")
        if (Path(place.folder) / "broken").exists():
            raise RuntimeError("no room here")

    def train(self, task, payload, personal):
        note(self.folder, f"train {task.flight}")
        die_if_ordered(self.folder, task.flight)
        if (Path(self.folder) / f"fail-{task.flight}").exists():
            raise ArithmeticError("the numbers ran out")
        if task.fold is None:
            return Answer(task.device), {**payload, **personal}
        self.folded.setdefault(task.fold.number, []).append(task.flight)
        return Answer(task.device), {}

    def take_fold(self, number):
        die_if_ordered(self.folder, "at-take")
        return self.folded.pop(number, [])

    def evaluate(self, name, tensors, devices, number):
        note(self.folder, name)
        return float(tensors["weight"].sum())


class Mortal(ray_pool.DeviceActor):
    """A real actor that dies as the files in the folder of `FOLDER` say."""

    def train(self, task, payload, personal):
        note(os.environ[FOLDER], f"train {task.flight}")
        die_if_ordered(os.environ[FOLDER], task.flight)
        return super().train(task, payload, personal)


class Stillborn(Light):
    """An actor that cannot even be made."""

    def __init__(self):
        raise OSError("nothing works here")


def notes(folder):
    """Return what was done and by which process, in order."""
    return [tuple(line.split(" in ")) for line in (folder / "notes").read_text().splitlines()]


class Notices:
    """An observer that keeps the notices it is told."""

    def __init__(self):
        self.told = []

    def notify(self, event):
        if isinstance(event, Notice):
            self.told.append(event.message)


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def light(cluster, tmp_path, monkeypatch):
    """Return a function that starts a pool of light actors; it is closed at the end."""
    monkeypatch.setattr(ray_pool, "DeviceActor", Light)
    pools = []

    def start(workers):
        pools.append(RayBackend(RayOptions(workers=workers)))
        pools[-1].equip(Place(str(tmp_path)))
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def until_all_work(pool):
    """Wait for the actors that start while others already work."""
    while pool._pool.starting:
        pool._settle(None)


def job(flight, device=0, version=0, fold=None):
    order = None if fold is None else SimpleNamespace(number=fold)
    return SimpleNamespace(flight=flight, device=device, submodel="full", version=version, fold=order)


def test_updates_and_tests_are_those_of_a_worker_in_the_driver(cluster):
    parts = assembly.prepare(
        tiny("model=lenet", "data.image_size=8", "proxy.width=0.5", "backend={kind: ray, workers: 2}")
    )
    pool, own = (building.build_backend(scenario) for scenario in (parts.scenario, tiny()))
    for backend in (pool, own):
        backend.equip(building.workplace(parts))
    state = parts.method.start(parts.trained, 3, assembly.charge(parts).ledger)
    tasks = [
        LocalTask(flight=flight, cost=cost_of(flight, peak_memory_bytes=flight, available_memory_bytes=4),
                  version=0, seed=3, learning_rate=0.05)
        for flight in range(6)
    ]  # fmt: skip
    tickets = [[backend.submit_training(task, state.tensors, NOTHING) for task in tasks] for backend in (pool, own)]
    for ray_ticket, own_ticket in reversed(list(zip(*tickets, strict=True))[:5]):
        found, expected = pool.collect_update(ray_ticket), own.collect_update(own_ticket)
        assert replace(found, tensors={}) == replace(expected, tensors={})
        assert found.tensors.keys() == expected.tensors.keys()
        assert all(torch.equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)
    for devices in (None, np.array([1, 4])):
        tested = [
            backend.collect_evaluation(backend.submit_evaluation("full", state.tensors, devices))
            for backend in (pool, own)
        ]
        assert tested[0] == tested[1]
        assert tested[0].num_samples == (30 if devices is None else 20)
    # The last task asks for a byte more than its device has: the worker's own words reach the driver.
    message = r"^flight 5 would break the memory promise: full needs 5 B, device 5 has 4 B$"
    for backend, ticket in ((pool, tickets[0][5]), (own, tickets[1][5])):
        with pytest.raises(SimulationError, match=message):
            backend.collect_update(ticket)
        backend.close()
    assert ray.is_initialized()


def test_a_payload_travels_once_per_version_and_submodel(light, monkeypatch):
    put = []
    pool = light(1)
    pool.collect_evaluation(pool.submit_evaluation("full", PAYLOAD))
    monkeypatch.setattr(ray_backend.ray, "put", lambda value, _put=ray.put: put.append(value) or _put(value))
    tickets = [
        pool.submit_training(job(flight, version=version), PAYLOAD, NOTHING)
        for flight, version in enumerate((8, 8, 9, 9))
    ]
    assert [pool.collect_update(ticket).tensors["weight"].sum() for ticket in tickets] == [2.0] * 4
    assert len(put) == 2


def test_what_only_one_device_is_sent_reaches_that_device_beside_the_payload(light):
    pool = light(2)
    mine = [{"own": torch.full((1,), float(device))} for device in range(3)]
    tickets = [pool.submit_training(job(device, device=device), PAYLOAD, mine[device]) for device in range(3)]
    for device, ticket in enumerate(tickets):
        found = pool.collect_update(ticket).tensors
        assert found.keys() == {"weight", "own"}
        assert found["own"] == float(device)


def test_training_goes_before_a_test_that_was_submitted_before_it(light, tmp_path):
    """One actor holds two tasks; a test waits, and a third task that comes later passes it."""
    pool = light(1)
    tickets = [pool.submit_training(job(flight), PAYLOAD, NOTHING) for flight in (1, 2)]
    test = pool.submit_evaluation("full", PAYLOAD)
    tickets.append(pool.submit_training(job(3), PAYLOAD, NOTHING))
    for ticket in tickets:
        pool.collect_update(ticket)
    assert pool.collect_evaluation(test) == 2.0
    assert [what for what, _ in notes(tmp_path)] == ["train 1", "train 2", "train 3", "full"]


def test_training_does_not_queue_behind_a_test(light, tmp_path):
    """The test keeps one actor; both tasks that come after it go to the other."""
    pool = light(2)
    until_all_work(pool)
    test = pool.submit_evaluation("full", PAYLOAD)
    for ticket in [pool.submit_training(job(flight), PAYLOAD, NOTHING) for flight in (1, 2)]:
        pool.collect_update(ticket)
    pool.collect_evaluation(test)
    where = dict(notes(tmp_path))
    assert where["train 1"] == where["train 2"] != where["full"]


def test_a_failure_in_training_is_told_with_flight_device_and_cause(light, tmp_path):
    (tmp_path / "fail-31").touch()
    pool = light(1)
    lost, kept = (pool.submit_training(job(flight, device=2), PAYLOAD, NOTHING) for flight in (31, 32))
    message = r"^local training in flight 31 \(device 2, full\) failed: ArithmeticError: the numbers ran out$"
    with pytest.raises(SimulationError, match=message):
        pool.collect_update(lost)
    assert pool.collect_update(kept).device == 2


def test_an_actor_that_dies_is_replaced_and_its_work_runs_again_in_order(light, tmp_path):
    """It dies of the first of its two tasks; the second only waited, and no other task is lost."""
    (tmp_path / "die-41").write_text("1")
    pool = light(1)
    tickets = [pool.submit_training(job(flight, device=flight % 6), PAYLOAD, NOTHING) for flight in (41, 42, 43)]
    assert [pool.collect_update(ticket).device for ticket in tickets] == [5, 0, 1]
    assert pool.notices() == [
        "an actor died during local training in flight 41 (device 5, full) and was replaced; its work runs again"
    ]
    assert pool.notices() == []
    assert [what for what, _ in notes(tmp_path)] == ["train 41", "train 41", "train 42", "train 43"]


def test_what_is_discarded_is_not_begun_and_leaves_nothing_behind(light, tmp_path):
    """One actor holds two tasks: the first two run although nobody wants the second, the third never begins."""
    pool = light(1)
    first, second, third, fourth = (pool.submit_training(job(flight), PAYLOAD, NOTHING) for flight in (51, 52, 53, 54))
    pool.discard(second)
    pool.discard(third)
    pool.collect_update(first)
    pool.collect_update(fourth)
    assert [what for what, _ in notes(tmp_path)] == ["train 51", "train 52", "train 54"]
    assert (pool._results, pool._discarded, pool._running) == ({}, set(), {})


def test_a_discarded_task_whose_actor_dies_does_not_run_again(light, tmp_path):
    (tmp_path / "die-61").write_text("1")
    pool = light(1)
    lost, kept = (pool.submit_training(job(flight), PAYLOAD, NOTHING) for flight in (61, 62))
    pool.discard(lost)
    pool.collect_update(kept)
    assert [what for what, _ in notes(tmp_path)] == ["train 61", "train 62"]
    assert (pool._results, pool._discarded) == ({}, set())


def taken(pool, number):
    return sorted(flight for part in pool.collect_fold(number) for flight in part)


def test_what_was_folded_is_handed_over_once_whoever_folded_it(light):
    pool = light(2)
    tickets = [pool.submit_training(job(flight, fold=flight % 2), PAYLOAD, NOTHING) for flight in range(71, 77)]
    assert [pool.collect_update(ticket).tensors for ticket in tickets] == [{}] * 6
    assert taken(pool, 1) == [71, 73, 75]
    assert taken(pool, 1) == []
    assert taken(pool, 0) == [72, 74, 76]


@pytest.mark.parametrize(("when", "what"), [("83", "local training in flight 83"), ("at-take", "the folding of 3 upd")])
def test_what_an_actor_had_folded_when_it_died_is_folded_again(when, what, light, tmp_path):
    (tmp_path / f"die-{when}").write_text("1")
    pool = light(1)
    tickets = [pool.submit_training(job(flight, fold=8), PAYLOAD, NOTHING) for flight in (81, 82, 83)]
    for ticket in tickets:
        pool.collect_update(ticket)
    assert taken(pool, 8) == [81, 82, 83]
    (told,) = pool.notices()
    assert told.startswith(f"an actor died during {what}")
    assert (pool._results, pool._running) == ({}, {})


def test_an_actor_that_always_dies_as_it_folds_again_is_given_up(light, tmp_path):
    pool = light(1)
    tickets = [pool.submit_training(job(flight, fold=8), PAYLOAD, NOTHING) for flight in (91, 92)]
    for ticket in tickets:
        pool.collect_update(ticket)
    (tmp_path / "die-at-take").write_text("1")
    (tmp_path / "die-91").write_text("3")
    with pytest.raises(
        SimulationError, match=r"^local training in flight 91 \(device 0, full\) was given up: the actor"
    ):
        pool.collect_fold(8)


def test_work_that_three_actors_died_of_is_given_up_and_other_work_is_not(light, tmp_path):
    (tmp_path / "die-51").write_text("3")
    pool = light(1)
    fatal, innocent = (pool.submit_training(job(flight), PAYLOAD, NOTHING) for flight in (51, 52))
    message = (
        r"^local training in flight 51 \(device 0, full\) was given up: the actor died 3 times \(The actor is dead "
        r"because its worker process has died\.((?!OOM|common causes).)*\); either the machine ran out of memory, then "
        r"use fewer workers \(backend\.workers\), or the code that trains crashes its process, then this work ends a run "
        r"with --backend inprocess as well$"
    )
    with pytest.raises(SimulationError, match=message):
        pool.collect_update(fatal)
    assert pool.collect_update(innocent).device == 0


CANNOT_START = (
    r"^Ray's actors cannot start: {}; install neulite-sim, and whatever registers the scenario's components, wherever "
    r"the cluster runs, or use --backend inprocess$"
)


def test_actors_that_cannot_be_equipped_are_told_at_the_first_task(light, tmp_path):
    (tmp_path / "broken").touch()
    pool = light(1)
    with pytest.raises(BackendUnavailableError, match=CANNOT_START.format("RuntimeError: no room here")):
        pool.submit_training(job(61), PAYLOAD, NOTHING)


def test_actors_that_cannot_be_made_are_told_at_the_first_task(light, monkeypatch):
    monkeypatch.setattr(ray_pool, "DeviceActor", Stillborn)
    pool = light(1)
    with pytest.raises(BackendUnavailableError, match=CANNOT_START.format("OSError: nothing works here")):
        pool.submit_training(job(61), PAYLOAD, NOTHING)


def test_an_actor_that_is_killed_as_it_starts_is_replaced_once(light, tmp_path):
    (tmp_path / "die-at-start").write_text("1")
    pool = light(2)
    pool.collect_update(pool.submit_training(job(61), PAYLOAD, NOTHING))
    assert pool.notices() == ["an actor died as it started and was replaced"]


def test_actors_that_always_die_as_they_start_are_told(light, tmp_path):
    (tmp_path / "die-at-start").write_text("99")
    pool = light(1)
    with pytest.raises(BackendUnavailableError, match=CANNOT_START.format("The actor is dead because its .*")):
        pool.submit_training(job(61), PAYLOAD, NOTHING)


def test_actors_without_a_processor_wait_and_the_others_work(light, tmp_path):
    """The cluster has two processors, and each of three actors asks for one; what goes makes room."""
    pool = light(3)
    tickets = [pool.submit_training(job(flight), PAYLOAD, NOTHING) for flight in range(61, 67)]
    for ticket in tickets:
        pool.collect_update(ticket)
    assert len({process for _, process in notes(tmp_path)}) <= 2
    assert len(pool._pool.starting) >= 1
    ray.kill(pool._pool.open[0].actor)
    until_all_work(pool)


def test_a_cluster_without_room_for_an_actor_is_refused_at_the_first_task(light, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_pool, "NO_NODE_PATIENCE_S", 0.1)
    pool = RayBackend(RayOptions(workers=1, threads_per_worker=64))
    pool.equip(Place(str(tmp_path)))
    message = (
        r"^no actor found room on the cluster in \d+ s: each asks for 64 CPU on one node, and [012] of 2 CPU are free "
        r"on all of them; wait for whoever uses them, add a node \(`ray start --address \.\.\.`\), or use "
        r"--backend inprocess$"
    )
    with pytest.raises(BackendUnavailableError, match=message):
        pool.submit_training(job(61), PAYLOAD, NOTHING)
    pool.close()


def test_a_pool_whose_last_actor_finds_no_room_any_more_says_that_the_run_can_be_resumed(light, tmp_path, monkeypatch):
    (tmp_path / "die-61").write_text("1")
    pool = light(1)
    pool.collect_evaluation(pool.submit_evaluation("full", PAYLOAD))
    monkeypatch.setattr(ray_pool, "NO_NODE_PATIENCE_S", 0.1)
    monkeypatch.setattr(ray_pool, "_num_places", lambda _: 0)
    pool._pool.slots[0].starting = pool._pool.slots[0].actor.train.remote(job(61), PAYLOAD, NOTHING)
    monkeypatch.setattr(ray_pool.ray, "wait", lambda references, **_: ([], references))
    with pytest.raises(
        BackendLostError, match=r"^no actor found room on the cluster in \d+ s: each asks for 1 CPU on "
    ):
        pool.collect_update(pool.submit_training(job(62), PAYLOAD, NOTHING))


def test_a_run_that_ends_before_its_actors_are_equipped_closes_the_pool(cluster):
    RayBackend(RayOptions(workers=1)).close()
    assert ray.is_initialized()


def test_the_driver_computes_on_one_thread_while_the_pool_is_there(cluster):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = RayBackend(RayOptions(workers=1))
        assert torch.get_num_threads() == 1
        pool.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_pool_closes_while_work_is_left_in_it_and_leaves_a_cluster_of_others_alone(light, tmp_path):
    pool = RayBackend(RayOptions(workers=1))
    pool.equip(Place(str(tmp_path)))
    for flight in range(5):
        pool.submit_training(job(flight), PAYLOAD, NOTHING)
    pool.close()
    assert ray.is_initialized()
    after = light(1)
    assert after.collect_evaluation(after.submit_evaluation("full", PAYLOAD)) == 2.0


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_where_nothing_listens_is_refused_at_once(address, monkeypatch):
    monkeypatch.setattr(ray_backend.ray, "is_initialized", lambda: False)
    started = time.monotonic()
    message = rf"^Ray cannot start at {address}: nothing answers there \(.*refused.*\); start a cluster with `ray "
    with pytest.raises(BackendUnavailableError, match=message):
        simulate(tiny(f"backend={{kind: ray, address: '{address}'}}"))
    assert time.monotonic() - started < 20


RUN_WITH_A_DEATH = """
import json
from test_training_ray import Mortal, Notices, tiny
from neulite_sim import simulate
from neulite_sim.training import ray_pool
ray_pool.DeviceActor = Mortal
notices = Notices()
result = simulate(tiny("backend={kind: ray, workers: 1}"), observers=[notices])
with open("result", "w") as file:
    json.dump([result.summary["digest"], notices.told], file)
"""


def test_a_run_that_loses_an_actor_prints_nothing_leaves_no_process_and_ends_in_the_same_digest(tmp_path):
    """In a session of its own, whose processes can be told from those of everybody else."""
    (tmp_path / "die-5").write_text("1")
    given = {**os.environ, "PYTHONPATH": PATHS, FOLDER: str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", RUN_WITH_A_DEATH], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, start_new_session=True, env=given, cwd=tmp_path) as run:  # fmt: skip
        output, _ = run.communicate(timeout=120)
    assert (run.returncode, output) == (0, "")
    assert processes_of_session(run.pid) == []
    digest, told = json.loads((tmp_path / "result").read_text())
    assert digest == simulate(tiny()).summary["digest"]
    assert len(told) == 1
    assert told[0].startswith("an actor died during local training in flight 5 (device")
    assert [what for what, _ in notes(tmp_path)].count("train 5") == 2


def processes_of_session(session):
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, its_session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found.append((path / "cmdline").read_text())
        except OSError:
            continue
    return found
