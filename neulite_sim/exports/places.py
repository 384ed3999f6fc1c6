"""Where an export goes: a folder of its own, which holds the whole export or nothing of it.

A mark in the folder says of which run it is and how far that had come: the same run is not written twice, and one
that has gone on since takes the place of its earlier export. Whatever else is in a folder stays.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from neulite_sim.errors import OutputError
from neulite_sim.exports.origin import Origin
from neulite_sim.outside import plain_json, read_regular
from neulite_sim.results.writing import as_json, write_whole

MARK = "export.json"
Status = Literal["written", "renewed", "already there"]

_PARTIAL = ".partial"
_HINT = "name a new or empty folder with --out"


def status_of(folder: Path, tool: str, origin: Origin) -> Status:
    """Return what exporting a run into a folder comes to.

    Raises:
        OutputError: something else is there.
    """
    if not folder.exists():
        return "written"
    if not folder.is_dir():
        raise OutputError(f"{folder}: is a file", hint=_HINT)
    found = sorted(item.name for item in folder.iterdir() if item.name != _PARTIAL)
    if not found:
        return "written"
    mark = mark_in(folder)
    if mark.get("tool") == tool and mark.get("identity") == origin.identity:
        return "already there" if mark.get("state") == origin.state else "renewed"
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    whose = "of another run" if mark.get("tool") == tool else "to another tool"
    what = f"an export {whose}" if mark else "other files"
    raise OutputError(f"{folder}: already holds {what} ({shown})", hint=_HINT)


def put_whole(folder: Path, tool: str, origin: Origin, write: Callable[[Origin, Path], None]) -> Status:
    """Have `write` fill an empty folder, move its files into `folder`, set the mark, and return what that came to.

    Raises:
        OutputError: something else is there, or the folder cannot be written. What was there before stays.
    """
    status = status_of(folder, tool, origin)
    if status == "already there":
        return status
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    partial = folder / _PARTIAL
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(origin, partial)
        _put(partial, folder, tool, origin)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or error
            wish = "make room or rights there, or choose another place with --out"
            raise OutputError(f"{folder}: cannot be written: {reason}", hint=wish) from error
        raise
    return status


def _put(partial: Path, folder: Path, tool: str, origin: Origin) -> None:
    files = sorted(item.name for item in partial.iterdir())
    # Whatever may not be writable is written before anything that is there goes.
    set_mark(partial, tool, origin, files)
    for name in mark_in(folder).get("files", []):
        if name not in files:
            (folder / Path(str(name)).name).unlink(missing_ok=True)
    (folder / MARK).unlink(missing_ok=True)
    for name in (*files, MARK):
        (partial / name).replace(folder / name)
    partial.rmdir()


def set_mark(folder: Path, tool: str, origin: Origin, files: Sequence[str]) -> None:
    """Note in a folder what was exported into it."""
    mark = {"tool": tool, "identity": origin.identity, "state": origin.state, "files": list(files), "run": origin.name}
    write_whole(folder / MARK, as_json(mark))


def mark_in(folder: Path) -> dict[str, Any]:
    """Return what the mark in a folder says; nothing where there is none."""
    try:
        mark = plain_json(read_regular(folder / MARK, follows_links=False))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}
