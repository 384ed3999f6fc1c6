"""Where the joules of flights go: by state and by class of device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from neulite_sim.arrays import Floats
from neulite_sim.population.hardware.power import Power, powers_in
from neulite_sim.reports.html.bar_charts import Part, share_rows
from neulite_sim.reports.html.blocks import Block, Figure, Grid, Prose, key
from neulite_sim.reports.html.rounds_time import FILLS, shares
from neulite_sim.reports.html.run_story import SPENT, RunStory
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.wording import count, percent
from neulite_sim.reports.table import TextTable
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
_MOST_CLASSES = 20


def energy_blocks(story: RunStory) -> tuple[Block, ...]:
    """Return the joules of a run by state and class; nothing of a run without flights."""
    flown, summary = story.flown, story.run.summary
    if not flown.flights_by_class:
        return ()
    powers = powers_in(story.run.scenario)
    unknown = sorted(set(flown.spent_by_class) - set(powers))
    if unknown or summary.get("energy_j") is None:
        named = ", ".join(unknown) or "a device"
        return (Prose(paragraphs=(f"Not known: nobody has told what {named} draws (energy.power in the scenario).",)),)
    joules = {name: _joules(flown.spent_by_class[name], powers[name]) for name in sorted(flown.spent_by_class)}
    return (_figure(story, joules),)


def _joules(spent: Floats, power: Power) -> Floats:
    seconds = dict(zip(SPENT, spent.tolist(), strict=True))
    return np.array([seconds[phase] * getattr(power, state) for phase, state in _STATES.items()])


def _figure(story: RunStory, joules: Mapping[str, Floats]) -> Figure:
    flights, whole = story.flown.flights_by_class, np.sum(list(joules.values()), axis=0)
    places = [place for place in range(len(_STATES)) if whole[place] > 0]
    parts = [Part(name=name, fill=FILLS[name]) for place, name in enumerate(_STATES) if place in places]
    named = [("all devices", sum(flights.values()), whole)]
    if len(joules) > 1:
        named += [(name, flights[name], found) for name, found in joules.items()][:_MOST_CLASSES]
    rows = [(name, count(num, "flight"), [shares(found)[place] for place in places]) for name, num, found in named]
    said = [f"{part.name} {percent(share)}" for part, share in zip(parts, rows[0][2], strict=True)]
    about = f"Where the energy of all flights went: {', '.join(said)}."

    def draw(room: Size) -> Markup:
        return share_rows(room, rows, parts, about=about)

    heads = ("devices", "flights", "energy", "per flight", *(part.name for part in parts))
    cells = tuple(
        (name, f"{num:,}", format_joules(float(found.sum())), format_joules(float(found.sum()) / num),
         *(format_joules(float(found[place])) for place in places))
        for name, num, found in named
    )  # fmt: skip
    return Figure(
        title=f"What {format_joules(story.run.summary['energy_j'])} went into",
        drawing=both(draw),
        caption=MEANING,
        keys=tuple(key(part.fill, part.name) for part in parts),
        data=Grid(
            table=TextTable(headers=heads, numeric=frozenset(heads[1:]), rows=cells), summary="Numbers of this figure"
        ),
    )
