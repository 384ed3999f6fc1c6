"""Where the time of rounds goes: parts of the flights' time over the run and by class, and the first rounds drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup

from neulite_sim.arrays import Floats
from neulite_sim.reports.gantt import lines_of
from neulite_sim.reports.html.bar_charts import Part, share_rows, stacked_columns
from neulite_sim.reports.html.blocks import Block, Figure, Grid, Key, key
from neulite_sim.reports.html.flight_charts import Bar, Drop, flight_chart
from neulite_sim.reports.html.run_story import ARRIVED, SPENT, Rounds, RunStory
from neulite_sim.reports.html.svg import Size, both, element
from neulite_sim.reports.html.ticks import count_axis, percent_axis, time_axis
from neulite_sim.reports.html.wording import count, duration, percent
from neulite_sim.reports.table import TextTable
from neulite_sim.reports.timeline_window import Window, read_window
from neulite_sim.results.flight_events import spans
from neulite_sim.results.rows import FlightRow

FILLS = {"download": "t0", "compute": "t1", "upload": "t2", "waiting": "t3", "idle": "t4"}
MEANING = "From dispatch to aggregation. Waiting: the device was away. Idle: its flight had ended, the round went on."
MOST_CLASSES = 20
"""Classes of devices that a figure has a row of, beside that of all."""
_FIRST, _MOST_FLIGHTS = 3, 600


def shares(spent: Floats) -> list[float]:
    """Return parts of a whole, 0 to 1; zeros where no time passed."""
    whole = float(spent.sum())
    return [float(part) / whole if whole > 0 else 0.0 for part in spent]


def not_shown(num_classes: int) -> str:
    """Return in words that a figure leaves out classes of devices, to follow a caption; "" where it does not."""
    more = num_classes - MOST_CLASSES
    are = "is" if more == 1 else "are"
    return f" {count(more, 'more class', 'more classes')} of devices {are} not shown." if more > 0 else ""


def time_blocks(story: RunStory) -> tuple[Block, ...]:
    """Return the parts of time over the rounds and by class of device."""
    flown = story.flown
    if not flown.flights_by_class or not flown.spent_by_round.sum() > 0:
        return ()
    parts = [
        Part(name=name, fill=FILLS[name]) for place, name in enumerate(SPENT) if flown.spent_by_round[:, place].any()
    ]
    return (_classes(story, parts), _over_rounds(story, parts))


def _of_parts(spent: Floats, parts: list[Part]) -> list[float]:
    found = dict(zip(SPENT, shares(spent), strict=True))
    return [found[part.name] for part in parts]


def _classes(story: RunStory, parts: list[Part]) -> Figure:
    flown = story.flown
    names = sorted(flown.spent_by_class)
    rows = [
        (
            "all devices",
            count(sum(flown.flights_by_class.values()), "flight"),
            _of_parts(flown.spent_by_round.sum(axis=0), parts),
        )
    ]
    if len(names) > 1:
        rows += [
            (name, count(flown.flights_by_class[name], "flight"), _of_parts(flown.spent_by_class[name], parts))
            for name in names[:MOST_CLASSES]
        ]
    said = [f"{part.name} {percent(share)}" for part, share in zip(parts, rows[0][2], strict=True)]
    about = f"Where the time of the {rows[0][1]} of all rounds went: {', '.join(said)}."

    def draw(room: Size) -> Markup:
        return share_rows(room, rows, parts, about=about)

    heads = ("devices", "flights", *(part.name for part in parts))
    table = TextTable(
        headers=heads,
        numeric=frozenset(heads[1:]),
        rows=tuple((name, note.partition(" ")[0], *map(percent, split)) for name, note, split in rows),
    )
    return Figure(
        title="What devices did during rounds",
        drawing=both(draw),
        caption=MEANING + story.beyond("They are not in this figure.") + not_shown(len(names)),
        keys=tuple(key(part.fill, part.name) for part in parts),
        data=Grid(table=table, summary="Numbers of this figure"),
    )


def _over_rounds(story: RunStory, parts: list[Part]) -> Figure:
    rounds: Rounds = story.rounds
    bins = rounds.bins()
    columns = [
        (
            float(rounds.number[part][0]) - 1,
            float(rounds.number[part][-1]),
            _of_parts(story.flown.spent_by_round[part].sum(axis=0), parts),
        )
        for part in bins
    ]
    lasted = np.diff(rounds.end_s, prepend=0.0)
    about = (
        f"Parts of the flights' time over the rounds. A round lasted {duration(float(np.median(lasted)))} in the "
        f"median, {duration(float(lasted.max()))} at most."
    )

    def tip(column: int, part: int) -> str:
        which = rounds.number[bins[column]]
        first, last = int(which[0]), int(which[-1])
        named = f"round {first:,}" if first == last else f"rounds {first:,} to {last:,}"
        return f"{named}: {parts[part].name} {percent(columns[column][2][part])}"

    def draw(room: Size) -> Markup:
        low, high = columns[0][0], columns[-1][1]
        return stacked_columns(
            room,
            columns,
            parts,
            x=lambda most: count_axis("rounds", high, most, low=low),
            tip=tip,
            about=about,
            y=percent_axis("of the flights' time", 0.0, 1.0, 4),
            height=220,
        )

    caption = (
        f"A round lasted {duration(float(np.median(lasted)))} in the median, {duration(float(lasted.max()))} at most."
    )
    return Figure(
        title="The same over the rounds",
        drawing=both(draw),
        caption=caption,
        keys=tuple(key(part.fill, part.name) for part in parts),
    )


def first_rounds(path: Path, story: RunStory) -> tuple[Block, ...]:
    """Return the drawing of the first rounds; nothing of a run without rounds or flights.

    Raises:
        DataNotFoundError: a table of the run is damaged.
    """
    if not len(story.rounds.number) or not story.flown.flights_by_class:
        return ()
    window = read_window(path, first=1, count=_FIRST)
    if len(window.flights) > _MOST_FLIGHTS and len(window.rounds) > 1:
        window = read_window(path, first=1, count=1)
    return (_gantt(window),) if window.flights else ()


def _gantt(window: Window) -> Figure:
    lines = lines_of(window)
    shown = [row for row in window.flights if row.device in lines.place]
    bars = [
        Bar(
            row=lines.place[row.device],
            start_s=max(start_s, window.start_s),
            end_s=min(end_s, window.end_s),
            fill=FILLS[phase],
            tip=f"device {row.device}, {row.submodel}: {phase} {duration(end_s - start_s)}",
        )
        for row in shown
        for phase, start_s, end_s in spans(row)
        if start_s < window.end_s
    ]
    drops = [
        Drop(row=lines.place[row.device], at_s=row.ended_s, tip=_lost(row))
        for row in shown
        if row.outcome != ARRIVED and row.ended_s <= window.end_s
    ]
    ends = [
        (
            row.virtual_time_s,
            f"round {row.round}",
            f"round {row.round}, {row.stage}: aggregated after {duration(row.virtual_time_s)}",
        )
        for row in window.rounds
    ]
    first, last = window.rounds[0].round, window.rounds[-1].round
    title = f"Round {first}" if first == last else f"Rounds {first} to {last}, device by device"
    about = (
        f"{title}: {count(len(shown), 'flight')} of {count(len(lines.place), 'device')} in "
        f"{duration(window.end_s - window.start_s)}, {count(len(drops), 'drop')}."
    )

    def draw(room: Size) -> Markup:
        return flight_chart(
            room,
            bars,
            drops,
            about=about,
            rounds=ends,
            names={row: str(device) for device, row in lines.place.items()},
            headings={row: name for name, row in lines.headings.items()},
            x=lambda most: time_axis("virtual time", window.end_s, most, low_s=window.start_s),
        )

    used = dict.fromkeys(phase for row in shown for phase, _, _ in spans(row))
    keys = [key(FILLS[phase], phase) for phase in FILLS if phase in used]
    if drops:
        keys.append(Key(mark=_cross_key(), name="dropped"))
    left_out = sum(lines.num_left_out.values())
    more = f" {count(left_out, 'more device')} flew and are not shown." if left_out else ""
    caption = f"A line per device, named by its number; vertical lines are aggregations.{more}"
    return Figure(title=title, drawing=both(draw), keys=tuple(keys), caption=caption)


def _lost(row: FlightRow) -> str:
    return f"device {row.device}: {row.reason or row.outcome} after {duration(row.ended_s - row.dispatched_s)}"


def _cross_key() -> Markup:
    strokes = [element("line", x1=3, x2=11, y1=7 - 4 * way, y2=7 + 4 * way, class_="drop") for way in (1, -1)]
    return element("svg", *strokes, viewBox="0 0 14 14", class_="key", aria_hidden="true")
