"""Where the joules of flights go: by state and by class of device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from neulite_sim.arrays import Floats
from neulite_sim.population.hardware.power import Power, powers_in
from neulite_sim.reports.html.bar_charts import Part, share_rows
from neulite_sim.reports.html.blocks import Block, Figure, Grid, Prose, key
from neulite_sim.reports.html.rounds_time import FILLS, MOST_CLASSES, not_shown, shares
from neulite_sim.reports.html.run_story import RunStory
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.wording import count, percent
from neulite_sim.reports.table import TextTable
from neulite_sim.results.cells import FILES, scan_columns
from neulite_sim.results.energy import PER_JOULE, joules_of_cells, units_of
from neulite_sim.results.rows import FlightRow
from neulite_sim.units import format_joules

MEANING = (
    "From a flight's dispatch to its end: seconds in each state times the watts of the whole device in it. Waiting: "
    "the device was away. Before and after a flight nothing is counted."
)
_STATES: Mapping[str, str] = {
    "download": "receive_watts",
    "compute": "compute_watts",
    "upload": "send_watts",
    "waiting": "idle_watts",
}


@dataclass(slots=True, kw_only=True)
class Drawn:
    """What the flights of some devices drew: whole units of the grid of joules, and about how much in each state."""

    num_flights: int = 0
    units: int = 0
    by_state: Floats = field(default_factory=lambda: np.zeros(len(_STATES)))

    @property
    def joules(self) -> float:
        """Joules of all states together: of all flights of a run what its summary says."""
        return self.units / PER_JOULE

    def add(self, num_flights: int, units: int, by_state: Floats) -> None:
        """Take in flights."""
        self.num_flights += num_flights
        self.units += units
        self.by_state = self.by_state + by_state


def energy_blocks(story: RunStory) -> tuple[Block, ...]:
    """Return the joules of a run by state and class; nothing of a run without flights.

    Raises:
        DataNotFoundError: flights.csv is damaged.
    """
    flown, summary = story.flown, story.run.summary
    if not flown.classes:
        return ()
    powers = powers_in(story.run.scenario)
    unknown = sorted(flown.classes - set(powers))
    if unknown or summary.get("energy_j") is None:
        named = ", ".join(unknown) or "a device"
        return (Prose(paragraphs=(f"Not known: nobody has told what {named} draws (energy.power in the scenario).",)),)
    return (_figure(story, drawn_by_class(story.run.path, powers)),)


def drawn_by_class(path: Path, powers: Mapping[str, Power]) -> dict[str, Drawn]:
    """Return what all flights of a run drew, by class of device: of `powers`, which have all of them.

    Raises:
        DataNotFoundError: flights.csv is damaged.
    """
    found: dict[str, Drawn] = {}
    for cells in scan_columns(path / FILES[FlightRow], FlightRow):
        joules = joules_of_cells(cells, powers)
        assert joules is not None, "every class has its watts"
        kinds = np.array(list(cells["device_class"]))
        seconds = {phase: np.array(cells[f"{phase}_s"], np.float64) for phase in _STATES}
        for kind in np.unique(kinds).tolist():
            those = kinds == kind
            by_state = np.array(
                [seconds[phase][those].sum() * getattr(powers[kind], watts) for phase, watts in _STATES.items()]
            )
            found.setdefault(kind, Drawn()).add(int(those.sum()), units_of(joules[those]), by_state)
    return dict(sorted(found.items()))


def _figure(story: RunStory, by_class: Mapping[str, Drawn]) -> Figure:
    everybody = Drawn()
    for drawn in by_class.values():
        everybody.add(drawn.num_flights, drawn.units, drawn.by_state)
    whole = everybody.by_state
    places = [place for place in range(len(_STATES)) if whole[place] > 0]
    parts = [Part(name=name, fill=FILLS[name]) for place, name in enumerate(_STATES) if place in places]
    named = [("all devices", everybody), *(list(by_class.items())[:MOST_CLASSES] if len(by_class) > 1 else ())]
    rows = [(name, count(drawn.num_flights, "flight"), [shares(drawn.by_state)[place] for place in places])
            for name, drawn in named]  # fmt: skip
    said = [f"{part.name} {percent(share)}" for part, share in zip(parts, rows[0][2], strict=True)]
    total = format_joules(everybody.joules)
    about = f"Where the {total} of {count(everybody.num_flights, 'flight')} went: {', '.join(said)}."

    def draw(room: Size) -> Markup:
        return share_rows(room, rows, parts, about=about)

    heads = ("devices", "flights", "energy", "per flight", *(part.name for part in parts))
    cells = tuple(
        (name, f"{drawn.num_flights:,}", format_joules(drawn.joules), format_joules(drawn.joules / drawn.num_flights),
         *(format_joules(float(drawn.by_state[place])) for place in places))
        for name, drawn in named
    )  # fmt: skip
    return Figure(
        title=f"What {total} went into",
        drawing=both(draw),
        caption=MEANING + story.beyond("They count until then.") + not_shown(len(by_class)),
        keys=tuple(key(part.fill, part.name) for part in parts),
        data=Grid(
            table=TextTable(headers=heads, numeric=frozenset(heads[1:]), rows=cells), summary="Numbers of this figure"
        ),
    )
