"""Checkpoints of a run: the weights that the journal does not hold, each written whole or not at all.

A checkpoint is a folder `checkpoint/round-N`, made under another name and renamed when it is complete; the one before
it is removed only then. So a full disk, or a kill at any moment, leaves the last good one.
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
from safetensors.torch import load_file, save_file

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.methods.contract import State
from neulite_sim.results.state_files import Packing, unpack

SCHEMA_VERSION = 1
STATE, TENSORS = "state.json", "tensors.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A run after a round: the method's state, and by version those that flights still in the air were sent."""

    round: int
    wall_time_s: float
    state: State
    sent: Mapping[int, State]


def write_checkpoint(folder: Path, saved: Saved, journal: Mapping[str, int]) -> None:
    """Write a checkpoint that goes with a journal of these lengths, and remove the ones before.

    Raises:
        OutputError: it cannot be written; the one before stays.
    """
    packing = Packing()
    content = {
        "schema_version": SCHEMA_VERSION,
        "round": saved.round,
        "wall_time_s": saved.wall_time_s,
        "journal": dict(journal),
        "state": packing.pack(saved.state),
        "sent": packing.pack(dict(saved.sent)),
    }
    path = folder / f"round-{saved.round:08d}"
    partial = folder / f".{path.name}.partial"
    try:
        folder.mkdir(exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file(packing.tensors, partial / TENSORS)
        (partial / STATE).write_text(json.dumps(content), encoding="utf-8")
        for name in (TENSORS, STATE, ""):
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


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the latest last."""
    return sorted(path for path in folder.glob("round-*") if path.is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint on disk: its round, and how much of the journal goes with it."""

    path: Path
    round: int
    journal: Mapping[str, int]


def find_checkpoint(folder: Path) -> Found | None:
    """Return the latest checkpoint of a run; None where it has none.

    Raises:
        DataNotFoundError: it cannot be read, or is of another version.
    """
    paths = checkpoints(folder)
    if not paths:
        return None
    content = _content(paths[-1])
    with _refusing_changes(paths[-1] / STATE):
        lengths = {str(stream): int(length) for stream, length in content["journal"].items()}
        return Found(path=paths[-1], round=int(content["round"]), journal=lengths)


def read_checkpoint(found: Found, *, packages: frozenset[str]) -> Saved:
    """Return what a checkpoint holds; its states are of classes in `packages`.

    Raises:
        DataNotFoundError: it cannot be read, or was changed.
    """
    content = _content(found.path)
    try:
        tensors = load_file(found.path / TENSORS)
    except (OSError, SafetensorError) as error:
        raise DataNotFoundError(f"{found.path / TENSORS}: cannot be read: {error}; the run cannot be resumed") from None
    with _refusing_changes(found.path / STATE):
        return Saved(
            round=found.round,
            wall_time_s=float(content["wall_time_s"]),
            state=unpack(content["state"], tensors, packages=packages),
            sent=unpack(content["sent"], tensors, packages=packages),
        )


@contextlib.contextmanager
def _refusing_changes(path: Path) -> Iterator[None]:
    """Tell that a file is JSON, but not what was written there."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataNotFoundError(
            f"{path}: is no checkpoint ({type(error).__name__}: {error}); it was changed, and the run cannot be resumed"
        ) from None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataNotFoundError(f"{path / STATE}: cannot be read: {error}; the run cannot be resumed") from None
    if not isinstance(content, dict):
        raise DataNotFoundError(f"{path / STATE}: is no checkpoint; it was changed, and the run cannot be resumed")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise DataNotFoundError(
            f"{path / STATE}: is of schema version {content.get('schema_version')}, this neulite-sim reads "
            f"{SCHEMA_VERSION}; resume with the version that made it"
        )
    return content


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
