"""A second process that has the last word where a library, or the system, ends this one without any.

Ray's core ends the process of a driver whose raylet is gone at the moment at which it is used; no code of the driver
runs any more. The watcher, this file run by itself, waits for the end of a pipe. Where nobody told it that all was
said it speaks, and ends what is left of the cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "NEULITE_CLUSTER"
"""Environment variable of the processes of a local cluster: its driver's process number, a colon, its folder."""

_TIMEOUT_S = 5.0


class LastWord:
    """Says `words` on standard error if this process ends before `drop` was called."""

    def __init__(self, words: str) -> None:
        # A session of its own: what is sent to all processes of a terminal or a job passes it by.
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, words, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def drop(self) -> None:
        """Let the watcher go without a word."""
        try:
            self._watcher.communicate(b".", timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._watcher.kill()
            self._watcher.wait()


def _watch(words: str, driver: str) -> None:
    if sys.stdin.buffer.read():
        return
    until_s = time.monotonic() + _TIMEOUT_S
    folders: set[str] = set()
    while (left := _left_behind(driver)) and time.monotonic() < until_s:
        for process, folder in left.items():
            folders.add(folder)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stderr.write(words)


def _left_behind(driver: str) -> dict[int, str]:
    """Return the processes of the driver's cluster, as far as this system shows them, and its folder."""
    found, start = {}, f"{MARK}={driver}:".encode()
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            for entry in file.read_bytes().split(b"\0"):
                if entry.startswith(start):
                    found[int(file.parts[2])] = os.fsdecode(entry.removeprefix(start))
    found.pop(os.getpid(), None)
    return found


if __name__ == "__main__":
    _watch(*sys.argv[1:])
