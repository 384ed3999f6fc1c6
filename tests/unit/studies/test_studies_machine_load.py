"""What else ran on a machine: read from what the system tells, and judged by it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neulite_sim.studies import machine_load
from neulite_sim.studies.machine_load import LoadWatch, MachineLoad, Moment, busy_processor_s

QUIET = {"num_processors": 4, "others": 0.1, "own": 3.5, "spread": 0.05, "load_average": 3.0}


@pytest.mark.parametrize(
    ("seen", "signs"),
    [
        ({}, ()),
        ({"others": 1.25}, ("other programs kept 1.2 of 4 processors busy",)),
        ({"own": 0.5}, ("this process ran 50% of the time",)),
        ({"own": None}, ()),
        ({"spread": 0.6}, ("equal steps took up to 60% longer than the fastest",)),
        ({"others": None}, ("the load average was 3.0 before it began",)),
        ({"others": None, "load_average": 0.2}, ()),
        ({"others": None, "load_average": None}, ()),
    ],
)
def test_each_sign_of_a_busy_machine_is_told(seen: dict[str, float], signs: tuple[str, ...]) -> None:
    load = MachineLoad(**{**QUIET, **seen})
    assert load.signs == signs
    assert (load.to_json()["busy"], load.to_json()["signs"]) == (bool(signs), list(signs))


STAT = """\
cpu  999 999 999 999 999 999 999 999 999 999
cpu0 100 200 300 4000 500 60 70 80 90 10
cpu1 1 2 3 4 5 6 7 8 9 10
cpu2 5000 0 0 0 0 0 0 0 0 0
intr 12
"""


def test_work_is_that_of_the_processors_this_process_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text(STAT)
    monkeypatch.setattr(machine_load, "processors", lambda: [0, 1])
    # All but idling, waiting for disks and guests, which user time holds already.
    expected = (100 + 200 + 300 + 60 + 70 + 80) + (1 + 2 + 3 + 6 + 7 + 8)
    assert busy_processor_s(tmp_path) == pytest.approx(expected / os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("text", [None, "", "cpu0 0 0 0 0 0 0 0 0\n", "cpu0 x y\n", "cpu0 1 2\n"])
def test_a_system_that_does_not_tell_is_not_believed(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "stat").write_text(text)
    assert busy_processor_s(tmp_path) is None


def test_a_load_is_the_mean_over_what_was_timed() -> None:
    watch = LoadWatch()
    watch.watched([1.0, 1.0], Moment(0.0, 0.0, 10.0), Moment(2.0, 2.0, 12.0))
    watch.watched([1.0, 1.5], Moment(7.0, 3.0, 50.0), Moment(9.0, 4.0, 54.0))
    load = watch.load
    # 6 seconds of work, 3 of them its own, in 4 s; the slowest tenth of the second took 1.45 s.
    assert (load.others, load.own) == (pytest.approx(0.75), pytest.approx(0.75))
    assert load.spread == pytest.approx(0.45 / 2)
    watch.watched([1.0], Moment(9.0, 4.0, 54.0), Moment(10.0, 5.0, None))
    assert watch.load.others is None


def test_a_program_beside_it_is_seen() -> None:
    if busy_processor_s() is None:
        pytest.skip("this system does not tell how busy its processors are")
    beside = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert beside.stdout is not None
        beside.stdout.readline()
        watch, before = LoadWatch(), Moment.now()
        time.sleep(0.3)
        watch.watched([0.3], before, Moment.now())
    finally:
        beside.kill()
        beside.communicate()
    assert watch.load.others is not None
    assert watch.load.others > 0.3
    assert any("other programs kept" in sign for sign in watch.load.signs)
