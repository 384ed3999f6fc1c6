"""Which folder a run may take: the one that it was given, if nothing is in it, or the first that is free."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from neulite_sim.errors import OutputError
from neulite_sim.results.places import COMPLETE, NEVER_BEGUN, SCENARIO, was_never_begun
from neulite_sim.results.writing import refusal

RUNS = Path("runs")

_HINT = "--out needs a new or empty folder"


def require_free(path: Path) -> None:
    """Check that a folder is new or empty; whether it can be made and written shows when it is claimed.

    Raises:
        OutputError: something is in it, or it is a file.
    """
    try:
        found = sorted(item.name for item in path.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise OutputError(f"{path}: is a file", hint=_HINT) from None
    except OSError as error:
        raise refusal(path, "read", error) from error
    if found:
        state = "the complete run" if COMPLETE in found else "an unfinished run" if SCENARIO in found else "other files"
        is_begun = not was_never_begun(found)
        state = state if is_begun else NEVER_BEGUN
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        hint = _HINT if is_begun else "remove the folder, or give --out another"
        raise OutputError(f"{path}: already holds {state} ({shown})", hint=hint)


def _missing(path: Path) -> tuple[Path, ...]:
    """Return `path` and its parents that do not exist yet, innermost first."""
    return tuple(itertools.takewhile(lambda folder: not os.path.lexists(folder), (path, *path.parents)))


def claim(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return `path` as a new or empty folder, and which folders were made for it.

    Raises:
        OutputError: it holds something, or cannot be made.
    """
    made = _missing(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        require_free(path)
        raise
    except OSError as error:
        remove_empty(made)
        raise refusal(path, "create", error) from error
    require_free(path)
    return path, made


def claim_free(name: str, seed: int) -> tuple[Path, tuple[Path, ...]]:
    """Return the first `runs/NAME-SEED[-N]` that was free, made at once so that no other run can take it."""
    for number in itertools.count(1):
        path = RUNS / (f"{name}-{seed}" if number == 1 else f"{name}-{seed}-{number}")
        made = _missing(path)
        try:
            RUNS.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if not RUNS.is_dir():
                raise refusal(RUNS, "create", error) from error
            continue
        except OSError as error:
            raise refusal(path, "create", error) from error
        return path, made
    raise AssertionError("unreachable")


def remove_empty(folders: tuple[Path, ...]) -> None:
    """Remove those of these folders that are there and empty, from the first on until one is not."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
