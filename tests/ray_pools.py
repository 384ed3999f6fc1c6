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

from neulite_sim.training import ray_backend, ray_cluster, ray_component


class Kept(ray_backend.RayBackend):
    """A pool that outlives its run. A run ends at a later version than it starts from, so payloads are not mixed up."""

    def __init__(self, options: ray_backend.RayOptions) -> None:
        super().__init__(options)
        self._whole = self._started

    def lend(self, actors: int | None) -> None:
        """Let the next run have the first of the actors only; None for all, with those that have joined since."""
        whole = self._whole
        if actors is None:
            self._started = whole
            return
        self._started = self._pool_thread.submit(lambda: replace(whole.result(), slots=whole.result().slots[:actors]))

    def end(self) -> None:
        """Stop all actors."""
        self._started = self._whole
        super().close()

    def close(self) -> None:
        """Left to `lent_pools`."""


@contextmanager
def cluster(num_cpus: int = 4) -> Iterator[None]:
    """Within, runs on Ray find a cluster of so many processors that prints nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Ray puts its workers behind everything else that the machine does, such as other tests.
        patch.setenv("RAY_worker_niceness", "0")
        with ray_cluster._without_helpers(dashboard=False):
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def lent_pools(pools: dict[int | str | None, Kept] | None = None, *, most: int | None = None) -> Iterator[None]:
    """Within, every run on Ray with as many workers uses the same actors, which are kept in `pools` by that.

    Runs with up to `most` workers use the first of as many actors.
    """
    pools = {} if pools is None else pools

    def lend(options: ray_backend.RayOptions) -> Kept:
        asked = options.workers
        is_part = most is not None and isinstance(asked, int) and asked <= most
        started = most if is_part else asked
        if started not in pools:
            pools[started] = Kept(options.model_copy(update={"workers": started}))
        pools[started].lend(asked if is_part else None)
        return pools[started]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_component, "COMPONENT", replace(ray_component.COMPONENT, build=lend))
        try:
            yield
        finally:
            for pool in pools.values():
                pool.end()
