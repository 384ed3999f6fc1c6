"""The cluster under backend `ray`: the user's own, or one on this machine that nobody else can reach.

A local cluster listens on the loopback interface alone, turns away whoever does not know its token, keeps its files in
a folder that only this user can open, and leaves nothing behind (docs/decisions/0025-ray-keeps-to-itself.md).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from neulite_sim.errors import BackendLostError, BackendUnavailableError
from neulite_sim.machine import usable_processors
from neulite_sim.stopping import CLUSTER_MARK, SIGNALS
from neulite_sim.training.allocator import with_huge_pages

CONNECT_TIMEOUT_S = 5.0
LOOK_S = 1.0
"""Ray's processes are looked at so often at least. Without its raylet Ray goes on for 15 s, and then just exits."""
SHUTDOWN_TIMEOUT_S = 10.0
"""How long files of processes that end may go on appearing in the folder of a cluster that was stopped."""
MOST_FOLDER_BYTES = 36
"""Ray's sockets have paths of up to 67 bytes below it, and the address of a Unix socket holds 103 on every system."""

_OWN_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": None,
    # Without it an address of the loopback interface is replaced by that of a network, and all interfaces are open.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray's handler prints stacks and aborts where a request to terminate should end a run in good order.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    "RAY_REDIS_ADDRESS": None,
    "RAY_USAGE_STATS_ENABLED": "0",
    # Nobody reads them, and each costs processor time that the actors could have.
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OWN_CONSTANTS = {"ENABLE_RAY_CLUSTER": False, "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": True}
"""What this process has read from that environment already, if it imported Ray before."""


@dataclass(slots=True)
class Cluster:
    """A connection to Ray; `stop` ends what this process started, and gives back what it changed to do so."""

    is_local: bool
    undo: list[Callable[[], object]] = field(default_factory=list)
    looked_s: float = 0.0

    def stop(self) -> None:
        """Disconnect, end the processes of a local cluster, and remove its folder; a second call does nothing."""
        atexit.unregister(self.stop)
        while self.undo:
            self.undo.pop()()

    def put(self, value: Any) -> Any:
        """Return a reference to a value in the object store.

        Raises:
            BackendLostError: the store is gone; Ray would end this process as soon as it is used.
        """
        self.require_alive()
        return ray.put(value)

    def get(self, reference: Any) -> Any:
        """Return what a reference stands for, as soon as it is there.

        Raises:
            BackendLostError: it never will be.
        """
        while True:
            self.require_alive()
            with contextlib.suppress(GetTimeoutError):
                return ray.get(reference, timeout=LOOK_S)

    def require_alive(self) -> None:
        """Do nothing where Ray's processes are there.

        Raises:
            BackendLostError: one of them has ended: the raylet, or the control store of a local cluster.
        """
        now_s = time.monotonic()
        # A raylet of others notes each look in its log.
        if not self.is_local and now_s - self.looked_s < LOOK_S:
            return
        self.looked_s = now_s
        if died := _dead_process():
            raise BackendLostError(
                f"Ray's {died} has ended in the middle of the run; was it killed, or did the machine run out of "
                "memory? Use fewer workers (backend.workers) if so"
            )


def start_cluster(address: str | None, *, dashboard: bool, num_processors: int = 1) -> Cluster:
    """Connect to the cluster at `address`, or to a new one on this machine; to what is connected already, if anything.

    Ray's own messages stay off the console. Signals that ask this program to stop pass the new processes by. A new
    cluster holds actors for `num_processors` at least: how many a machine of one's own is to bear is one's own choice.

    Raises:
        BackendUnavailableError: no cluster at the address, or a local one cannot start.
    """
    if ray.is_initialized():
        return Cluster(is_local=False)
    cluster = Cluster(is_local=address is None)
    atexit.register(cluster.stop)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address is None:
            folder = _private_folder()
            cluster.undo.append(lambda: _remove(folder))
            own = {"RAY_AUTH_TOKEN": secrets.token_hex(32), CLUSTER_MARK: f"{os.getpid()}:{folder}"}
            own["GLIBC_TUNABLES"] = with_huge_pages(os.environ)
            cluster.undo.append(_in_environment({**_OWN_ENVIRONMENT, **own}))
            _pass_signals_by()
            cluster.undo.append(ray.shutdown)
            with _without_helpers(dashboard=dashboard):
                ray.init(
                    address="local",
                    num_cpus=max(num_processors, usable_processors()),
                    include_dashboard=dashboard,
                    _node_ip_address="127.0.0.1",
                    # Ray opens the folder that it is given to everybody, but not the one around it.
                    _temp_dir=str(folder / "r"),
                    **quiet,
                )
        else:
            _require_answer(address)
            cluster.undo.append(ray.shutdown)
            ray.init(address=address, **quiet)
        printer = _with_printer(_print_nothing)
        cluster.undo.append(lambda: _with_printer(printer))
    except BaseException as cause:  # Ray raises bare ones, too
        cluster.stop()
        if not isinstance(cause, Exception) or isinstance(cause, BackendUnavailableError):
            raise
        where = f"at {address}" if address else "on this machine"
        raise BackendUnavailableError(
            f"Ray cannot start {where}: {cause}; use --backend inprocess, or check backend.address"
        ) from cause
    return cluster


def _private_folder() -> Path:
    """Return a new folder of mode 0700 whose path is short enough for sockets below it.

    Raises:
        BackendUnavailableError: there is no place for it.
    """
    wanted = Path(tempfile.gettempdir())
    tried = []
    for base in dict.fromkeys((wanted, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))):
        if len(os.fsencode(base / "neulite-12345678")) > MOST_FOLDER_BYTES:
            tried.append(f"{base}: its path is too long for a socket")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="neulite-", dir=base))
        except OSError as failure:
            tried.append(f"{base}: {failure.strerror}")
    raise BackendUnavailableError(
        f"Ray cannot start on this machine: no folder for its files ({'; '.join(tried)}); set TMPDIR to a folder with "
        f"a path of at most {MOST_FOLDER_BYTES - len('/neulite-12345678')} bytes, or use --backend inprocess"
    )


def _remove(folder: Path) -> None:
    """Remove a cluster's folder, and end the processes that still use it: those of a raylet that was killed."""
    until_s = time.monotonic() + SHUTDOWN_TIMEOUT_S
    while folder.exists() and time.monotonic() < until_s:
        for process in _users(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def _users(folder: Path) -> set[int]:
    """Return the other processes that have a file open below a folder, as far as this system shows them."""
    users = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(folder):
                users.add(int(link.parts[2]))
    return users - {os.getpid()}


def _in_environment(changes: Mapping[str, str | None]) -> Callable[[], None]:
    """Change the environment, None removes a variable, and what Ray has read of it; return what changes it back."""
    before = {name: os.environ.get(name) for name in changes}
    constants = sys.modules["ray._private.ray_constants"]
    known = {name: getattr(constants, name) for name in _OWN_CONSTANTS if hasattr(constants, name)}

    def put(environment: Mapping[str, str | None], values: Mapping[str, Any]) -> None:
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for name, value in values.items():
            setattr(constants, name, value)
        _read_environment_again()

    put(changes, {name: _OWN_CONSTANTS[name] for name in known})
    return lambda: put(before, known)


@contextlib.contextmanager
def _without_helpers(*, dashboard: bool) -> Iterator[None]:
    """Let Ray start without those of its processes that serve nobody here, as far as this version has them.

    They take a third of its start, and two thirds of its end: what asks a cloud for more machines, what follows the
    workers' logs, and what answers for a dashboard where there is none.
    """
    node = sys.modules["ray._private.node"].Node
    unused = {"start_monitor", "start_log_monitor"} | (set() if dashboard else {"start_api_server"})
    before = {name: getattr(node, name) for name in unused if hasattr(node, name)}
    for name in before:
        setattr(node, name, _start_nothing)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(node, name, start)


def _start_nothing(*_: object, **__: object) -> None:
    """Stand for a method of Ray that starts a process."""


def _read_environment_again() -> None:
    """Let Ray's core take its mode of authentication and its token from the environment as it is now."""
    core = sys.modules["ray._raylet"]
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()


def _pass_signals_by() -> None:
    """Block signals to stop in this thread; the processes that it starts inherit that.

    Sent to all processes of a terminal or a job they would otherwise end Ray's while the run is still ending. SIGTERM
    is left out: Ray ends its own processes with it.
    """
    if hasattr(signal, "pthread_sigmask"):
        passed_by = {getattr(signal, name) for name in SIGNALS if hasattr(signal, name)} - {signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, passed_by)


def _dead_process() -> str:
    """Return the name of a process that Ray cannot do without and that has ended; empty where there is none."""
    node = getattr(sys.modules["ray._private.worker"], "_global_node", None)
    if node is None:
        return ""
    for kind in ("raylet", "gcs_server"):
        for started in node.all_processes.get(kind, ()):
            if started.process.poll() is not None:
                return f"process {kind} ({started.process.pid})"
    if not node.all_processes and not _listens(node.raylet_socket_name):
        return f"process raylet (of {node.raylet_socket_name})"
    return ""


def _listens(path: str) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        return probe.connect_ex(path) == 0


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes.

    Raises:
        BackendUnavailableError: no connection to the host and port within `CONNECT_TIMEOUT_S`.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as cause:
        raise BackendUnavailableError(
            f"Ray cannot start at {address}: nothing answers there ({cause}); start a cluster with `ray start --head`, "
            "check backend.address, or use --backend inprocess"
        ) from cause


def _print_nothing(*_arguments: object, **_keywords: object) -> None:
    """Stand in for Ray's printer of errors, which reports dead workers on standard output whatever it is told."""


def _with_printer(printer: Any) -> Any:
    """Make Ray print its error messages with `printer` and return what it used before; None where it has no such."""
    module, name = sys.modules["ray._private.worker"], "print_to_stdstream"
    before = getattr(module, name, None)
    if before is not None:
        setattr(module, name, printer)
    return before
