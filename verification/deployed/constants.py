"""The constants of this machine in the time model: what they are fitted to, and the hardware of slowed devices."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loopback.client import Quiet, Timed, sizes_of
from scipy.optimize import nnls

from deployed.fleets import device_name
from neulite_sim.engine.parts import Costing
from neulite_sim.methods.contract import LocalTask
from neulite_sim.profiling.plans import Plan
from neulite_sim.training.worker import Worker

CALIBRATION_BATCHES = (8, 24)
"""Other sizes than the scenario's 16."""
QUIET_TRAININGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What was fitted: operations per second and seconds per operator of this machine, and how well that fits."""

    flops_per_second: float
    overhead_s: float
    median_error: float

    def write(self, folder: Path, factors: Sequence[float]) -> None:
        """Write the hardware of devices that are so many times slower."""
        lines = ["schema_version = 1"]
        for factor in sorted(set(factors)):
            numbers = {
                "installed_memory_bytes": 1_000_000_000,
                "usable_memory_bytes": 1_000_000_000,
                "peak_flops_per_second": self.flops_per_second / factor,
                # Two constants are fitted; the time of a byte is in the time of an operation.
                "memory_bytes_per_second": 1e13,
                "efficiency": 1.0,
                "operator_overhead_s": self.overhead_s * factor,
                "downlink_bits_per_second": 1e8,
                "uplink_bits_per_second": 1e8,
            }
            lines += ["", f"[devices.{device_name(factor)}]", 'family = "computer"', 'compute_unit = "slowed process"']
            lines += [
                f'{name} = {{ value = {value!r}, status = "measured", source = "verification/deployment.py" }}'
                for name, value in numbers.items()
            ]
        (folder / "hardware.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


GUESSED = Constants(flops_per_second=1e10, overhead_s=2e-5, median_error=0.0)
"""Until something is measured: memory and bytes do not depend on it."""


def fitted(costing: Costing, timed: Sequence[Timed]) -> Constants:
    """Return the constants that predict the trainings of slowed devices best, each relative to what it took."""
    rows = []
    for item in timed:
        profile = costing.ledger.profiles[item.submodel]
        share = sum(item.sizes) / profile.batch_size
        counts = np.ones(len(profile.operator_flops)) if profile.operator_counts is None else profile.operator_counts
        rows.append([(profile.operator_flops * counts).sum() * share, counts.sum() * len(item.sizes)])
    wanted = np.array([item.seconds / item.factor for item in timed])
    columns = np.array(rows)
    per_operation, per_operator = nnls(columns / wanted[:, None], np.ones(len(wanted)))[0]
    errors = np.abs(columns @ (per_operation, per_operator) / wanted - 1)
    return Constants(
        flops_per_second=float(1 / max(per_operation, 1e-15)),
        overhead_s=float(max(per_operator, 1e-9)),
        median_error=float(np.median(errors)),
    )


def quiet_steps(costing: Costing, worker: Worker, state: Any) -> Mapping[str, Quiet]:
    """Return the processor seconds of steps here, those of the fastest of several trainings: the least disturbed."""
    quiet = {}
    for submodel in costing.method.submodels:
        payload = costing.method.payload(state, submodel)
        least = {}
        for size in CALIBRATION_BATCHES:
            task = LocalTask(
                flight=1, cost=costing.ledger.cost(submodel, 0), version=0, seed=0, learning_rate=1e-3,
                plan=Plan(batch_size=size),
            )  # fmt: skip
            taken = []
            for _ in range(QUIET_TRAININGS):
                began_s = time.thread_time()
                worker.train(task, payload)
                taken.append(time.thread_time() - began_s)
            sizes = sizes_of(costing, task)
            least[size] = min(taken) / len(sizes)
        small, large = CALIBRATION_BATCHES
        sample_s = max(0.0, (least[large] - least[small]) / (large - small))
        quiet[submodel] = Quiet(step_s=max(0.0, least[small] - small * sample_s), sample_s=sample_s)
    return quiet
