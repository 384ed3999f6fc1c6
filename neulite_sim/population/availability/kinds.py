"""When devices are online: `always`, `markov`, `diurnal` and `trace`.

A component's `build(options)` returns a factory `(num_devices, seed) -> Availability`. All lookups are pure: asking in
any order, sparsely or backwards, gives the same answers. Nothing is held per idle device but its row in flat arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.bounds import Duration
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.outside import user_path
from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.contract import Availability, AvailabilityFactory, Stretch
from neulite_sim.population.availability.diurnal import DiurnalSource, Window
from neulite_sim.population.availability.markov import MarkovSource
from neulite_sim.population.availability.periodic import PeriodicAvailability
from neulite_sim.population.availability.traced import PeriodicSource, TraceSource
from neulite_sim.registry import Component, Options
from neulite_sim.scenario.inputs import InputFile
from neulite_sim.traces.availability import Trace, read_trace
from neulite_sim.traces.intervals import LAST_S, Intervals, nearest_tick
from neulite_sim.traces.labels import rows_for, unused_labels
from neulite_sim.traces.origin import OriginOption
from neulite_sim.units import DAY_S, Seconds, format_seconds

KEY = "population.availability"
YEAR_S = 366 * DAY_S

WithinDay = Annotated[Seconds, Field(le=DAY_S)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysOnline:
    """Every device is online at all times."""

    num_devices: int

    def online(self, at_s: float) -> Flags:
        """Return True for every device."""
        return np.ones(self.num_devices, np.bool_)

    def online_until_s(self, devices: Integers, at_s: float, horizon_s: float = math.inf) -> Floats:
        """Return `inf` for each of `devices`."""
        del at_s, horizon_s
        return np.full(len(devices), math.inf)

    def next_online_s(self, devices: Integers, at_s: float) -> Floats:
        """Return `at_s` for each of `devices`."""
        return np.full(len(devices), float(at_s))

    def stretch(self, at_s: float) -> Stretch:
        """Return that nothing ever changes."""
        del at_s
        nobody = np.zeros(0, np.int64)
        return Stretch(
            begins_s=0.0, ends_s=math.inf, moments_s=np.zeros(0), devices=nobody, comes=nobody.astype(np.bool_)
        )


class AlwaysOptions(Options):
    """Nothing to set."""


class MarkovOptions(Options):
    """Exponential times online and offline; devices are independent and start in the stationary state."""

    mean_on: Duration
    """Mean time online, for example 2h."""
    mean_off: Duration
    """Mean time offline, for example 4h."""


class DiurnalOptions(Options):
    """One window a day per device, by default eight hours from ten in the evening; virtual time 0 is midnight."""

    start: Annotated[Seconds, Field(lt=DAY_S)] = 22 * 3600.0
    """Clock time at which a device comes online, on average; 22h is ten in the evening."""
    start_spread: Annotated[Seconds, Field(le=DAY_S / 2)] = 2 * 3600.0
    """Standard deviation of the start, drawn per device and day, cut to half a day."""
    length: Annotated[Seconds, Field(ge=1, lt=DAY_S)] = 8 * 3600.0
    """Mean length of the window."""
    length_spread: WithinDay = 2 * 3600.0
    """Standard deviation of the length, drawn per device and day, cut to between nothing and a whole day."""
    time_zone_span: WithinDay = 0.0
    """Devices' clocks are spread evenly over this much; 24h is a fleet all around the world."""
    daily_probability: float = Field(1.0, ge=0.05, le=1)
    """Probability that a device has a window on a day at all."""


class TraceOptions(Options):
    """Intervals from a CSV file with the header `device,start_s,end_s`, and `period_s` where devices differ in it."""

    path: InputFile
    """The file (`.csv` or `.csv.gz`), beside the scenario's file or in the current folder."""
    repeat: bool = True
    """Whether the trace starts over when it ends; without it, devices stay offline from then on."""
    span: Annotated[Seconds, Field(le=LAST_S)] | None = None
    """Length of one repetition; where not given, each device's `period_s`, or else the last end in the file."""
    origin: OriginOption = 0.0
    """Time of the file that becomes virtual time 0: seconds, or `first` for the earliest in it, where its times are
    Unix time stamps for example. No time of the file may lie before it."""


def _build_always(_options: AlwaysOptions) -> AvailabilityFactory:
    return lambda num_devices, _seed: AlwaysOnline(num_devices=num_devices)


def _build_markov(options: MarkovOptions) -> AvailabilityFactory:
    def factory(num_devices: int, seed: int) -> Availability:
        source = MarkovSource(
            mean_on_s=options.mean_on, mean_off_s=options.mean_off, num_devices=num_devices, seed=seed
        )
        return ChunkedAvailability(source, num_devices=num_devices)

    return factory


def _build_diurnal(options: DiurnalOptions) -> AvailabilityFactory:
    window = Window(
        start_s=options.start,
        start_spread_s=options.start_spread,
        length_s=options.length,
        length_spread_s=options.length_spread,
        time_zone_span_s=options.time_zone_span,
        probability=options.daily_probability,
    )

    def factory(num_devices: int, seed: int) -> Availability:
        source = DiurnalSource(window, num_devices=num_devices, seed=seed)
        return ChunkedAvailability(source, num_devices=num_devices)

    return factory


def _build_trace(options: TraceOptions) -> AvailabilityFactory:
    def factory(num_devices: int, seed: int) -> Availability:
        path = user_path(options.path)
        trace = read_trace(path, options.origin)
        source = _trace_source(trace, options, path)
        rows = rows_for(num_devices, num_labels=len(trace.labels), seed=seed)
        notes = _trace_notes(trace, rows, path)
        if isinstance(source, PeriodicSource) and source.intervals_per_chunk > _most_in_a_chunk(trace.intervals):
            return PeriodicAvailability(
                trace.intervals,
                period_s=source.period_s,
                is_repeated=options.repeat,
                row_of_device=rows,
                notes=notes,
            )
        return ChunkedAvailability(source, num_devices=num_devices, row_of_device=rows, notes=notes)

    return factory


def _most_in_a_chunk(intervals: Intervals) -> int:
    """Return how many intervals a chunk may hold: eight times those of the file, some megabytes in any case."""
    return max(2**18, 8 * len(intervals.start_s))


def _trace_notes(trace: Trace, rows: Integers, path: Path) -> tuple[str, ...]:
    """Return what a user should know of a trace: labels that serve nobody, and devices that come online very late."""
    notes = [*unused_labels(KEY, path, num_labels=len(trace.labels), num_devices=len(rows))]
    first_s = trace.intervals.first_start_s()[rows]
    earliest_s = float(first_s.min(initial=math.inf))
    late = np.count_nonzero(np.isfinite(first_s) & (first_s >= YEAR_S))
    if earliest_s == math.inf:
        notes.append(f"{KEY}: none of the devices that {path} gives this fleet is ever online")
    elif earliest_s >= DAY_S:
        notes.append(
            f"{KEY}: nobody is online before virtual day {earliest_s // DAY_S:,.0f}, the first time in {path} being "
            f"{earliest_s:.16g} s; set {KEY}.origin to first, or to the time that is virtual time 0"
        )
    elif late:
        notes.append(
            f"{KEY}: {late} of {len(rows)} devices are not online before virtual day "
            f"{first_s[first_s >= YEAR_S].min() // DAY_S:,.0f} in {path}"
        )
    return tuple(notes)


def _trace_source(trace: Trace, options: TraceOptions, path: Path) -> TraceSource | PeriodicSource:
    if trace.period_s is not None:
        if options.span is not None:
            finding = f"acts only with a trace without period_s; {path} gives each device its own"
            hint = "remove it"
            raise ScenarioError([Problem.advising(key="population.availability.span", found=finding, hint=hint)])
        return PeriodicSource(trace.intervals, period_s=trace.period_s, is_repeated=options.repeat)
    span_s = trace.last_end_s if options.span is None else options.span
    if span_s < trace.last_end_s:
        finding = (
            f"{format_seconds(span_s)} ({span_s:g} s) ends before the last interval of {path}, at "
            f"{trace.last_end_s:g} s"
        )
        hint = "leave it out or make it at least as long"
        raise ScenarioError([Problem.advising(key="population.availability.span", found=finding, hint=hint)])
    return TraceSource(trace.intervals, length_s=nearest_tick(span_s), is_repeated=options.repeat)


ALWAYS = Component(
    kind="always",
    summary="every device is online at all times",
    source="this project",
    options=AlwaysOptions,
    build=_build_always,
)
MARKOV = Component(
    kind="markov",
    summary="exponential times online and offline, stationary from the start",
    source="two-state Markov chain in continuous time; Norris, Markov Chains, 1997, chapter 2",
    options=MarkovOptions,
    build=_build_markov,
)
DIURNAL = Component(
    kind="diurnal",
    summary="one window a day per device, for example while charging at night",
    source="after the daily rhythm of eligible phones in Bonawitz et al., Towards Federated Learning at Scale, 2019",
    options=DiurnalOptions,
    build=_build_diurnal,
)
TRACE = Component(
    kind="trace",
    summary="online intervals from a CSV file with the header device,start_s,end_s",
    source="the file that the scenario names",
    options=TraceOptions,
    build=_build_trace,
)
