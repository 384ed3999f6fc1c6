"""What code of others draws from the process depends on the run's seed and on the call, and on nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scenarios import tiny
from torch import nn

import neulite_sim
from neulite_sim import registry
from neulite_sim.methods.contract import State
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.population.availability.asked import asked
from neulite_sim.results.rows import RoundRow
from neulite_sim.selection.contract import Selector
from neulite_sim.timeline.sorties import sortie

pytestmark = pytest.mark.usefixtures("shared_profiles")

SMALL = ("stop.rounds=3", "selection.devices_per_round=2", "checkpoint.every_rounds=1")


def drawn() -> float:
    """One number of each generator that a process has."""
    # A half of a pair of normal numbers waits in NumPy's, and in Python's, for who asks next.
    return random.gauss(0, 1) + random.random() + float(np.random.normal() + np.random.rand()) + float(torch.randn(1))  # noqa: NPY002


def noisy(current: Any, updates: Any) -> Any:
    means = {name: torch.stack([update.tensors[name] for update in updates]).mean(0) for name in current}
    return {name: mean + 0.01 * drawn() for name, mean in means.items()}


class Noisy(FedAvg):
    """Adds noise to what is sent, and to the mean between one update and the next."""

    def __init__(self, setting: Any) -> None:
        super().__init__()

    def payload(self, state: State, submodel: str) -> Any:
        return {name: tensor + 0.01 * drawn() for name, tensor in state.tensors.items()}

    def digest(self, state: State, updates: Any) -> State:
        tensors, before = dict(state.tensors), drawn()
        for update in updates:
            for name, tensor in update.tensors.items():
                tensors[name] = 0.5 * tensors[name] + 0.5 * tensor + 0.01 * (drawn() + before)
        return State(version=state.version + 1, tensors=tensors)


class Depth(nn.Module):
    """Leaves a layer out now and then, as published code has it, and is built with numbers that nobody sends."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, num_classes)
        with torch.no_grad():
            self.last.bias += random.random() + float(np.random.rand())  # noqa: NPY002
        self.scale = 1 + 0.1 * drawn()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(images.flatten(1)).relu() * self.scale
        if random.random() < 0.5 or np.random.rand() < 0.2:  # noqa: NPY002
            hidden = hidden + self.second(hidden).relu()
        # In tests as well.
        found: torch.Tensor = self.last(nn.functional.dropout(hidden, 0.2))
        return found


def load(count: int = 60) -> Any:
    images = np.random.rand(count, 1, 8, 8).astype("float32")  # noqa: NPY002
    labels = [random.randrange(3) for _ in range(count)]
    return images, np.array(labels) * (torch.rand(count) < 0.7).numpy()


def deal(labels: Any, num_devices: int) -> Any:
    order = random.sample(range(len(labels)), len(labels))
    cuts = sorted(np.random.choice(np.arange(1, len(labels) - 1), num_devices - 1, replace=False))  # noqa: NPY002
    return np.split(np.array(order), cuts)


def choose(offers: Any, count: int, rng: Any) -> Any:
    return sorted(random.sample(range(len(offers)), count))


class Moody(Selector):
    """Draws as it is built, as it learns and as it chooses."""

    def __init__(self, num_devices: int) -> None:
        self.moods = np.random.rand(num_devices)  # noqa: NPY002

    def register(self, num_samples: Any) -> None:
        self.moods += drawn()

    def observe(self, feedback: Any) -> None:
        for item in feedback:
            self.moods[item.device] += drawn()

    def groups_to_test(self) -> Any:
        return [np.array([random.randrange(6)])]

    def observe_accuracies(self, accuracies: Any) -> None:
        self.moods *= accuracies[0] + drawn()

    def choose(self, offers: Any, count: int, rng: Any) -> Any:
        moods = self.moods[offers.devices] + np.random.rand(len(offers))  # noqa: NPY002
        return np.sort(np.argsort(moods)[:count])


class Waiting:
    """Waits for a while before a round and after it."""

    mixes_versions = False

    def process(self, clock: Any, server: Any, launch: Any) -> Any:
        while not server.is_over():
            yield clock.timeout(random.random() + float(torch.rand(1)))
            flights = server.dispatch(clock.now)
            server.train(flights)
            out = sortie(clock, flights, launch)
            yield out.all()
            yield clock.timeout(float(np.random.rand()))  # noqa: NPY002
            server.digest(out.ended(), clock.now)


class Flaky:
    """Lets a device be away for a moment that is drawn when somebody asks."""

    def __init__(self, num_devices: int) -> None:
        self.is_online = np.random.rand(num_devices) < 0.8  # noqa: NPY002

    def online(self, at_s: float) -> Any:
        return self.is_online

    def online_until_s(self, devices: Any, at_s: float) -> Any:
        return np.full(len(devices), np.inf)

    def next_online_s(self, devices: Any, at_s: float) -> Any:
        return np.where(self.is_online[devices], at_s, at_s + 1 + random.random())


CASES: dict[str, dict[str, Any]] = {
    "function": {"method": noisy},
    "method": {"method": Noisy},
    "model": {"model": Depth},
    "data": {"data": load},
    "partition": {"partition": deal},
    "choice": {"selector": choose},
    "selector": {"selector": Moody},
    "protocol": {"protocol": Waiting},
    "availability": {"availability": Flaky},
    "all": {"method": Noisy, "model": Depth, "data": load, "partition": deal, "selector": Moody, "availability": Flaky},
}


def digest(case: str, *overrides: str, **more: Any) -> str:
    scenario = tiny(*SMALL, *overrides)
    found: str = neulite_sim.simulate(scenario, **CASES[case], **more).summary["digest"]
    return found


def states() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def draw_some(count: int) -> None:
    for _ in range(count):
        drawn()


class Drawing:
    """An observer that draws, and may break a run off."""

    def __init__(self, rounds: int = 99) -> None:
        self.rounds = rounds

    def notify(self, event: Any) -> None:
        draw_some(3)
        if isinstance(event, RoundRow):
            self.rounds -= 1
            if not self.rounds:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def unbroken() -> Callable[[str], str]:
    known: dict[str, str] = {}

    def find(case: str) -> str:
        if case not in known:
            known[case] = digest(case)
        return known[case]

    return find


@pytest.mark.parametrize("case", CASES)
def test_neither_what_the_process_drew_nor_who_watches_counts_and_the_caller_goes_on(case: str, unbroken: Any) -> None:
    wanted = unbroken(case)
    draw_some(7)
    before = states()
    assert digest(case, observers=[Drawing()]) == wanted
    assert states() == before


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("case", ["function", "method", "model", "data", "all"])
def test_any_number_of_workers_draws_the_same(case: str, workers: int, unbroken: Any) -> None:
    assert digest(case, f"backend={{kind: inprocess, workers: {workers}}}") == unbroken(case)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_draws_what_it_would_have_drawn(case: str, rounds: int, tmp_path: Path, unbroken: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        digest(case, out=tmp_path / "run", observers=[Drawing(rounds + 1)])
    draw_some(rounds)
    result = neulite_sim.resume(tmp_path / "run", **CASES[case])
    assert any("taken from the journal" in notice for notice in result.notices)
    assert result.summary["digest"] == unbroken(case)


@pytest.mark.parametrize("case", ["function", "method"])
def test_another_seed_draws_other_numbers_and_no_two_digests_the_same(case: str) -> None:
    seen: list[float] = []

    def method(current: Any, updates: Any) -> Any:
        seen.append(drawn())
        return {}

    class Method(FedAvg):
        def __init__(self, setting: Any) -> None:
            super().__init__()

        def digest(self, state: State, updates: Any) -> State:
            seen.append(drawn())
            return super().digest(state, updates)

    for seed in (1, 2):
        neulite_sim.simulate(tiny(*SMALL, f"seed={seed}"), method={"function": method, "method": Method}[case])
    assert len(seen) == len(set(seen)) == 6


def test_each_training_and_each_test_draws_numbers_of_its_own() -> None:
    seen: dict[bool, list[float]] = {True: [], False: []}

    class Net(nn.Linear):
        def __init__(self, num_classes: int) -> None:
            super().__init__(64, num_classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.device.type == "cpu" and type(images) is torch.Tensor:
                seen[self.training].append(random.random())
            return super().forward(images.flatten(1))

    neulite_sim.simulate(tiny(*SMALL), model=Net)
    # Two flights and one test in each of three rounds; two batches a flight.
    assert [len(set(numbers)) == len(numbers) for numbers in seen.values()] == [True, True]
    assert [len(numbers) for numbers in seen.values()] == [12, 3]


def test_seeds_that_code_of_others_sets_reach_nobody_else() -> None:
    def seeding(current: Any, updates: Any) -> Any:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        return noisy(current, updates)

    class Seeding(Depth):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if not self.training:
                torch.manual_seed(1)
                random.seed(1)
            return super().forward(images)

    def run(*overrides: str, **given: Any) -> Any:
        return neulite_sim.simulate(tiny(*SMALL, *overrides), **given)

    assert run(method=seeding).summary["digest"] == run(method=seeding).summary["digest"]
    one, other = ([(row["device"], row["dispatched_s"]) for row in run(method=method).flights]
                  for method in (seeding, noisy))  # fmt: skip
    assert one == other
    # Trainings draw as if no test had set a seed before.
    one, other = ([row["loss"] for row in run(model=model).flights] for model in (Depth, Seeding))
    assert one == other


def test_what_a_program_registers_draws_as_what_it_gives(monkeypatch: pytest.MonkeyPatch, unbroken: Any) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    neulite_sim.register("method", "noisy", noisy)
    for workers in (1, 2):
        scenario = tiny(*SMALL, "method=noisy", f"backend={{kind: inprocess, workers: {workers}}}")
        assert scenario.brought == ("method",)
        draw_some(workers)
        assert neulite_sim.simulate(scenario).summary["digest"] == unbroken("function")


def test_each_dispatch_draws_numbers_of_its_own_whoever_draws_in_between() -> None:
    seen: list[list[float]] = []

    def chance(offers: Any, count: int, rng: Any) -> Any:
        seen[-1].append(drawn())
        return [0]

    for observers in ([], [Drawing()]):
        seen.append([])
        asynchronous = "protocol={kind: fedbuff, buffer_size: 2, concurrency: 3}"
        neulite_sim.simulate(tiny(*SMALL, asynchronous), selector=chance, observers=observers)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == len(seen[0]) > 6


def test_availability_that_draws_answers_a_question_as_before() -> None:
    class Guessing(Flaky):
        def online_until_s(self, devices: Any, at_s: float) -> Any:
            return at_s + np.random.rand(len(devices)) + random.random()  # noqa: NPY002

    def answers(seed: int, at_s: float) -> list[float]:
        draw_some(1)
        own = asked(Guessing(6), "Guessing", 6, seed)
        draw_some(1)
        found: list[float] = (own.online_until_s(np.arange(6), at_s) - at_s).tolist()
        return found

    first = answers(1, 2.0)
    assert answers(1, 2.0) == first
    assert answers(1, 3.0) != first != answers(2, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_actors_of_ray_draw_the_same(workers: int, unbroken: Any) -> None:
    for case in ("all", "data"):
        assert digest(case, f"backend={{kind: ray, workers: {workers}}}") == unbroken(case)
