"""Run folders found below a folder: what each is, how far it came, and in what state it was left.

Thousands of them are listed in a moment: of each only the small files are read, none of them believed. A folder that
is damaged has a row that says so.
"""

from __future__ import annotations

import datetime
import os
import re
from collections import deque
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neulite_sim.errors import DataNotFoundError, NeuliteError
from neulite_sim.outside import open_regular, plain_json, read_regular, what_stands
from neulite_sim.results.cells import FILES, scan_rows
from neulite_sim.results.journal import UPDATES
from neulite_sim.results.places import (
    CHECKPOINT,
    COMPLETE,
    FAILED,
    JOURNAL,
    PROVENANCE,
    SCENARIO,
    SUMMARY,
    SUMS,
    was_never_begun,
)
from neulite_sim.results.provenance import other_versions
from neulite_sim.results.rows import RoundRow
from neulite_sim.results.stored import require_whole
from neulite_sim.results.summary import TAIL_EVALUATIONS
from neulite_sim.results.sums import names_with_sums

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

State = Literal["complete", "NA", "running", "resumable", "cut off", "failed", "damaged"]
STATES: tuple[State, ...] = ("complete", "NA", "running", "resumable", "cut off", "failed", "damaged")
"""Complete; complete, and no device could train; at work now; stopped, and to be resumed; stopped, and of another
version; ended by an error; not readable."""

_MARKS = (SCENARIO, SUMMARY, PROVENANCE, FILES[RoundRow], SUMS)
_SMALL_BYTES = 10**7
_HEAD = re.compile(r"^(name|seed): *(\S.*?) *$", re.M)
_METHOD = re.compile(r"^method:(?: *\{? *kind: *|\n +kind: *| +)([\w.:-]+)", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run folder. What nothing tells is None; accuracies are between 0 and 1."""

    run: str
    """Its path, from the folder in which it was looked for."""
    run_dir: Path
    state: State
    name: str | None = None
    method: str | None = None
    seed: int | None = None
    rounds: int | None = None
    final_accuracy: float | None = None
    tail_accuracy: float | None = None
    best_accuracy: float | None = None
    virtual_time_s: float | None = None
    started_at_utc: str | None = None
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts; `accuracy` is the mean of the last tests, as `compare` shows it."""
        return {
            "run": self.run, "run_dir": str(self.run_dir), "name": self.name, "method": self.method, "seed": self.seed,
            "state": self.state, "rounds": self.rounds, "accuracy": self.tail_accuracy,
            "final_accuracy": self.final_accuracy, "tail_accuracy": self.tail_accuracy,
            "best_accuracy": self.best_accuracy, "virtual_time_s": self.virtual_time_s,
            "started_at_utc": self.started_at_utc, "remark": self.remark,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What was found below a folder: runs by their paths, and what could not be looked into."""

    runs: list[ListedRun] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def list_runs(folder: Path) -> Listing:
    """Return the runs at or below a folder. No link is followed; hidden folders are passed over.

    Raises:
        DataNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataNotFoundError(f"{folder}: {what}", hint="name the folder in which runs are, such as runs")
    found = Listing()
    foreign = 0
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                inside = {entry.name: entry for entry in entries}
        except OSError as error:
            found.remarks.append(f"{path}: cannot be read: {error.strerror}")
            continue
        if any(name in inside for name in _MARKS):
            run = str(path.relative_to(folder)) if path != folder else path.resolve().name
            found.runs.append(_listed(path, run, inside.keys()))
            continue
        below = [entry for name, entry in inside.items() if entry.is_dir(follow_symlinks=False) and name[0] != "."]
        foreign += bool(inside) and not below
        waiting += [Path(entry.path) for entry in below]
    if foreign:
        found.remarks.append(f"{foreign} {'folders hold' if foreign > 1 else 'folder holds'} no run")
    found.runs.sort(key=lambda listed: listed.run)
    return found


def _listed(path: Path, run: str, names: Collection[str]) -> ListedRun:
    about: dict[str, Any] = {"run": run, "run_dir": path}
    try:
        made = _mapping(path / PROVENANCE) if PROVENANCE in names else {}
        about["started_at_utc"] = _moment(made.get("started_at_utc"))
        if SCENARIO not in names:
            raise ValueError(f"no {SCENARIO}")
        found = _complete(path, names) if COMPLETE in names else _unfinished(path, names, made)
        return ListedRun(**about, **found)
    except (NeuliteError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ListedRun(**about, state="damaged", remark=reason.removeprefix(f"{path}{os.sep}"))


def _moment(text: Any) -> str | None:
    """Return a moment in UTC as a text, None where it is none."""
    try:
        given = datetime.datetime.fromisoformat(text)
        return None if given.tzinfo is None else given.astimezone(datetime.UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError):
        return None


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        content = plain_json(_read(path))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return content


def _read(path: Path) -> str:
    try:
        return read_regular(path, most_bytes=_SMALL_BYTES, follows_links=False).decode("utf-8", "backslashreplace")
    except OSError as error:
        raise DataNotFoundError(f"{path.name} cannot be read: {error.strerror}") from None


def _complete(path: Path, names: Container[str]) -> Mapping[str, Any]:
    """Return what the small files of a complete run tell, which are whole; of the others each has to be there."""
    summary = _mapping(path / SUMMARY)
    wanted: dict[str, tuple[type, ...]] = {
        "name": (str,), "method": (str,), "seed": (int,), "rounds": (int,), "final_accuracy": (int, float),
        "tail_accuracy": (int, float), "best_accuracy": (int, float), "virtual_time_s": (int, float),
    }  # fmt: skip
    wrong = [key for key, kinds in wanted.items() if not isinstance(summary.get(key), (*kinds, type(None)))]
    if wrong:
        raise ValueError(f"{SUMMARY}: {wrong[0]} is {summary[wrong[0]]!r:.40}")
    for name in (SCENARIO, COMPLETE):
        _read(path / name)
    require_whole(path)
    gone = [name for name in sorted(names_with_sums(path)) if name not in names]
    if gone:
        raise ValueError(f"{' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone")
    reason = summary.get("not_applicable")
    state = "complete" if reason is None else "NA"
    return {
        **{key: summary.get(key) for key in wanted},
        "state": state,
        "remark": "" if reason is None else str(reason),
    }


def _unfinished(path: Path, names: Collection[str], made: Mapping[str, Any]) -> Mapping[str, Any]:
    tail: deque[float] = deque(maxlen=TAIL_EVALUATIONS)
    found: dict[str, Any] = {**_head(path / SCENARIO), "rounds": 0}
    for row in _rounds(path) if FILES[RoundRow] in names else ():
        found |= {"rounds": found["rounds"] + 1, "virtual_time_s": row["virtual_time_s"]}
        if row["test_accuracy"] is not None:
            tail.append(row["test_accuracy"])
            found["best_accuracy"] = max(found.get("best_accuracy", 0.0), tail[-1])
    require_whole(path)
    if tail:
        found |= {"final_accuracy": tail[-1], "tail_accuracy": sum(tail) / len(tail)}
    return {**found, **_left_in(path, names, made)}


def _rounds(path: Path) -> Iterator[dict[str, Any]]:
    return scan_rows(path / FILES[RoundRow], RoundRow)


def _left_in(path: Path, names: Collection[str], made: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return in what state a run was left that is not complete."""
    if _is_at_work(path):
        return {"state": "running"}
    if FAILED in names:
        return {"state": "failed", "remark": " ".join(_read(path / FAILED).split())}
    if was_never_begun(names):
        return {"state": "cut off", "remark": "before it began; run it anew"}
    if differing := other_versions(made):
        return {"state": "cut off", "remark": f"made with {', '.join(differing)}"}
    return {"state": "resumable" if JOURNAL in names or CHECKPOINT in names else "cut off"}


def _is_at_work(path: Path) -> bool:
    """Whether a process holds the lock of the run's journal; where the system has no locks, nothing tells."""
    journal = path / JOURNAL / f"{UPDATES}.jsonl"
    if fcntl is None or what_stands(path / JOURNAL) != "a folder" or what_stands(journal) != "a file":
        return False
    with open_regular(journal, most_bytes=1 << 60, follows_links=False) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _head(path: Path) -> Mapping[str, Any]:
    """Return name, seed and method of a scenario as a run writes it: read whole, YAML takes too long for a list."""
    text = _read(path)
    found = {match[1]: match[2].strip("'\"") for match in _HEAD.finditer(text)}
    method = _METHOD.search(text)
    if method is None or "name" not in found or not re.fullmatch(r"\d{1,30}", found.get("seed", "")):
        raise ValueError(f"{path.name} lacks what a resolved scenario has")
    return {"name": found["name"], "seed": int(found["seed"]), "method": method[1]}
