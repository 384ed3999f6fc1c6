"""The catalogue of hardware: `catalogue.toml`, read once, with the status and the source of every number.

The numbers are public facts; the file's own header explains the statuses. What is fitted to measurements stands in
`constants.toml`, which a script writes; a device takes the constants of the board that it names, where it has no own.
Code that needs a device takes a `DeviceClass`; tables that show where its numbers come from take its `facts`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import MOST_NAME, Name, Share, out_of_order
from neulite_sim.errors import UnknownComponentError, close_matches
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.registry import Options

Status = Literal["confirmed", "derived", "general", "measured", "nominal", "assumed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number of the catalogue: how far it can be trusted and where it comes from.

    `low` and `high` are the ends of the 95 % interval of what was fitted, None of what was not.
    """

    value: float
    status: Status
    source: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One device of the catalogue. `facts` is keyed by the field names of `DeviceClass`.

    It may also hold `peak_fp16_flops_per_second`, which no time model uses yet.
    """

    device_class: DeviceClass
    compute_unit: str
    facts: Mapping[str, Fact]


_MAY_BE_MISSING = (
    "convolution_efficiency",
    "bandwidth_efficiency",
    "grouped_bandwidth_efficiency",
    "pointwise_efficiency",
    "grouped_backward_efficiency",
    "loading_bytes_per_second",
)


class _Origin(Options):
    status: Status
    source: str = Field(min_length=10, max_length=2000)


class _Number(_Origin):
    value: float
    low: float | None = Field(default=None, gt=0, le=1e16)
    high: float | None = Field(default=None, gt=0, le=1e16)

    @model_validator(mode="after")
    def _lies_in_its_interval(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends, `low` and `high`; give the other one, too")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value:g} is not in its interval, {self.low:g} to {self.high:g}")
        return self


class _MemoryBytes(_Number):
    """From a microcontroller to the largest servers."""

    value: int = Field(ge=10**3, le=10**14)


class _FlopsPerSecond(_Number):
    """Up to ten times what the fastest accelerators of 2026 do at half precision."""

    value: float = Field(ge=1e3, le=3e16)


class _MemoryBytesPerSecond(_Number):
    """Up to more than twice what stacked memory of 2026 carries."""

    value: float = Field(ge=1e3, le=2e13)


class _Fraction(_Number):
    value: float = Field(ge=1e-6, le=1)


class _ShareOfConvolutions(_Number):
    """Of the peak of fp32 products: convolutions may run in TF32, at up to eight times that rate on NVIDIA's A100."""

    value: float = Field(ge=1e-6, le=8)


class _ShareOfBandwidth(_Number):
    """Of the memory's rate: what stays in a cache moves faster."""

    value: float = Field(ge=1e-6, le=5)


class _LoadingBytesPerSecond(_Number):
    """From pictures decoded by a microcontroller to what memory carries."""

    value: float = Field(ge=1e3, le=2e13)


class _OverheadSeconds(_Number):
    """Of one operator."""

    value: float = Field(ge=1e-9, le=0.1)


class _LinkBitsPerSecond(_Number):
    value: float = Field(ge=1, le=1e12)


class _ShareOfInstalled(_Origin):
    share_of_installed: Share


class _Device(Options):
    family: Literal["jetson", "raspberry-pi", "phone", "computer"]
    compute_unit: Name
    installed_memory_bytes: _MemoryBytes
    usable_memory_bytes: _MemoryBytes | _ShareOfInstalled
    peak_flops_per_second: _FlopsPerSecond
    peak_fp16_flops_per_second: _FlopsPerSecond | None = None
    memory_bytes_per_second: _MemoryBytesPerSecond
    efficiency: _Fraction
    convolution_efficiency: _ShareOfConvolutions | None = None
    bandwidth_efficiency: _ShareOfBandwidth | None = None
    grouped_bandwidth_efficiency: _ShareOfBandwidth | None = None
    pointwise_efficiency: _ShareOfConvolutions | None = None
    grouped_backward_efficiency: _ShareOfConvolutions | None = None
    loading_bytes_per_second: _LoadingBytesPerSecond | None = None
    operator_overhead_s: _OverheadSeconds
    downlink_bits_per_second: _LinkBitsPerSecond
    uplink_bits_per_second: _LinkBitsPerSecond

    @model_validator(mode="after")
    def _usable_is_part_of_installed(self) -> Self:
        usable, installed = self.facts()["usable_memory_bytes"].value, self.installed_memory_bytes.value
        if usable > installed:
            low, high = ("usable_memory_bytes", usable), ("installed_memory_bytes", installed)
            raise ValueError(out_of_order(low, high, lambda value: f"{value:.15g}"))
        return self

    def facts(self) -> dict[str, Fact]:
        """Return every number that is given, usable memory in bytes also where only its share is known."""
        found: dict[str, Fact] = {}
        for key in type(self).model_fields:
            number = getattr(self, key)
            if isinstance(number, _ShareOfInstalled):
                share = number.share_of_installed
                value = round(share * self.installed_memory_bytes.value)
                found[key] = Fact(value=value, status=number.status, source=f"{share:g}: {number.source}")
            elif isinstance(number, _Number):
                found[key] = Fact(
                    value=number.value, status=number.status, source=number.source, low=number.low, high=number.high
                )
        return found


class Catalogue(Options):
    """A file of hardware."""

    schema_version: Literal[1]
    devices: dict[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=MOST_NAME)], _Device]


def _entry(name: str, device: _Device) -> CatalogueEntry:
    facts = device.facts()
    return CatalogueEntry(
        device_class=DeviceClass(
            name=name,
            family=device.family,
            installed_memory_bytes=int(facts["installed_memory_bytes"].value),
            usable_memory_bytes=int(facts["usable_memory_bytes"].value),
            peak_flops_per_second=facts["peak_flops_per_second"].value,
            memory_bytes_per_second=facts["memory_bytes_per_second"].value,
            efficiency=facts["efficiency"].value,
            operator_overhead_s=facts["operator_overhead_s"].value,
            downlink_bits_per_second=facts["downlink_bits_per_second"].value,
            uplink_bits_per_second=facts["uplink_bits_per_second"].value,
            **{name: facts[name].value for name in _MAY_BE_MISSING if name in facts},
        ),
        compute_unit=device.compute_unit,
        facts=MappingProxyType(facts),
    )


def parse_catalogue(text: str) -> Mapping[str, CatalogueEntry]:
    """Return the devices of a catalogue in TOML, by name, in the order of the text.

    Raises:
        ValueError: not TOML, or not a catalogue of schema version 1; the message names each key.
    """
    return _parsed(tomllib.loads(text))


def _parsed(plain: Mapping[str, Any]) -> Mapping[str, CatalogueEntry]:
    catalogue = Catalogue.model_validate(plain)
    return MappingProxyType({name: _entry(name, device) for name, device in catalogue.devices.items()})


@functools.cache
def catalogue_entries() -> Mapping[str, CatalogueEntry]:
    """Return every device of the built-in catalogue by name, with the origin of its numbers."""
    catalogue, boards = _plain("catalogue.toml"), _plain("constants.toml")["boards"]
    devices = {}
    for name, device in catalogue["devices"].items():
        own = dict(device)
        devices[name] = {**boards[own.pop("constants")], **own} if "constants" in own else own
    return _parsed({**catalogue, "devices": devices})


def _plain(name: str) -> dict[str, Any]:
    file = resources.files("neulite_sim.population.hardware").joinpath(name)
    return tomllib.loads(file.read_text(encoding="utf-8"))


@functools.cache
def load_catalogue() -> Mapping[str, DeviceClass]:
    """Return every device class of the built-in catalogue by name."""
    return MappingProxyType({name: entry.device_class for name, entry in catalogue_entries().items()})


def device_class(name: str, own: Mapping[str, DeviceClass] = MappingProxyType({})) -> DeviceClass:
    """Return the device class called `name` (`jetson-nano-4gb`), of the catalogue or of the user's `own` hardware.

    Raises:
        UnknownComponentError: no such device; the message lists close matches and all choices.
    """
    catalogue = {**own, **load_catalogue()}
    if name not in catalogue:
        near = close_matches(name, catalogue)
        raise UnknownComponentError(f"{name!r} is not a known device{near} (choices: {', '.join(catalogue)})")
    return catalogue[name]


def facts(name: str) -> Mapping[str, Fact]:
    """Return the numbers of the device called `name` with their status and source, by field.

    Raises:
        UnknownComponentError: no such device.
    """
    device_class(name)
    return catalogue_entries()[name].facts
