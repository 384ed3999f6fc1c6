"""Ray's actors for several runs: starting one takes longer than a short run, so that runs share theirs.

Each run equips them anew, as it does with actors of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import ray

from neulite_sim.training import ray_backend, ray_component


class Kept(ray_backend.RayBackend):
    """A pool that outlives its run. A run ends at a later version than it starts from, so payloads are not mixed up."""

    def close(self) -> None:
        """Left to `lent_pools`."""


@contextmanager
def cluster() -> Iterator[None]:
    """Within, runs on Ray find a cluster of four processors that prints nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Ray puts its workers behind everything else that the machine does, such as other tests.
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def lent_pools(pools: dict[int | str | None, Kept] | None = None) -> Iterator[None]:
    """Within, every run on Ray with as many workers uses the same actors, which are kept in `pools` by that."""
    pools = {} if pools is None else pools

    def lend(options: ray_backend.RayOptions) -> Kept:
        if options.workers not in pools:
            pools[options.workers] = Kept(options)
        return pools[options.workers]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_component, "COMPONENT", replace(ray_component.COMPONENT, build=lend))
        try:
            yield
        finally:
            for pool in pools.values():
                super(Kept, pool).close()
