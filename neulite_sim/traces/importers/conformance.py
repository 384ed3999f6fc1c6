"""The laws of importers as assertions, for tests of any of them, in this package or in another.

In a test of yours, with a small file of the format:

    from neulite_sim.traces.importers.conformance import check_importer
    check_importer(COMPONENT.build(COMPONENT.options()), [Path("small.json")])
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from neulite_sim.contracts import held_to
from neulite_sim.errors import DataNotFoundError, NeuliteError, ScenarioError
from neulite_sim.seeding import stream
from neulite_sim.traces.importers.contract import Imported, ReadForeign
from neulite_sim.traces.importers.running import SUMMARIES
from neulite_sim.traces.tables import write_table

NUM_DAMAGED = 8
_LENGTH = 200


@held_to("neulite_sim.traces.importers.contract")
def check_importer(reader: ReadForeign, paths: Sequence[Path]) -> None:
    """Pass where `reader` keeps the contract of `neulite_sim.traces.importers.contract.Reader`.

    `paths` are small files of its format. Files that are missing, empty or no such files are made from their names.

    Raises:
        AssertionError: the first law that is broken, with the line or the file that it is about.
    """
    before = [path.read_bytes() for path in paths]
    imported, again = reader(paths), reader(paths)
    assert [path.read_bytes() for path in paths] == before, "read: changed a file that it was given"
    _check_table(imported)
    for name in ("kind", "header", "notes"):
        one, other = getattr(imported, name), getattr(again, name)
        assert one == other, f"{name}: the same files gave {one} and then {other}"
    assert list(map(tuple, imported.rows)) == list(map(tuple, again.rows)), "rows: the same files gave others"
    with tempfile.TemporaryDirectory() as folder:
        _check_read_back(imported, Path(folder) / "own.csv")
        _check_refusals(reader, Path(folder) / paths[0].name)


def _check_table(imported: Imported) -> None:
    assert imported.kind in SUMMARIES, f"kind: {imported.kind!r} is none of {', '.join(SUMMARIES)}"
    assert len(imported.rows), "rows: there are none"
    width = len(imported.header)
    for number, row in enumerate(imported.rows):
        assert len(row) == width, f"rows[{number}]: has {len(row)} cells under {width} headings"
    for note in imported.notes:
        assert str(note).strip() == note != "", f"notes: must be sentences, found {note!r}"
    try:
        json.dumps(dict(imported.facts), allow_nan=False)
    except (TypeError, ValueError) as odd:
        raise AssertionError(f"facts: cannot be written as JSON ({odd})") from odd


def _check_read_back(imported: Imported, path: Path) -> None:
    """Check that the project reads the table as what it is said to be."""
    notes, rows = imported.notes, imported.rows
    write_table(path, kind=imported.kind, source="conformance", notes=notes, header=imported.header, rows=rows)
    try:
        SUMMARIES[imported.kind](path)
    except NeuliteError as wrong:
        raise AssertionError(f"rows: are no table of {imported.kind} ({wrong})") from wrong


def _check_refusals(reader: ReadForeign, path: Path) -> None:
    """Check what becomes of files from outside: each is refused, and as an error that users can read."""
    _check_refused(reader, path, "there is no such file")
    damaged = [stream(number, "conformance").bytes(_LENGTH) for number in range(NUM_DAMAGED)]
    for content, what in ((b"", "the file is empty"), *((garbage, "the file holds noise") for garbage in damaged)):
        path.write_bytes(content)
        _check_refused(reader, path, what)


def _check_refused(reader: ReadForeign, path: Path, what: str) -> None:
    try:
        found = reader([path])
    except (DataNotFoundError, ScenarioError):
        return
    except Exception as error:
        name = type(error).__name__
        raise AssertionError(
            f"read: {what}, which raises {name} ({error}); raise what importers.contract.refused returns"
        ) from error
    raise AssertionError(f"read: {what}, and is read as {len(found.rows)} rows of {found.kind}")
