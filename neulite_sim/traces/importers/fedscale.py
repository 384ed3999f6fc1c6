"""FedScale's files: what each client computes and transfers per second, and when it is online.

F. Lai et al., "FedScale: Benchmarking Model and System Performance of Federated Learning at Scale", ICML 2022,
https://arxiv.org/abs/2105.11367. Both files are pickles of plain dicts; they are read without unpickling anything.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from neulite_sim.registry import Component, Options
from neulite_sim.scenario.problems import shown
from neulite_sim.traces.importers.contract import (
    Cells,
    Imported,
    Interval,
    ReadForeign,
    availability_rows,
    counted,
    distinct,
    is_number,
    label_of,
    only,
    read_bytes,
    refused,
)
from neulite_sim.traces.importers.plain_pickle import PickleRefusedError, plain_values

_SHORTEST_PERIOD_S = 1
MOST_WINDOWS = 20_000_000
"""A pickle may name one list a thousand times, so that its size says little about what it holds."""


class CapacityOptions(Options):
    """Which client is the measure of speed."""

    reference_ms: float | None = Field(default=None, ge=1e-6, le=1e9)
    """Milliseconds per sample that `speed_factor` 1 stands for; the median of the file where it is not given."""


class AvailabilityOptions(Options):
    """Nothing to set."""


def _clients(path: Path) -> Mapping[str, Any]:
    try:
        found = plain_values(read_bytes(path))
    except PickleRefusedError as refusal:
        raise refused(path, str(refusal)) from None
    if not isinstance(found, dict) or not found:
        what = "an empty dict" if found == {} else f"a {type(found).__name__}"
        raise refused(path, f"holds {what}; FedScale's files hold a dict with an entry per client")
    labels = [label_of(path, client) for client in found]
    distinct(path, labels)
    return dict(zip(labels, found.values(), strict=True))


def _read_capacity(options: CapacityOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a FedScale file")
    clients = {client: _capacity(path, client, entry) for client, entry in _clients(path).items()}
    right = {client: pair for client, pair in clients.items() if all(is_number(value, above=0) for value in pair)}
    if not right:
        raise refused(path, f"none of its {counted(len(clients), 'client')} has two numbers above 0")
    reference_ms = options.reference_ms or statistics.median(float(pair[0]) for pair in right.values())
    rows = [(client, reference_ms / ms, kbps * 1000.0, kbps * 1000.0) for client, (ms, kbps) in right.items()]
    left_out = len(clients) - len(right)
    notes = [
        f"speed_factor 1 is {reference_ms:g} ms per sample, "
        + ("as given" if options.reference_ms else "the median of the file"),
        "FedScale gives one rate for both directions",
    ]
    if left_out:
        notes.append(f"{counted(left_out, 'client')} left out: computation or communication is not above 0")
    return Imported(
        kind="devices",
        header=("model", "speed_factor", "downlink_bits_per_second", "uplink_bits_per_second"),
        rows=rows,
        notes=tuple(notes),
        facts={"reference_ms": reference_ms, "left_out": left_out},
    )


def _capacity(path: Path, client: str, entry: object) -> tuple[Any, Any]:
    """Return milliseconds per sample and kilobits per second; Oort's older files hold them as a list."""
    if isinstance(entry, dict) and {"computation", "communication"} <= entry.keys():
        return entry["computation"], entry["communication"]
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return entry[0], entry[1]
    raise refused(path, f"client {client} has no computation and communication")


def _read_availability(_options: AvailabilityOptions, paths: Sequence[Path]) -> Imported:
    path = only(paths, "a FedScale file")
    rows: list[Cells] = []
    clients = _clients(path)
    num_empty = num_never = num_windows = 0
    for client, entry in clients.items():
        windows, period_s, empty = _windows(path, client, entry)
        num_empty += empty
        num_windows += len(windows)
        if num_windows > MOST_WINDOWS:
            raise refused(path, f"holds more than {MOST_WINDOWS:,} windows, the most that are read")
        lines = availability_rows(client, windows, period_s)
        num_never += lines[0][1] == ""
        rows += lines
    notes = ["windows are half-open here: a client is offline at the second at which FedScale has it leave"]
    if num_empty:
        notes.append(f"{counted(num_empty, 'window')} without length left out")
    if num_never:
        notes.append(f"{counted(num_never, 'client')} never online")
    facts = {"empty_windows": num_empty, "never_online": num_never}
    header = ("device", "start_s", "end_s", "period_s")
    return Imported(kind="availability", header=header, rows=rows, notes=tuple(notes), facts=facts)


def _windows(path: Path, client: str, entry: object) -> tuple[list[Interval], float, int]:
    """Return the windows of a client, its period in seconds, and how many windows have no length."""
    if not isinstance(entry, dict) or not {"active", "inactive", "finish_time"} <= entry.keys():
        raise refused(path, f"client {client} has no active, inactive and finish_time")
    active, inactive, finish_s = entry["active"], entry["inactive"], entry["finish_time"]
    if not is_number(finish_s, above=0) or finish_s < _SHORTEST_PERIOD_S:
        raise refused(path, f"client {client}: finish_time {shown(finish_s)} is not a number of seconds from 1 up")
    lists = (active, inactive)
    if not all(isinstance(times, list | tuple) and all(map(is_number, times)) for times in lists):
        raise refused(path, f"client {client}: active and inactive must be lists of numbers")
    # A client that is still active when the trace ends has no last `inactive`.
    ends = [*inactive, finish_s] if len(active) == len(inactive) + 1 else list(inactive)
    if len(active) != len(ends):
        raise refused(path, f"client {client}: {len(active)} times active but {len(inactive)} times inactive")
    windows: list[Interval] = []
    num_empty = 0
    for start_s, end_s in zip(active, ends, strict=True):
        if not 0 <= start_s <= end_s:
            raise refused(path, f"client {client}: active at {shown(start_s)} until {shown(end_s)} runs backwards")
        num_empty += start_s == end_s
        windows.append((start_s, min(end_s, finish_s)))
    return windows, finish_s, num_empty


def _build_capacity(options: CapacityOptions) -> ReadForeign:
    return lambda paths: _read_capacity(options, paths)


def _build_availability(options: AvailabilityOptions) -> ReadForeign:
    return lambda paths: _read_availability(options, paths)


CAPACITY = Component(
    kind="fedscale-capacity",
    summary="FedScale's or Oort's capacity pickle: milliseconds per sample and kbit/s of each client",
    source="Lai et al., FedScale, ICML 2022, https://arxiv.org/abs/2105.11367",
    options=CapacityOptions,
    build=_build_capacity,
)
AVAILABILITY = Component(
    kind="fedscale-availability",
    summary="FedScale's behaviour pickle: active and inactive times of each client, repeating after finish_time",
    source="Lai et al., FedScale, ICML 2022, after the traces of Yang et al. (FLASH), WWW 2021",
    options=AvailabilityOptions,
    build=_build_availability,
)
