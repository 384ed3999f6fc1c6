"""Commands as processes of their own that start in a moment: forked from one that has imported everything before.

Importing takes most of the time of a short run. A test that starts a command for its signals, its exit code, what it
prints or what it leaves behind takes it from here; one for what happens before a command is at work starts Python.
A forked command has its own process, session where asked for, environment, folder and files, as any other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import neulite_sim
from neulite_sim import registry

ROOT = Path(neulite_sim.__file__).parents[1]
AT = "NEULITE_SIM_TEST_FORKS"
"""Environment variable: the socket of what forks."""
_MODULE = "neulite_sim"
_MOST_REQUEST_BYTES = 1 << 18
_MOST_FILES = 8


class Command:
    """A forked command, with what tests and sweeps use of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        files: tuple[int, int, int],
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        request = {
            "arguments": list(arguments),
            "folder": str(Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "new_session": start_new_session,
            "pass_fds": list(pass_fds),
        }
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(os.environ[AT])
        socket.send_fds(self._line, [json.dumps(request).encode()], [*files, *pass_fds])
        self._said = b""
        while b"\n" not in self._said:
            assert self._hears(None), "what forks commands has ended"
        pid, _, self._said = self._said.partition(b"\n")
        self.pid = int(pid)

    def _hears(self, timeout_s: float | None) -> bool:
        self._line.settimeout(timeout_s)
        try:
            more = self._line.recv(64)
        except (TimeoutError, BlockingIOError):
            return False
        self._said += more
        return bool(more)

    def poll(self) -> int | None:
        return self._waited(0.0)

    def _waited(self, timeout_s: float | None) -> int | None:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self.returncode is None:
            if b"\n" in self._said:
                self.returncode = int(self._said)
                self._line.close()
            elif not self._hears(None if until_s is None else max(0.0, until_s - time.monotonic())):
                break
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        code = self._waited(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked command", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote on both channels once it has ended; only of a command from `started`."""
        self.wait(timeout)
        assert self.stdout is not None
        assert self.stderr is not None
        texts = []
        for file in (self.stdout, self.stderr):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]


def started(*arguments: str, start_new_session: bool = False, **environment: str) -> Command:
    """Start `neulite-sim` with these arguments in the current folder; what it writes is kept for `communicate`."""
    # Both are closed by `communicate`.
    output, errors = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
    with open(os.devnull) as nothing:
        files = nothing.fileno(), output.fileno(), errors.fileno()
        given = {**os.environ, **environment}
        command = Command(arguments, files=files, env=given, start_new_session=start_new_session)
    command.stdout, command.stderr = output, errors
    return command


def _as_popen(command: Sequence[str], *, stdin: int, stdout: Any, stderr: Any, **how: Any) -> Command:
    """Do what `subprocess.Popen` does of a sweep's run."""
    assert stdin == subprocess.DEVNULL
    arguments = command[command.index(_MODULE) + 1 :]
    with open(os.devnull) as nothing:
        return Command(arguments, files=(nothing.fileno(), stdout.fileno(), stderr.fileno()), **how)


FOR_SWEEPS = SimpleNamespace(Popen=_as_popen, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
"""What stands for `subprocess` in the module of sweeps, so that their runs are forked."""


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Within, commands can be forked."""
    with tempfile.TemporaryDirectory(prefix="forks-") as folder:
        at = str(Path(folder, "at"))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]), AT: at}
        with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=environment) as source:  # fmt: skip
            assert source.stdout is not None
            assert source.stdin is not None
            assert source.stdout.readline() == b"ready\n"
            os.environ[AT] = at
            try:
                yield
            finally:
                del os.environ[AT]
                source.stdin.close()


def _serve() -> dict[str, Any] | None:
    """Fork a command for every request; returns the request in the command's process, and None at the end."""
    import selectors

    door = socket.socket(socket.AF_UNIX)
    door.bind(os.environ[AT])
    door.listen()
    # Keepers are nobody's business once they have told the exit code.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(1, b"ready\n")
    with selectors.DefaultSelector() as selector:
        for file in (door, sys.stdin):
            selector.register(file, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is sys.stdin for key, _ in selector.select()):
                return None
            line, _ = door.accept()
            if os.fork() == 0:
                break
            line.close()
    # The keeper of one command: it waits for it, and tells its number and its exit code.
    door.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    content, files, _, _ = socket.recv_fds(line, _MOST_REQUEST_BYTES, _MOST_FILES)
    request: dict[str, Any] = json.loads(content)
    pid = os.fork()
    if pid == 0:
        line.close()
        _become(request, files)
        return request
    for file in files:
        os.close(file)
    with contextlib.suppress(OSError):
        line.sendall(b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        line.sendall(b"%d\n" % code)
    os._exit(0)


def _become(request: Mapping[str, Any], files: Sequence[int]) -> None:
    """Turn this process into one that was started as asked."""
    if request["new_session"]:
        os.setsid()
    numbers = (0, 1, 2, *request["pass_fds"])
    # Above all numbers that are asked for, so that none is overwritten before it is where it belongs.
    kept = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, max(numbers) + 1) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(numbers, kept, strict=True):
        os.dup2(file, number)
        os.close(file)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
        signal.signal(getattr(signal, name), signal.SIG_DFL if name != "SIGINT" else signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    # As a fresh Python does; what is installed there is looked for anew.
    own = request["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, own), *(path for path in sys.path if path not in own)]
    registry.forget_installed()
    sys.argv[1:] = request["arguments"]


def _import_all() -> None:
    """Import what commands do, and nothing that starts a thread."""
    import importlib
    import pkgutil

    import sklearn.datasets  # noqa: F401
    import torch._dynamo  # noqa: F401  (the first optimizer does)

    from neulite_sim.studies import sweeps

    for module in pkgutil.walk_packages(neulite_sim.__path__, "neulite_sim."):
        # The tools that runs are exported to start threads of their own, and like Flower they need not be installed.
        is_extra = ".exports." in module.name or ".flower." in module.name
        if "ray_" in module.name or module.name.endswith("__main__") or is_extra:
            continue
        importlib.import_module(module.name)
    sweeps.subprocess = FOR_SWEEPS  # type: ignore[assignment]


if __name__ == "__main__":
    import gc

    _import_all()
    gc.freeze()
    if _serve() is not None:
        from neulite_sim.__main__ import main

        main()
