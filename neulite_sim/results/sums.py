"""The sums of a complete run's files, as `sha256sum -c SHA256SUMS` checks them, too.

Whoever reads a complete run checks what it reads against them, so that no changed number passes for a result.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from neulite_sim.errors import DataNotFoundError
from neulite_sim.outside import TABLE_BYTES, TEXT_BYTES, file_sha256, read_regular, what_stands
from neulite_sim.results.places import COMPLETE, OWN_FILES, SUMS

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
    try:
        text = read_regular(run_dir / SUMS, most_bytes=TEXT_BYTES, follows_links=False).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(run_dir / SUMS, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = [_LINE.fullmatch(line) for line in text.splitlines()]
    sums = {match[2]: match[1] for match in found if match}
    for name in names:
        path = run_dir / name
        try:
            own = file_sha256(path, most_bytes=TABLE_BYTES * 64, follows_links=False)
        except FileNotFoundError:
            own = None
        except OSError as error:
            raise _damaged(path, f"cannot be read: {error.strerror}") from None
        if own != sums.get(name):
            why = "is gone" if own is None else f"is not what {SUMS} beside it says: one of the two was changed"
            raise _damaged(path, why)


def _damaged(path: Path, why: str) -> DataNotFoundError:
    return DataNotFoundError(f"{path}: {why}", hint="put it back, or run the scenario again")
