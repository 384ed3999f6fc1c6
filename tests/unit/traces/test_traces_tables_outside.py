"""One law for every reader of a table: a damaged cell is refused with file and line, or read as what it says."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.errors import DataNotFoundError, NeuliteError, ScenarioError
from neulite_sim.outside import plain_number
from neulite_sim.traces.availability import read_trace
from neulite_sim.traces.importers.running import import_trace
from neulite_sim.traces.individuals import read_individuals
from neulite_sim.traces.memory import read_memory_trace
from neulite_sim.traces.throughput import read_throughput

Reading = Callable[[Path], Any]


def _availability(path: Path) -> Any:
    found = read_trace(path)
    return [*found.intervals.start_s, *found.intervals.end_s, *([] if found.period_s is None else found.period_s)]


def _memory(path: Path) -> Any:
    found = read_memory_trace(path)
    return [*found.time_s, *found.values]


def _throughput(path: Path) -> Any:
    (found,) = read_throughput(path).traces
    return [*found.at_s, *found.rates]


def _individuals(path: Path) -> Any:
    found = read_individuals(path)
    return [*np.concatenate([*found.columns.values(), found.weight])]


def _imported(format_name: str, read: Reading, **settings: Any) -> Reading:
    def reading(path: Path) -> Any:
        own = path.with_name("own.csv")
        own.unlink(missing_ok=True)
        import_trace(format_name, [path], settings=settings, out=own)
        return read(own)

    return reading


@dataclass(frozen=True)
class Table:
    """A small right table of a reader, and which columns hold numbers."""

    read: Reading
    header: str
    lines: tuple[str, ...]
    numbers: tuple[int, ...]
    is_relative: bool = False
    """Whether numbers are taken relative to one another, so that one changed cell changes others."""

    def text(self) -> str:
        return "\n".join(filter(None, [self.header, *self.lines])) + "\n"

    def places(self) -> list[tuple[int, int]]:
        return [(row, column) for row in range(len(self.lines)) for column in self.numbers
                if self.lines[row].split(",")[column]]  # fmt: skip

    def with_cell(self, row: int, column: int, cell: str) -> str:
        lines = [line.split(",") for line in self.lines]
        lines[row][column] = cell
        return "\n".join(filter(None, [self.header, *map(",".join, lines)])) + "\n"

    def line_of(self, row: int) -> int:
        return row + 1 + bool(self.header)


TABLES = {
    "availability": Table(_availability, "device,start_s,end_s", ("a,0,10", "a,20,30", "b,5,8"), (1, 2)),
    "periods": Table(_availability, "device,start_s,end_s,period_s", ("a,0,10,40", "b,5,8,50"), (1, 2, 3)),
    "memory": Table(_memory, "device,t_s,available_bytes", ("a,0,500", "a,20,300", "b,0,5"), (1, 2)),
    "share": Table(_memory, "device,t_s,share", ("a,0,0.5", "a,20,1", "b,0,0.25"), (1, 2)),
    "throughput": Table(_throughput, "trace,t_s,bits_per_second", ("a,0,500", "a,20,300", "a,30,"), (1, 2), True),
    "individuals": Table(
        _individuals,
        "model,memory_bytes,speed_factor,downlink_bits_per_second,uplink_bits_per_second,weight",
        ("a,1000,1,20,5,1", "b,2000,2,50,8,3"),
        (1, 2, 3, 4, 5),
    ),
    "throughput-csv": Table(
        _imported("throughput-csv", _throughput), "trace,t_s,bps", ("a,0,500", "a,20,300", "a,30,100"), (1, 2), True
    ),
    "throughput-csv, no header": Table(
        _imported("throughput-csv", _throughput, unit="bps"), "", ("0,500", "20,300", "30,100"), (0, 1), True
    ),
    "mahimahi": Table(_imported("mahimahi", _throughput), "", ("1", "2", "5"), (0,), True),
    "ai-benchmark": Table(
        _imported("ai-benchmark", _individuals),
        "model,ram_bytes,CPU_F_AI_Score",
        ("a,1000,400", "b,2000,1500", "c,3000,3000"),
        (1, 2),
        True,
    ),
}
NO_NUMBERS = ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", "1_000", "1\0", "\x001", "text", "0x10", '"1,5"', "1 0", "١",
              "１", "1e", "--1", "+", ".", "1.5.2", "1'000", "1s", "True", "5\ud800".encode("utf-8", "replace").decode()]  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", TABLES)
def test_the_right_tables_are_read(tmp_path: Path, name: str) -> None:
    assert len(TABLES[name].read(written(tmp_path, TABLES[name].text()))) > 2


@pytest.mark.parametrize("cell", NO_NUMBERS)
@pytest.mark.parametrize("name", TABLES)
def test_what_is_no_number_is_refused_with_file_and_line(tmp_path: Path, name: str, cell: str) -> None:
    table = TABLES[name]
    for row, column in table.places():
        path = written(tmp_path, table.with_cell(row, column, cell))
        with pytest.raises(ScenarioError) as refused:
            table.read(path)
        assert f"{path}:{table.line_of(row)}: " in str(refused.value), str(refused.value)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "ai-benchmark"])
def test_an_empty_cell_is_refused_unless_it_has_a_meaning(tmp_path: Path, name: str) -> None:
    table = TABLES[name]
    for row, column in table.places():
        path = written(tmp_path, table.with_cell(row, column, ""))
        if name == "mahimahi":
            continue  # an empty line is none
        with pytest.raises(ScenarioError) as refused:
            table.read(path)
        assert f"{path}:" in str(refused.value)


numbers = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(
        ["1e-320", "1e308", "-1e303", "9e15", "1e-9", "0", "-0", "00012", "1E3", "+5", "3.", ".5", "8589934592", "9e9"]
    ),
)


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_number_is_taken_for_what_it_is_or_refused_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    table = TABLES[name]
    row, column = data.draw(st.sampled_from(table.places()))
    cell = data.draw(numbers)
    path = written(tmp_path_factory.mktemp("table"), table.with_cell(row, column, cell))
    try:
        found = table.read(path)
    except ScenarioError as refused:
        assert f"{path}:" in str(refused) or "none of its" in str(refused)  # noqa: PT017
        return
    assert np.isfinite(found).all()
    if not table.is_relative:
        # Times lie on a grid of 2^-20 s.
        assert np.isclose(found, plain_number(cell), rtol=1e-15, atol=2.0**-20).any(), (cell, found)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("made", [_fifo, _endless, _loop, _folder])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("name", TABLES)
def test_only_regular_files_are_read(tmp_path: Path, name: str, packed: str, made: Callable[[Path], None]) -> None:
    path = tmp_path / f"table.csv{packed}"
    made(path)
    with pytest.raises(DataNotFoundError, match=r"table\.csv(\.gz)? cannot be read \("):
        TABLES[name].read(path)


@pytest.mark.parametrize("name", TABLES)
def test_no_file_has_a_name_with_a_nul_byte(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataNotFoundError, match="no file can have this name"):
        TABLES[name].read(tmp_path / "a\0b.csv")


@pytest.mark.parametrize("name", TABLES)
def test_a_packed_table_that_unpacks_beyond_measure_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neulite_sim.outside.TEXT_BYTES", 10_000)
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"#" * 10**6))
    assert path.stat().st_size < 2000
    with pytest.raises(DataNotFoundError, match=r"holds more than \d+.* kB once unpacked, the most that is read"):
        TABLES[name].read(path)


@pytest.mark.parametrize("name", [name for name in TABLES if TABLES[name].header and "mahi" not in name])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_damage_ends_in_anything_but_words(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = bytearray(TABLES[name].text().encode())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(
            st.sampled_from([b'"', b"\0", b"\n", b"\r", b",", b"", b"\xff", b"#", b"-", b"e", b"9" * 400])
        )
        content[place : place + data.draw(st.integers(0, 3))] = piece
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_bytes(bytes(content))
    try:
        found = TABLES[name].read(path)
    except NeuliteError as refused:
        assert str(path) in str(refused)  # noqa: PT017
    else:
        assert np.isfinite(found).all()
