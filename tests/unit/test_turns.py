"""Turns: what a process has once is used by one thread at a time, and whoever waits can be stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.engine.resuming import find_cut_off
from neulite_sim.engine.resuming import resume as go_on
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import OutputError
from neulite_sim.turns import my_turn
from neulite_sim.user_code.files import from_file

SOON_S = 0.3


@contextlib.contextmanager
def turn_of_another() -> Iterator[threading.Event]:
    """Let another thread have its turn, until the event is set or the end."""
    has_turn, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with my_turn():
            has_turn.set()
            is_over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has_turn.wait()
    try:
        yield is_over
    finally:
        is_over.set()
        thread.join()


def begun(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def broken_off(folder: Path) -> None:
    class Stops:
        def notify(self, event: object) -> None:
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        simulate(tiny(), out=folder, observers=[Stops()])


ENTRIES: dict[str, Callable[[Path], object]] = {
    "simulate": lambda folder: neulite_sim.simulate(tiny("stop.rounds=1")),
    "dry run": lambda folder: neulite_sim.simulate(tiny("stop.rounds=1", "backend=dry-run")),
    "resume": lambda folder: neulite_sim.resume(folder / "run"),
    "profile": lambda folder: neulite_sim.profile(tiny()),
    "whatif": lambda folder: neulite_sim.whatif(tiny(), methods=["fedavg"], memory=["1MB"]),
    "code of a user": lambda folder: from_file(str(folder / "own.py"), "VALUE", key="model"),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_uses_what_a_process_has_once_waits_for_who_is_at_it(entry: str, tmp_path: Path) -> None:
    broken_off(tmp_path / "run")
    (tmp_path / "own.py").write_text("VALUE = 1\n")
    done: list[object] = []
    with turn_of_another() as is_over:
        thread = begun(lambda: done.append(ENTRIES[entry](tmp_path)))
        thread.join(SOON_S)
        assert thread.is_alive()
        assert not done
        is_over.set()
        thread.join()
    assert len(done) == 1


def test_who_has_its_turn_may_take_it_again() -> None:
    with my_turn(), my_turn():
        pass
    with turn_of_another():
        pass


def test_an_error_ends_a_turn() -> None:
    with pytest.raises(ValueError, match="mine"), my_turn():
        raise ValueError("mine")
    with turn_of_another():
        pass


def test_waiting_takes_no_processor_time() -> None:
    with turn_of_another() as is_over:
        threading.Timer(SOON_S, is_over.set).start()
        used_s, began_s = time.thread_time(), time.monotonic()
        with my_turn():
            assert time.monotonic() - began_s > 0.5 * SOON_S
        assert time.thread_time() - used_s < 0.1 * SOON_S


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals cannot be sent to a thread here")
def test_an_interruption_ends_a_waiting_call_which_has_then_done_nothing(tmp_path: Path) -> None:
    main = threading.get_ident()
    with turn_of_another():
        threading.Timer(SOON_S, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            neulite_sim.simulate(tiny(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with turn_of_another():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("whose", ["another thread", "the thread that forks"])
def test_a_forked_process_has_its_turn_whoever_had_it_before(whose: str) -> None:
    with turn_of_another() if whose == "another thread" else my_turn():
        child = os.fork()
        if child == 0:
            # A test must not go on twice, whatever happens.
            try:
                signal.alarm(20)
                with my_turn():
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_of_a_user_is_run_once_by_threads_that_ask_together(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import time\ntime.sleep(0.2)\nVALUE = object()\n")
    found: list[object] = []
    threads = [begun(lambda: found.append(from_file(str(tmp_path / "own.py"), "VALUE", key="model"))) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_of_two_threads_that_resume_a_run_the_second_finds_it_complete(tmp_path: Path) -> None:
    broken_off(tmp_path / "run")
    ended: list[str] = []

    def resume() -> None:
        try:
            ended.append(neulite_sim.resume(tmp_path / "run").summary["digest"])
        except OutputError as error:
            ended.append(str(error))

    with turn_of_another():
        threads = [begun(resume) for _ in range(2)]
    for thread in threads:
        thread.join()
    digest = simulate(tiny()).summary["digest"]
    assert set(ended) == {digest, f"{tmp_path / 'run'}: the run is complete; nothing is left to resume"}


def test_a_run_that_was_ended_by_another_since_it_was_found_is_left_as_it_is(tmp_path: Path) -> None:
    broken_off(tmp_path / "run")
    first, second = find_cut_off(tmp_path / "run"), find_cut_off(tmp_path / "run")
    go_on(first)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(OutputError, match="the run is complete; nothing is left to resume"):
        go_on(second)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_threads_that_a_run_starts_for_its_own_work_need_no_turn() -> None:
    scenarios = [tiny("stop.rounds=1"), tiny("stop.rounds=1", "backend={kind: inprocess, workers: 3}")]
    with my_turn():
        digests = {simulate(scenario).summary["digest"] for scenario in scenarios}
    assert len(digests) == 1
