"""Hardware of a user's own: used where a group names it, and refused with the key and the line of what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.population.hardware.own import read_hardware
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.schema import PopulationSection

NUMBERS = {
    "installed_memory_bytes": "8000000000",
    "usable_memory_bytes": "6000000000",
    "peak_flops_per_second": "1e11",
    "memory_bytes_per_second": "2e10",
    "efficiency": "0.5",
    "bandwidth_efficiency": "0.7",
    "operator_overhead_s": "1e-5",
    "downlink_bits_per_second": "1e8",
    "uplink_bits_per_second": "5e7",
}


def text_of(name: str = "my-board", **changes: str) -> str:
    """Return a file of hardware with one device; its first number stands on line 5."""
    lines = ["schema_version = 1", f"[devices.{name}]", 'family = "computer"', 'compute_unit = "four cores"']
    for key, value in {**NUMBERS, **changes}.items():
        lines.append(f'{key} = {{ value = {value}, status = "measured", source = "made up for a test" }}')
    return "\n".join(lines) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "boards.toml"
    path.write_text(text_of())
    return path


def fleet(hardware: Path | None, *devices: str) -> Population:
    section: dict[str, Any] = {
        "devices": 10,
        "groups": [{"device": name, "share": 1} for name in devices],
        "available_memory": {"kind": "uniform", "low": "100MB", "high": "900MB"},
        **({"hardware": str(hardware)} if hardware else {}),
    }
    return build_population(PopulationSection.model_validate(section), 1)


def test_a_group_can_be_hardware_of_the_users_own(file: Path) -> None:
    board, nano = fleet(file, "my-board", "jetson-nano-4gb").classes
    assert (board.name, board.efficiency, board.bandwidth_efficiency) == ("my-board", 0.5, 0.7)
    assert board.convolution_efficiency is None
    assert nano.name == "jetson-nano-4gb"


def test_an_unknown_device_is_told_the_own_ones_too(file: Path) -> None:
    with pytest.raises(ScenarioError, match=r"groups\.0\.device: 'my-bord' is not a known device; did you mean 'my-b"):
        fleet(file, "my-bord", "my-board")


def test_a_file_that_no_group_uses_is_refused(file: Path) -> None:
    with pytest.raises(ScenarioError, match=r"population\.hardware: .*boards\.toml holds my-board, but no group names"):
        fleet(file, "jetson-nano-4gb")


def test_a_file_that_is_not_there_says_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(
        DataNotFoundError, match=r"population\.hardware: .*none\.toml cannot be read \(No such file"
    ) as no:
        fleet(tmp_path / "none.toml", "my-board")
    assert "neulite-sim calibrate" in str(no.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            text_of(efficiency="1.5"),
            r"boards\.toml:9: devices\.my-board\.efficiency\.value: must be at most 1, found 1\.5",
        ),
        (
            text_of().replace("efficiency = {", "eficiency = {", 1),
            r":9: devices\.my-board\.eficiency: unknown key; did you mean 'efficiency'",
        ),
        (text_of().replace("efficiency = {", "eficiency = {", 1), r":2: devices\.my-board\.efficiency: is missing"),
        (
            text_of(usable_memory_bytes="9000000000"),
            r":2: devices\.my-board: usable_memory_bytes 9000000000 is above inst",
        ),
        (text_of("jetson-nano-4gb"), r":2: devices\.jetson-nano-4gb: is in the catalogue already; give it another"),
        (text_of().replace("[devices", "[devices.", 1), r"boards\.toml:2: not valid TOML: .*at line 2"),
        ("schema_version = 1\n[devices]\n", r":2: devices: holds no device; add \[devices\.NAME\]"),
        (text_of().replace("= 1", "= 2", 1), r"boards\.toml:1: schema_version: must be 1, found 2"),
    ],
)
def test_what_is_wrong_in_a_file_has_its_key_and_line(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(ScenarioError, match=message):
        read_hardware(file)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match=r"boards\.toml: is not text in UTF-8; it is a TOML file as `neulite-sim"):
        read_hardware(file)


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"population\.hardware: "):
        parse_scenario({"population": {"hardware": ""}})


BOUNDS = {
    "installed_memory_bytes": (10**3, 10**14),
    "peak_flops_per_second": (1e3, 3e16),
    "peak_fp16_flops_per_second": (1e3, 3e16),
    "memory_bytes_per_second": (1e3, 2e13),
    "efficiency": (1e-6, 1),
    "convolution_efficiency": (1e-6, 8),
    "bandwidth_efficiency": (1e-6, 5),
    "grouped_bandwidth_efficiency": (1e-6, 5),
    "pointwise_efficiency": (1e-6, 8),
    "grouped_backward_efficiency": (1e-6, 8),
    "loading_bytes_per_second": (1e3, 2e13),
    "operator_overhead_s": (1e-9, 0.1),
    "downlink_bits_per_second": (1, 1e12),
    "uplink_bits_per_second": (1, 1e12),
}


@pytest.mark.parametrize("key", BOUNDS)
def test_a_number_that_no_machine_has_is_refused_with_its_bound(key: str, tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    least, most = BOUNDS[key]
    for value, word, limit in ((most * 2, "most", most), (least / 2, "least", least)):
        written = str(int(value)) if key == "installed_memory_bytes" else f"{value:e}"
        path.write_text(text_of(**{key: written}))
        with pytest.raises(ScenarioError) as refused:
            read_hardware(path)
        told = re.search(
            rf"devices\.my-board\.{key}\.value: must be at {word} (\S+), found (\S+)$", str(refused.value), re.M
        )
        assert told
        assert (float(told[1]), float(told[2])) == (limit, float(written))
