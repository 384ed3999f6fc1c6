"""A made-up run, for looking at the console and for its tests: invented numbers, nothing is simulated or trained.

`python -m neulite_sim.reports.console` plays it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from neulite_sim.models.names import FULL
from neulite_sim.results.rows import Event, Notice, Progress, RoundRow, RunStarted

STAGES = (("stage-1", 424_100_000), ("stage-2", 309_500_000), ("stage-3", 198_900_000), ("stage-4", 250_000_000))
THRESHOLDS = (*STAGES, (FULL, 711_800_000))
PROXY = "resnet18 at width 0.25 on 16x16 images"
_DEVICES = 100
_PER_ROUND = 10


def started(rounds: int = 400) -> RunStarted:
    """Return the start of the made-up run: NeuLite on a hundred devices between 240 and 900 MB."""
    budgets = tuple(240_000_000 + 660_000_000 * (device * 37 % _DEVICES) // _DEVICES for device in range(_DEVICES))
    return RunStarted(
        name="rehearsal", seed=42, method="neulite", selection="uniform", protocol="synchronous", backend="ray",
        num_devices=_DEVICES, max_rounds=rounds, max_virtual_time_s=48 * 3600.0, targets=(0.5, 0.6, 0.7, 0.8, 0.9),
        stop_accuracy=0.85, thresholds=THRESHOLDS, available_memory_bytes=budgets,
        participation_rate=1.0, proxy=PROXY, run_dir="runs/rehearsal-42",
        replays_until=0,
    )  # fmt: skip


def events(rounds: int = 400) -> Iterator[Event]:
    """Yield the events of the made-up run in order, the same ones every time."""
    start = started(rounds)
    yield start
    clock_s = 0.0
    for number in range(1, rounds + 1):
        stage, needed = STAGES[(number - 1) % len(STAGES)]
        denied = sum(budget < needed for budget in start.available_memory_bytes)
        online = 70 + round(20 * math.sin(number / 15))
        length_s = 300.0 + number * 73 % 200
        for done in range(_PER_ROUND + 1):
            yield Progress(
                round=number, virtual_time_s=clock_s + length_s * done / _PER_ROUND, stage=stage, online=online,
                offline=_DEVICES - online, training=_PER_ROUND - done, trained=done,
                denied_by_memory=round(denied * online / _DEVICES),
            )  # fmt: skip
        clock_s += length_s
        accuracy = 0.83 * (1 - math.exp(-number / 90)) + 0.008 * math.sin(number * 1.7) + 0.1 * math.exp(-number / 90)
        dropped = int(number % 11 == 0)
        yield RoundRow(
            round=number, virtual_time_s=clock_s, stage=stage, online=online, offered=online - denied // 2,
            selected=_PER_ROUND, arrived=_PER_ROUND - dropped, dropped=dropped, discarded=0, denied=denied,
            staleness_mean=0.0,
            train_loss=2.3 * math.exp(-number / 120) + 0.2, test_loss=None,
            test_accuracy=min(max(accuracy, 0.0), 1.0) if number % 4 == 0 else None, learning_rate=0.01,
            bytes_down=45_000_000 * _PER_ROUND, bytes_up=12_000_000 * _PER_ROUND, peak_memory_bytes=needed,
            skipped_terms=0, workers_replaced=0, wall_time_s=0.4 * number,
        )  # fmt: skip
        if number % 90 == 20:
            yield Notice(message=f"round {number}: a training actor stopped and was replaced")


def summary(rounds: int = 400) -> dict[str, Any]:
    """Return a made-up summary that goes with the events."""
    last = max((row for row in events(rounds) if isinstance(row, RoundRow)), key=lambda row: row.round)
    return {
        "name": "rehearsal", "seed": 42, "method": "neulite", "selection": "uniform", "model": "resnet18",
        "dataset": "digits", "backend": "ray", "rounds": rounds, "virtual_time_s": last.virtual_time_s,
        "final_accuracy": 0.8214, "tail_accuracy": 0.8198, "best_accuracy": 0.8301,
        "time_to_accuracy_s": {"0.5": 29800.0, "0.6": 45100.0, "0.7": 67200.0, "0.8": 121000.0, "0.9": None},
        "participation_rate": 1.0, "data_share": 0.987, "peak_memory_bytes": 424_100_000,
        "bytes_down": 180_000_000_000, "bytes_up": 48_000_000_000, "flights_arrived": 3961, "flights_dropped": 39,
        "proxy": PROXY, "wall_time_s": 151.0, "digest": "5f" * 32,
    }  # fmt: skip
