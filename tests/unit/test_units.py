"""Sizes, durations and rates."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from neulite_sim import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512MB", 512_000_000),
        ("512MiB", 536_870_912),
        ("1.5GiB", 1_610_612_736),
        ("1kB", 1000),
        ("1KiB", 1024),
        (" 2 TB ", 2 * 10**12),
        ("1e3MB", 10**9),
        ("17", 17),
        (17, 17),
        (2.6, 3),
    ],
)
def test_sizes_are_whole_bytes(text: object, expected: int) -> None:
    assert units.parse_bytes(text) == expected
    assert isinstance(units.parse_bytes(text), int)


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("15min", 900), ("48h", 172_800), ("250ms", 0.25), ("2d", 172_800), (1.5, 1.5)]
)
def test_durations_are_seconds(text: object, expected: float) -> None:
    assert units.parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("20Mbps", 20e6), ("1Gbps", 1e9), ("64kbps", 64e3), ("64Kbps", 64e3), ("9bps", 9), (5, 5)]
)
def test_rates_are_bits_per_second(text: object, expected: float) -> None:
    assert units.parse_bits_per_second(text) == pytest.approx(expected)


def test_an_unknown_unit_names_the_units_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'512mb' is not a size; write for example 512MB or 512MiB \(units: B, kB"):
        units.parse_bytes("512mb")
    with pytest.raises(ValueError, match=r"'3 weeks' is not a duration; .*\(units: ms, s, min, h, d\)"):
        units.parse_seconds("3 weeks")
    with pytest.raises(ValueError, match=r"'20MB' is not a rate; write for example 20Mbps"):
        units.parse_bits_per_second("20MB")


@pytest.mark.parametrize("value", [True, None, [3], {"a": 1}])
def test_what_is_neither_a_number_nor_text_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write a number or for example 512MB"):
        units.parse_bytes(value)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "1e999", 10**400])
def test_what_is_not_finite_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a finite duration"):
        units.parse_seconds(value)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (711_800_000, "711.8 MB"),
        (231_000_001, "231.0 MB"),
        (231_000_000, "231 MB"),
        (999_960_000, "1.000 GB"),
        (1.214e9, "1.214 GB"),
        (5e15, "5000000 GB"),
    ],
)
def test_sizes_are_shown_with_four_digits(num_bytes: float, text: str) -> None:
    assert units.format_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1e-9, "0.1 %"),
        (37 / 60, "61.7 %"),
        (0.5, "50.0 %"),
        (0.99999, "99.9 %"),
        (1, "100 %"),
        (1.2, "120.0 %"),
    ],
)
def test_only_nothing_is_zero_percent_and_only_the_whole_is_a_hundred(share: float, text: str) -> None:
    assert units.format_percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.214, "4.21s"), (200, "3m 20s"), (3599.7, "1h 00m"), (172_800, "48h 00m"), (400 * 3600, "16d 16h")],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert units.format_seconds(seconds) == text


def test_fields_refuse_negative_sizes_and_rates_of_zero() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        TypeAdapter(units.Bytes).validate_python(-1)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        TypeAdapter(units.BitsPerSecond).validate_python("0Mbps")
