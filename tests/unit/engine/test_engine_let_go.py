"""Whatever ends a run, and be it before its first round, nothing of it stays open while somebody keeps the error."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.engine import simulation
from neulite_sim.engine.replay import FolderKeeper
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import Notice, Progress, RoundRow, RunStarted
from neulite_sim.selection.contract import Selector
from neulite_sim.turns import my_turn

SETTINGS = ("stop.rounds=3", "checkpoint.every_rounds=1")


class EndingError(Exception):
    """What ends a run here."""


class EndsAt:
    """Ends a run at the first event of a kind."""

    def __init__(self, kind: type, error: BaseException) -> None:
        self.kind, self.error = kind, error

    def notify(self, event: object) -> None:
        if isinstance(event, self.kind):
            raise self.error


class EndsAsItIsMade(Selector):
    """A selector that cannot be made."""

    def __init__(self) -> None:
        raise EndingError

    def choose(self, offers: Any, count: int, rng: Any) -> Any:
        return offers.devices[:count]


class EndsAsItIsTold(Selector):
    """A selector that cannot take how many samples there are."""

    def register(self, num_samples: Any) -> None:
        raise EndingError

    def choose(self, offers: Any, count: int, rng: Any) -> Any:
        return offers.devices[:count]


Ends = Callable[[pytest.MonkeyPatch], dict[str, Any]]
"""Lets the next run end, by what it is given in `simulate` if not by what is patched."""


def observed(kind: type, error: BaseException) -> Ends:
    return lambda patch: {"observers": [EndsAt(kind, error)]}


def noticed(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setattr(simulation, "announcements", lambda costing: ("something",))
    return {"observers": [EndsAt(Notice, EndingError())]}


def broken(owner: Any, name: str) -> Ends:
    def breaks(patch: pytest.MonkeyPatch) -> dict[str, Any]:
        def end(*given: Any, **named: Any) -> Any:
            raise EndingError

        patch.setattr(owner, name, end)
        return {}

    return breaks


WAYS: dict[str, Ends] = {
    "an observer, at the start": observed(RunStarted, EndingError()),
    "an interruption, at the start": observed(RunStarted, KeyboardInterrupt()),
    "an observer, at a notice": noticed,
    "a selector that cannot be made": lambda patch: {"selector": EndsAsItIsMade},
    "a selector that cannot be told": lambda patch: {"selector": EndsAsItIsTold},
    "a journal that does not begin": broken(FolderKeeper, "begin"),
    "notices that cannot be made": broken(simulation, "plan_notices"),
    "a file of devices that is not written": broken(simulation.DeviceFile, "introduce"),
    "an observer, in the first round": observed(Progress, EndingError()),
    "an interruption, after the first round": observed(RoundRow, KeyboardInterrupt()),
}


@pytest.fixture(scope="module")
def digest() -> str:
    found: str = simulate(tiny(*SETTINGS)).summary["digest"]
    return found


def open_below(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        found += [path] if path.startswith(str(folder)) else []
    return found


def held() -> tuple[Any, ...]:
    """Return what a process has once and a run borrows."""
    return sys.getswitchinterval(), {thread.name for thread in threading.enumerate()}


def has_its_turn() -> bool:
    """Return whether another thread may have its turn."""
    done: list[bool] = []

    def take() -> None:
        with my_turn():
            done.append(True)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(10)
    return bool(done)


def ended(work: Callable[[], object]) -> BaseException:
    """Return, and so keep, what ends some work."""
    with pytest.raises(BaseException) as found:  # noqa: PT011
        work()
    return found.value


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not tell which files are open")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_ends_lets_go_of_its_folder_and_is_resumed_while_its_error_is_kept(
    way: str, workers: int, tmp_path: Path, digest: str
) -> None:
    scenario = tiny(*SETTINGS, f"backend={{kind: inprocess, workers: {workers}}}")
    folder, before, kept = tmp_path / "run", held(), []
    with pytest.MonkeyPatch.context() as patch:
        given = WAYS[way](patch)
        kept.append(ended(lambda: simulate(scenario, out=folder, **given)))
    assert (open_below(tmp_path), held(), has_its_turn()) == ([], before, True)
    if "selector" in given or not folder.exists():
        assert simulate(scenario, out=tmp_path / "again").summary["digest"] == digest
        return
    with pytest.MonkeyPatch.context() as patch:
        observers = WAYS[way](patch).get("observers", ())
        kept.append(ended(lambda: neulite_sim.resume(folder, observers=observers)))
    assert (open_below(tmp_path), held(), has_its_turn()) == ([], before, True)
    assert neulite_sim.resume(folder).summary["digest"] == digest
    assert len(kept) == 2
