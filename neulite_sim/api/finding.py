"""Runs as they are named: folders, folders of them, patterns, and what functions of this package returned."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.arguments import path_of
from neulite_sim.errors import DataNotFoundError
from neulite_sim.results.places import SCENARIO
from neulite_sim.results.stored import StoredRun, deeper_runs, find_runs, read_run, with_energy

if TYPE_CHECKING:
    from neulite_sim.engine.run_result import RunResult

_PATTERN = "*?["
_WISH = "name run folders, or give what simulate, sweep or resume returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What was found under names: the runs, each once, what cannot be read, and what was left out."""

    runs: tuple[StoredRun, ...]
    problems: tuple[DataNotFoundError, ...] = ()
    notes: tuple[str, ...] = ()


def read_runs(paths: Sequence[Path]) -> Named:
    """Return the runs in folders, each once, and an error for each that cannot be read."""
    found: dict[Path, StoredRun] = {}
    problems: dict[str, DataNotFoundError] = {}
    notes: list[str] = []
    for path in paths:
        try:
            folders = find_runs(path)
        except DataNotFoundError as error:
            problems.setdefault(str(error), error)
            continue
        notes += left_out(path)
        for folder in folders:
            try:
                found.setdefault(folder.resolve(), with_energy(read_run(folder)))
            except DataNotFoundError as error:
                problems.setdefault(str(error), error)
    return Named(runs=tuple(found.values()), problems=tuple(problems.values()), notes=tuple(notes))


def left_out(path: Path) -> Iterator[str]:
    """Yield which runs are left out of a folder, because they lie in folders inside it."""
    if deeper := deeper_runs(path):
        left = f"{len(deeper)} run{' lies' if len(deeper) == 1 else 's lie'} deeper, such as {deeper[0]}"
        yield f"{path}: {left}; name the folder around to take them"


def all_of(problems: Sequence[DataNotFoundError]) -> DataNotFoundError:
    """Return one error for several, a line each."""
    if len(problems) == 1:
        return problems[0]
    error = DataNotFoundError("\n".join(map(str, problems)))
    error.hint = "\n".join(dict.fromkeys(problem.hint for problem in problems if problem.hint))
    return error


class Folder:
    """A folder of our own that goes when nobody holds it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="neulite-sim-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def paths_of(runs: Any, kept: Folder | None = None) -> list[Path]:
    """Return the folders of runs as `compare` takes them; of runs in memory, copies in the folder `kept`.

    Raises:
        DataNotFoundError: a pattern matches nothing, or something else than a run was given.
    """
    return list(_paths(runs, kept or Folder()))


def _paths(runs: Any, kept: Folder) -> Iterator[Path]:
    if isinstance(runs, str | os.PathLike):
        yield from _matching(os.fspath(path_of("runs", runs, "the paths of run folders")))
    elif hasattr(runs, "folders"):
        yield from runs.folders
    elif hasattr(runs, "run_dir"):
        yield _kept(runs, kept) if runs.run_dir is None else Path(runs.run_dir)
    elif isinstance(runs, StoredRun):
        yield runs.path
    elif isinstance(runs, Iterable) and not isinstance(runs, bytes):
        for run in runs:
            yield from _paths(run, kept)
    else:
        raise DataNotFoundError(f"{type(runs).__name__} is no run", hint=_WISH)


def _matching(text: str) -> Iterator[Path]:
    """Yield the folders that match a pattern, by name; a text without pattern, or of a folder that is there, itself."""
    if not any(letter in text for letter in _PATTERN) or os.path.exists(text):
        yield Path(text)
        return
    found = sorted(path for path in glob.glob(os.path.expanduser(text), recursive=True) if os.path.isdir(path))
    if not found:
        raise DataNotFoundError(f"{text}: matches no folder", hint=_WISH)
    # A sweep's folder holds others beside those of its runs.
    yield from [Path(path) for path in found if next(Path(path).rglob(SCENARIO), None)] or map(Path, found)


def _kept(result: RunResult, kept: Folder) -> Path:
    """Write a run that is in memory into a folder, for all that reads run folders, and return that."""
    from neulite_sim.api.keeping import keep_run

    scenario = result.scenario
    if scenario is None:
        raise DataNotFoundError("this run in memory does not know its scenario", hint=_WISH)
    stem, place = kept.path / f"{scenario.name}-{scenario.seed}", 2
    path = stem
    while path.exists():
        path, place = stem.with_name(f"{stem.name}-{place}"), place + 1
    keep_run(result, path)
    return path
