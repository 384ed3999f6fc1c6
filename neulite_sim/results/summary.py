"""The summary of a run, added up from its rows while they happen, in memory of the size of the fleet."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from neulite_sim.population.hardware.power import Power
from neulite_sim.results.energy import EnergyTally
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.rows import FlightRow, RoundRow, Row

TAIL_EVALUATIONS = 3
_MOST_REASONS = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is a run of: the names that stand first in its summary."""

    name: str
    seed: int
    method: str
    selection: str
    model: str
    dataset: str
    backend: str
    compared_with_memory: str = "tensor_bytes"
    """Which peak is compared with available memory, and is `peak_memory_bytes`: `tensor_bytes`, `allocator_bytes` or
    `process_bytes`."""


def target_name(target: float) -> str:
    """Return the key of a target accuracy in `time_to_accuracy_s`: 0.5 is "0.5"."""
    return f"{target:g}"


class Tally:
    """Running totals of a run. `add` takes every row; `summary` may be asked at any time.

    Accuracies and the clock come from round rows; traffic, memory and participation from flight rows, so that
    flights that never reached an aggregation count as well. `powers` are the watts of the devices by the name of their
    class, for rows that do not come with their joules.
    """

    def __init__(
        self,
        samples_per_device: ArrayLike,
        *,
        targets: tuple[float, ...] = (),
        powers: Mapping[str, Power] | None = None,
    ) -> None:
        self._samples = np.asarray(samples_per_device, dtype=np.int64)
        self._took_part = np.zeros(len(self._samples), dtype=np.bool_)
        self._reached: dict[float, float | None] = dict.fromkeys(targets)
        self._tail: deque[float] = deque(maxlen=TAIL_EVALUATIONS)
        self._best: float | None = None
        self._perplexity: float | None = None
        self._best_perplexity: float | None = None
        self._rounds = 0
        self._virtual_time_s = 0.0
        self._peak_memory_bytes = 0
        self._bytes_down = 0
        self._bytes_up = 0
        self._arrived = 0
        self._dropped = 0
        self._reasons: Counter[str] = Counter()
        self._powers = powers or {}
        self._energy = EnergyTally()

    def add(self, row: Row) -> None:
        """Take in one row."""
        if isinstance(row, RoundRow):
            self._add_round(row)
        elif isinstance(row, FlightRow):
            self.add_flights(FlightRows.of([row]))

    def _add_round(self, row: RoundRow) -> None:
        self._rounds += 1
        self._virtual_time_s = float(row.virtual_time_s)
        if row.test_accuracy is None:
            return
        if row.test_perplexity is not None:
            self._perplexity = float(row.test_perplexity)
            self._best_perplexity = min(self._perplexity, self._best_perplexity or math.inf)
        accuracy = float(row.test_accuracy)
        self._tail.append(accuracy)
        self._best = accuracy if self._best is None else max(self._best, accuracy)
        for target, reached_s in self._reached.items():
            if reached_s is None and accuracy >= target:
                self._reached[target] = self._virtual_time_s

    def add_flights(self, rows: FlightRows) -> None:
        """Take in rows of flights."""
        cells = rows.cells
        self._bytes_down += sum(cells["bytes_down"])
        self._bytes_up += sum(cells["bytes_up"])
        self._peak_memory_bytes = max((self._peak_memory_bytes, *cells["peak_memory_bytes"]))
        has_arrived = [outcome == "arrived" for outcome in cells["outcome"]]
        self._took_part[list(itertools.compress(cells["device"], has_arrived))] = True
        self._arrived += sum(has_arrived)
        lost = [reason for reason, arrived in zip(cells["reason"], has_arrived, strict=True) if not arrived]
        self._dropped += len(lost)
        self._reasons.update(lost)
        self._energy.add_rows(rows, self._powers)

    def nothing_learned(self) -> str:
        """Return in a sentence that no flight ever arrived, and why; an empty string where one did."""
        if self._arrived:
            return ""
        if not self._dropped:
            return "nothing was learned: no flight ever left"
        *first, last = (f"{count} {reason}" for reason, count in self._reasons.most_common(_MOST_REASONS))
        reasons = f"{', '.join(first)} and {last}" if first else last
        more = len(self._reasons) - _MOST_REASONS
        others = f", {more} other reasons" if more > 0 else ""
        flights = f"none of {self._dropped} flights" if self._dropped > 1 else "not even the one flight"
        return f"nothing was learned: {flights} arrived ({reasons}{others})"

    @property
    def data_share(self) -> float:
        """Share of all training samples held by devices of which at least one flight arrived; 0 without samples."""
        total = int(self._samples.sum())
        return int(self._samples[self._took_part].sum()) / total if total else 0.0

    def _perplexities(self) -> dict[str, Any]:
        """Return what only runs on next tokens have."""
        if self._best_perplexity is None:
            return {}
        return {"final_perplexity": self._perplexity, "best_perplexity": self._best_perplexity}

    def summary(
        self, identity: Identity, *, participation_rate: float, proxy: str | None, wall_time_s: float, digest: str
    ) -> dict[str, Any]:
        """Return the content of `summary.json`; accuracies are None where nothing was tested."""
        return {
            **dataclasses.asdict(identity),
            "rounds": self._rounds,
            "virtual_time_s": self._virtual_time_s,
            "final_accuracy": self._tail[-1] if self._tail else None,
            "tail_accuracy": sum(self._tail) / len(self._tail) if self._tail else None,
            "best_accuracy": self._best,
            **self._perplexities(),
            "time_to_accuracy_s": {target_name(target): reached_s for target, reached_s in self._reached.items()},
            "participation_rate": float(participation_rate),
            "data_share": self.data_share,
            "peak_memory_bytes": self._peak_memory_bytes,
            "bytes_down": self._bytes_down,
            "bytes_up": self._bytes_up,
            "flights_arrived": self._arrived,
            "flights_dropped": self._dropped,
            "energy_j": self._energy.energy_j,
            "wasted_energy_j": self._energy.wasted_energy_j,
            "proxy": proxy,
            "wall_time_s": float(wall_time_s),
            "digest": digest,
        }
