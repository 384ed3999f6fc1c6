"""The flat rows of a run: what each file of a run folder holds, and the values observers see.

Columns marked as wall clock depend on the machine and stay out of the digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

WALL_CLOCK = {"wall_clock": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One aggregation. Losses and accuracies are None where nothing was trained or tested."""

    round: int
    virtual_time_s: float
    stage: str
    online: int
    offered: int
    selected: int
    arrived: int
    dropped: int
    denied: int
    train_loss: float | None
    test_loss: float | None
    test_accuracy: float | None
    learning_rate: float
    bytes_down: int
    bytes_up: int
    peak_memory_bytes: int
    skipped_terms: int
    """nHSIC terms, up to two per batch, that count as zero because they are undefined there (one class, say)."""
    wall_time_s: float = field(metadata=WALL_CLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightRow:
    """One dispatched participation."""

    flight: int
    round: int
    device: int
    device_class: str
    submodel: str
    dispatched_s: float
    download_s: float
    compute_s: float
    upload_s: float
    ended_s: float
    outcome: str
    reason: str
    peak_memory_bytes: int
    available_memory_bytes: int
    samples: int
    bytes_down: int
    bytes_up: int
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialRow:
    """Why some devices could not be offered work in one round, one row per reason."""

    round: int
    reason: str
    submodel: str
    devices: int
    shortfall_bytes_min: int | None
    shortfall_bytes_median: int | None
    shortfall_bytes_max: int | None


Row = RoundRow | FlightRow | DenialRow


def columns(kind: type[Row]) -> tuple[str, ...]:
    """Return the column names of a row type, in order."""
    return tuple(column.name for column in fields(kind))


def as_dict(row: Row) -> dict[str, Any]:
    """Return a row as a plain mapping in column order."""
    return {column.name: getattr(row, column.name) for column in fields(row)}


def repeatable(row: Row) -> dict[str, Any]:
    """Return a row without its wall-clock columns: what equal runs must share."""
    return {column.name: getattr(row, column.name) for column in fields(row) if not column.metadata}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """What an observer is told once, before the first round."""

    name: str
    seed: int
    method: str
    selection: str
    backend: str
    num_devices: int
    max_rounds: int
    max_virtual_time_s: float | None
    targets: tuple[float, ...]
    stop_accuracy: float | None
    thresholds: tuple[tuple[str, int], ...]
    """Submodels of the method, and the full model beside them, and the peak memory in bytes that each needs."""
    available_memory_bytes: tuple[int, ...]
    """Available memory of every device, for a histogram."""
    participation_rate: float
    proxy: str | None
    """What is really trained where it is not the workload, in words; None where it is."""
    run_dir: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment inside a run: told at each dispatch and each training result."""

    round: int
    virtual_time_s: float
    stage: str
    online: int
    offline: int
    training: int
    trained: int
    denied_by_memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that a user should know: a skipped stage, a replaced actor."""

    message: str


Event = RunStarted | Progress | RoundRow | Notice
