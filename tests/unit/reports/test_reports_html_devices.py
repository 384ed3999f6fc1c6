"""The devices of a run on its page: added up in one pass, a sample of many, and refused where they were changed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored_runs
from html_pages import check_sound, of_run, text_of

from neulite_sim.arrays import Repeated
from neulite_sim.errors import DataNotFoundError
from neulite_sim.reports.html.devices import devices_blocks, read_devices
from neulite_sim.reports.html.fleet import kept_memory
from neulite_sim.results import device_rows
from neulite_sim.results.device_rows import NAMES, Coded, DeviceRows, write_devices

MB = 10**6
NEEDS = ("small=2000000;large=4000000", "small=3000000;large=6000000")
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


def block(first: int, after: int) -> dict[str, Any]:
    """Devices with 1, 2, 3 ... 8 MB in turn, of two classes; whoever has less than 4 MB was denied, others arrived."""
    devices = np.arange(first, after)
    memory = (devices % 8 + 1) * MB
    cells: dict[str, Any] = dict.fromkeys(NAMES, devices * 0)
    is_denied = memory < 4 * MB
    cells |= dict.fromkeys(("lowest_memory_bytes", "highest_memory_bytes"), Repeated(None, after - first))
    cells |= {
        "device": devices,
        "hardware": Coded(devices % 2, ["<b>nano</b>", "phone"]),
        "available_memory_bytes": memory,
        "samples": devices * 0 + 10,
        "needed_memory_bytes": Coded(devices % 2, NEEDS),
        "fits": Coded(devices % 2, ["small", "small;large"]),
        "plans": Repeated("", after - first),
        "online_share": devices * 0 + 0.5,
        "denied_rounds": np.where(is_denied, 7, 0),
        "denied_not_enough_memory": np.where(is_denied, 5, 0),
        "denied_offline": np.where(is_denied, 2, 0),
        "flights": np.where(is_denied, 0, 3),
        "arrived": np.where(is_denied, 0, 2),
        "dropped": np.where(is_denied, 0, 1),
        "shortfall_bytes": np.where(is_denied, 4 * MB - memory, 0),
    }
    return {name: cells[name] for name in NAMES}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = stored_runs.write_run(tmp_path / "run", is_complete=False).path
    write_devices(path, DeviceRows(6, block))
    return path


def test_needs_and_holders_are_those_of_every_device(run: Path) -> None:
    found = read_devices(run, num_devices=6, most_rows=100)
    assert found is not None
    # Memory is 1 to 6 MB; devices 0, 2 and 4 (1, 3, 5 MB) need 2 and 4 MB, the others 3 and 6 MB.
    assert {name: (need.least, need.most, need.holders) for name, need in found.needs.items()} == {
        "small": (2 * MB, 3 * MB, 4),
        "large": (4 * MB, 6 * MB, 2),
    }
    assert kept_memory(found).fitting("small", 2 * MB) == 4
    assert found.num_samples == 60
    assert dict(found.absent) == {"not enough memory": 3}


def test_the_page_says_who_never_took_part_and_why(run: Path) -> None:
    page = of_run(run)
    check_sound(page)
    text = text_of(page)
    assert "Of 3 of 6 devices no update was merged: 3 mostly for want of memory." in text
    assert "small 2 MB to 3 MB 4 of 6 (66.7 %)" in text
    assert "0 <b>nano</b> 1 MB 1 of 2 10 50.0 % 0 0 0 7 not enough memory 3 MB" in text
    assert "5 phone 6 MB 2 of 2 10 50.0 % 3 2 1 0 – –" in text
    assert "neulite-sim device run 0" in text
    assert 'data-v="6000000"' in page


@pytest.mark.parametrize("most_in_csv", [10**6, pytest.param(1, marks=needs_pyarrow)])
def test_many_devices_are_a_sample_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_in_csv: int
) -> None:
    monkeypatch.setattr(device_rows, "MOST_IN_CSV", most_in_csv)
    monkeypatch.setattr(device_rows, "BLOCK", 700)
    path = stored_runs.write_run(tmp_path / "run", (), "population.devices=2000", is_complete=False).path
    write_devices(path, DeviceRows(2000, block))
    found = read_devices(path, num_devices=2000, most_rows=50)
    assert found is not None
    assert len(found.sample) == 50
    assert [found.sample[place]["device"] for place in (0, -1)] == [0, 1999]
    assert (found.num_samples, sum(found.absent.values())) == (20_000, 750)
    prose = devices_blocks(found)[0]
    assert "The table is a sample of 50 of 2,000 devices, evenly by number" in prose.paragraphs[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needed_memory_bytes": Repeated("small=2_0", 6)}, "needed_memory_bytes is 'small=2_0', not submodel=bytes joined"),
        ({"device": np.array([0, 1, 2, 4, 3, 5])}, "does not hold devices 0 to 5, a row each; the file was changed or cut"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_is_refused(run: Path, changes: Mapping[str, Any], message: str) -> None:
    write_devices(run, DeviceRows(6, lambda first, after: {**block(first, after), **changes}))
    with pytest.raises(DataNotFoundError, match=message):
        read_devices(run, num_devices=6, most_rows=100)


def test_a_table_of_another_fleet_is_refused(run: Path) -> None:
    write_devices(run, DeviceRows(5, block))
    with pytest.raises(DataNotFoundError, match=r"devices.csv: holds 5 devices, but the scenario has 6; the file was"):
        read_devices(run, num_devices=6, most_rows=100)
