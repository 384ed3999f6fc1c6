"""The journal of a run: what the outside of the timeline returned, one line of JSON each, in the order it was asked.

`updates.jsonl` has a line per update that was merged, `rounds.jsonl` one per round, `tests.jsonl` one per test of the
global model. With it a run can be played again without training; a checkpoint says how far each file then reaches.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from torch import Tensor, uint8

from neulite_sim.errors import DataNotFoundError, OutputError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

UPDATES, ROUNDS, TESTS = "updates", "rounds", "tests"
STREAMS = (UPDATES, ROUNDS, TESTS)

Entry = dict[str, Any]

_AS_JSON = json.JSONEncoder(separators=(",", ":"))


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return SHA-256 over the names, types, shapes and bytes of an update, as 64 hexadecimal digits."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.reshape(-1).view(uint8).numpy().data)
    return whole.hexdigest()


class Journal:
    """Appends to the files of a folder. `lengths` are the bytes of each that hold, as a checkpoint names them.

    Raises:
        OutputError: a file cannot be written; names it and the reason.
    """

    def __init__(self, folder: Path, lengths: Mapping[str, int] | None = None) -> None:
        self._files: dict[str, BinaryIO] = {}
        self._folder = folder
        try:
            folder.mkdir(exist_ok=True)
            for stream in STREAMS:
                file = (folder / f"{stream}.jsonl").open("ab")
                self._files[stream] = file
                _lock(file)
                file.truncate((lengths or {}).get(stream, 0))
                file.seek(0, os.SEEK_END)
        except BlockingIOError:
            self.close()
            raise OutputError(f"{folder}: another process is writing this run; wait for it or stop it") from None
        except OSError as error:
            self.close()
            raise self._refusal(error) from error

    def add(self, stream: str, entry: Entry) -> None:
        """Append one entry."""
        try:
            self._files[stream].write(_AS_JSON.encode(entry).encode() + b"\n")
        except OSError as error:
            raise self._refusal(error) from error

    def sync(self) -> dict[str, int]:
        """Bring everything to the disk and return how long each file is."""
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refusal(error) from error
        return {stream: file.tell() for stream, file in self._files.items()}

    def flush(self) -> None:
        """Hand everything to the operating system: it survives the end of this process."""
        try:
            for file in self._files.values():
                file.flush()
        except OSError as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            try:
                file.close()
            except OSError as error:
                raise self._refusal(error) from error
        self._files = {}

    def _refusal(self, error: OSError) -> OutputError:
        reason = error.strerror or error
        return OutputError(f"{self._folder}: the journal cannot be written: {reason}; the last checkpoint stays")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(file: BinaryIO) -> None:
    """Keep other processes from writing the file while this one does, where the system can."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_journal(folder: Path, stream: str, length: int) -> Generator[Entry, None, None]:
    """Return the entries in the first `length` bytes of a file of the journal; the file is checked at once.

    The file is open from the first entry to the last; who stops before closes the generator.

    Raises:
        DataNotFoundError: the file is gone, shorter than that, or, while it is read, no journal.
    """
    path = folder / f"{stream}.jsonl"
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataNotFoundError(f"{path}: cannot be read: {error.strerror}; the run cannot be resumed") from None
    if found < length:
        raise DataNotFoundError(
            f"{path}: has {found} bytes, its checkpoint needs {length}; it was cut, and the run cannot be resumed"
        )
    return _entries(path, length)


def _entries(path: Path, length: int) -> Generator[Entry, None, None]:
    with path.open("rb") as file:
        while file.tell() < length:
            try:
                entry = json.loads(file.readline())
            except ValueError:
                raise DataNotFoundError(
                    f"{path}: a line is no JSON; it was changed, and the run cannot be resumed"
                ) from None
            yield entry
