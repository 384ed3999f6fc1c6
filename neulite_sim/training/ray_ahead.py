"""A cluster under backend `ray` that begins to start before PyTorch is imported, which takes as long."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from neulite_sim.training.ray_cluster import Cluster, start_cluster
from neulite_sim.training.ray_options import RayOptions

Starting = tuple[ThreadPoolExecutor, Future[Cluster]]
"""The thread that starts a cluster, and has to stop it, and what comes of it."""

_begun: dict[str, Starting] = {}


def begin(options: RayOptions) -> None:
    """Begin to start the cluster of a backend that is built soon; what is never asked for ends with this process."""
    if _key(options) not in _begun:
        _begun[_key(options)] = _starting(options)


def taken(options: RayOptions) -> Starting:
    """Return the cluster that starts for these options, begun now if it was not before."""
    return _begun.pop(_key(options), None) or _starting(options)


def _starting(options: RayOptions) -> Starting:
    # Linux ends a local cluster together with the thread that started it, so that thread stays until it is stopped.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")
    processors = (options.num_workers or 1) * options.threads_per_worker
    return thread, thread.submit(start_cluster, options.address, dashboard=options.dashboard, num_processors=processors)


def _key(options: RayOptions) -> str:
    return options.model_dump_json()
