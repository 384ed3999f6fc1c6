"""A finished run as a card: what it was, what came out, and the chart of its accuracy."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from neulite_sim.notebook.chart import accuracy_chart
from neulite_sim.units import format_bytes, format_joules, format_number, format_seconds

_CELL = "padding:1px 14px 1px 0;text-align:left;vertical-align:top"
_HEAD = f"{_CELL};font-weight:normal;white-space:nowrap;opacity:.7"


def card(summary: Mapping[str, Any], curve: Sequence[tuple[int, float, float]], *, run_dir: str | None = None) -> str:
    """Return the card of a run as HTML that needs nothing else: the facts of its summary, and a chart of `curve`."""
    title = (
        f"{summary['name']}: {summary['method']}, {summary['model']} on {summary['dataset']}, seed {summary['seed']}"
    )
    rows = "".join(
        f'<tr><th scope="row" style="{_HEAD}">{html.escape(label)}</th>'
        f'<td style="{_CELL}">{html.escape(text)}</td></tr>'
        for label, text in facts(summary, run_dir=run_dir)
    )
    return (
        '<div style="border:1px solid;border-radius:6px;padding:10px 14px;max-width:640px;overflow-x:auto">'
        f'<div style="font-weight:bold;margin-bottom:6px">{html.escape(title)}</div>'
        f'<table style="border-collapse:collapse;margin:0 0 8px 0"><tbody>{rows}</tbody></table>'
        f"{accuracy_chart(curve)}</div>"
    )


def facts(summary: Mapping[str, Any], *, run_dir: str | None = None) -> list[tuple[str, str]]:
    """Return what a card says, as pairs of a label and a text."""
    found = [("accuracy", _accuracy(summary))]
    if summary.get("final_perplexity") is not None:
        final, best = (format_number(summary[f"{name}_perplexity"], 2) for name in ("final", "best"))
        found.append(("perplexity", f"{final} at the end, {best} at best"))
    reached = {target: at_s for target, at_s in summary["time_to_accuracy_s"].items() if at_s is not None}
    if reached:
        times = (f"{100 * float(target):g} % in {format_seconds(at_s)}" for target, at_s in reached.items())
        found.append(("time to", ", ".join(times)))
    rounds = summary["rounds"]
    found += [
        ("virtual time", f"{format_seconds(summary['virtual_time_s'])} in {rounds:,} round{'s' * (rounds != 1)}"),
        ("wall time", format_seconds(summary["wall_time_s"])),
        (
            "participation",
            f"{_percent(summary['participation_rate'])} of the devices can take part, those that did hold "
            f"{_percent(summary['data_share'])} of the samples",
        ),
        ("peak memory", f"{format_bytes(summary['peak_memory_bytes'])} (tensor bytes) on one device"),
        ("traffic", f"{format_bytes(summary['bytes_down'])} down, {format_bytes(summary['bytes_up'])} up"),
        ("flights", f"{summary['flights_arrived']:,} arrived, {summary['flights_dropped']:,} dropped"),
    ]
    if summary.get("energy_j") is not None:
        wasted = f", {format_joules(summary['wasted_energy_j'])} of it wasted" if summary["wasted_energy_j"] else ""
        found.append(("energy", f"{format_joules(summary['energy_j'])} of all flights{wasted}"))
    if summary.get("proxy"):
        found.append(("proxy", str(summary["proxy"])))
    if run_dir is not None:
        found.append(("results", run_dir))
    return found


def _accuracy(summary: Mapping[str, Any]) -> str:
    if summary["final_accuracy"] is None:
        return "not measured"
    whose = ", of the proxy" if summary.get("proxy") else ""
    final, best = _percent(summary["final_accuracy"]), _percent(summary["best_accuracy"])
    return f"{final} at the end, {_percent(summary['tail_accuracy'])} over the last tests, {best} at best{whose}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
