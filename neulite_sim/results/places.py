"""What belongs to a run folder, and that each of it is a file or a folder of its own.

No link is followed out of a run folder: what another place holds is neither believed nor written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.outside import what_stands
from neulite_sim.results.cells import DEVICES_CSV, DEVICES_PARQUET, FILES, OPTIONAL_FILES

SCENARIO = "scenario.yaml"
PROVENANCE = "provenance.json"
SUMMARY = "summary.json"
MODEL = "model.safetensors"
COMPLETE = "COMPLETE"
FAILED = "FAILED"
SUMS = "SHA256SUMS"
JOURNAL = "journal"
CHECKPOINT = "checkpoint"
TIMELINE = "timeline.json.gz"
AUDIT = "audit.json"
FLOWER = "flower.json"
TABLES = (*FILES.values(), *OPTIONAL_FILES.values(), DEVICES_CSV, DEVICES_PARQUET)
OWN_FILES = (SCENARIO, PROVENANCE, SUMMARY, MODEL, COMPLETE, FAILED, SUMS, TIMELINE, AUDIT, FLOWER, *TABLES)
OWN_FOLDERS = (JOURNAL, CHECKPOINT)

PARTIAL = ".partial"
"""What the name of a file ends with while it is written."""
NEVER_BEGUN = "a run that was cut off before it began"


def was_never_begun(names: Iterable[str]) -> bool:
    """Return whether files of these names are all that there is of a run: its scenario, and not even its provenance."""
    found = set(names)
    return bool(found) and found <= {SCENARIO, SCENARIO + PARTIAL, PROVENANCE + PARTIAL}


def is_without_tables(run_dir: Path) -> bool:
    """Return whether a run was cut off before all its tables were there, so that it has not done a thing."""
    marks = (COMPLETE, JOURNAL, CHECKPOINT, SUMS)
    is_begun = any((run_dir / name).exists() for name in marks)
    return not is_begun and not all((run_dir / name).exists() for name in FILES.values())


def require_begun(run_dir: Path) -> None:
    """Refuse a folder in which nothing is but the scenario of a run that was cut off before it began.

    Raises:
        OutputError: says so, and what to do.
    """
    if run_dir.is_dir() and was_never_begun(path.name for path in run_dir.iterdir()):
        raise OutputError(f"{run_dir}: holds {NEVER_BEGUN}", hint="remove the folder and run it anew")


def require_own(run_dir: Path) -> None:
    """Refuse a run folder in which something else stands in the place of a file or a folder.

    Raises:
        DataNotFoundError: names the first such place, and what stands there.
    """
    for path, wanted in _places(run_dir):
        try:
            found = what_stands(path)
        except OSError as error:
            raise DataNotFoundError(
                f"{path}: cannot be read: {error.strerror}", hint="name the folder of a run"
            ) from None
        if found not in (None, wanted):
            raise DataNotFoundError(
                f"{path}: is {found}, where a run has {wanted} of its own",
                hint=f"nothing was read or written there: put {wanted} back, or remove it",
            )


def _places(run_dir: Path) -> Iterator[tuple[Path, str]]:
    for name in OWN_FILES:
        yield run_dir / name, "a file"
    for name in OWN_FOLDERS:
        yield run_dir / name, "a folder"
        if what_stands(run_dir / name) != "a folder":
            continue
        for path in sorted((run_dir / name).iterdir()):
            if name == JOURNAL and path.suffix == ".jsonl":
                yield path, "a file"
            if name == CHECKPOINT and path.name.startswith("round-"):
                yield path, "a folder"
                if what_stands(path) == "a folder":
                    yield from ((inside, "a file") for inside in sorted(path.iterdir()))
