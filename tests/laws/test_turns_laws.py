"""Whatever else a process does in other threads, a run in one of them is the run that it would be alone."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny_scenarios import tiny
from torch import nn

import neulite_sim
from neulite_sim.results.rows import RoundRow
from neulite_sim.seeding import brief_stream
from neulite_sim.training.pinning import SETTINGS

SEEDS = (3, 3, 4, 3, 4, 3)
NETWORK = ("model=lenet", "data.image_size=12", "proxy.width=0.5", "stop.rounds=2")
SCENARIOS: dict[str, tuple[str, ...]] = {
    "heads that are drawn": (*NETWORK, "method=neulite"),
    "classifiers that are drawn": (*NETWORK, "method=depthfl"),
    "workers in threads": (*NETWORK, "backend={kind: inprocess, workers: 2}"),
    "dry run": ("backend=dry-run", "stop.rounds=30"),
    "dry run of a staged method": (*NETWORK, "method=neulite", "backend=dry-run", "stop.rounds=10"),
}


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 10))


def digest_of(seed: int, *settings: str, **given: Any) -> str:
    found: str = neulite_sim.simulate(tiny(*settings, f"seed={seed}"), **given).summary["digest"]
    return found


@pytest.fixture(autouse=True)
def _threads_that_change_often() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


@contextlib.contextmanager
def draws_beside(*seeds: int) -> Iterator[None]:
    """Draw in a thread from streams that are called as those of the runs, but for their keys."""
    is_over = threading.Event()

    def draw() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            for seed in seeds:
                for purpose in ("selection", "jitter"):
                    brief_stream(seed, purpose, 1_000_000, number).random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("name", SCENARIOS)
def test_runs_side_by_side_in_threads_give_the_digests_of_runs_alone(name: str) -> None:
    alone = {seed: digest_of(seed, *SCENARIOS[name]) for seed in set(SEEDS)}
    assert len(set(alone.values())) == len(alone)
    with ThreadPoolExecutor(len(SEEDS)) as threads:
        found = list(threads.map(lambda seed: digest_of(seed, *SCENARIOS[name]), SEEDS))
    assert found == [alone[seed] for seed in SEEDS]


def test_streams_that_other_threads_draw_from_leave_a_run_alone() -> None:
    scenario = ("backend=dry-run", "stop.rounds=60")
    alone = digest_of(3, *scenario)
    with draws_beside(3):
        assert [digest_of(3, *scenario) for _ in range(4)] == [alone] * 4


def test_networks_of_ones_own_that_draw_as_they_train_do_so_in_threads_as_well() -> None:
    settings = ("training.epochs=4", "stop.rounds=2")
    alone = {seed: digest_of(seed, *settings, model=with_dropout) for seed in set(SEEDS)}

    async def together() -> list[str]:
        runs = (asyncio.to_thread(digest_of, seed, *settings, model=with_dropout) for seed in SEEDS)
        return await asyncio.gather(*runs)

    assert asyncio.run(together()) == [alone[seed] for seed in SEEDS]


def test_all_that_builds_networks_leaves_the_random_numbers_of_a_run_in_another_thread_alone() -> None:
    settings = ("training.epochs=4", "stop.rounds=3")
    alone = digest_of(3, *settings, model=with_dropout)
    methods = ["fedavg", "heterofl"]
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(digest_of, 3, *settings, model=with_dropout) for _ in range(2)]
        rest = [
            threads.submit(neulite_sim.profile, tiny(*SCENARIOS["heads that are drawn"])),
            threads.submit(neulite_sim.whatif, tiny(*NETWORK), methods=methods, memory=["1MB"]),
        ]
        for done in rest:
            done.result()
        assert [run.result() for run in runs] == [alone] * 2


def test_the_program_finds_settings_and_random_numbers_as_they_were_after_runs_in_threads() -> None:
    def state() -> Any:
        return torch.get_rng_state().tolist(), {setting.name: setting.read() for setting in SETTINGS}

    before = state()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda seed: digest_of(seed, *SCENARIOS["workers in threads"]), (3, 4, 5)))
    assert state() == before


class RunsAnother:
    """Starts a run at each round of another, which must not alter that one."""

    def __init__(self, *settings: str) -> None:
        self.settings = settings
        self.found: list[str] = []

    def notify(self, event: object) -> None:
        if isinstance(event, RoundRow):
            self.found.append(digest_of(3, *self.settings))


@pytest.mark.parametrize("name", ["heads that are drawn", "dry run"])
def test_a_run_that_an_observer_starts_in_its_own_thread_is_that_run_and_so_is_the_outer_one(name: str) -> None:
    settings = (*SCENARIOS[name], "stop.rounds=2")
    alone = digest_of(3, *settings)

    def nested() -> tuple[str, list[str]]:
        observer = RunsAnother(*settings)
        return digest_of(3, *settings, observers=[observer]), observer.found

    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(nested) for _ in range(2)]
        assert [each.result() for each in both] == [(alone, [alone] * 2)] * 2


def drawing(offers: Any, count: int, rng: Any) -> Any:
    return rng.choice(offers.devices, count, replace=False)


def drawing_after_a_run(offers: Any, count: int, rng: Any) -> Any:
    neulite_sim.simulate(tiny("backend=dry-run", "stop.rounds=2"))
    return rng.choice(offers.devices, count, replace=False)


def test_a_run_that_a_selector_starts_before_it_draws_leaves_its_random_numbers_alone() -> None:
    plain, nested = (
        neulite_sim.simulate(tiny("backend=dry-run", "stop.rounds=4"), selector=selector).flights
        for selector in (drawing, drawing_after_a_run)
    )
    assert list(plain) == list(nested)
