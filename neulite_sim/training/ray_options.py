"""What a scenario says of backend `ray`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neulite_sim.bounds import Name, ThreadCount
from neulite_sim.training.contract import WorkerOptions


class RayOptions(WorkerOptions):
    """Options of `ray`."""

    workers: ThreadCount | Literal["auto"] | None = None
    """Number of actors, each of which asks for `threads_per_worker` processors. Where it is `auto`, or not given, as
    many as the processors hold, on a cluster also those of nodes that join."""
    address: Name | None = None
    """Address of a running Ray cluster; a local one is started where it is not given."""
    dashboard: bool = False
    """Start Ray's dashboard beside a local cluster."""
    gpus_per_worker: float = Field(0.0, ge=0, le=64)
    """Share of a GPU that each actor gets; above zero the actors compute on it."""

    @property
    def num_workers(self) -> int | None:
        """How many actors are asked for; None for as many as the processors hold."""
        return None if self.workers == "auto" else self.workers
