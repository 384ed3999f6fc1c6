"""The sums of a complete run's files, as `sha256sum -c SHA256SUMS` checks them, too.

Whoever reads a complete run checks what it reads against them, so that no changed number passes for a result.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TABLE_BYTES, TEXT_BYTES, file_sha256, read_regular, what_stands
from neulite_sim.results.places import COMPLETE, OWN_FILES, SUMS, TIMELINE

_ANEW = {TIMELINE: "put it back, or write it anew beside the run: neulite-sim timeline RUN_DIR --trace FILE"}
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def sums_of(run_dir: Path, mark: str) -> str:
    """Return the lines for the files of a run that is about to be marked complete with the text `mark`.

    Raises:
        OSError: a file cannot be read.
    """
    names = [name for name in OWN_FILES if name not in (COMPLETE, SUMS) and what_stands(run_dir / name)]
    sums = {name: file_sha256(run_dir / name, most_bytes=TABLE_BYTES * 64, follows_links=False) for name in names}
    sums[COMPLETE] = hashlib.sha256(mark.encode()).hexdigest()
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def check_sums(run_dir: Path, *names: str) -> None:
    """Check files of a complete run against its sums; a run that has none, of an older version, passes.

    Raises:
        DataNotFoundError: a file is gone or was changed, or the sums were.
    """
    if what_stands(run_dir / SUMS) is None:
        return
    sums = _sums_in(run_dir)
    for name in names:
        path = run_dir / name
        try:
            own = file_sha256(path, most_bytes=TABLE_BYTES * 64, follows_links=False)
        except FileNotFoundError:
            own = None
        except OSError as error:
            raise damaged(path, f"cannot be read: {error.strerror}") from None
        if own != sums.get(name):
            why = "is gone" if own is None else f"is not what {SUMS} beside it says: one of the two was changed"
            raise damaged(path, why)


def names_with_sums(run_dir: Path) -> frozenset[str]:
    """Return the names of the files that a complete run had; none of one without sums, of an older version.

    Raises:
        DataNotFoundError: the sums cannot be read.
    """
    return frozenset() if what_stands(run_dir / SUMS) is None else frozenset(_sums_in(run_dir))


def _sums_in(run_dir: Path) -> dict[str, str]:
    try:
        text = read_regular(run_dir / SUMS, most_bytes=TEXT_BYTES, follows_links=False).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(run_dir / SUMS, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = [_LINE.fullmatch(line) for line in text.splitlines()]
    return {match[2]: match[1] for match in found if match}


def damaged(path: Path, why: str) -> DataNotFoundError:
    """Return what a user is told of a file of a complete run that is not what it was."""
    return DataNotFoundError(f"{path}: {why}", hint=_ANEW.get(path.name, "put it back, or run the scenario again"))
