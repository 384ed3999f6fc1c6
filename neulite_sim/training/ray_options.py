"""What a scenario says of backend `ray`."""

from __future__ import annotations

from pydantic import Field

from neulite_sim.bounds import Name, ThreadCount
from neulite_sim.training.contract import WorkerOptions


class RayOptions(WorkerOptions):
    """Options of `ray`."""

    workers: ThreadCount | None = None
    """Number of actors; as many as the machine's processors hold where it is not given."""
    address: Name | None = None
    """Address of a running Ray cluster; a local one is started where it is not given."""
    dashboard: bool = False
    """Start Ray's dashboard beside a local cluster."""
    gpus_per_worker: float = Field(0.0, ge=0, le=64)
    """Share of a GPU that each actor gets; above zero the actors compute on it."""
