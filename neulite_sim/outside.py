"""What comes from outside, a file or a number in one, is checked before it is believed.

Only regular files are read, and only up to a stated size: a named pipe would never answer and an endless device would
fill the memory. Numbers are what people write as numbers, not all that Python takes for one.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from neulite_sim.units import format_bytes

TEXT_BYTES = 64 * 10**6
"""The most that is read of a file that people write: a scenario, a catalogue, a state."""

TABLE_BYTES = 4 * 10**9
"""The most that is read of a table of traces or of a dataset's file."""

_MOST_UNPACKED = 200
"""How many times its size a packed file may become: tables of numbers become ten times, hardly ever fifty."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NUMBER_CHARACTERS = re.compile(r"[0-9.eE+-]*", re.ASCII)
_CHUNK_BYTES = 2**20


def user_path(text: str) -> Path:
    """Return a path as a user writes it, `~` for the home folder; one of a user who is not known stays as it is."""
    return Path(os.path.expanduser(text))


def open_regular(path: Path | str, *, most_bytes: int, follows_links: bool = True) -> BinaryIO:
    """Return a regular file opened for reading bytes; a fifo or a device never blocks this.

    Raises:
        OSError: there is none, it is something else, or it holds more than `most_bytes`; `strerror` says which.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:
        # A NUL byte, or a character that no file system can hold.
        raise OSError(errno.EINVAL, f"no file can have this name ({error})", repr(str(path))) from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        if found.st_size > most_bytes:
            raise OSError(
                errno.EFBIG,
                f"holds {format_bytes(found.st_size)}; at most {format_bytes(most_bytes)} are read",
                str(path),
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path | str, *, most_bytes: int = TEXT_BYTES, follows_links: bool = True) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as `open_regular`; also where the file grows beyond `most_bytes` while it is read.
    """
    with open_regular(path, most_bytes=most_bytes, follows_links=follows_links) as file:
        # Python makes room for all that is asked for at once, so no more is asked for than there is.
        content = file.read(min(os.fstat(file.fileno()).st_size, most_bytes) + 1)
        while len(content) <= most_bytes and (more := file.read(_CHUNK_BYTES)):
            content += more
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"holds more than {format_bytes(most_bytes)}, the most that is read", str(path))
    return content


class _Limited(io.RawIOBase):
    """Reads another file up to so many bytes; one more is an error."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, path: Path | str, most_bytes: int) -> None:
        self._file, self._path, self._most_bytes, self._left = file, path, most_bytes, most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise OSError(
                errno.EFBIG, f"holds more than {format_bytes(self._most_bytes)} once unpacked, the most that is read"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_unpacked(path: Path | str, *, most_bytes: int = TABLE_BYTES) -> BinaryIO:
    """Return a regular file opened for reading bytes, unpacked where its name ends in `.gz`.

    A packed file may hold up to 200 times its size, and 64 MB however small it is.

    Raises:
        OSError: as `open_regular`. Reading may raise `OSError`, `EOFError` or `zlib.error` for what is not whole.
    """
    packed = open_regular(path, most_bytes=most_bytes)
    if not os.fspath(path).endswith(".gz"):
        return packed
    size = os.fstat(packed.fileno()).st_size
    limit = min(most_bytes, max(TEXT_BYTES, _MOST_UNPACKED * size))
    return io.BufferedReader(_Limited(_Unpacked(packed), path, limit), _CHUNK_BYTES)


class _Unpacked(gzip.GzipFile):
    """A packed file that closes the one it was made from."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()


def file_sha256(path: Path | str, *, most_bytes: int = TABLE_BYTES, follows_links: bool = True) -> str:
    """Return the SHA-256 of a regular file's content, in hexadecimal.

    Raises:
        OSError: as `open_regular`.
    """
    digest = hashlib.sha256()
    with open_regular(path, most_bytes=most_bytes, follows_links=follows_links) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def what_stands(path: Path | str) -> str | None:
    """Return "a file", "a folder", "a symbolic link" or "no regular file" for what has this name; None for nothing.

    Raises:
        OSError: the name cannot be looked up.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds = ((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a folder"), (stat.S_ISLNK, "a symbolic link"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "no regular file")


def create_regular(path: Path | str) -> BinaryIO:
    """Return a new file opened for writing bytes, unbuffered; nothing may have its name, not even a dangling link.

    Raises:
        OSError: something has, or the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "r+b", buffering=0)


def open_own(path: Path | str) -> BinaryIO:
    """Return a regular file opened for reading and writing bytes at its end, made where there is none; no link.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        file = os.fdopen(descriptor, "r+b")
    except BaseException:
        os.close(descriptor)
        raise
    file.seek(0, os.SEEK_END)
    return file


def plain_number(text: str) -> float:
    """Return the finite decimal number that a cell holds, blanks around it aside.

    Raises:
        ValueError: it is none; `1_000`, `nan`, `infinity`, other scripts' digits and NUL bytes are none.
    """
    number = float(text) if _NUMBER.fullmatch(text.strip(" \t")) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite decimal number")
    return number


def plain_numbers(cells: Sequence[str]) -> list[float]:
    """Return the number in each cell, NaN where `plain_number` finds none; many cells at a time are fast."""
    # Of these characters alone, float() takes exactly what _NUMBER describes.
    if _NUMBER_CHARACTERS.fullmatch("".join(cells)):
        try:
            return [number if math.isfinite(number) else math.nan for number in map(float, cells)]
        except ValueError:
            pass
    return list(map(number_or_nan, cells))


def number_or_nan(cell: str) -> float:
    """Return the number in a cell, NaN where `plain_number` finds none."""
    try:
        return plain_number(cell)
    except ValueError:
        return math.nan


def plain_json(content: bytes | str) -> Any:
    """Return what a JSON text says, and says only once.

    Raises:
        ValueError: it is none; a key stands twice in an object, a number is NaN, infinite or too long to be one, or
            the nesting is too deep. `json.JSONDecodeError` where the place is known.
    """
    try:
        return json.loads(content, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as wrong:
        raise ValueError(f"it is not text in UTF-8 (byte {wrong.object[wrong.start]:#04x} at {wrong.start})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {printable(twice)[:60]!r} stands twice in an object; one of them would be dropped")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def printable(text: str) -> str:
    """Return a text that any file or terminal in UTF-8 takes: characters of no encoding are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
