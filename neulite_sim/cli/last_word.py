"""A second process that has the last word where a library, or the system, ends this one without any.

Ray's core ends the process of a driver whose raylet is gone at the moment at which it is used; no code of the driver
runs any more. The watcher waits for the end of a pipe. Where nobody told it that all was said it speaks, and ends what
is left of the cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from neulite_sim.stopping import CLUSTER_MARK

_WATCHER = Path(__file__).with_name("watcher.py")
_TIMEOUT_S = 5.0


class LastWord:
    """Says `words` on standard error and `answer` on standard output if this process ends before `drop` was called."""

    def __init__(self, words: str, answer: str = "") -> None:
        # A session of its own: what is sent to all processes of a terminal or a job passes it by.
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_WATCHER), words, f"{CLUSTER_MARK}={os.getpid()}:", answer],
            stdin=subprocess.PIPE,
            stdout=None if answer else subprocess.DEVNULL,
            start_new_session=True,
        )

    def drop(self) -> None:
        """Let the watcher go without a word."""
        try:
            self._watcher.communicate(b".", timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._watcher.kill()
            self._watcher.wait()
