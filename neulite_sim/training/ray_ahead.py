"""A cluster under backend `ray` that begins to start before PyTorch is imported, which takes as long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from neulite_sim.training.ray_cluster import Cluster, start_cluster
from neulite_sim.training.ray_options import RayOptions
from neulite_sim.user_code.drawing import wait_before_drawing

Starting = tuple[ThreadPoolExecutor, Future[Cluster]]
"""The thread that starts a cluster, and has to stop it, and what comes of it."""

_begun: dict[str, Starting] = {}


@contextlib.contextmanager
def begun(options: RayOptions) -> Iterator[None]:
    """Begin to start the cluster of a backend that is built within; stop it at the end where nobody took it.

    It is stopped by the thread that started it: Linux ends its processes together with that thread.
    """
    key = _key(options)
    if key not in _begun:
        _begun[key] = _starting(options)
    try:
        yield
    finally:
        if key in _begun:
            thread, cluster = _begun.pop(key)
            wait_for(thread.submit(_stop, cluster))
            thread.shutdown()


def _stop(cluster: Future[Cluster]) -> None:
    if cluster.exception() is None:
        cluster.result().stop()


def wait_for(stopped: Future[None]) -> None:
    """Wait for the end of a cluster; Ctrl-C does not break that off, but counts when it is over."""
    interruption: KeyboardInterrupt | None = None
    while not stopped.done():
        try:
            stopped.result()
        except KeyboardInterrupt as found:
            interruption = found
    stopped.result()
    if interruption is not None:
        raise interruption


def taken(options: RayOptions) -> Starting:
    """Return the cluster that starts for these options, begun now if it was not before."""
    return _begun.pop(_key(options), None) or _starting(options)


def _starting(options: RayOptions) -> Starting:
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")
    processors = (options.num_workers or 1) * options.threads_per_worker
    starting = thread.submit(start_cluster, options.address, dashboard=options.dashboard, num_processors=processors)
    # Ray names what it starts with numbers of Python's own generator.
    wait_before_drawing(starting)
    return thread, starting


def _key(options: RayOptions) -> str:
    return options.model_dump_json()
