"""A run in plain lines: how it starts, how it goes and what came out. For pipes, logs and the console alike."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.reports.board import Board
from neulite_sim.reports.figures import Mark, memory_ladder
from neulite_sim.reports.memory_kinds import short_kind
from neulite_sim.results.rows import RoundRow, RunStarted
from neulite_sim.units import format_bytes, format_joules, format_number, format_percent, format_seconds

_MOST_THRESHOLDS = 12
_FACT_WIDTH = 58


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as `format_number` does, or "-" where there is none."""
    return "-" if value is None else format_number(value, digits)


def accuracy(value: float | None) -> str:
    """Return an accuracy as people read it, a percentage with one decimal, or "-" where there is none."""
    return "-" if value is None else format_percent(value)


def target(value: float) -> str:
    """Return a target accuracy as a percentage, with the digits it was given: 85 %, 92.5 %."""
    return f"{value * 100:.6g} %"


def fitting(forms: Sequence[str], width: int) -> str:
    """Return the first of some texts that fits into `width` cells; else the last, cut between words."""
    for form in forms:
        if len(form) <= width:
            return form
    text, kept = forms[-1], ""
    for word in re.findall(r"\s*\S+", text):
        if len(kept) + len(word) + 2 > width:
            break
        kept += word
    return f"{kept} …" if kept else f"{text[: max(width - 1, 0)]}…"


def below_zero(method: str) -> tuple[str, ...]:
    """Return why the losses of a method are negative, which nobody expects; the longest form first."""
    if method == "neulite":
        why = "NeuLite subtracts its nHSIC terms"
        return (
            f"losses below zero are no mistake: {why}",
            f"loss below zero: {why}",
            "nHSIC is subtracted",
        )
    return "losses below zero are no mistake: this method subtracts a term", "loss below zero: a term is subtracted"


def how_to_stop(run_dir: str | None) -> tuple[str, ...]:
    """Return how to stop a run and to go on with it; the longest form first."""
    if run_dir is None:
        return ("Ctrl-C stops",)
    return (
        f"Ctrl-C stops; `neulite-sim resume {shlex.quote(run_dir)}` goes on",
        "Ctrl-C stops; `neulite-sim resume DIR` goes on",
        "Ctrl-C stops; resume goes on",
        "Ctrl-C stops",
    )


def short_stages(stages: str) -> str:
    """Return the stages of a round without what their names share: stage-1+3 for stage-1+stage-3."""
    first, *others = stages.split("+")
    shared = first[: first.rfind("-") + 1]
    return "+".join([first, *(name.removeprefix(shared) for name in others)])


def proxy_note(proxy: str) -> str:
    """Return the sentence that names a proxy wherever accuracies are shown."""
    return f"accuracy is of a proxy: {proxy.removeprefix('trained: ')}"


def start_lines(board: Board, started: RunStarted) -> list[str]:
    """Return what a run is, and which submodels its fleet can hold."""
    stops = [f"{started.max_rounds} round{'' if started.max_rounds == 1 else 's'}"]
    if started.max_virtual_time_s is not None:
        stops.append(f"{format_seconds(started.max_virtual_time_s)} virtual")
    if started.stop_accuracy is not None:
        stops.append(f"accuracy {target(started.stop_accuracy)}")
    lines = [
        f"{started.name}: {started.method}, {started.selection} selection, {started.protocol}, {started.backend}, "
        f"seed {started.seed}, {started.num_devices:,} device{'' if started.num_devices == 1 else 's'}, "
        f"until {' or '.join(stops)}"
    ]
    if started.proxy is not None:
        lines.append(proxy_note(started.proxy))
    if len(board.budgets) and started.thresholds:
        ladder = memory_ladder(board.budgets, started.thresholds, rows=2 * _MOST_THRESHOLDS + 1, fitting=board.fitting)
        marks = [step.text(80) for step in ladder if isinstance(step, Mark)]
        lines.append(f"memory: {'; '.join(marks)}; {format_percent(started.participation_rate)} can take part")
    if started.run_dir is not None:
        lines.append(f"results go to {started.run_dir}")
    if started.replays_until:
        lines.append(f"replaying rounds 1 to {started.replays_until} from the journal, without training")
    return lines


def round_line(board: Board, row: RoundRow) -> str:
    """Return one line on where the run stands after `row`, the latest; its wall time is that of when it was told."""
    rounds = f"{board.num_rounds}/{board.started.max_rounds}" if board.started else f"{board.num_rounds}"
    parts = [f"round {rounds}", f"virtual {format_seconds(row.virtual_time_s)}", short_stages(row.stage)]
    discarded = f", {row.discarded} discarded" if row.discarded else ""
    parts.append(f"{row.arrived} of {row.selected} arrived{discarded}")
    if row.staleness_mean:
        parts.append(f"staleness {number(row.staleness_mean, 1)}")
    if board.last_accuracy is not None:
        parts.append(f"accuracy {accuracy(board.last_accuracy)} (best {accuracy(board.best_accuracy)})")
        if board.last_perplexity is not None:
            parts.append(f"perplexity {number(board.last_perplexity, 2)}")
    elif row.train_loss is not None:
        parts.append(f"loss {number(row.train_loss)}")
    left_s = board.wall_left_s
    left = "" if not left_s else f", about {format_seconds(left_s)} left"
    parts.append(f"wall {format_seconds(board.told_wall_s)}{left}")
    return " | ".join(part for part in parts if part)


def stopped_line(board: Board) -> str:
    """Return where a run stood when it ended before its time."""
    tested = "" if board.last_accuracy is None else f", accuracy {accuracy(board.last_accuracy)}"
    wall = format_seconds(board.wall_s)
    return f"stopped after {board.num_rounds} rounds, virtual {format_seconds(board.virtual_s)}{tested}, wall {wall}"


def _accuracy(summary: Mapping[str, Any]) -> str:
    if summary.get("final_accuracy") is None:
        return "not measured"
    shown = [f"{accuracy(summary[f'{which}_accuracy'])} {which}" for which in ("final", "tail", "best")]
    whose = [*(["the proxy"] if summary.get("proxy") else []),
             *(["the model as it began: nothing arrived"] if summary.get("flights_arrived") == 0 else [])]  # fmt: skip
    return ", ".join(shown) + (f" (of {', '.join(whose)})" if whose else "")


def _node(row: Mapping[str, Any]) -> str:
    """Return what one node of a cluster did."""
    actors = f"{row['actors']} actor{'' if row['actors'] == 1 else 's'}"
    what = f"{row['address']}: {actors}, {row['jobs']:,} jobs"
    if row["is_driver"]:
        return f"{what}, nothing sent"
    return f"{what}, {format_bytes(row['bytes_sent'])} there, {format_bytes(row['bytes_back'])} back"


def _times(times_s: Mapping[str, float | None]) -> str:
    named = {target(float(goal)): at_s for goal, at_s in times_s.items()}
    reached = [f"{goal} in {format_seconds(at_s)}" for goal, at_s in named.items() if at_s is not None]
    missed = [goal for goal, at_s in named.items() if at_s is None]
    lines = [""]
    for item in [*reached, *([f"never {', '.join(missed)}"] if missed else [])]:
        if len(lines[-1]) + len(item) > _FACT_WIDTH:
            lines.append("")
        lines[-1] += f"; {item}" if lines[-1] else item
    return "\n".join(lines)


def energy(summary: Mapping[str, Any]) -> str:
    """Return in words what the flights of a run took, and how much of it was for nothing; its energy is known."""
    wasted = summary.get("wasted_energy_j")
    total = f"{format_joules(summary['energy_j'])} of all flights"
    return f"{total}, {format_joules(wasted)} of it wasted" if wasted else total


def summary_facts(summary: Mapping[str, Any], *, run_dir: str | None = None) -> list[tuple[str, str]]:
    """Return the content of `summary.json` as pairs of a label and a text, in reading order."""
    rounds, clock = summary["rounds"], format_seconds(summary["virtual_time_s"])
    which = short_kind(summary.get("compared_with_memory"))
    facts = [("accuracy", _accuracy(summary))]
    if summary.get("final_perplexity") is not None:
        final, best = (number(summary[f"{name}_perplexity"], 2) for name in ("final", "best"))
        facts.append(("perplexity", f"{final} final, {best} best"))
    if summary.get("time_to_accuracy_s") and summary.get("final_accuracy") is not None:
        facts.append(("time to", _times(summary["time_to_accuracy_s"])))
    facts += [
        ("virtual time", f"{clock} in {rounds:,} round{'' if rounds == 1 else 's'}"),
        ("wall time", format_seconds(summary["wall_time_s"])),
        ("participation", f"{format_percent(summary['participation_rate'])} of the devices can take part"),
        ("data share", f"{format_percent(summary['data_share'])} of the training samples took part"),
        ("memory", f"{format_bytes(summary['peak_memory_bytes'])} {which} at the peak of one device"),
        ("traffic", f"{format_bytes(summary['bytes_down'])} down, {format_bytes(summary['bytes_up'])} up"),
        ("flights", f"{summary['flights_arrived']:,} arrived, {summary['flights_dropped']:,} dropped"),
        *([] if summary.get("energy_j") is None else [("energy", energy(summary))]),
    ]
    if summary.get("proxy"):
        facts.append(("proxy", str(summary["proxy"])))
    if summary.get("nodes"):
        facts.append(("nodes", "\n".join(map(_node, summary["nodes"]))))
    facts.append(("digest", f"{str(summary['digest'])[:16]}..."))
    if run_dir is not None:
        facts.append(("results", run_dir))
    return facts


def summary_title(summary: Mapping[str, Any]) -> str:
    """Return the names that stand over a summary."""
    names = [str(summary[key]) for key in ("name", "method") if key in summary]
    return ", ".join([*names, *([f"seed {summary['seed']}"] if "seed" in summary else [])])


def summary_text(summary: Mapping[str, Any], *, run_dir: str | None = None) -> str:
    """Return a summary as plain text, one fact a line."""
    facts = summary_facts(summary, run_dir=run_dir)
    width = max(len(label) for label, _ in facts)
    lines = [f"  {label:<{width}}  {text}".replace("\n", "\n" + " " * (width + 4)) for label, text in facts]
    return "\n".join([summary_title(summary), *lines])
