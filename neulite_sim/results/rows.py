"""The flat rows of a run: what each file of a run folder holds, and the values observers see.

Columns marked as wall clock depend on the machine and stay out of the digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

WALL_CLOCK = {"wall_clock": True}
LATER = {"later": True}
"""Of the last columns of a row: those that came later, and count in no digest where they have their default."""
ENERGY, PERPLEXITY = "energy", "perplexity"
Asked = frozenset[str]
"""What a run asks for of these; files have the columns of that."""
NOTHING: Asked = frozenset()
EVERYTHING: Asked = frozenset({ENERGY, PERPLEXITY})
OF_ENERGY, OF_PERPLEXITY = {"asked": ENERGY}, {"asked": PERPLEXITY}
"""Of the very last columns: in files only where the run asks for them, and never in a digest: they follow from the
others."""


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
    discarded: int
    """Updates that reached the server and were not merged, as too stale; among the dropped."""
    denied: int
    staleness_mean: float | None
    """Mean staleness of what was merged; None where nothing was."""
    train_loss: float | None
    test_loss: float | None
    test_accuracy: float | None
    learning_rate: float
    bytes_down: int
    bytes_up: int
    peak_memory_bytes: int
    skipped_terms: int
    """nHSIC terms, up to two per batch, that count as zero because they are undefined there (one class, say)."""
    workers_replaced: int = field(metadata=WALL_CLOCK)
    """Training workers that died in this round and were replaced; their work ran again."""
    wall_time_s: float = field(metadata=WALL_CLOCK)
    test_perplexity: float | None = field(default=None, metadata=OF_PERPLEXITY)
    """exp(test_loss) where targets are the next tokens: of how many equally likely ones the model is as unsure."""
    energy_j: float | None = field(default=None, metadata=OF_ENERGY)
    """Joules of the flights that were handed over in this round."""
    wasted_energy_j: float | None = field(default=None, metadata=OF_ENERGY)
    """Of these, the joules of flights whose update was not merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightRow:
    """One dispatched participation."""

    flight: int
    round: int
    device: int
    device_class: str
    submodel: str
    version: int
    """Version of the method's state that the device was sent."""
    dispatched_s: float
    download_s: float
    compute_s: float
    upload_s: float
    waiting_s: float
    """Seconds of pauses, in no phase."""
    ended_s: float
    outcome: str
    reason: str
    pauses: str
    """When it waited: `start-end` in virtual seconds, several joined by semicolons; empty without pauses."""
    peak_memory_bytes: int
    available_memory_bytes: int
    """What the device had at dispatch."""
    batch_size: int
    """Samples per step that are charged: the workload's, or fewer where the device shrank its batch."""
    samples: int
    bytes_down: int
    bytes_up: int
    staleness: int | None
    """Aggregations of the update's own stage between its dispatch and its merging; None where it was not merged."""
    loss: float | None
    plan: str = field(default="", metadata=LATER)
    """How the device took its steps where it had the choice, such as `micro-batch 16 + checkpointing`."""
    energy_j: float | None = field(default=None, metadata=OF_ENERGY)
    """Joules that the device drew from the dispatch to the end of the flight."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosticRow:
    """One number about one block of a tested model; only where the scenario asks for diagnostics."""

    round: int
    virtual_time_s: float
    name: str
    """`nhsic_x` or `nhsic_y`: nHSIC of the block's output with the images, or with the labels."""
    block: int
    """From 1."""
    value: float | None
    """None where it is undefined: outputs that do not vary or are not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device of the fleet. What is counted in the course of a run is None until the run is over."""

    device: int
    hardware: str
    installed_memory_bytes: int
    available_memory_bytes: int
    """The nominal memory, where it moves."""
    lowest_memory_bytes: int | None
    """Least over the dispatches of all rounds; None where memory does not move."""
    highest_memory_bytes: int | None
    samples: int
    downlink_bits_per_second: float
    uplink_bits_per_second: float
    latency_s: float
    needed_memory_bytes: str
    """`submodel=bytes` by the plan that the device would take, joined by semicolons; of many the ends alone."""
    fits: str
    """The submodels that fit its available memory, joined by semicolons; of many how many of how many."""
    plans: str
    """How it would train each of them, in the same order, where it has the choice; empty where it has none."""
    shortfall_bytes: int
    """What it lacks for the submodel that needs least; 0 where one fits."""
    online_share: float | None
    last_seen_s: float | None
    """The last moment at which it was online; None where it never was."""
    offered_rounds: int | None
    denied_rounds: int | None
    denied_not_enough_memory: int | None
    denied_offline: int | None
    denied_in_flight: int | None
    denied_no_data: int | None
    denied_other: int | None
    flights: int | None
    arrived: int | None
    dropped: int | None
    """All that have not arrived, those that the end of the run cut off included."""
    dropped_went_offline: int | None
    dropped_out_of_memory: int | None
    dropped_battery_empty: int | None
    dropped_failed: int | None
    dropped_timed_out: int | None
    dropped_stalled: int | None
    dropped_interrupted: int | None
    dropped_missed_deadline: int | None
    dropped_too_slow: int | None
    dropped_round_aborted: int | None
    dropped_discarded: int | None
    dropped_run_over: int | None
    dropped_other: int | None
    last_flight_s: float | None
    """When its last flight ended."""


Row = RoundRow | FlightRow | DenialRow | DiagnosticRow | DeviceRow


def columns(kind: type[Row], *, wall_clock: bool = True, asked: Asked = NOTHING) -> tuple[str, ...]:
    """Return the column names of a row type, in order; without `wall_clock` those that equal runs share.

    Those that a run has to ask for are among them as far as they are `asked` for.
    """
    return tuple(
        each.name
        for each in fields(kind)
        if (wall_clock or "wall_clock" not in each.metadata)
        and ("asked" not in each.metadata or each.metadata["asked"] in asked)
    )


def asked_columns(kind: type[Row]) -> Mapping[str, str]:
    """Return the columns that a run has to ask for, which stand last, with what it asks for."""
    return {each.name: each.metadata["asked"] for each in fields(kind) if "asked" in each.metadata}


def later_columns(kind: type[Row]) -> Mapping[str, Any]:
    """Return the columns that came later, with their defaults: older files do not have them."""
    return {each.name: each.default for each in fields(kind) if "later" in each.metadata}


AS_FITTED = " as fitted"
"""Follows the name of a threshold that is the smallest step in use, where devices choose how they take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """What an observer is told once, before the first round."""

    name: str
    seed: int
    method: str
    selection: str
    protocol: str
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
    replays_until: int
    """The last round that a resumed run takes from its journal; 0 where it trains from the beginning."""
    fitting: tuple[int, ...] = ()
    """How many devices hold each of `thresholds`, by what each is charged; empty where that is not known."""
    is_resumable: bool = True
    """Whether the run can be taken up again once it was interrupted."""


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
