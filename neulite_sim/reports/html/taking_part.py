"""Who took part: devices and data that had a say so far, and what became of the fleet in each round."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from markupsafe import Markup

from neulite_sim.arrays import Floats
from neulite_sim.reports.html.bar_charts import Part, stacked_columns
from neulite_sim.reports.html.blocks import Block, Figure, Grid, Key, Prose, key
from neulite_sim.reports.html.line_charts import Series, key_of_line, line_chart
from neulite_sim.reports.html.run_story import Rounds, RunStory
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.ticks import count_axis, number_axis, percent_axis, time_axis
from neulite_sim.reports.html.wording import count, duration, percent
from neulite_sim.reports.table import TextTable

_FILLS = {"arrived": "p0", "dropped": "p1", "could train, not asked": "p2", "not enough memory": "p3", "offline": "p4"}
_MORE_FILLS = ("p5", "p6")
_MOST_REASONS = 4
_OTHERS = "other reasons"


def part_blocks(story: RunStory, *, num_samples: int | None = None) -> tuple[Block, ...]:
    """Return participation over time, the fleet per round, and why flights were dropped.

    `num_samples` are those of the whole fleet, where they are known.
    """
    if not len(story.rounds.number):
        return (Prose(paragraphs=("Nobody took part.",)),) if story.run.not_applicable is not None else ()
    blocks: list[Block] = [_shares(story, num_samples), _fleet(story)]
    if story.flown.reasons:
        blocks.append(_drops(story.flown.reasons, int(story.run.summary["flights_arrived"])))
    return tuple(blocks)


def shares_over_time(story: RunStory, num_samples: int | None = None) -> tuple[Floats, Floats | None]:
    """Return per round the share of the devices, and of the data, that had an update merged by then.

    Where nobody says how many samples there are, the share in the summary does; without either the second is None.
    """
    devices = np.cumsum(story.flown.new_devices) / max(len(story.flown.took_part), 1)
    samples = np.cumsum(story.flown.new_samples)
    if num_samples:
        return devices, samples / num_samples
    data_share = story.run.summary.get("data_share")
    if data_share is None or not samples[-1]:
        return devices, None
    return devices, samples * (data_share / samples[-1])


def _shares(story: RunStory, num_samples: int | None) -> Figure:
    devices, data = shares_over_time(story, num_samples)
    at = [0.0, *map(float, story.rounds.end_s)]
    lines = []
    for look, (name, shares) in enumerate((("devices", devices), ("data", data))):
        if shares is None:
            continue
        values = [0.0, *map(float, shares)]
        tips = [
            "start",
            *(
                f"round {number:,}, {duration(at_s)}: {percent(share)} of the {name}"
                for number, at_s, share in zip(map(int, story.rounds.number), at[1:], values[1:], strict=True)
            ),
        ]
        lines.append(Series(name=f"share of the {name}", at=at, values=values, tips=tips, look=look))
    ends = [f"{line.name} {percent(line.values[-1])}" for line in lines]
    about = f"Share that took part over virtual time, at the end: {', '.join(ends)}."
    y = percent_axis("took part so far", 0.0, 1.0, 5)

    def draw(room: Size) -> Markup:
        return line_chart(
            room, lines, x=lambda most: time_axis("virtual time", at[-1], most), y=y, about=about, height=240
        )

    keys = tuple(Key(mark=key_of_line(line.look), name=line.name) for line in lines)
    caption = "A device took part once an update of its was merged; its data with it."
    return Figure(title="Devices and data that took part", drawing=both(draw), keys=keys, caption=caption)


def fleet_per_round(story: RunStory) -> list[tuple[str, Floats]]:
    """Return what became of the devices in each round, by name: arrived, dropped, not drawn, and denied by reason."""
    counts = story.rounds.counts
    idle = np.maximum(counts["offered"] - counts["selected"], 0)
    parts = [("arrived", counts["arrived"]), ("dropped", counts["dropped"]), ("could train, not asked", idle)]
    ranked = sorted(story.denials.items(), key=lambda item: (-int(item[1].sum()), item[0]))
    parts += ranked[:_MOST_REASONS]
    if len(ranked) > _MOST_REASONS:
        parts.append((_OTHERS, sum(cells for _, cells in ranked[_MOST_REASONS:])))
    return [(name, cells.astype(np.float64)) for name, cells in parts if cells.any()]


def _fleet(story: RunStory) -> Figure:
    rounds, found = story.rounds, fleet_per_round(story)
    bins = rounds.bins()
    columns = [
        (_start(rounds, part), float(rounds.number[part][-1]), [float(cells[part].mean()) for _, cells in found])
        for part in bins
    ]
    others = itertools.cycle(_MORE_FILLS)
    parts = [Part(name=name, fill=_FILLS.get(name) or next(others)) for name, _ in found]
    top = max((sum(values) for _, _, values in columns), default=1.0)
    y = number_axis("devices", 0, top, 5, is_whole=True)

    def tip(column: int, part: int) -> str:
        which, value = rounds.number[bins[column]], columns[column][2][part]
        mean = f"{value:,.1f}" if len(which) > 1 else f"{value:,.0f}"
        return f"{_named(int(which[0]), int(which[-1]))}: {mean} {parts[part].name}"

    about_parts = [f"{part.name} {float(cells.mean()):,.1f}" for part, (_, cells) in zip(parts, found, strict=True)]
    about = f"Devices per round, in the mean: {', '.join(about_parts)}."

    def draw(room: Size) -> Markup:
        low, high = columns[0][0], columns[-1][1]
        return stacked_columns(
            room, columns, parts, x=lambda most: count_axis("rounds", high, most, low=low), y=y, tip=tip, about=about
        )

    keys = tuple(key(part.fill, part.name) for part in reversed(parts))
    each = len(rounds.number[bins[0]])
    caption = f"Each column is the mean of {each:,} rounds." if each > 1 else ""
    caption = f"{caption}{story.beyond('They are not in this figure.')}".strip()
    rows = tuple(
        (part.name, f"{float(cells.mean()):,.1f}", f"{int(cells.max()):,}")
        for part, (_, cells) in zip(parts, found, strict=True)
    )
    table = TextTable(
        headers=("devices", "mean per round", "most in a round"),
        rows=rows,
        numeric=frozenset(("mean per round", "most in a round")),
    )
    return Figure(
        title="The fleet, round by round",
        drawing=both(draw),
        keys=keys,
        caption=caption,
        data=Grid(table=table, summary="Numbers of this figure"),
    )


def _start(rounds: Rounds, part: slice) -> float:
    return float(rounds.number[part][0]) - 1.0


def _named(first: int, last: int) -> str:
    return f"round {first:,}" if first == last else f"rounds {first:,} to {last:,}"


def _drops(reasons: Counter[str], arrived: int) -> Grid:
    total = arrived + sum(reasons.values())
    rows = tuple((reason, f"{number:,}", percent(number / total)) for reason, number in reasons.most_common(20))
    heads = ("why flights did not arrive", "flights", "of all flights")
    note = f"{count(total, 'flight')} left, {arrived:,} arrived."
    return Grid(table=TextTable(headers=heads, rows=rows, numeric=frozenset(heads[1:]), notes=(note,)))
