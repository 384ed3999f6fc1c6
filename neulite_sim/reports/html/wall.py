"""The memory wall: a histogram of the fleet's available memory, and what the submodels need."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from neulite_sim.reports.html.bar_charts import Bin, histogram
from neulite_sim.reports.html.blocks import Block, Figure, Grid, Prose, key
from neulite_sim.reports.html.fleet import Memory
from neulite_sim.reports.html.line_charts import Level
from neulite_sim.reports.html.svg import Size, both
from neulite_sim.reports.html.ticks import byte_axis, nice_step, number_axis
from neulite_sim.reports.html.wording import count, percent, size
from neulite_sim.reports.table import TextTable

_MOST_BARS = 24
_MOST_DRAWN = 6
_GROUPS = ("hold none of the marked submodels", "hold one", "hold two", "hold three or more")
DEFINITION = "Memory is peak memory in tensor bytes: what one training step holds at most."


def wall_blocks(
    memory: Memory, needs: Mapping[str, int], *, peaks: Mapping[str, tuple[int, int]] | None = None
) -> tuple[Block, ...]:
    """Return the histogram and a table of needs; a sentence where the memory of the fleet is not known."""
    if memory.available is None or not len(memory.available):
        why = memory.why or "the fleet is empty"
        blocks: list[Block] = [Prose(paragraphs=(f"The memory of the fleet is not shown: {why}.",), is_note=True)]
        return (*blocks, _table(memory, needs, peaks or {})) if needs else tuple(blocks)
    blocks = [_figure(memory, needs)]
    if needs:
        blocks.append(_table(memory, needs, peaks or {}))
    return tuple(blocks)


def _figure(memory: Memory, needs: Mapping[str, int]) -> Figure:
    available = memory.available
    assert available is not None
    thresholds = _drawn(needs)
    low = float(min(available[0], *(need for _, need in thresholds))) if thresholds else float(available[0])
    # A few devices with very much memory would leave the others one bar.
    top = float(np.quantile(available, 0.995))
    high = max(top * 1.02, *(need * 1.05 for _, need in thresholds)) if thresholds else top * 1.02
    step = nice_step(max(high - low, 1.0), _MOST_BARS)
    first = np.floor(low / step) * step
    edges = np.arange(first, high + step, step)
    inside = np.minimum(available, edges[-1] - step / 2)
    counts = np.histogram(inside, edges)[0]
    beyond = int((available >= edges[-1]).sum())
    wanted = [need for _, need in thresholds]
    bins = [
        Bin(
            low=float(left),
            high=float(right),
            count=int(number),
            group=sum(need <= left for need in wanted),
            tip=f"{size(left)} to {size(right)}: {count(int(number), 'device')}",
        )
        for left, right, number in zip(edges, edges[1:], counts, strict=False)
    ]
    total = len(available)
    levels = [
        Level(value=float(need), text=f"{name} {size(need)}: {memory.fitting(name, need):,} fit")
        for name, need in thresholds
    ]
    y = number_axis("devices", 0, float(max(counts, default=1)), 4, is_whole=True)
    said = [
        f"{name} needs {size(need)}, which {memory.fitting(name, need):,} of {total:,} devices have"
        for name, need in thresholds
    ]
    limits = f"from {size(available[0])} to {size(available[-1])}"
    about = f"Available memory of {count(total, 'device')}, {limits}. {'; '.join(said)}."

    def draw(room: Size) -> Markup:
        return histogram(
            room,
            bins,
            levels,
            about=about,
            y=y,
            x=lambda most: byte_axis("available memory", float(edges[-1]), most, low=float(first)),
        )

    caption = "Devices right of a line can hold that submodel."
    if beyond:
        caption += f" The last bar holds {count(beyond, 'device')} with more, up to {size(available[-1])}."
    if memory.moves:
        caption += " Memory moves during the run; this is how it began."
    used = {min(each.group, len(_GROUPS) - 1) for each in bins if each.count}
    keys = tuple(key(f"w{group}", words) for group, words in enumerate(_GROUPS) if group in used) if thresholds else ()
    return Figure(title="Available memory of the fleet", drawing=both(draw), caption=caption, keys=keys)


def _drawn(needs: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return at most `_MOST_DRAWN` needs, ascending, the smallest and the largest among them; equal ones are one."""
    names: dict[int, list[str]] = {}
    for name, need in needs.items():
        names.setdefault(need, []).append(name)
    found = [
        (same[0] if len(same) == 1 else f"{same[0]} +{len(same) - 1}", need) for need, same in sorted(names.items())
    ]
    if len(found) <= _MOST_DRAWN:
        return found
    return [found[int(place)] for place in np.linspace(0, len(found) - 1, _MOST_DRAWN)]


def _table(memory: Memory, needs: Mapping[str, int], peaks: Mapping[str, tuple[int, int]]) -> Grid:
    total = 0 if memory.available is None else len(memory.available)
    rows = []
    for name, need in needs.items():
        most = peaks.get(name, (need, need))[1]
        fits = (
            ""
            if not total
            else f"{memory.fitting(name, need):,} of {total:,} ({percent(memory.fitting(name, need) / total)})"
        )
        rows.append((name, size(need) if most == need else f"{size(need)} to {size(most)}", *([fits] if total else [])))
    heads = ("submodel", "needs", *(["devices that hold it"] if total else []))
    notes = [DEFINITION]
    if any(most != least for least, most in peaks.values()):
        notes.append("Ranges: devices took smaller batches or steps; the count is for the least.")
    table = TextTable(
        title="What each submodel needs",
        headers=heads,
        rows=tuple(rows),
        numeric=frozenset(heads[1:]),
        notes=tuple(notes),
    )
    return Grid(table=table)
