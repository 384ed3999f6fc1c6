"""The journal of a run: what the outside of the timeline returned, one line of JSON each, in the order it was asked.

`updates.jsonl` has a line per update that was merged, `rounds.jsonl` one per round, `tests.jsonl` one per test of the
global model. With it a run can be played again without training; a checkpoint says how far each file then reaches.
Each line ends in a check of itself and of all lines before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from neulite_sim.errors import NotResumableError, OutputError, SimulationError
from neulite_sim.outside import TABLE_BYTES, open_own, open_regular
from neulite_sim.results.seals import Chain

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

UPDATES, ROUNDS, TESTS = "updates", "rounds", "tests"
STREAMS = (UPDATES, ROUNDS, TESTS)

Entry = dict[str, Any]

_AS_JSON = json.JSONEncoder(separators=(",", ":"))
_CHECK = b',"check":"'
_TAIL_BYTES = len(_CHECK) + 32 + len(b'"}\n')


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a file of the journal reaches, in bytes, and the check of its last line up to there."""

    length: int
    check: str


BEGINNING = Mark(length=0, check="")


class Journal:
    """Appends to the files of a folder, from the `marks` of a checkpoint on; what lies behind them goes at `begin`.

    Raises:
        OutputError: a file cannot be written; names it and the reason.
    """

    def __init__(self, folder: Path, marks: Mapping[str, Mark] | None = None) -> None:
        self._files: dict[str, BinaryIO] = {}
        self._folder = folder
        self._marks = {stream: (marks or {}).get(stream, BEGINNING) for stream in STREAMS}
        self._chains = {stream: Chain(stream, mark.check) for stream, mark in self._marks.items()}
        try:
            folder.mkdir(exist_ok=True)
            for stream in STREAMS:
                file = open_own(folder / f"{stream}.jsonl")
                self._files[stream] = file
                _lock(file)
        except BlockingIOError:
            self.close()
            raise OutputError(f"{folder}: another process is writing this run", hint="wait for it or stop it") from None
        except OSError as error:
            self.close()
            raise self._refusal(error) from error

    def begin(self) -> None:
        """Cut the files at their marks: what comes now follows these. Until then nothing is changed."""
        try:
            for stream, file in self._files.items():
                file.truncate(self._marks[stream].length)
                file.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._refusal(error) from error

    def add(self, stream: str, entry: Entry) -> None:
        """Append one entry, which is not empty.

        Raises:
            SimulationError: it holds what JSON does not.
        """
        self.add_all(stream, [entry])

    def add_all(self, stream: str, entries: Sequence[Entry | bytes]) -> None:
        """Append several, some perhaps as JSON already; see `add`."""
        try:
            bodies = [entry if isinstance(entry, bytes) else _AS_JSON.encode(entry).encode() for entry in entries]
        except (TypeError, ValueError) as error:
            raise SimulationError(
                f"the journal cannot keep an entry of {stream}: {error}",
                hint="what a method's progress returns are plain values: text, numbers, lists and mappings of them",
            ) from None
        checks = self._chains[stream].links(bodies)
        lines = (b'%s%s%s"}\n' % (body[:-1], _CHECK, check) for body, check in zip(bodies, checks, strict=True))
        try:
            self._files[stream].write(b"".join(lines))
        except OSError as error:
            raise self._refusal(error) from error

    def sync(self) -> dict[str, Mark]:
        """Bring everything to the disk and return how far each file reaches."""
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refusal(error) from error
        return {
            stream: Mark(length=file.tell(), check=self._chains[stream].last) for stream, file in self._files.items()
        }

    def flush(self) -> None:
        """Hand everything to the operating system: it survives the end of this process."""
        try:
            for file in self._files.values():
                file.flush()
        except OSError as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Close the files, all of them: one that stays open would keep its lock.

        Raises:
            OutputError: what was still to be written to one of them cannot be.
        """
        files, self._files = self._files, {}
        failed: OSError | None = None
        for file in files.values():
            try:
                file.close()
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise self._refusal(failed) from failed

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


def read_journal(folder: Path, stream: str, mark: Mark) -> Generator[Entry, None, None]:
    """Return the entries of a file of the journal up to a mark; every line is checked before the first is returned.

    The file is open from the first entry to the last; who stops before closes the generator.

    Raises:
        NotResumableError: the file is gone, shorter than that, or was changed.
    """
    path = folder / f"{stream}.jsonl"
    chain = Chain(stream)
    for body in _bodies(path, mark.length):
        if body is None or chain.link(body[0]) != body[1]:
            raise NotResumableError(f"{path}: a line is not as it was written", because="it was changed")
    if chain.last != mark.check:
        raise NotResumableError(f"{path}: is not the journal that its checkpoint goes with", because="it was changed")
    return _entries(path, mark.length)


def _entries(path: Path, length: int) -> Generator[Entry, None, None]:
    for body in _bodies(path, length):
        try:
            entry = json.loads(body[0]) if body else None
        except ValueError:
            entry = None
        if entry is None:
            raise NotResumableError(f"{path}: a line is no JSON", because="it was changed")
        yield entry


def _bodies(path: Path, length: int) -> Generator[tuple[bytes, str] | None, None, None]:
    """Yield each line without its check, and the check; None for a line without one."""
    try:
        file = open_regular(path, most_bytes=TABLE_BYTES, follows_links=False)
    except OSError as error:
        raise NotResumableError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        found = os.fstat(file.fileno()).st_size
        if found < length:
            raise NotResumableError(f"{path}: has {found} bytes, its checkpoint needs {length}", because="it was cut")
        at = 0
        while at < length:
            line = file.readline(length - at)
            at += len(line)
            head, tail = line[:-_TAIL_BYTES], line[-_TAIL_BYTES:]
            is_whole = tail.startswith(_CHECK) and tail.endswith(b'"}\n')
            yield (head + b"}", tail[len(_CHECK) : -3].decode("ascii", "replace")) if is_whole else None
