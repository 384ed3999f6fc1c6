"""The page of a profile: what each submodel costs, and who can train it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulite_sim.reports.html.blocks import Grid, Page, Section, Tile
from neulite_sim.reports.html.wording import percent, size
from neulite_sim.reports.profile_table import profile_tables
from neulite_sim.reports.run_names import method_name

_MOST_TILES = 6


def profile_page(report: Mapping[str, Any]) -> Page:
    """Return the page of a profile (the mapping of `profile --json`)."""
    memory, time = profile_tables(report)
    entries = report["submodels"]
    first = entries[0]
    rate = percent(report["participation_rate"])
    return Page(
        title=f"{report['scenario']}: what a step costs",
        subtitle=f"{method_name(first['method'])} · {first['model']} · batch {first['batch_size']}",
        answer=f"{rate} of the devices can train at least one submodel of {method_name(first['method'])}.",
        tiles=tuple(
            Tile(
                title=str(entry["submodel"]) + (" (reference)" if entry["is_reference"] else ""),
                value=size(entry["peak_memory_bytes"]),
                details=(f"{percent(entry['fits_share'])} of the devices hold it",),
            )
            for entry in entries[:_MOST_TILES]
        ),
        sections=(
            Section(name="memory", title="Memory, and who holds it", blocks=(Grid(table=memory),)),
            Section(name="time", title="Work, traffic and seconds", blocks=(Grid(table=time),)),
        ),
        made_of=str(report["scenario"]),
    )
