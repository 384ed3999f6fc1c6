"""`neulite-sim profile`: what each submodel of a scenario costs, and who can train it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.options import AsJson, NoCache, Overrides, ScenarioPath

if TYPE_CHECKING:
    from neulite_sim.reports.table import TextTable


def profile(
    scenario: ScenarioPath,
    overrides: Overrides = None,
    audit: Annotated[bool, typer.Option("--audit", help="Also track a real step of each submodel.")] = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Print memory, compute and traffic of each submodel, and the share of the fleet that can train it."""
    from neulite_sim.cli.checks import FleetCheck
    from neulite_sim.scenario.loading import load_scenario

    check = FleetCheck()
    loaded = load_scenario(scenario, overrides or (), checks=[check])

    from neulite_sim.engine.assembly import assemble
    from neulite_sim.reports.console import print_table
    from neulite_sim.reports.screen import screen
    from neulite_sim.studies.costs import cost_report

    report = cost_report(assemble(loaded, check.fleet), audits=audit)
    if as_json:
        answer(report, is_ascii=True)
        return
    console = screen()
    for table in (_memory_table(report, audits=audit), _time_table(report)):
        print_table(console, table)


def _memory_table(report: dict[str, Any], *, audits: bool) -> TextTable:
    from neulite_sim.reports.table import TextTable
    from neulite_sim.units import format_bytes

    categories = ("parameters", "gradients", "optimizer", "activations", "inputs", "temporaries")
    peaks = _peak_columns(report, audits=audits)
    rows, chooses = [], _chooses(report)
    for entry in report["submodels"]:
        split = [format_bytes(entry["memory_bytes"][name]) for name in categories]
        counts = [f"{entry['parameters']:,}", f"{entry['trainable_parameters']:,}"]
        fits = f"{entry['fits_share']:.0%}"
        if chooses:
            counts = [_plan(entry)]
            fits += f", {entry['chosen_share']:.0%}" if "chosen_share" in entry else ""
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
        notes=(
            f"{report['participation_rate']:.0%} of the devices can train at least one submodel of the method.",
            "tensor bytes: those of one training step at their highest, split at that moment.",
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


def _peak_columns(report: dict[str, Any], *, audits: bool) -> dict[str, str]:
    """Return the keys of the peaks to show, by header."""
    first = report["submodels"][0]
    columns = {"tensor bytes": "tensor_bytes"}
    if first["allocator_bytes"] is not None:
        columns["with allocator"] = "allocator_bytes"
    if audits:
        columns["audited"] = "audited_peak_memory_bytes"
    if "audited_cuda_allocated_bytes" in first:
        columns["CUDA"] = "audited_cuda_allocated_bytes"
    return columns


def _kept(report: dict[str, Any]) -> list[str]:
    """Return what devices need on top where they keep features of frozen layers."""
    from neulite_sim.units import format_bytes

    kept = [
        f"{_name(entry)} {format_bytes(entry['kept_bytes_per_sample'])}"
        for entry in report["submodels"]
        if entry["kept_bytes_per_sample"]
    ]
    return [f"kept of each sample, on top and counted in fits: {', '.join(kept)}."] if kept else []


def _chooses(report: dict[str, Any]) -> bool:
    return any("chosen_share" in entry for entry in report["submodels"])


def _plan(entry: dict[str, Any]) -> str:
    from neulite_sim.profiling.plans import Plan

    return Plan(batch_size=entry["batch_size"], **entry["plan"]).label


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['submodel']} (reference)" if entry["is_reference"] else str(entry["submodel"])


def _time_table(report: dict[str, Any]) -> TextTable:
    from neulite_sim.reports.table import TextTable
    from neulite_sim.units import format_bytes, format_seconds

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
    )
