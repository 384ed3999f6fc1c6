"""Available memory from a file: what it means, how it repeats, and what is refused with its line."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.population.memory.contract import FleetMemory, MemoryMotion
from neulite_sim.population.memory.distributions import UNIFORM
from neulite_sim.population.memory.motion import TRACE
from neulite_sim.registry import Choice
from neulite_sim.traces.labels import rows_for
from neulite_sim.traces.memory import read_memory_trace

HEADER = "device,t_s,available_bytes"
LINES = ("a,0,500", "b,10,80", "a,20,300", "b,30,900")


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "memory.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def motion(path: Path, num_devices: int = 2, *, nominal: int = 1000, usable: int = 800, **options: Any) -> MemoryMotion:
    memory = FleetMemory(
        nominal_bytes=np.full(num_devices, nominal),
        installed_bytes=np.full(num_devices, 2000),
        usable_bytes=np.full(num_devices, usable),
        choices=(Choice("uniform", UNIFORM.options(low=1, high=1000)),),
        choice_index=np.zeros(num_devices, np.int16),
    )
    found = TRACE.build(TRACE.options(path=str(path), **options))(memory, 0)
    assert found is not None
    return found


def test_a_value_holds_until_the_next_line_and_the_first_one_before_it(tmp_path: Path) -> None:
    memory = motion(written(tmp_path, *LINES), usable=2000)
    assert [list(memory.available_bytes(at_s, 1)) for at_s in (0, 10, 19.99, 20, 30, 1e6)] == [
        [500, 80], [500, 80], [500, 80], [300, 80], [300, 900], [300, 900],
    ]  # fmt: skip
    assert list(memory.available_bytes_of(np.array([1]), 30, 1)) == [900]


def test_nobody_has_more_than_the_usable_memory(tmp_path: Path) -> None:
    memory = motion(written(tmp_path, *LINES), nominal=500, usable=600)
    assert list(memory.available_bytes(30, 1)) == [300, 600]


def test_shares_are_of_the_memory_that_the_scenario_gives(tmp_path: Path) -> None:
    path = written(tmp_path, "a,0,0.5", "a,5,0", "a,9,1.25", header="device,t_s,share")
    memory = motion(path, 1, nominal=601, usable=700)
    assert [int(memory.available_bytes(at_s, 1)[0]) for at_s in (0, 5, 9)] == [300, 0, 700]


def test_the_moment_of_falling_short_is_that_of_the_line(tmp_path: Path) -> None:
    memory = motion(written(tmp_path, *LINES), usable=2000)
    assert memory.short_from_s(0, 300, 0.0, math.inf) == math.inf
    assert memory.short_from_s(0, 301, 0.0, math.inf) == 20.0
    assert memory.short_from_s(0, 301, 0.0, 20.0) == 20.0
    assert memory.short_from_s(0, 301, 19.75, math.inf) == 20.0
    assert memory.short_from_s(0, 301, 0.0, 19.0) == math.inf
    assert memory.short_from_s(0, 301, 25.0, math.inf) == 25.0
    assert memory.short_from_s(1, 81, 3.0, math.inf) == 3.0
    assert memory.short_from_s(1, 901, 31.0, math.inf) == 31.0
    assert memory.short_from_s(1, 900, 31.0, math.inf) == math.inf


def test_a_trace_that_repeats_begins_again_with_its_first_values(tmp_path: Path) -> None:
    memory = motion(written(tmp_path, *LINES), usable=2000, repeat_every="100s")
    assert list(memory.available_bytes(999, 1)) == [300, 900]
    assert list(memory.available_bytes(1005, 1)) == [500, 80]
    assert memory.short_from_s(0, 301, 1000.0, math.inf) == 1020.0
    assert memory.short_from_s(1, 900, 1030.0, math.inf) == 1100.0
    assert memory.short_from_s(1, 900, 1030.0, 1099.0) == math.inf


def test_the_next_change_is_the_next_line_of_anybody(tmp_path: Path) -> None:
    once, again = (motion(written(tmp_path, *LINES), repeat_every=every) for every in (None, "100s"))
    assert [once.next_change_s(at_s) for at_s in (0, 10, 25, 30)] == [10, 20, 30, math.inf]
    assert [again.next_change_s(at_s) for at_s in (0, 30, 110, 195)] == [10, 100, 120, 200]


def test_devices_share_labels_as_with_availability_traces(tmp_path: Path) -> None:
    memory = motion(written(tmp_path, "a,0,1", "b,0,2", "c,0,3"), 10)
    assert list(memory.available_bytes(0, 1)) == list(rows_for(10, num_labels=3, seed=0) + 1)


def test_a_gzipped_trace_and_its_comments_are_read(tmp_path: Path) -> None:
    path = tmp_path / "memory.csv.gz"
    text = f"# neulite-sim trace 1 kind=memory\n# source: a test\n{HEADER}\na,0,7\n"
    path.write_bytes(gzip.compress(text.encode()))
    assert list(read_memory_trace(path).values) == [7]


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a,0,5"], "device,t_s", "memory.csv:1: population.memory_motion.path: the header is 'device,t_s'; write "
         "device,t_s,available_bytes or device,t_s,share"),
        ([], HEADER, "memory.csv:1: population.memory_motion.path: holds no value; expected a CSV file"),
        (["a,0,5", "a,1"], HEADER, "memory.csv:3: population.memory_motion.path: 'a,1' is not device,t_s,available_byt"),
        (["a,0,5", ",1,2"], HEADER, "memory.csv:3: population.memory_motion.path: ',1,2' is not device,t_s,available_"),
        (["a,-1,5"], HEADER, "memory.csv:2: population.memory_motion.path: t_s '-1' is not a number from 0 up"),
        (["a,0,much"], HEADER, "memory.csv:2: population.memory_motion.path: available_bytes 'much' is not a number"),
        (["a,0,nan"], HEADER, "available_bytes 'nan' is not a number from 0 up"),
        (["b,0,5", "a,2,5", "a,1,5", "a,2,6"], HEADER,
         "memory.csv:5: population.memory_motion.path: device 'a' has a second value at 2 s, after line 3; write one"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, lines: list[str], header: str, message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        read_memory_trace(written(tmp_path, *lines, header=header))
    assert message in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is no memory trace at .*none\.csv; population\.memory_motion"):
        read_memory_trace(tmp_path / "none.csv")


def test_a_repetition_that_ends_before_the_last_line_is_refused(tmp_path: Path) -> None:
    message = r"population\.memory_motion\.repeat_every: 30s \(30 s\) is not after the last line of .*csv, at 30 s"
    with pytest.raises(ScenarioError, match=message):
        motion(written(tmp_path, *LINES), repeat_every="30s")


def test_times_outside_the_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"virtual time -1 s is outside \[0, inf\)"):
        motion(written(tmp_path, *LINES)).available_bytes(-1, 1)
