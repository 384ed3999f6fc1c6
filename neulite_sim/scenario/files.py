"""Reading the text of a scenario file, and saying why that cannot be done."""

from __future__ import annotations

import difflib
import errno
import os
from pathlib import Path

from neulite_sim.errors import Problem
from neulite_sim.outside import read_regular

MOST_BYTES = 2 * 10**6
"""The most that is read of a scenario or a sweep; an explicit memory for each of 100,000 devices takes half of it."""


def text_of(path: str, problems: list[Problem]) -> str | None:
    """Return the text of a file; None, with the reason added to `problems`, where there is none."""
    try:
        return read_regular(path, most_bytes=MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.object[error.start]:#04x} at position {error.start})"
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        message = why_no_file(path)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    problems.append(Problem(key="", message=message, file=path))
    return None


def why_no_file(path: str) -> str:
    """Return what is in the place of the file that should be at `path`, and what may have been meant."""
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        example = next((f", for example {os.path.join(path, inside)}" for inside in _scenario_files(path)), "")
        return f"is a directory; name a scenario file{example}"
    if os.path.exists(path):
        return "is not a regular file"
    if os.path.islink(path):
        return f"is a link that leads to no file ({_where_it_leads(path)})"
    if not os.path.isdir(folder or "."):
        return f"does not exist; there is no directory {folder!r}"
    beside = {Path(file).stem: file for file in _scenario_files(folder or ".")}
    near = [beside[stem] for stem in difflib.get_close_matches(Path(name).stem, beside, n=2)]
    return "does not exist" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")


def _where_it_leads(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "back to itself"
    return f"to {os.readlink(path)!r}"


def _scenario_files(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
    except OSError:
        return []
