"""Workers in threads: whoever does what when, beside whom, what comes out is what one worker returns."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from made_flights import cost_of
from tiny_scenarios import tiny, waves
from torch import nn

from neulite_sim.engine import assembly, building
from neulite_sim.engine.parts import Parts
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError, SimulationError
from neulite_sim.methods.contract import LocalTask, Update
from neulite_sim.models.contract import BlockModel, Blueprint
from neulite_sim.models.recurrent import in_plain_operators
from neulite_sim.training import crew
from neulite_sim.training.conformance import check_backend
from neulite_sim.training.crew import AHEAD, Crew, Job
from neulite_sim.training.inprocess import InProcess, InProcessOptions
from neulite_sim.training.worker import Worker

pytestmark = pytest.mark.usefixtures("shared_profiles")

FLIGHTS = range(1, 13)


class Halved(nn.Module):
    """Leaves out half of its numbers, in batches whose largest number is above a bound."""

    def __init__(self, above: float) -> None:
        super().__init__()
        self.above = above

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(inputs, 0.5) if float(inputs.detach().amax()) > self.above else inputs


class Recurrent(nn.Module):
    """Rows of an image, one after the other."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(side, 5, batch_first=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(inputs.flatten(1, 2))
        return torch.as_tensor(states[:, -1])


def network(kind: str) -> Any:
    """Return an architecture that draws, or switches oneDNN off while it computes, or neither."""

    def build(input_shape: tuple[int, int, int], num_classes: int, _width: float) -> BlockModel:
        channels, height, side = input_shape
        if kind == "recurrent":
            block, head = nn.Sequential(Recurrent(side)), nn.Sequential(nn.Linear(5, num_classes))
            in_plain_operators(block)
            return BlockModel([block], head, tails=(("0",),), block_shapes=((5,),))
        parts: list[nn.Module] = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
        parts += [Halved({"draws": -1.0, "draws at times": 3.1}[kind])] if kind != "plain" else []
        head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, num_classes))
        return BlockModel([nn.Sequential(*parts)], head, tails=(("0",),), block_shapes=((4, height, side),))

    return build


def parts_of(kind: str = "plain") -> Parts:
    """Return a small federation whose devices train such a network."""
    parts = assembly.prepare(tiny("model=cnn"))
    trained = parts.trained
    blueprint = Blueprint(
        architecture=network(kind), input_shape=trained.input_shape, num_classes=trained.num_classes, name=kind
    )
    return replace(parts, trained=blueprint)


@contextmanager
def equipped(parts: Parts, num_workers: int) -> Iterator[InProcess]:
    backend = InProcess(num_workers)
    backend.equip(building.workplace(parts))
    try:
        yield backend
    finally:
        backend.close()


def task(flight: int) -> LocalTask:
    cost = replace(cost_of(), device=flight % 6)
    return LocalTask(flight=flight, cost=cost, version=0, seed=3, learning_rate=0.05)


def tensors_of(parts: Parts) -> dict[str, torch.Tensor]:
    state = parts.method.start(parts.trained, 3, None)  # type: ignore[arg-type]
    return dict(parts.method.payload(state, "full"))


def trained(parts: Parts, num_workers: int) -> list[Update]:
    """Return the updates of some flights, collected from the last to the first."""
    sent = tensors_of(parts)
    with equipped(parts, num_workers) as backend:
        tickets = [backend.submit_training(task(flight), sent, {}) for flight in FLIGHTS]
        return [backend.collect_update(ticket) for ticket in reversed(tickets)]


def same(one: Update, other: Update) -> bool:
    return one.loss == other.loss and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize("num_workers", [2, 3])
def test_threads_keep_the_contract_of_backends(num_workers: int) -> None:
    check_backend(lambda: InProcess(num_workers))


@pytest.mark.parametrize("kind", ["plain", "draws", "draws at times", "recurrent"])
def test_updates_are_those_of_one_worker_whatever_a_network_does(kind: str) -> None:
    parts = parts_of(kind)
    alone = trained(parts, 1)
    for _ in range(3):
        assert all(map(same, trained(parts, 3), alone))


def test_a_network_that_draws_at_times_does_so_in_some_flights_only() -> None:
    """Otherwise the test above would not show what it is for."""
    before = torch.get_rng_state()
    moved = []
    parts = parts_of("draws at times")
    worker = Worker(building.workplace(parts))
    for flight in FLIGHTS:
        torch.set_rng_state(before)
        worker.train(task(flight), tensors_of(parts), alone=False)
        moved.append(not torch.equal(torch.get_rng_state(), before))
    torch.set_rng_state(before)
    assert set(moved) == {True, False}


@pytest.mark.parametrize(
    "settings",
    [
        (),
        pytest.param(("method=heterofl",), marks=pytest.mark.slow),
        pytest.param(("protocol={kind: fedbuff, concurrency: 5, buffer_size: 2}",), marks=pytest.mark.slow),
    ],
)
def test_a_run_has_the_digest_of_one_worker(settings: tuple[str, ...]) -> None:
    digests = {
        simulate(waves(*settings, f"backend={{kind: inprocess, workers: {count}}}")).summary["digest"]
        for count in (1, 2, 4)
    }
    assert len(digests) == 1


class Meeting:
    """Lets the first two that come at the same time see each other."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.num_met = 0

    def attend(self) -> None:
        try:
            self.barrier.wait(5)
            self.num_met += 1
        except threading.BrokenBarrierError:
            pass


@pytest.mark.parametrize(("kind", "meet"), [("plain", True), ("draws", False), ("recurrent", False)])
def test_only_what_leaves_the_process_as_it_is_runs_beside_others(
    monkeypatch: pytest.MonkeyPatch, kind: str, meet: bool
) -> None:
    meeting, plain = Meeting(), Worker.train
    seen: list[bool] = []

    def train(self: Worker, one: LocalTask, *sent: Any, alone: bool = True) -> Update:
        seen.append(alone)
        if not alone and len(seen) > 2 and not meeting.num_met:
            meeting.attend()
        return plain(self, one, *sent, alone=alone)

    monkeypatch.setattr(Worker, "train", train)
    trained(parts_of(kind), 2)
    assert bool(meeting.num_met) == meet
    assert (True in seen) != meet


def test_code_that_is_not_this_projects_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, at_work, most = Worker.train, [0], [0]

    def train(self: Worker, one: LocalTask, *sent: Any, alone: bool = True) -> Update:
        assert alone
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        found = plain(self, one, *sent, alone=alone)
        at_work[0] -= 1
        return found

    monkeypatch.setattr(Worker, "train", train)
    parts = parts_of()
    place = replace(building.workplace(parts), takes_turns=True)
    monkeypatch.setattr(building, "workplace", lambda _: place)
    trained(parts, 3)
    assert most == [1]


OWN = """
import torch

def noisy(current, updates):
    means = {name: torch.stack([update.tensors[name] for update in updates]).mean(0) for name in current}
    return {name: mean + 0.01 * torch.randn(mean.shape) for name, mean in means.items()}
"""


def test_a_method_of_ones_own_that_draws_in_the_driver_gives_the_same_bits(tmp_path: Any) -> None:
    (tmp_path / "own.py").write_text(OWN)
    method = f"method={{kind: python, path: {tmp_path / 'own.py'}, name: noisy}}"
    runs = [tiny(method, f"backend={{kind: inprocess, workers: {count}}}") for count in (1, 3)]
    assert runs[0].brought == ("method",)
    assert len({simulate(run).summary["digest"] for run in runs}) == 1


def crew_of(num_workers: int) -> Crew:
    return Crew(building.workplace(parts_of()), num_workers)


def job(work: Any, place: int = 0) -> Job:
    return Job(model=("test", "none"), place=(place,), build=lambda worker: nn.Identity(), work=work)


def test_what_a_job_raises_is_raised_where_it_is_collected_and_others_go_on() -> None:
    def fails(worker: Worker, alone: bool) -> int:
        raise SystemExit(3)

    with closing(crew_of(2)) as at_work:
        at_work.submit(1, job(fails))
        at_work.submit(2, job(lambda worker, alone: 7))
        with pytest.raises(SystemExit):
            at_work.collect(1)
        assert at_work.collect(2) == 7


def test_no_more_is_done_ahead_than_is_kept_and_what_is_asked_for_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crew, "_build", lambda *_: None)
    done: list[int] = []
    gate = threading.Event()

    def work(number: int) -> Any:
        def does(worker: Worker, alone: bool) -> int:
            assert number < 100 or gate.wait(5)
            done.append(number)
            return number

        return does

    with closing(crew_of(2)) as at_work:
        at_work._is_beside["test", "none"] = True
        for number in (100, 101, *range(20)):
            at_work.submit(number, job(work(number), place=-number))
        gate.set()
        wait_until(lambda: len(done) == 2 * AHEAD)
        # By their places, which is from the last number down.
        assert set(done) == {100, 101, 19, 18}
        assert at_work.collect(3) == 3
        assert at_work.collect(100) == 100
        wait_until(lambda: len(done) == 2 * AHEAD + 2)
        assert set(done) == {100, 101, 19, 18, 3, 17}
        rest = [101, *(number for number in range(20) if number != 3)]
        assert [at_work.collect(number) for number in rest] == rest


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so, and a moment longer for what must not happen."""
    deadline_s = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.05)


def test_closing_ends_what_is_at_work_at_its_next_step_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    interval_s, threads = sys.getswitchinterval(), set(threading.enumerate())
    begun = threading.Event()
    monkeypatch.setattr(Crew, "_build", lambda *_: None)

    def endless(worker: Worker, alone: bool) -> None:
        while True:
            begun.set()
            worker._go_on()
            time.sleep(0.001)

    with closing(crew_of(2)) as at_work:
        assert sys.getswitchinterval() == pytest.approx(crew.SWITCH_INTERVAL_S, rel=0.02)
        at_work._is_beside["test", "none"] = True
        at_work.submit(1, job(endless))
        assert begun.wait(5)
    assert set(threading.enumerate()) == threads
    assert sys.getswitchinterval() == pytest.approx(interval_s, rel=0.02)


def test_a_failed_training_is_told_as_ever() -> None:
    parts = parts_of()
    with equipped(parts, 2) as backend:
        ticket = backend.submit_training(task(1), {name: torch.zeros(7) for name in tensors_of(parts)}, {})
        with pytest.raises(SimulationError, match=r"^local training failed in flight 1 \(device 1, full\): "):
            backend.collect_update(ticket)


def test_auto_is_as_many_as_the_processors_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert InProcessOptions(workers="auto").num_workers == 8
    assert InProcessOptions(workers="auto", threads_per_worker=3).num_workers == 2
    assert InProcessOptions(workers="auto", threads_per_worker=9).num_workers == 1
    assert InProcessOptions().num_workers == 1


def test_one_worker_fills_a_gpu() -> None:
    with pytest.raises(
        ScenarioError, match=r"backend\.workers: acts only with device cpu: one worker fills a GPU; remove"
    ):
        tiny("backend={kind: inprocess, workers: 2, device: cuda}")


def test_a_crew_of_which_a_thread_does_not_start_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def only_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    before_s = sys.getswitchinterval()
    monkeypatch.setattr(threading.Thread, "start", only_one)
    parts = assembly.prepare(tiny())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Crew(building.workplace(parts), 3)
    assert [thread.is_alive() for thread in started] == [False]
    assert sys.getswitchinterval() == before_s
