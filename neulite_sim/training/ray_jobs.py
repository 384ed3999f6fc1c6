"""What is on its way to the actors of backend `ray`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayTaskError

from neulite_sim.errors import NeuliteError, SimulationError
from neulite_sim.training.ray_nodes import Sent
from neulite_sim.training.ray_pool import Slot


@dataclass(slots=True, kw_only=True)
class Job:
    """A task or an evaluation on its way: `call` is the actor's method, `arguments` may hold object references."""

    call: str
    what: str
    arguments: tuple[Any, ...]
    sent: Sent
    own_bytes: int = 0
    """Bytes of arguments that are sent with this job alone."""
    fold: int | None = None
    ticket: int = 0
    attempts: int = 0
    is_repeated: bool = False
    """Whether its result is known, and only its part of a fold is still to come."""


@dataclass(slots=True)
class Running:
    """Where a submitted job runs, and how much of its actor's load it is."""

    job: Job
    slot: Slot
    load: int


def explained(job: Job, failure: RayTaskError) -> NeuliteError:
    """Return why a job failed, as the error that it is."""
    cause = failure.cause
    if isinstance(cause, NeuliteError):
        return cause
    return SimulationError(f"{job.what} failed: {type(cause).__name__}: {cause}")
