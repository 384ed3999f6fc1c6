"""Files that a user names to write to: whole or not at all, never over what is read, never into a run folder."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.results.cells import FILES
from neulite_sim.results.places import PROVENANCE, SCENARIO
from neulite_sim.results.rows import RoundRow
from neulite_sim.results.writing import remove

_OPEN = ("/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/")
_ELSEWHERE = "name another file"


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a path to write to in the place of `path`; at the end it takes that name, unless anything failed.

    So what was there stays until the new file is whole. A link is followed, and stays; a pipe or a device, of which
    nothing can be kept, is written to itself.

    Raises:
        OSError: a folder, or a file that may not be written, is in the place, or the file cannot take its name.
    """
    if _is_open_already(path):
        yield path
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    partial = target.with_name(target.name + ".partial")
    remove(partial)
    try:
        yield partial
        if target.exists():
            # Whoever could read the file before can read it now.
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        partial.replace(target)
    finally:
        remove(partial)


def _is_open_already(path: Path) -> bool:
    """Whether a path is a pipe or a device, or a name that the system has for what a process has open."""
    is_special = path.exists() and not path.is_file() and not path.is_dir()
    return is_special or os.path.abspath(path).startswith(_OPEN)


def check_outputs(
    outputs: Mapping[str, Path | str | None], inputs: Iterable[Path | str], *, kept: Iterable[Path | str] = ()
) -> None:
    """Refuse outputs, by option, that would replace an input or each other, or that lie in a run folder.

    `inputs` are files, run folders and folders of these; of what lies in the folders `kept`, nothing is replaced.

    Raises:
        ScenarioError: names the option, the path, and what it would damage.
    """
    given = {option: Path(path) for option, path in outputs.items() if path is not None}
    read, whole = [Path(path) for path in inputs], [os.path.realpath(folder) for folder in kept]
    problems = []
    for place, (option, path) in enumerate(given.items()):
        earlier = [other for other, its in list(given.items())[:place] if _is_same(its, path)]
        replaces = any(_is_same(path, each) and not each.is_dir() for each in read)
        if replaces or (path.is_file() and any(_lies_in(path, folder) for folder in whole)):
            problems.append(Problem.advising(key=option, found=f"{path} is what is read here", hint=_ELSEWHERE))
        elif (run := _run_around(path, read)) is not None:
            found = f"{path} lies in the run folder {run}, in which nothing is changed"
            problems.append(Problem.advising(key=option, found=found, hint="name a place outside of it"))
        elif earlier:
            problems.append(Problem.advising(key=option, found=f"{path} is {earlier[0]} as well", hint=_ELSEWHERE))
    if problems:
        raise ScenarioError(problems)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except OSError:
        return False


def _lies_in(path: Path, folder: str) -> bool:
    return folder in map(str, Path(os.path.realpath(path)).parents)


def _run_around(path: Path, read: Iterable[Path]) -> Path | None:
    """Return the run folder that a path would be in; a folder that holds a scenario alone is none."""
    real = Path(os.path.realpath(path))
    named = {os.path.realpath(folder) for folder in read}
    for folder in (real, *real.parents):
        marks = ((folder / name).is_file() for name in (PROVENANCE, FILES[RoundRow]))
        if (folder / SCENARIO).is_file() and (str(folder) in named or any(marks)):
            return folder
    return None
