"""Sizes, durations and rates as people write them, and back again.

`512MB` is 512 * 10**6 bytes, `512MiB` is 512 * 2**20; durations are `90s`, `15min`, `48h`; rates `20Mbps`.
Plain numbers are bytes, seconds and bits per second. The annotated types at the end are for scenario fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import core_schema

BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}  # fmt: skip
HOUR_S = 3600.0
DAY_S = 86400.0
SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
JOULES = {"J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9, "Wh": HOUR_S, "kWh": 1e3 * HOUR_S}
BITS_PER_SECOND = {"bps": 1.0, "kbps": 1e3, "Kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9}

MOST_BYTES = 10**15
"""A petabyte: far above any device, and safely inside 64 bits."""
MOST_SECONDS = 100 * 365.25 * 86400
"""A hundred years: below 2**33 s, where moments on the clock's grid of 2**-20 s are exact."""
LEAST_BITS_PER_SECOND, MOST_BITS_PER_SECOND = 1.0, 1e12
"""From what deep-space probes have to a terabit per second."""

_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def written(value: object) -> str:
    """Return a value as Python writes it, short enough for a message; whole numbers beyond any use in hexadecimal."""
    # Python refuses to write out an integer of thousands of digits.
    text = f"{value:#x}" if isinstance(value, int) and value.bit_length() >= 1000 else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse(value: object, units: Mapping[str, float], what: str, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{written(value)} is not a {what}; write a number or for example {example}")
    if isinstance(value, int | float):
        number = float(value) if abs(value) < 1e300 else math.inf
    else:
        match = _QUANTITY.fullmatch(value)
        unit = match.group(2) if match else ""
        if match is None or (unit and unit not in units):
            raise ValueError(
                f"{written(value)} is not a {what}; write for example {example} (units: {', '.join(units)})"
            )
        number = float(match.group(1)) * units.get(unit, 1)
    if not math.isfinite(number):
        raise ValueError(f"{written(value)} is not a finite {what}")
    return number


def parse_bytes(value: object) -> int:
    """Return whole bytes from `512MB`, `1.5GiB` or a plain number.

    Raises:
        ValueError: not a size, or an unknown unit.
    """
    return round(_parse(value, BYTES, "size", "512MB or 512MiB"))


def parse_budget_bytes(value: object) -> int:
    """Return whole bytes as `parse_bytes` does, where no field of a scenario says how many there may be.

    Raises:
        ValueError: not a size, an unknown unit, or more than `MOST_BYTES`.
    """
    if (num_bytes := parse_bytes(value)) > MOST_BYTES:
        raise ValueError(f"{written(value)} is above {MOST_BYTES // BYTES['TB']}TB, far more than any device has")
    return num_bytes


def parse_seconds(value: object) -> float:
    """Return seconds from `90s`, `15min`, `48h` or a plain number.

    Raises:
        ValueError: not a duration, or an unknown unit.
    """
    return _parse(value, SECONDS, "duration", "90s, 15min or 48h")


def parse_joules(value: object) -> float:
    """Return joules from `500kJ`, `15Wh` or a plain number.

    Raises:
        ValueError: not an energy, or an unknown unit.
    """
    return _parse(value, JOULES, "number of joules", "500kJ or 15Wh")


def seconds_or(word: str) -> Callable[[object], object]:
    """Return a reader of a duration that may also be one word, such as `first` or `round`."""
    return lambda value: value if value == word else parse_seconds(value)


def parse_bits_per_second(value: object) -> float:
    """Return bits per second from `20Mbps` or a plain number.

    Raises:
        ValueError: not a rate, or an unknown unit.
    """
    return _parse(value, BITS_PER_SECOND, "rate", "20Mbps")


def format_bytes(num_bytes: float) -> str:
    """Return a decimal size with four significant digits, in one way for each value: 711.8 MB, 231.0 MB, 1.214 GB.

    What needs no more digits is exact: 100 MB are a hundred million bytes, 100.0 MB only nearly.
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        number = f"{num_bytes / scale:{'.0f' if abs(num_bytes) >= 1000 * scale else '#.4g'}}".rstrip(".")
        if abs(float(number)) < 1:
            continue
        if "." in number and round(float(number) * scale) == num_bytes:
            number = number.rstrip("0").rstrip(".")
        return f"{number} {unit}"
    return f"{num_bytes:.0f} B"


def format_joules(joules: float) -> str:
    """Return an energy with four significant digits at most: 35.19 J, 1.2 kJ, 4.211 MJ."""
    for unit, scale in (("GJ", 1e9), ("MJ", 1e6), ("kJ", 1e3)):
        if abs(float(f"{joules:.4g}")) >= scale:
            return f"{joules / scale:.4g} {unit}"
    return f"{joules:.4g} J"


def format_number(value: float, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals, in powers of ten from 100,000 on."""
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.2e}"


def format_percent(share: float, *, unit: str = " %") -> str:
    """Return a share as a percentage with one decimal; only the exact whole is 100 %, and only nothing is 0 %."""
    if share in (0, 1):
        return f"{share * 100:.0f}{unit}"
    return f"{min(max(share * 100, 0.1), 99.9) if 0 < share < 1 else share * 100:.1f}{unit}"


def format_seconds(seconds: float) -> str:
    """Return a duration in at most two units: 48h 00m, 3m 20s, 4.21s."""
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 100:
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02d}h"


_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


@dataclass(frozen=True)
class Quantity:
    """Says in the JSON Schema that a number may also be a text with a unit; the bounds are those of the number."""

    units: tuple[str, ...]
    example: str

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # Pydantic calls the bounds of a value that is parsed first by their Python names.
        found = handler(schema)
        bounds = {_BOUNDS[key]: found[key] for key in _BOUNDS if key in found}
        pattern = rf"^\s*[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?\s*({'|'.join(self.units)})?\s*$"
        either = [{"type": "number", **bounds}, {"type": "string", "pattern": pattern}]
        return {"anyOf": either, "examples": [self.example]}


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0, le=MOST_BYTES), Quantity(tuple(BYTES), "512MB")]
Seconds = Annotated[
    float, BeforeValidator(parse_seconds), Field(ge=0, le=MOST_SECONDS), Quantity(tuple(SECONDS), "90s")
]
BitsPerSecond = Annotated[
    float,
    BeforeValidator(parse_bits_per_second),
    Field(ge=LEAST_BITS_PER_SECOND, le=MOST_BITS_PER_SECOND),
    Quantity(tuple(BITS_PER_SECOND), "20Mbps"),
]
