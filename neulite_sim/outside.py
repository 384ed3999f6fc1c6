"""What comes from outside, a file or a number in one, is checked before it is believed.

Only regular files are read, and only up to a stated size: a named pipe would never answer and an endless device would
fill the memory. Numbers are what people write as numbers, not all that Python takes for one.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from neulite_sim.units import format_bytes

TEXT_BYTES = 64 * 10**6
"""The most that is read of a file that people write: a scenario, a catalogue, a state."""

TABLE_BYTES = 4 * 10**9
"""The most that is read of a table of traces or of a dataset's file."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CHUNK_BYTES = 2**20


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
