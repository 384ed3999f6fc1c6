"""A fleet and profiles that can be counted by hand: six devices, and peaks of a few hundred bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import TINY

from neulite_sim.profiling.kept_files import OFF, VARIABLE
from neulite_sim.profiling.profile import Profile
from neulite_sim.profiling.tracer import MemoryBytes
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.studies import shared_profiler
from neulite_sim.studies.whatif import Entrant

OWN_BYTES = (200, 300, 450, 500, 800, 1000)
PEAKS = {
    "stage-1": 500, "stage-2": 300, "full": 900, "grow-1": 400, "width-0.5": 450, "width-0.25": 260, "width-0.125": 150,
    "width-0.0625": 100, "depth-2": 950, "depth-1": 350, "shrink-2": 320, "distil-2": 250, "grow-2": 320,
}  # fmt: skip
OTHER_PEAK = 620
"""Of a submodel that no test looks at."""


def entrant(method: str, *overrides: str) -> Entrant:
    """Return a method on lenet and six devices of ten samples each, with `OWN_BYTES` of memory in their order."""
    population = {**TINY["population"], "available_memory": {"kind": "explicit", "values": list(OWN_BYTES)}}
    data = {"kind": "digits", "image_size": 12, "train_samples": 60, "test_samples": 30, "partition": "iid"}
    mapping = {**TINY, "data": data, "model": "lenet", "population": population}
    scenario = parse_scenario(mapping, [f"method={method}", *overrides])
    return Entrant(method=scenario.method.kind, variant=method, scenario=scenario)


def written(submodel: str, build: Callable[[], Any], *, batch_size: int, **how: Any) -> Profile:
    """Return a profile with the peak of `PEAKS`, a second of work per peak byte on 1 GFLOP/s, and bytes as its peak."""
    del build, how
    peak = PEAKS.get(submodel, OTHER_PEAK)
    return Profile(
        submodel=submodel,
        batch_size=batch_size,
        parameters=10,
        trainable_parameters=5,
        memory=MemoryBytes(parameters=40, activations=peak - 40),
        operator_flops=np.array([1e9 * peak]),
        operator_bytes=np.array([0.0]),
        bytes_down=peak,
        bytes_up=peak // 10,
    )


@contextmanager
def written_profiles() -> Iterator[None]:
    """Within, a study takes its profiles from `written`, and none that is kept on disk; nor are these kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, OFF)
        patch.setattr(shared_profiler, "profile", written)
        yield
