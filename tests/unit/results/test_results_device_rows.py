from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neulite_sim.arrays import Repeated
from neulite_sim.errors import DataNotFoundError
from neulite_sim.results import device_rows
from neulite_sim.results.device_rows import (
    NAMES,
    Coded,
    DeviceRows,
    device_row,
    find_devices,
    place_for,
    scan_devices,
    write_devices,
)
from neulite_sim.results.memory import read_devices

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
COUNT = 10


def block(first: int, after: int) -> dict[str, object]:
    """Devices that differ in every kind of column, one in three never seen."""
    devices = np.arange(first, after)
    cells = dict.fromkeys(NAMES, Repeated(None, after - first)) | {
        name: devices * 0 for name in NAMES if "dropped" in name
    }
    texts = {
        "hardware": Coded(devices % 2, ["jetson, old", 'say "nano"']),
        "fits": Coded.of(np.array([devices % 3, devices % 2]), str),
    }
    numbers = {"device": devices, "samples": 10**15 + devices, "latency_s": devices / 3, "downlink_bits_per_second": devices * 1e6,
               "uplink_bits_per_second": devices * 1.0, "last_seen_s": np.where(devices % 3 == 0, np.nan, devices / 7)}  # fmt: skip
    whole = dict.fromkeys(("installed_memory_bytes", "available_memory_bytes", "shortfall_bytes"), devices * 2)
    empty = {name: Repeated("", after - first) for name in ("needed_memory_bytes", "plans")}
    return {name: {**cells, **texts, **numbers, **whole, **empty}[name] for name in NAMES}


ROWS = DeviceRows(COUNT, block)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(device_rows, "BLOCK", 4)


@pytest.mark.parametrize("most_in_csv", [COUNT, pytest.param(COUNT - 1, marks=needs_pyarrow)])
def test_devices_come_back_as_they_were(tmp_path, monkeypatch, most_in_csv):
    monkeypatch.setattr(device_rows, "MOST_IN_CSV", most_in_csv)
    write_devices(tmp_path, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == [place_for(COUNT)]
    found = read_devices(tmp_path)
    assert found == list(ROWS.records())
    assert found.columns == NAMES
    assert found[4]["hardware"] == "jetson, old"
    assert found[5]["hardware"] == 'say "nano"'
    assert found[3]["last_seen_s"] is None
    assert found[4]["last_seen_s"] == 4 / 7
    assert device_row(find_devices(tmp_path), 7) == found[7]
    assert device_row(find_devices(tmp_path), COUNT) is None


@pytest.mark.slow
@needs_pyarrow
def test_devices_are_written_without_pandas(tmp_path):
    code = f"""
import sys
from pathlib import Path
import test_results_device_rows as here
here.device_rows.MOST_IN_CSV = 1
here.write_devices(Path({str(tmp_path)!r}), here.ROWS)
assert "pyarrow" in sys.modules
assert "pandas" not in sys.modules, "pyarrow has imported it"
"""
    paths = os.pathsep.join(map(str, (Path(__file__).parent, Path(device_rows.__file__).parents[2])))
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": paths})
    assert [path.name for path in tmp_path.iterdir()] == ["devices.parquet"]


@needs_pyarrow
def test_a_larger_fleet_takes_the_place_of_the_file_of_before(tmp_path, monkeypatch):
    write_devices(tmp_path, ROWS)
    monkeypatch.setattr(device_rows, "MOST_IN_CSV", 1)
    write_devices(tmp_path, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["devices.parquet"]


def test_a_large_fleet_without_pyarrow_is_written_as_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(device_rows, "MOST_IN_CSV", 1)
    monkeypatch.setattr(device_rows, "has_pyarrow", lambda: False)
    write_devices(tmp_path, ROWS)
    assert read_devices(tmp_path) == list(ROWS.records())


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "devices.parquet").write_bytes(b"")
    monkeypatch.setattr(device_rows, "has_pyarrow", lambda: False)
    with pytest.raises(DataNotFoundError, match=r"devices\.parquet: reading Parquet needs pyarrow"):
        read_devices(tmp_path)


@needs_pyarrow
def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "devices.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataNotFoundError, match=r"devices\.parquet: cannot be read"):
        list(scan_devices(tmp_path / "devices.parquet"))


@needs_pyarrow
def test_parquet_of_another_version_is_refused_with_what_is_missing(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"device": [0]}), tmp_path / "devices.parquet")
    with pytest.raises(DataNotFoundError, match="has no column hardware, "):
        list(scan_devices(tmp_path / "devices.parquet"))


def test_a_folder_without_devices_says_so(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"has no devices\.csv"):
        read_devices(tmp_path)


def test_equal_cells_share_one_text():
    made = []

    def text_of(cells):
        made.append(cells)
        return str(cells)

    column = Coded.of(np.array([[5, 7, 5, 5], [1, 1, 1, 2]]), text_of)
    assert column.tolist() == ["[5, 1]", "[7, 1]", "[5, 1]", "[5, 2]"]
    assert len(made) == 3
