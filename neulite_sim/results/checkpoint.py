"""Checkpoints of a run: the weights that the journal does not hold, each written whole or not at all.

A checkpoint is a folder `checkpoint/round-N`, made under another name and renamed when it is complete; the one before
it is removed only then. So a full disk, or a kill at any moment, leaves the last good one. Its manifest, sealed itself,
holds the SHA-256 of its files, how far the journal goes with it, and what a replay must have come to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file

from neulite_sim.errors import DataNotFoundError, NotResumableError, OutputError
from neulite_sim.methods.contract import State
from neulite_sim.methods.state_files import Packing, unpack
from neulite_sim.outside import TEXT_BYTES, file_sha256, read_regular, what_stands
from neulite_sim.results.journal import Mark
from neulite_sim.results.seals import is_sealed, sealed, sha256

SCHEMA_VERSION = 2
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
TENSOR_BYTES = 256 * 10**9
"""The most that a file of a checkpoint may hold."""

_CHANGED = "it was changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A run after a round: the method's state, and by version those that flights still in the air were sent.

    `came_to` is the digest of what the run had come to: its rows, and what was in the air.
    """

    round: int
    wall_time_s: float
    state: State
    sent: Mapping[int, State]
    came_to: str = ""


def write_checkpoint(folder: Path, saved: Saved, journal: Mapping[str, Mark], *, packages: frozenset[str]) -> None:
    """Write a checkpoint that goes with a journal up to these marks, and remove the ones before.

    Raises:
        OutputError: it cannot be written; the one before stays.
        SimulationError: the state holds what could not be read back; the one before stays.
    """
    packing = Packing(packages)
    content = {
        "state": packing.pack(saved.state, "the method's state"),
        "sent": packing.pack(dict(saved.sent), "the states that were sent"),
    }
    path = folder / f"round-{saved.round:08d}"
    partial = folder / f".{path.name}.partial"
    try:
        folder.mkdir(exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file(packing.tensors, partial / TENSORS)
        (partial / STATE).write_text(json.dumps(content), encoding="utf-8")
        (partial / MANIFEST).write_text(_manifest(partial, saved, journal), encoding="utf-8")
        for name in (TENSORS, STATE, MANIFEST, ""):
            _sync(partial / name)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(
            f"{path}: the checkpoint cannot be written: {reason}; the one before, if any, stays"
        ) from error
    for older in checkpoints(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def _manifest(partial: Path, saved: Saved, journal: Mapping[str, Mark]) -> str:
    return json.dumps(
        sealed(
            {
                "schema_version": SCHEMA_VERSION,
                "round": saved.round,
                "wall_time_s": saved.wall_time_s,
                "came_to": saved.came_to,
                "journal": {name: {"bytes": mark.length, "check": mark.check} for name, mark in journal.items()},
                "files": {
                    name: {
                        "bytes": (partial / name).stat().st_size,
                        "sha256": file_sha256(partial / name, most_bytes=TENSOR_BYTES),
                    }
                    for name in (STATE, TENSORS)
                },
            }
        ),
        indent=2,
    )


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the latest last."""
    return sorted(path for path in folder.glob("round-*") if what_stands(path) == "a folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint on disk whose files are as they were written: its round, and how far the journal goes with it."""

    path: Path
    round: int
    wall_time_s: float
    came_to: str
    journal: Mapping[str, Mark]
    files: Mapping[str, str]
    """The SHA-256 of each."""


def find_checkpoint(folder: Path) -> Found | None:
    """Return the latest checkpoint of a run; None where it has none.

    Raises:
        DataNotFoundError: it cannot be read, was changed, or is of another version.
    """
    paths = checkpoints(folder)
    if not paths:
        return None
    path = paths[-1]
    content = _content(path)
    with _refusing_changes(path / MANIFEST):
        found = Found(
            path=path,
            round=int(content["round"]),
            wall_time_s=float(content["wall_time_s"]),
            came_to=str(content["came_to"]),
            journal={
                str(stream): Mark(length=int(mark["bytes"]), check=str(mark["check"]))
                for stream, mark in content["journal"].items()
            },
            files={name: str(content["files"][name]["sha256"]) for name in (STATE, TENSORS)},
        )
    if path.name != f"round-{found.round:08d}":
        raise NotResumableError(f"{path}: holds the checkpoint of round {found.round}", because=_CHANGED)
    for name, wanted in found.files.items():
        try:
            is_same = file_sha256(path / name, most_bytes=TENSOR_BYTES, follows_links=False) == wanted
        except OSError as error:
            raise _unreadable(path / name, error) from None
        if not is_same:
            raise NotResumableError(f"{path / name}: is not as it was written", because=_CHANGED)
    return found


def read_checkpoint(found: Found, *, packages: frozenset[str]) -> Saved:
    """Return what a checkpoint holds; its states are of classes in `packages`.

    Raises:
        NotResumableError: it cannot be read, or was changed.
    """
    read = {}
    for name, wanted in found.files.items():
        try:
            read[name] = read_regular(found.path / name, most_bytes=TENSOR_BYTES, follows_links=False)
        except OSError as error:
            raise _unreadable(found.path / name, error) from None
        if sha256(read[name]) != wanted:
            raise NotResumableError(f"{found.path / name}: is not as it was written", because=_CHANGED)
    with _refusing_changes(found.path / STATE):
        content = json.loads(read.pop(STATE))
        tensors = load(read.pop(TENSORS))
        return Saved(
            round=found.round,
            wall_time_s=found.wall_time_s,
            came_to=found.came_to,
            state=unpack(content["state"], tensors, packages=packages),
            sent=unpack(content["sent"], tensors, packages=packages),
        )


@contextlib.contextmanager
def _refusing_changes(path: Path) -> Iterator[None]:
    """Tell that a file is JSON, but not what was written there."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        message = f"{path}: is no checkpoint ({type(error).__name__}: {error})"
        raise NotResumableError(message, because=_CHANGED) from None


def _unreadable(path: Path, error: Exception) -> NotResumableError:
    reason = getattr(error, "strerror", None) or error
    return NotResumableError(f"{path}: cannot be read: {reason}")


def _content(path: Path) -> dict[str, Any]:
    if what_stands(path / MANIFEST) is None and what_stands(path / STATE) is not None:
        because = "it was made by an older version, without checksums, or changed"
        raise NotResumableError(f"{path}: has no {MANIFEST}", because=because)
    try:
        content = json.loads(read_regular(path / MANIFEST, most_bytes=TEXT_BYTES, follows_links=False))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path / MANIFEST, error) from None
    if not isinstance(content, dict) or not is_sealed(content):
        raise NotResumableError(f"{path / MANIFEST}: is not as it was written", because=_CHANGED)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise DataNotFoundError(
            f"{path / MANIFEST}: is of schema version {content.get('schema_version')}, this neulite-sim reads "
            f"{SCHEMA_VERSION}",
            hint="resume with the version that made it",
        )
    return content


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
