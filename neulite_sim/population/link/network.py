"""Links: which rates and latency each device has, and how long a transfer takes.

The catalogue gives a device's nominal link; the population's `link` replaces it, and a group's own `link` replaces
both. A transfer takes `latency + 8 * bytes / rate`: every device has its link to itself and the server is no
bottleneck. Where a rate follows a trace, the column holds its long-run mean and `throughput` integrates it over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from neulite_sim.arrays import Floats, Integers
from neulite_sim.outside import user_path
from neulite_sim.population.link.throughput import RateColumns, ThroughputTraces
from neulite_sim.scenario.schema import Link, RateTrace
from neulite_sim.seeding import stream
from neulite_sim.traces.labels import rows_for, unused_labels
from neulite_sim.traces.steps import Steps
from neulite_sim.traces.throughput import read_throughput

BITS_PER_BYTE = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkColumns:
    """The link of every device: rates in bits per second, latency in seconds, float64 `[N]`."""

    downlink_bits_per_second: Floats
    uplink_bits_per_second: Floats
    latency_s: Floats
    throughput: ThroughputTraces | None = None
    notes: tuple[str, ...] = ()
    """What a user should know of the traces that links follow."""


def link_columns(
    links: Sequence[Link], group_of_device: Integers, *, seed: int, keys: Sequence[str] | None = None
) -> LinkColumns:
    """Return the columns of a fleet: device d has `links[group_of_device[d]]`.

    `keys[g]` is what problems call the link of group g, by default "link". Which trace of a file a device follows,
    and from which moment on, is drawn per file and device, so both directions agree where they name the same file.

    Raises:
        DataNotFoundError: a throughput trace is not where the scenario says.
        ScenarioError: a throughput trace is wrong.
    """
    files = _Files(len(group_of_device), seed)
    named = keys or ["link"] * len(links)
    down, up = (
        _rates(
            [getattr(link, direction) for link in links],
            group_of_device,
            keys=[f"{key}.{direction}.trace" for key in named],
            files=files,
        )
        for direction in ("downlink", "uplink")
    )
    throughput = None
    if files.traces:
        traces = tuple(files.traces)
        throughput = ThroughputTraces(down=replace(down, traces=traces), up=replace(up, traces=traces))
    return LinkColumns(
        downlink_bits_per_second=down.bits_per_second,
        uplink_bits_per_second=up.bits_per_second,
        latency_s=np.array([link.latency for link in links])[group_of_device],
        throughput=throughput,
        notes=tuple(files.notes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file of traces: where its traces begin among all, and trace and share of its span of every device."""

    first: int
    rows: Integers
    begins: Floats


class _Files:
    """The files of traces that links name, each read once."""

    def __init__(self, num_devices: int, seed: int) -> None:
        self.traces: list[Steps] = []
        self.notes: list[str] = []
        self._num_devices = num_devices
        self._seed = seed
        self._files: dict[Path, _File] = {}

    def get(self, path: Path, key: str) -> _File:
        """Return a file; `key` is what its problems are reported under."""
        if path not in self._files:
            number, first = len(self._files), len(self.traces)
            self.traces += read_throughput(path, key).traces
            num_labels = len(self.traces) - first
            self.notes += unused_labels(key, path, num_labels=num_labels, num_devices=self._num_devices)
            rows = rows_for(
                self._num_devices,
                num_labels=num_labels,
                seed=self._seed,
                purpose="throughput-assignment",
                keys=(number,),
            )
            begins = stream(self._seed, "throughput-start", number).random(self._num_devices)
            self._files[path] = _File(first=first, rows=rows, begins=begins)
        return self._files[path]


def _same(count: int, value: Any) -> NDArray[Any]:
    """Return a column of one value, which cannot be written."""
    return np.broadcast_to(np.asarray(value), count)


def _rates(
    rates: Sequence[float | RateTrace], group_of_device: Integers, *, keys: Sequence[str], files: _Files
) -> RateColumns:
    """Return the columns of one direction, their traces still to come: only then are all files read."""
    count = len(group_of_device)
    constant = np.array([np.nan if isinstance(rate, RateTrace) else rate for rate in rates], np.float64)
    # Columns of traces, where there is none to follow, take no memory.
    column = np.full if any(isinstance(rate, RateTrace) for rate in rates) else _same
    found = RateColumns(
        traces=(),
        trace_of_device=column(count, -1),
        offset_s=column(count, 0.0),
        scale=column(count, 1.0),
        is_repeated=column(count, False),
        bits_per_second=constant[group_of_device],
    )
    for group, rate in enumerate(rates):
        if not isinstance(rate, RateTrace):
            continue
        members = np.flatnonzero(group_of_device == group)
        file = files.get(user_path(rate.trace), keys[group])
        traces = file.first + file.rows[members]
        span_s = np.array([trace.span_s for trace in files.traces])
        means = np.array([trace.total_bits for trace in files.traces]) / span_s
        found.trace_of_device[members] = traces
        found.scale[members] = rate.scale
        found.is_repeated[members] = rate.repeat
        found.bits_per_second[members] = rate.scale * means[traces]
        if rate.start == "random":
            found.offset_s[members] = file.begins[members] * span_s[traces]
    return found


@overload
def transfer_s(num_bytes: float, bits_per_second: float, latency_s: float) -> float: ...
@overload
def transfer_s(num_bytes: float | Integers | Floats, bits_per_second: Floats, latency_s: float | Floats) -> Floats: ...
@overload
def transfer_s(num_bytes: Integers | Floats, bits_per_second: float, latency_s: float | Floats) -> Floats: ...
def transfer_s(num_bytes: Any, bits_per_second: Any, latency_s: Any) -> Any:
    """Return the seconds that `num_bytes` take at `bits_per_second` (above zero), after `latency_s`.

    Scalars or arrays, broadcast against each other: `latency_s + 8 * num_bytes / bits_per_second`.
    """
    return latency_s + BITS_PER_BYTE * num_bytes / bits_per_second
