"""Values given from Python, handed by a program to the processes of its runs.

They travel in a file without a name, of which a process inherits the open descriptor: nothing is left on a disk, and
whoever could put another file in its place could as well start another program
(docs/decisions/0055-functions-beside-the-commands.md).
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from neulite_sim.errors import NeuliteError

if TYPE_CHECKING:
    from neulite_sim.scenario.schema import Scenario
    from neulite_sim.user_code.holding import Holder

VARIABLE = "NEULITE_SIM_GIVEN"
"""Says in the environment of a run which open descriptor it is."""

_CHUNK = 2**24
_TAKEN: list[Holder] = []


def hand_over(scenarios: Sequence[Scenario]) -> IO[bytes] | None:
    """Return an open file with all that scenarios were given from Python; None where they were given nothing.

    Raises:
        NeuliteError: a value cannot be sent, or processes inherit no files on this system.
    """
    from neulite_sim.user_code.records import given_values, registered_components

    holders = {(each.field, each.sha256): each for scenario in scenarios for each in given_values(scenario)}
    named = {each[:2]: each for scenario in scenarios for each in registered_components(scenario)}
    if not holders and not named:
        return None
    if sys.platform == "win32":
        found = "what was given from Python does not reach the processes of the runs on this system"
        raise NeuliteError(found, hint="run them one by one with simulate, or use files (kind: python)")
    from neulite_sim.training.carrying import packed
    from neulite_sim.user_code.holding import modules_that_travel

    content = packed((list(holders.values()), list(named.values())), modules_that_travel())
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.flush()
    return file


def take_over() -> None:
    """Let this process know what the one that started it was given from Python, if it says so."""
    number = os.environ.pop(VARIABLE, "")
    if not number.isdecimal():
        return
    from neulite_sim.registry import register_component
    from neulite_sim.training.carrying import unpacked
    from neulite_sim.user_code.holding import held

    holders, named = unpacked(_content(int(number)))
    _TAKEN.extend(map(held, holders))
    for field, name, component, sha256 in named:
        register_component(field, name, component, sha256=sha256)


def _content(descriptor: int) -> bytes:
    """Return what a file without a name holds.

    Raises:
        NeuliteError: the descriptor is no such file of this user.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        found = None
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_nlink or found.st_uid != os.geteuid():
        raise NeuliteError(f"{VARIABLE}={descriptor} is no file that a program of yours handed over", hint="unset it")
    # All processes of a sweep share one position in the file.
    places = range(0, found.st_size, _CHUNK)
    return b"".join(os.pread(descriptor, min(_CHUNK, found.st_size - place), place) for place in places)
