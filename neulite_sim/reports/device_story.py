"""The story of one device in words: who it is, what fits it, how it took part, or what would have helped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neulite_sim.engine.denial_columns import DENIALS, OTHER_DENIALS
from neulite_sim.methods.offering import OUT_OF_MEMORY
from neulite_sim.reports.device_history import History
from neulite_sim.reports.table import TextTable
from neulite_sim.results.device_rows import JOIN
from neulite_sim.timeline.flights import ARRIVED
from neulite_sim.timeline.reasons import cause_of
from neulite_sim.units import format_bytes, format_percent, format_seconds

_RATES = ((1e9, "Gbps"), (1e6, "Mbps"), (1e3, "kbps"), (1.0, "bps"))
_REMEDIES: Mapping[str, str] = {
    "went_offline": "availability that lasts longer than a flight, or churn.offline: pause",
    "missed_deadline": "a longer protocol.maximum_wait, a faster link, or less to train",
    "too_slow": "a lower protocol.over_selection, a faster link, or less to train",
    "round_aborted": "a lower protocol.minimum_updates, or protocol.too_few: extend",
    "discarded": "a higher protocol.maximum_staleness, or protocol.other_stage: merge",
    "out_of_memory": "memory that moves less (population.memory_motion)",
    "battery_empty": "a larger battery (churn.battery), or less to train",
    "failed": "a lower churn.failures_per_hour",
    "timed_out": "a longer churn.timeout",
    "stalled": "a link that carries the rest (population.link)",
    "interrupted": "availability with fewer interruptions",
    "run_over": "a later end of the run (stop)",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A heading, and the sentences below it."""

    title: str
    lines: tuple[str, ...]


def chapters(history: History) -> list[Chapter]:
    """Return the story, chapter by chapter; those of which nothing is known are left out."""
    took_part = any(flight.outcome == ARRIVED for flight in history.flights)
    found = (
        ("who it is", _who(history)),
        ("what fits", _what_fits(history)),
        ("how it took part" if took_part else "why it did not take part", _how(history)),
        (f"what would have let it take part{' more often' if took_part else ''}", _what_would_help(history)),
        ("what is not known", history.missing),
    )
    told = (Chapter(title=title, lines=tuple(lines)) for title, lines in found)
    return [chapter for chapter in told if chapter.lines]


def headline(history: History) -> str:
    """Return which device of which run it is, and what became of it, in one line."""
    scenario = history.scenario
    state = "complete" if history.is_complete else "cut off or still going on"
    kinds = ", ".join(_kind(scenario.get(name)) for name in ("method", "protocol"))
    rounds = f"{history.num_rounds:,} round{'' if history.num_rounds == 1 else 's'}"
    return (
        f"device {history.device} of {history.num_devices:,} in {history.run_dir} ({kinds}; {state}, {rounds} in "
        f"{format_seconds(history.end_s)})"
    )


def _kind(section: Any) -> str:
    return str(section.get("kind") if isinstance(section, Mapping) else section)


def _rate(bits_per_second: float) -> str:
    scale, unit = next((each for each in _RATES if bits_per_second >= each[0]), _RATES[-1])
    return f"{bits_per_second / scale:.3g} {unit}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _who(history: History) -> Iterable[str]:
    row = history.row
    if row is None:
        return _who_by_the_scenario(history)
    moves = row["lowest_memory_bytes"] is not None
    span = ""
    if moves:
        lowest, highest = format_bytes(row["lowest_memory_bytes"]), format_bytes(row["highest_memory_bytes"])
        span = f" (nominal; at the dispatches of rounds it had {lowest} to {highest})"
    lines = [
        f"It is a {row['hardware']} with {format_bytes(row['installed_memory_bytes'])} built in, of which training may "
        f"use {format_bytes(row['available_memory_bytes'])}{span}.",
        f"It owns {_count(row['samples'], 'sample')}; its link carries {_rate(row['downlink_bits_per_second'])} down "
        f"and {_rate(row['uplink_bits_per_second'])} up.",
    ]
    if row["online_share"] is not None:
        seen = "never online" if row["last_seen_s"] is None else f"last seen at {format_seconds(row['last_seen_s'])}"
        lines.append(f"It was online {format_percent(row['online_share'])} of the time, {seen}.")
    return lines


def _who_by_the_scenario(history: History) -> Iterable[str]:
    drawn = history.drawn
    if drawn is None:
        return [f"It is a {flight.device_class}." for flight in history.flights[:1]]
    return [
        f"As its scenario draws it, it is a {drawn.hardware} with {format_bytes(drawn.installed_memory_bytes)} built "
        f"in, of which training may use {format_bytes(drawn.available_memory_bytes)}; its link carries "
        f"{_rate(drawn.downlink_bits_per_second)} down and {_rate(drawn.uplink_bits_per_second)} up."
    ]


def _what_fits(history: History) -> Iterable[str]:
    row = history.row
    if row is None:
        return
    available = row["available_memory_bytes"]
    plans = dict(zip(row["fits"].split(JOIN), row["plans"].split(JOIN), strict=False)) if row["plans"] else {}
    method = _kind(history.scenario.get("method"))
    for name, needed in history.needed_bytes.items():
        plan = f" by {plans[name]}" if name in plans else ""
        if needed <= available:
            yield f"{method}'s {name} needs {format_bytes(needed)}{plan}: it fits, {_to_spare(available - needed)}."
        else:
            yield (
                f"{method}'s {name} needs {format_bytes(needed)}; it had {format_bytes(available)}: "
                f"{format_bytes(needed - available)} short."
            )
    if " of " in row["fits"]:
        yield f"In all {row['fits']} submodels fit; the least and the most demanding are named."


def _to_spare(num_bytes: int) -> str:
    return f"{format_bytes(num_bytes)} to spare"


def _how(history: History) -> Iterable[str]:
    row = history.row
    if row is not None and history.is_counted:
        total = row["offered_rounds"] + row["denied_rounds"]
        offered, denied = row["offered_rounds"], row["denied_rounds"]
        yield f"Of {_count(total, 'round')} it was offered work in {offered:,} and denied it in {denied:,}."
        yield from _denials(history, row)
    flights = history.flights
    arrived = sum(flight.outcome == ARRIVED for flight in flights)
    if not flights:
        yield "It never flew: no submodel was ever sent to it."
        return
    lost = Counter(cause_of(flight.outcome, flight.reason) for flight in flights if flight.outcome != ARRIVED)
    reasons = ", ".join(f"{number} {cause.replace('_', ' ')}" for cause, number in lost.most_common())
    why = f" ({reasons})" if reasons else ""
    yield f"It flew {_count(len(flights), 'time')}: {arrived:,} arrived, {len(flights) - arrived:,} did not{why}."


def _denials(history: History, row: Mapping[str, Any]) -> Iterable[str]:
    for reason, column in (*DENIALS.items(), ("for a reason of its method", OTHER_DENIALS)):
        if not row[column]:
            continue
        mine = [each for each in history.refusals or () if each.reason == reason]
        where = f": {_ranges([each.round for each in mine])}" if mine else ""
        lacks = sorted({(each.submodel, each.shortfall_bytes) for each in mine if each.shortfall_bytes})
        short = "; ".join(f"{format_bytes(missing or 0)} short of {name}" for name, missing in lacks)
        yield f"{reason} in {_count(row[column], 'round')}{where}{f' ({short})' if short else ''}"


def _ranges(numbers: Sequence[int], most: int = 12) -> str:
    """Return `1-4, 7, 9-12`; of many stretches the first and the last."""
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and number == stretches[-1][1] + 1:
            stretches[-1][1] = number
        else:
            stretches.append([number, number])
    texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in stretches]
    shown = texts if len(texts) <= most else [*texts[: most - 1], "...", texts[-1]]
    return f"round{'' if len(numbers) == 1 else 's'} {', '.join(shown)}"


def _what_would_help(history: History) -> Iterable[str]:
    row, flights = history.row, history.flights
    if row is not None:
        yield from _memory_that_would_help(history, row)
        if not row["samples"]:
            yield "Samples: whoever owns none is never asked; another data.partition would give it some."
        if history.is_counted and row["denied_offline"] and row["denied_offline"] > row["offered_rounds"]:
            total = row["offered_rounds"] + row["denied_rounds"]
            share = format_percent(row["denied_offline"] / total)
            yield f"More time online: it was offline in {share} of the rounds (population.availability, churn)."
        if history.is_counted and row["offered_rounds"] and not flights:
            wanted = history.scenario.get("selection", {}).get("devices_per_round")
            yield (
                f"To be chosen: it was offered work in {_count(row['offered_rounds'], 'round')}, and the selector "
                f"({_kind(history.scenario.get('selection'))}, {wanted} at a time) took others."
            )
    lost = Counter(cause_of(flight.outcome, flight.reason) for flight in flights if flight.outcome != ARRIVED)
    for cause, number in lost.most_common():
        if cause in _REMEDIES:
            yield f"For the {_count(number, 'flight')} lost ({cause.replace('_', ' ')}): {_REMEDIES[cause]}."


def _memory_that_would_help(history: History, row: Mapping[str, Any]) -> Iterable[str]:
    short = sorted((need, name) for name, need in history.needed_bytes.items() if need > row["available_memory_bytes"])
    if not short or not (row["shortfall_bytes"] or row[DENIALS[OUT_OF_MEMORY]]):
        return
    need, name = short[0]
    missing = format_bytes(need - row["available_memory_bytes"])
    what = "the submodel that needs least" if row["shortfall_bytes"] else "the next that does not fit"
    yield f"Memory: {missing} more ({format_bytes(need)} in all) for {name}, {what}."
    if not row["plans"] and _kind(history.scenario.get("training", {}).get("fit", "none")) == "none":
        yield "Or training with less: training.fit: auto (micro-batches, checkpointing), or a smaller charged batch."


def flights_table(history: History, most: int) -> TextTable:
    """Return the flights of a device, the latest `most` of them."""
    shown = history.flights[-most:] if most else ()
    left_out = len(history.flights) - len(shown)
    return TextTable(
        title="its flights",
        headers=("flight", "round", "submodel", "left", "took", "needed", "outcome"),
        rows=tuple(
            (
                str(flight.flight),
                str(flight.round),
                flight.submodel,
                format_seconds(flight.dispatched_s),
                format_seconds(flight.ended_s - flight.dispatched_s),
                format_bytes(flight.peak_memory_bytes),
                flight.outcome if flight.outcome == ARRIVED else f"{flight.outcome}: {flight.reason}",
            )
            for flight in shown
        ),
        numeric=frozenset(("flight", "round", "left", "took", "needed")),
        notes=(f"{left_out:,} earlier flights are left out; --flights N shows more.",) if left_out else (),
    )


def story_json(history: History) -> dict[str, Any]:
    """Return what `device --json` prints: the row, denials by round, all flights, and the story in words."""
    refusals = history.refusals
    return {
        "run_dir": str(history.run_dir),
        "device": history.device,
        "devices": history.num_devices,
        "complete": history.is_complete,
        "rounds": history.num_rounds,
        "end_s": history.end_s,
        "row": None if history.row is None else dict(history.row),
        "submodels": [
            {
                "submodel": name,
                "needed_memory_bytes": needed,
                "shortfall_bytes": max(0, needed - (history.row or {})["available_memory_bytes"]),
            }
            for name, needed in history.needed_bytes.items()
        ],
        "denials": None if refusals is None else [dataclasses.asdict(each) for each in refusals],
        "flights": [dataclasses.asdict(flight) for flight in history.flights],
        "online": None if history.online is None else [list(span) for span in history.online],
        "story": [{"title": chapter.title, "lines": list(chapter.lines)} for chapter in chapters(history)],
    }
