"""Available memory: how much of a device's memory training may use, drawn for every device at once.

A component's `build(options)` returns a sampler `(count, installed_memory_bytes, rng) -> int64[count]`. The table's
builder calls it once per fleet or per group, with the devices in ascending order, and caps what was drawn at the
memory the operating system offers (`draw_memory`). `explicit` is never capped: it says each device's budget exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from neulite_sim.arrays import Flags, Integers
from neulite_sim.bounds import MOST_DEVICES, MOST_ITEMS, WeightOrNone, out_of_order
from neulite_sim.contracts import is_own
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.population.memory.contract import MemorySampler
from neulite_sim.registry import Choice, Component, Options, component
from neulite_sim.units import Bytes, format_bytes

PositiveMemory = Annotated[Bytes, Field(ge=1)]

_SMALLEST_MASS = 0.01


class UniformOptions(Options):
    """Every whole number of bytes from `low` to `high` is equally likely."""

    low: Bytes
    """Smallest available memory, for example 100MB."""
    high: Bytes
    """Largest available memory, itself included."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(out_of_order(("low", self.low), ("high", self.high), format_bytes))
        return self


class LognormalOptions(Options):
    """The logarithm is normal around that of `median`; optionally cut to `low` and `high`."""

    median: PositiveMemory
    """Half of the devices have less, before cutting."""
    sigma: float = Field(ge=0, le=5)
    """Standard deviation of the natural logarithm; 0.5 puts two thirds within a factor of 1.65 of the median."""
    low: Bytes | None = None
    """Draws below are drawn again; none by default."""
    high: PositiveMemory | None = None
    """Draws above are drawn again; none by default."""

    def mass(self) -> float:
        """Return the probability of a draw between `low` and `high`, in [0, 1]."""
        low, high = self.low or 0, math.inf if self.high is None else self.high
        if self.sigma == 0:
            return float(low <= self.median <= high)
        scale = self.sigma * math.sqrt(2)
        below = 0.5 * math.erfc(-math.log(low / self.median) / scale) if low > 0 else 0.0
        return (0.5 * math.erfc(-math.log(high / self.median) / scale) if high < math.inf else 1.0) - below

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        low = self.low or 0
        if self.high is not None and low > self.high:
            raise ValueError(out_of_order(("low", low), ("high", self.high), format_bytes))
        mass = self.mass()
        if mass < _SMALLEST_MASS:
            high = "no limit" if self.high is None else format_bytes(self.high)
            raise ValueError(
                f"only {mass:.2%} of a lognormal of median {format_bytes(self.median)} and sigma {self.sigma:g} lies "
                f"between low {format_bytes(low)} and high {high}; it must be at least {_SMALLEST_MASS:.0%}"
            )
        return self


class ChoiceOptions(Options):
    """One of a few sizes."""

    values: tuple[Bytes, ...] = Field(min_length=1, max_length=MOST_ITEMS)
    """The sizes, for example [256MB, 512MB, 1GB]."""
    weights: Annotated[tuple[WeightOrNone, ...], Field(max_length=MOST_ITEMS)] | None = None
    """How likely each is, relative to the others; equally by default."""

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights is None:
            return self
        if len(self.weights) != len(self.values):
            raise ValueError(f"{len(self.weights)} weights for {len(self.values)} values; write one weight per value")
        if not sum(self.weights) > 0:
            raise ValueError(f"all {len(self.weights)} weights are 0; at least one must be positive")
        return self


class ExplicitOptions(Options):
    """The memory of every device, written out."""

    values: tuple[Bytes, ...] = Field(min_length=1, max_length=MOST_DEVICES)
    """One size per device, in device order; in a group, one per device of the group."""


class InstalledOptions(Options):
    """The same share of each device's installed memory."""

    share: float = Field(gt=0, le=1)
    """Share of the installed memory, in (0, 1]."""


def _build_uniform(options: UniformOptions) -> MemorySampler:
    def sample(count: int, _installed_memory_bytes: Integers, rng: np.random.Generator) -> Integers:
        return rng.integers(options.low, options.high, size=count, dtype=np.int64, endpoint=True)

    return sample


def _build_lognormal(options: LognormalOptions) -> MemorySampler:
    low, high = options.low or 0, 2**60 if options.high is None else options.high

    def sample(count: int, _installed_memory_bytes: Integers, rng: np.random.Generator) -> Integers:
        values = np.empty(count, np.int64)
        pending = np.arange(count)
        while len(pending):
            # Draws past int64 lie above every cap; they are kept as the largest size instead of drawn again.
            draws = options.median * np.exp(options.sigma * rng.standard_normal(len(pending)))
            draws = np.rint(np.minimum(draws, 2.0**60) if options.high is None else draws)
            good = (draws >= low) & (draws <= high)
            values[pending[good]] = draws[good].astype(np.int64)
            pending = pending[~good]
        return values

    return sample


def _build_choice(options: ChoiceOptions) -> MemorySampler:
    values = np.array(options.values, np.int64)
    weights = np.ones(len(values)) if options.weights is None else np.array(options.weights)

    def sample(count: int, _installed_memory_bytes: Integers, rng: np.random.Generator) -> Integers:
        return values[rng.choice(len(values), size=count, p=weights / weights.sum())]

    return sample


def _build_explicit(options: ExplicitOptions) -> MemorySampler:
    def sample(count: int, _installed_memory_bytes: Integers, _rng: np.random.Generator) -> Integers:
        if len(options.values) != count:
            finding = f"has {len(options.values)} values for {count} devices"
            hint = "write one value per device"
            raise ScenarioError([Problem.advising(key="available_memory.values", found=finding, hint=hint)])
        return np.array(options.values, np.int64)

    return sample


def _build_installed(options: InstalledOptions) -> MemorySampler:
    def sample(_count: int, installed_memory_bytes: Integers, _rng: np.random.Generator) -> Integers:
        shares: Integers = np.rint(options.share * installed_memory_bytes).astype(np.int64)
        return shares

    return sample


def varies(chosen: Choice) -> bool:
    """Return whether two draws from a distribution can differ; True for any kind that is not built in."""
    options = chosen.options
    if isinstance(options, ExplicitOptions | InstalledOptions):
        return False
    if isinstance(options, UniformOptions):
        return options.low < options.high
    if isinstance(options, LognormalOptions):
        return options.sigma > 0
    if isinstance(options, ChoiceOptions):
        weights = options.weights or (1.0,) * len(options.values)
        return len({value for value, weight in zip(options.values, weights, strict=True) if weight > 0}) > 1
    return True


def drawn_range(chosen: Choice) -> tuple[int, int]:
    """Return bytes between which every draw from a distribution lies before any cap, both included."""
    options, widest = chosen.options, (0, 2**62)
    if isinstance(options, UniformOptions):
        return options.low, options.high
    if isinstance(options, LognormalOptions):
        return options.low or 0, 2**62 if options.high is None else options.high
    if isinstance(options, ChoiceOptions):
        return min(options.values), max(options.values)
    return widest


def draw_memory(
    chosen: Choice, *, installed_memory_bytes: Integers, usable_memory_bytes: Integers, rng: np.random.Generator
) -> tuple[Integers, Flags]:
    """Return the available bytes of each device, and which were drawn above the device's usable memory.

    Those are capped at the usable memory, except from `explicit`, whose values stand as written.

    Raises:
        ScenarioError: `explicit` has another number of values than there are devices, or what a plug-in drew are no
            whole numbers of bytes, one for each.
    """
    sampler = _sampler(chosen)
    values = sampler(len(installed_memory_bytes), installed_memory_bytes, rng)
    above = values > usable_memory_bytes
    if isinstance(chosen.options, ExplicitOptions):
        return values, above
    return np.minimum(values, usable_memory_bytes), above


def capped_draw(
    chosen: Choice, *, installed_memory_bytes: Integers, usable_memory_bytes: Integers
) -> Callable[[np.random.Generator], Integers]:
    """Return what draws the available bytes of each device as `draw_memory` does, of a distribution that varies."""
    sampler, count = _sampler(chosen), len(installed_memory_bytes)
    return lambda rng: np.minimum(sampler(count, installed_memory_bytes, rng), usable_memory_bytes)


def _sampler(chosen: Choice) -> MemorySampler:
    """Return what draws by a distribution; what one of others draws is looked at."""
    sampler: MemorySampler = component("available_memory", chosen.kind).build(chosen.options)
    if is_own(sampler):
        return sampler
    return lambda count, installed_bytes, rng: _checked(sampler(count, installed_bytes, rng), count, chosen.label)


def _checked(drawn: Any, count: int, name: str) -> Integers:
    """Return what a plug-in drew for `count` devices, if it is the bytes of each."""
    found = np.asarray(drawn)
    wish = f"return one whole number of bytes for each of {count} devices, 0 or more, as int64"
    told = ""
    if found.shape != (count,):
        told = f"drew {type(drawn).__name__} of shape {found.shape} for {count} devices"
    elif found.dtype.kind not in "iu":
        told = f"drew numbers of type {found.dtype}"
    elif (found < 0).any():
        told = f"drew {found.min()} bytes for device {np.argmin(found)} of {count}"
    if told:
        raise ScenarioError([Problem.advising(key="available_memory", found=f"{name} {told}", hint=wish)])
    return found.astype(np.int64)


UNIFORM = Component(
    kind="uniform",
    summary="available memory uniform between low and high",
    source="the fleet of NeuLite's and ProFL's experiments: 100 to 900 MB",
    options=UniformOptions,
    build=_build_uniform,
)
LOGNORMAL = Component(
    kind="lognormal",
    summary="available memory lognormal around a median, optionally cut to low and high",
    source="Limpert, Stahel and Abbt, Log-normal distributions across the sciences, BioScience 51(5), 2001",
    options=LognormalOptions,
    build=_build_lognormal,
)
CHOICE = Component(
    kind="choice",
    summary="available memory one of a few sizes, with weights",
    source="this project",
    options=ChoiceOptions,
    build=_build_choice,
)
EXPLICIT = Component(
    kind="explicit",
    summary="available memory written out, one value per device, never capped",
    source="this project",
    options=ExplicitOptions,
    build=_build_explicit,
)
INSTALLED = Component(
    kind="installed",
    summary="available memory a share of each device's installed memory",
    source="this project",
    options=InstalledOptions,
    build=_build_installed,
)
