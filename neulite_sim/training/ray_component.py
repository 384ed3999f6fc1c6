"""Backend `ray` as a scenario names it; neither Ray nor PyTorch is loaded before a run builds it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from neulite_sim.registry import Component
from neulite_sim.training.contract import Backend
from neulite_sim.training.ray_options import RayOptions


def _build(options: RayOptions) -> Backend:
    from neulite_sim.training.ray_backend import RayBackend

    return RayBackend(options)


def _begun(options: RayOptions) -> AbstractContextManager[None]:
    from neulite_sim.training import ray_ahead

    return ray_ahead.begun(options)


COMPONENT = Component(
    kind="ray",
    summary="a pool of Ray actors that take on the identity of any device",
    source="this project",
    options=RayOptions,
    build=_build,
    begun=_begun,
)
