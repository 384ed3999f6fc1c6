"""The tables of `neulite-sim profile`: memory and who holds it, then work, traffic and seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulite_sim.profiling.plans import Plan
from neulite_sim.reports.memory_kinds import ON_THE_BOARD, memory_sentence, process_sentence
from neulite_sim.reports.table import TextTable
from neulite_sim.units import format_bytes, format_percent, format_seconds

CATEGORIES = ("parameters", "gradients", "optimizer", "activations", "inputs", "temporaries")
"""What memory is split into."""


def profile_tables(report: Mapping[str, Any]) -> list[TextTable]:
    """Return a profile (the mapping of `profile --json`) as two tables."""
    return [_memory_table(report), _time_table(report)]


def _memory_table(report: Mapping[str, Any]) -> TextTable:
    peaks = _peak_columns(report)
    rows, chooses = [], _chooses(report)
    for entry in report["submodels"]:
        split = [format_bytes(entry["memory_bytes"][name]) for name in CATEGORIES]
        counts = [f"{entry['parameters']:,}", f"{entry['trainable_parameters']:,}"]
        fits = format_percent(entry["fits_share"])
        if chooses:
            counts = [_plan(entry)]
            fits += f", {format_percent(entry['chosen_share'])}" if "chosen_share" in entry else ""
        rows.append((_name(entry), *counts, *(format_bytes(entry[key]) for key in peaks.values()), fits, *split))
    names = ("params", "grads", "optim.", "activ.", "inputs", "temp.")
    about = ("plan",) if chooses else ("parameters", "trained")
    headers = ("submodel", *about, *peaks, "fits, chosen" if chooses else "fits", *names)
    first = report["submodels"][0]
    compared = next(header for header, key in peaks.items() if key == report["compared_with_memory"])
    return TextTable(
        title=f"{report['scenario']}: {first['method']} on {first['model']}, batch {first['batch_size']}",
        headers=headers,
        rows=tuple(rows),
        numeric=frozenset(headers[1:]) - {"plan"},
        num_keys=2 if chooses else 1,
        notes=(
            f"{format_percent(report['participation_rate'])} of the devices can train at least one submodel of the "
            "method.",
            memory_sentence("tensor_bytes").removesuffix(".") + ", split at that moment.",
            *([process_sentence()] if ON_THE_BOARD in peaks else []),
            f"fits: share of the devices whose available memory holds the column '{compared}'.",
            *(
                ("chosen: share of the devices that train by this plan, the fastest that they hold.",)
                if chooses
                else ()
            ),
            *_kept(report),
            *report["notices"],
        ),
    )


def line_names(report: Mapping[str, Any]) -> list[str]:
    """Return what each line of a profile is called: its submodel, and its plan where devices choose theirs."""
    plans = [f", {_plan(entry)}" if _chooses(report) else "" for entry in report["submodels"]]
    return [_name(entry) + plan for entry, plan in zip(report["submodels"], plans, strict=True)]


def _peak_columns(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of the peaks to show, by header."""
    first = report["submodels"][0]
    columns = {"tensor bytes": "tensor_bytes"}
    if first["allocator_bytes"] is not None:
        columns["with allocator"] = "allocator_bytes"
    if first.get("process_bytes") is not None:
        columns[ON_THE_BOARD] = "process_bytes"
    if "audited_peak_memory_bytes" in first:
        columns["audited"] = "audited_peak_memory_bytes"
    if "audited_cuda_allocated_bytes" in first:
        columns["CUDA"] = "audited_cuda_allocated_bytes"
    return columns


def _kept(report: Mapping[str, Any]) -> list[str]:
    """Return what devices need on top where they keep features of frozen layers."""
    kept = [
        f"{_name(entry)} {format_bytes(entry['kept_bytes_per_sample'])}"
        for entry in report["submodels"]
        if entry["kept_bytes_per_sample"]
    ]
    return [f"kept of each sample, on top and counted in fits: {', '.join(kept)}."] if kept else []


def _chooses(report: Mapping[str, Any]) -> bool:
    return any("chosen_share" in entry for entry in report["submodels"])


def _plan(entry: Mapping[str, Any]) -> str:
    return Plan(batch_size=entry["batch_size"], **entry["plan"]).label


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['submodel']} (reference)" if entry["is_reference"] else str(entry["submodel"])


def _time_table(report: Mapping[str, Any]) -> TextTable:
    classes, chooses = list(report["submodels"][0]["seconds_per_flight"]), _chooses(report)
    rows = tuple(
        (
            _name(entry),
            *((_plan(entry),) if chooses else ()),
            f"{entry['flops_per_step'] / 1e9:.4g} GFLOP",
            format_bytes(entry["bytes_down"]),
            format_bytes(entry["bytes_up"]),
            *(format_seconds(entry["seconds_per_flight"][name]) for name in classes),
        )
        for entry in report["submodels"]
    )
    headers = ("submodel", *(("plan",) if chooses else ()), "per step", "down", "up", *classes)
    return TextTable(
        title="work, traffic and seconds of a participation per device class",
        headers=headers,
        rows=rows,
        numeric=frozenset(headers[1:]) - {"plan"},
        num_keys=2 if chooses else 1,
    )
