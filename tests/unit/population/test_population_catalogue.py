"""The catalogue of hardware: complete, sourced, and helpful about names it does not know."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from neulite_sim.errors import UnknownComponentError
from neulite_sim.population.hardware.catalogue import (
    catalogue_entries,
    device_class,
    facts,
    load_catalogue,
    parse_catalogue,
)

REQUIRED = {
    "installed_memory_bytes",
    "usable_memory_bytes",
    "peak_flops_per_second",
    "memory_bytes_per_second",
    "efficiency",
    "operator_overhead_s",
    "downlink_bits_per_second",
    "uplink_bits_per_second",
}
OPTIONAL = {
    "peak_fp16_flops_per_second",
    "convolution_efficiency",
    "bandwidth_efficiency",
    "grouped_bandwidth_efficiency",
    "pointwise_efficiency",
    "grouped_backward_efficiency",
    "loading_bytes_per_second",
}
NUMBER = '{{ value = {value}, status = "general", source = "made up for a test" }}'


def catalogue_text(**changes: str) -> str:
    """Return a catalogue of one device in which some numbers are replaced."""
    numbers = dict.fromkeys(sorted(REQUIRED), NUMBER.format(value=10_000))
    numbers |= {"efficiency": NUMBER.format(value=0.5), "operator_overhead_s": NUMBER.format(value=1e-4)}
    lines = [f"{key} = {value}" for key, value in {**numbers, **changes}.items() if value]
    return "\n".join(["schema_version = 1", "[devices.toy]", 'family = "jetson"', 'compute_unit = "one core"', *lines])


@pytest.mark.parametrize("name", list(load_catalogue()))
def test_every_number_of_every_device_has_a_status_and_a_source(name: str) -> None:
    found = facts(name)
    assert set(found) - OPTIONAL == REQUIRED
    for key, fact in found.items():
        assert fact.value > 0, key
        assert fact.status in {"confirmed", "derived", "general", "measured", "nominal", "assumed"}, key
        assert len(fact.source) >= 10, key


@pytest.mark.parametrize("name", list(load_catalogue()))
def test_a_device_class_carries_the_values_of_its_facts(name: str) -> None:
    device = device_class(name)
    assert device.name == name
    for key in REQUIRED | (OPTIONAL & set(facts(name)) - {"peak_fp16_flops_per_second"}):
        assert getattr(device, key) == facts(name)[key].value


def test_the_jetson_nano_has_the_numbers_of_its_sources() -> None:
    nano = device_class("jetson-nano-4gb")
    assert (nano.family, nano.installed_memory_bytes, nano.usable_memory_bytes) == ("jetson", 4 * 2**30, 4157145088)
    assert nano.peak_flops_per_second == pytest.approx(128 * 2 * 921.6e6, rel=1e-3)
    assert facts("jetson-nano-4gb")["usable_memory_bytes"].status == "confirmed"


def test_unknown_usable_memory_is_a_stated_share_of_installed_memory() -> None:
    fact = facts("jetson-tx2-4gb")["usable_memory_bytes"]
    assert fact.value == round(0.94 * 4 * 2**30)
    assert fact.status == "derived"
    assert fact.source.startswith("0.94: share of installed memory")


FITTED = (*sorted(OPTIONAL - {"peak_fp16_flops_per_second"}), "efficiency", "operator_overhead_s")


@pytest.mark.parametrize("name", [name for name in load_catalogue() if name.startswith("raspberry-pi")])
def test_every_constant_of_a_raspberry_pi_is_fitted_and_has_its_interval(name: str) -> None:
    for key in FITTED:
        fact = facts(name)[key]
        assert fact.status == "measured", key
        assert "verification/time_model.py" in fact.source, key
        assert fact.low is not None, key
        assert fact.high is not None, key
        assert fact.low < fact.value < fact.high, key


def test_boards_of_one_chip_have_its_constants() -> None:
    for same in (("raspberry-pi-4-2gb", "raspberry-pi-4-8gb"), ("raspberry-pi-5-4gb", "raspberry-pi-5-8gb")):
        one, other = map(device_class, same)
        assert [getattr(one, key) for key in FITTED] == [getattr(other, key) for key in FITTED]


def test_a_jetson_without_a_measurement_has_what_the_nano_reaches_with_a_wider_interval() -> None:
    nano, tx2 = (facts(name)["efficiency"] for name in ("jetson-nano-4gb", "jetson-tx2-8gb"))
    assert (nano.status, tx2.status, tx2.value) == ("measured", "derived", nano.value)
    assert nano.low is not None
    assert nano.high is not None
    assert tx2.low is not None
    assert tx2.low < nano.low < nano.high < 1 == tx2.high


MEASURED = ("raspberry-pi", "jetson-nano")


@pytest.mark.parametrize("name", [name for name in load_catalogue() if not name.startswith(MEASURED)])
def test_a_device_that_no_training_was_measured_on_says_so(name: str) -> None:
    assert facts(name)["operator_overhead_s"].status == "assumed"
    assert facts(name)["efficiency"].status in {"assumed", "derived"}
    assert re.search("no measured point|that of the Jetson Nano", facts(name)["efficiency"].source)


def test_a_constant_that_is_not_given_is_none() -> None:
    toy = parse_catalogue(catalogue_text(bandwidth_efficiency=NUMBER.format(value=0.3)))["toy"].device_class
    assert (toy.bandwidth_efficiency, toy.convolution_efficiency, toy.grouped_bandwidth_efficiency) == (0.3, None, None)


def test_a_phone_without_a_public_flops_figure_says_so() -> None:
    fact = facts("phone-mid-snapdragon-778g")["peak_flops_per_second"]
    assert fact.status == "derived"
    assert "no public FLOPS figure" in fact.source
    assert fact.value == pytest.approx((2.4e9 + 3 * 2.2e9) * 16)


def test_an_unknown_device_names_close_matches_and_all_choices() -> None:
    with pytest.raises(UnknownComponentError, match=r"'jetson-nano' is not a known device; did you mean") as caught:
        device_class("jetson-nano")
    assert "'jetson-nano-4gb'" in str(caught.value)
    assert "raspberry-pi-5-8gb" in str(caught.value)
    with pytest.raises(UnknownComponentError, match="'toaster' is not a known device"):
        facts("toaster")


def test_the_catalogue_cannot_be_changed_by_its_readers() -> None:
    assert isinstance(load_catalogue(), Mapping)
    with pytest.raises(TypeError):
        load_catalogue()["jetson-nano-4gb"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        facts("jetson-nano-4gb")["efficiency"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"efficiency": NUMBER.format(value=1.5)}, r"(?s)devices\.toy\.efficiency\.value.*less than or equal to 1"),
        ({"efficiency": ""}, r"(?s)devices\.toy\.efficiency.*Field required"),
        ({"efficiency": "{ value = 0.5 }"}, r"(?s)efficiency\.status.*efficiency\.source"),
        (
            {"usable_memory_bytes": NUMBER.format(value=20_000)},
            "usable_memory_bytes 20000 is above installed_memory_bytes",
        ),
        (
            {"efficiency": NUMBER.format(value="0.5, low = 0.6, high = 0.7")},
            r"(?s)devices\.toy\.efficiency.*value 0\.5 is not in its interval, 0\.6 to 0\.7",
        ),
        (
            {"efficiency": NUMBER.format(value="0.5, low = 0.4")},
            r"(?s)devices\.toy\.efficiency.*an interval has both ends, `low` and `high`; give the other one, too",
        ),
        ({"cores": NUMBER.format(value=4)}, r"(?s)devices\.toy\.cores.*not permitted"),
    ],
)
def test_a_wrong_catalogue_is_refused_by_key(changes: dict[str, str], message: str) -> None:
    assert set(parse_catalogue(catalogue_text())) == {"toy"}
    with pytest.raises(ValueError, match=message):
        parse_catalogue(catalogue_text(**changes))


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)schema_version.*Input should be 1"):
        parse_catalogue("schema_version = 2\n[devices]\n")


@pytest.mark.real_data
def test_every_row_of_the_specification_table_is_in_the_catalogue() -> None:
    table = Path(__file__).parents[4] / "shared" / "data" / "hardware" / "device_specs.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not there")
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(load_catalogue()) == 23
    scales = {
        "memory_bytes": ("installed_memory_bytes", 1),
        "usable_memory_bytes": ("usable_memory_bytes", 1),
        "peak_fp32_gflops": ("peak_flops_per_second", 1e9),
        "peak_fp16_gflops": ("peak_fp16_flops_per_second", 1e9),
        "mem_bandwidth_gb_s": ("memory_bytes_per_second", 1e9),
        "downlink_mbps": ("downlink_bits_per_second", 1e6),
        "uplink_mbps": ("uplink_bits_per_second", 1e6),
    }
    statuses = {"memory_status": "memory_bytes", "fp32_status": "peak_fp32_gflops", "fp16_status": "peak_fp16_gflops",
                "bandwidth_status": "mem_bandwidth_gb_s"}  # fmt: skip
    for row in rows:
        found = catalogue_entries()[row["name"].replace("_", "-")].facts
        for column, (field, scale) in scales.items():
            if row[column]:
                assert found[field].value == pytest.approx(float(row[column]) * scale), (row["name"], column)
        for column, of in statuses.items():
            if row[column]:
                assert found[scales[of][0]].status == row[column], (row["name"], column)
        link = found["downlink_bits_per_second"].status
        assert re.match(link, row["link_status"]) or (link, row["link_status"]) == (
            "measured",
            "published_ookla_5g_median",
        )
