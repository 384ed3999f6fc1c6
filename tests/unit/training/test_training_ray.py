"""The Ray backend: same results as in the driver, dead actors replaced, failures told, and nothing left behind.

One local cluster serves all tests but the last two. Its actors are `Fragile`: they die, fail and take notes as files in
a folder say.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from tiny_scenarios import tiny

from neulite_sim.engine import assembly
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import BackendUnavailableError, SimulationError
from neulite_sim.methods.contract import LocalTask
from neulite_sim.results.rows import Notice
from neulite_sim.training import ray_backend

FOLDER = "NEULITE_SIM_TEST_FOLDER"
DIGITS = ("model=lenet", "data.image_size=8", "proxy.width=0.5")


HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE, HERE.parents[1], Path(ray_backend.__file__).parents[2])))


class Fragile(ray_backend.DeviceActor):
    """An actor that notes each call, and dies or fails on a flight as often as a file asks for."""

    def __init__(self, workplace):
        super().__init__(workplace)
        self._folder = Path(os.environ[FOLDER])
        if (self._folder / "broken").exists():
            raise RuntimeError("no room here")

    def _note(self, what):
        with (self._folder / "notes").open("a") as file:
            file.write(f"{what} in {os.getpid()}\n")

    def train(self, task, payload):
        self._note(f"train {task.flight}")
        deaths = self._folder / f"die-{task.flight}"
        if deaths.exists() and (left := int(deaths.read_text())):
            deaths.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        if (self._folder / f"fail-{task.flight}").exists():
            raise ArithmeticError("the numbers ran out")
        return super().train(task, payload)

    def evaluate(self, name, tensors, devices=None):
        self._note("evaluate")
        return super().evaluate(name, tensors, devices)


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
def folder(tmp_path_factory):
    """A running cluster whose actors look into the returned folder."""
    folder = tmp_path_factory.mktemp("actors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        # Workers import this module, and what it imports.
        patch.setenv("PYTHONPATH", PATHS)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setattr(ray_backend, "DeviceActor", Fragile)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield folder
        ray.shutdown()


@pytest.fixture(autouse=True)
def without_orders(request):
    yield
    if "folder" in request.fixturenames:
        for order in request.getfixturevalue("folder").iterdir():
            order.unlink()


@pytest.fixture(scope="module")
def parts():
    return assembly.prepare(tiny(*DIGITS, "backend={kind: ray, workers: 2}"))


@pytest.fixture(scope="module")
def pool(folder, parts):
    pool = assembly.build_backend(parts)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def inprocess(parts):
    return assembly.build_backend(replace(parts, scenario=tiny(*DIGITS)))


@pytest.fixture(scope="module")
def state(parts):
    return parts.method.start(parts.trained, 3, None)


def task(flight, device=0):
    return LocalTask(flight=flight, device=device, submodel="full", version=0, seed=3, learning_rate=0.05,
                     peak_memory_bytes=1, available_memory_bytes=1)  # fmt: skip


def assert_same(found, expected):
    assert replace(found, tensors={}) == replace(expected, tensors={})
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)


def test_updates_and_tests_are_those_of_a_worker_in_the_driver(pool, inprocess, state):
    for backend in (pool, inprocess):
        backend.tickets = [
            backend.submit_training(task(flight, flight % 6), state.tensors, {}) for flight in range(1, 6)
        ]
    for ray_ticket, own_ticket in zip(reversed(pool.tickets), reversed(inprocess.tickets), strict=True):
        assert_same(pool.collect_update(ray_ticket), inprocess.collect_update(own_ticket))
    found, expected = (backend.collect_evaluation(backend.submit_evaluation("full", state.tensors))
                       for backend in (pool, inprocess))  # fmt: skip
    assert found == expected


def test_a_payload_travels_once_per_version_and_submodel(pool, state, monkeypatch):
    put = []
    monkeypatch.setattr(ray_backend.ray, "put", lambda value, _put=ray.put: put.append(value) or _put(value))
    tasks = [replace(task(20 + number), version=version) for number, version in enumerate((8, 8, 9, 9))]
    for ticket in [pool.submit_training(item, state.tensors, {}) for item in tasks]:
        pool.collect_update(ticket)
    assert len(put) == 2


def test_training_does_not_queue_behind_a_test(pool, folder, state):
    """The test keeps one actor; both tasks that come after it go to the other."""
    test = pool.submit_evaluation("full", state.tensors)
    tasks = [pool.submit_training(task(flight), state.tensors, {}) for flight in (25, 26)]
    for ticket in tasks:
        pool.collect_update(ticket)
    pool.collect_evaluation(test)
    where = dict(notes(folder))
    assert where["train 25"] == where["train 26"] != where["evaluate"]


def test_a_failure_in_training_is_told_with_flight_device_and_cause(pool, folder, state):
    (folder / "fail-31").touch()
    lost, kept = (pool.submit_training(task(flight, 2), state.tensors, {}) for flight in (31, 32))
    message = r"^local training in flight 31 \(device 2, full\) failed: ArithmeticError: the numbers ran out$"
    with pytest.raises(SimulationError, match=message):
        pool.collect_update(lost)
    assert pool.collect_update(kept).device == 2


def test_a_broken_promise_is_told_in_the_words_of_the_worker(pool, state):
    ticket = pool.submit_training(replace(task(33), peak_memory_bytes=2000), state.tensors, {})
    with pytest.raises(SimulationError, match=r"^flight 33 would break the memory promise: full needs 2 kB, device 0 "):
        pool.collect_update(ticket)


def test_an_actor_that_dies_is_replaced_and_its_work_runs_again(pool, folder, inprocess, state):
    (folder / "die-41").write_text("1")
    tickets = [pool.submit_training(task(flight, flight % 6), state.tensors, {}) for flight in (41, 42, 43, 44, 45)]
    own = [inprocess.submit_training(task(flight, flight % 6), state.tensors, {}) for flight in (41, 42, 43, 44, 45)]
    for ticket, expected in zip(tickets, own, strict=True):
        assert_same(pool.collect_update(ticket), inprocess.collect_update(expected))
    assert pool.notices() == [
        "an actor died during local training in flight 41 (device 5, full) and was replaced; its work runs again"
    ]
    assert pool.notices() == []


def test_training_goes_before_a_test_that_was_submitted_before_it(folder, parts, state):
    """One actor holds two tasks; a test waits, and a third task that comes later passes it."""
    one = replace(parts, scenario=tiny(*DIGITS, "backend={kind: ray, workers: 1}"))
    pool = assembly.build_backend(one)
    tickets = [pool.submit_training(task(flight), state.tensors, {}) for flight in (61, 62)]
    test = pool.submit_evaluation("full", state.tensors)
    tickets.append(pool.submit_training(task(63), state.tensors, {}))
    for ticket in tickets:
        pool.collect_update(ticket)
    pool.collect_evaluation(test)
    assert [what for what, _ in notes(folder)] == ["train 61", "train 62", "train 63", "evaluate"]
    (folder / "die-64").write_text("3")
    message = (
        r"^local training in flight 64 \(device 0, full\) was given up: the actor died 3 times \(The actor is dead "
        r"because its worker process has died\..*\); use fewer workers \(backend\.workers\) if the machine runs out of "
        r"memory$"
    )
    with pytest.raises(SimulationError, match=message):
        pool.collect_update(pool.submit_training(task(64), state.tensors, {}))
    pool.close()


def test_actors_that_cannot_start_are_told_at_once_and_the_backend_still_closes(parts, folder, state):
    (folder / "broken").touch()
    pool = assembly.build_backend(parts)
    tickets = [pool.submit_training(task(flight), state.tensors, {}) for flight in (71, 72, 73)]
    message = (
        r"^Ray's actors cannot start: RuntimeError: no room here; install neulite-sim wherever the cluster runs, or"
    )
    with pytest.raises(BackendUnavailableError, match=message):
        pool.collect_update(tickets[0])
    pool.close()
    assert ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_where_nothing_listens_is_refused_at_once(address, monkeypatch):
    monkeypatch.setattr(ray_backend.ray, "is_initialized", lambda: False)
    started = time.monotonic()
    message = rf"^Ray cannot start at {address}: nothing answers there \(.*refused.*\); start a cluster with `ray "
    with pytest.raises(BackendUnavailableError, match=message):
        simulate(tiny(f"backend={{kind: ray, address: '{address}'}}"))
    assert time.monotonic() - started < 20


RUN_WITH_A_DEATH = """
import json, sys
from test_training_ray import Fragile, Notices, tiny
from neulite_sim import simulate
from neulite_sim.training import ray_backend
ray_backend.DeviceActor = Fragile
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
