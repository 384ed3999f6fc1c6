"""A second process that makes the profiles of a study from its other end, and keeps them where the first one looks.

Following the steps of large networks takes a processor and minutes, and a study of many methods has dozens of them. The
helper answers the same study, entrants and budgets in reverse, for what it leaves in the folder of kept profiles; the
study itself is answered by the first process alone, so that nothing of it depends on whether there was any help.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

from neulite_sim.machine import free_memory_bytes
from neulite_sim.profiling.kept import kept_profiles
from neulite_sim.studies.machine_load import processors
from neulite_sim.studies.starting import Starter
from neulite_sim.studies.whatif import Budgets, Entrant, study

PATIENCE_S = 2.0
"""How long profiles are made alone: starting a helper takes about as long."""
MEMORY_BYTES = 2 * 10**9
"""What must be free for it."""
FEWEST_ENTRANTS = 3


@dataclass(slots=True)
class Help:
    """Help that comes when it is worth it."""

    entrants: Sequence[Entrant]
    budgets: Budgets
    process: subprocess.Popen[bytes] | None = None
    _first_at_s: float | None = field(default=None, init=False)
    _is_decided: bool = field(default=False, init=False)

    def before_profile(self) -> None:
        """Take note that a profile is about to be made; starts the helper where that has gone on for a while."""
        if self._first_at_s is None:
            self._first_at_s = time.monotonic()
        elif not self._is_decided and time.monotonic() - self._first_at_s >= PATIENCE_S:
            self._is_decided = True
            self._start()

    def _start(self) -> None:
        free_bytes = free_memory_bytes()
        if (
            len(self.entrants) < FEWEST_ENTRANTS
            or len(processors()) < 2
            or kept_profiles() is None
            or (free_bytes is not None and free_bytes < MEMORY_BYTES)
        ):
            return
        # What only this process knows, such as a model given from Python, cannot be sent, and goes without help.
        with contextlib.suppress(Exception), tempfile.TemporaryFile() as sent:
            budgets = replace(self.budgets, values=self.budgets.values[::-1])
            pickle.dump((tuple(reversed(self.entrants)), budgets), sent)
            sent.seek(0)
            with contextlib.closing(Starter()) as starter:
                starter.do(self._begin, sent)

    def _begin(self, sent: IO[bytes]) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=sent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self) -> None:
        """End the helper, whatever it is at."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def helped(entrants: Sequence[Entrant], budgets: Budgets) -> Iterator[Help]:
    """Within, let a study of these entrants have help once it is told of the profiles that are made."""
    found = Help(entrants, budgets)
    try:
        yield found
    finally:
        found.end()


def main() -> None:
    """Answer the study that is read from the standard input, for the profiles that it leaves behind."""
    entrants, budgets = pickle.load(sys.stdin.buffer)
    study(entrants, budgets)
