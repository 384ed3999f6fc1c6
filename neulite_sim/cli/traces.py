"""`neulite-sim traces import` and `traces formats`: foreign traces turned into the project's own format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.components import _entry, _lines, _print_tables
from neulite_sim.cli.options import AsJson
from neulite_sim.errors import Problem, ScenarioError


def import_(
    format_name: Annotated[
        str, typer.Argument(metavar="FORMAT", help="What the file is; see traces formats.", show_default=False)
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Foreign file, plain or gzipped (.gz).", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table to write (.csv or .csv.gz); named after the first file by default."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one option of the format, value as YAML. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a foreign trace into the project's own format, and say what is in it."""
    from neulite_sim.outside import printable
    from neulite_sim.traces.importers.running import import_trace

    report = import_trace(format_name, files, settings=_settings(settings or []), out=out)
    if as_json:
        answer(report)
    else:
        for line in _told(report):
            typer.echo(printable(line))


def formats(
    format_name: Annotated[
        str | None, typer.Argument(metavar="[FORMAT]", help="Only this format.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the formats that can be imported, with their options and their source."""
    from dataclasses import asdict

    from neulite_sim import registry
    from neulite_sim.reports.screen import is_drawn_on

    names = registry.names(registry.TRACE_FORMAT)
    if format_name is not None:
        names = (registry.load(registry.TRACE_FORMAT, format_name).kind,)
    found = [_entry(registry.TRACE_FORMAT, name) for name in names]
    if as_json:
        answer({"formats": [asdict(one) for one in found]})
    elif is_drawn_on(sys.stdout):
        _print_tables(found)
    else:
        for line in _lines(found):
            typer.echo(line)


def _settings(texts: list[str]) -> dict[str, Any]:
    from neulite_sim.scenario.yaml_text import read_yaml

    settings: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in texts:
        key, equals, value = text.partition("=")
        node, found = read_yaml(value, "--set", with_lines=False)
        problems += found
        if not equals or not key.strip():
            finding = f"{text!r} sets nothing"
            hint = "write key=value, for example unit=kbps"
            problems.append(Problem.advising(key="", found=finding, hint=hint, file="--set"))
        elif node is not None:
            settings[key.strip()] = node.plain()
    if problems:
        raise ScenarioError(problems)
    return settings


def _told(report: Mapping[str, Any]) -> Iterator[str]:
    tell, use = _KINDS[report["kind"]]
    yield f"{report['out']}: {tell(report)}"
    for note in report["notes"]:
        yield f"- {note}"
    yield f"use it as {use.format(report['out'])}"


def _availability(report: Mapping[str, Any]) -> str:
    low, median, high = report["online_share_quartiles"]
    return (
        f"{report['devices']:,} devices in {report['intervals']:,} intervals, online {report['online_share']:.1%} of "
        f"the time (quartiles over devices {low:.1%}, {median:.1%}, {high:.1%})"
    )


def _throughput(report: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{rate / 1e6:.3g}" for rate in report["bits_per_second_quartiles"])
    return (
        f"{report['traces']:,} traces in {report['steps']:,} steps, mean rate {rates} Mbps (quartiles over traces), "
        f"{report['span_s_quartiles'][1]:.4g} s long (median)"
    )


def _devices(report: Mapping[str, Any]) -> str:
    from neulite_sim.units import format_bytes

    parts = [f"{report['devices']:,} devices"]
    if "memory_bytes_quartiles" in report:
        parts.append("memory " + ", ".join(map(format_bytes, report["memory_bytes_quartiles"])))
    if "speed_factor_quartiles" in report:
        parts.append("speed factor " + ", ".join(f"{speed:.3g}" for speed in report["speed_factor_quartiles"]))
    if "downlink_bits_per_second_quartiles" in report:
        rates = report["downlink_bits_per_second_quartiles"]
        parts.append("downlink " + ", ".join(f"{rate / 1e6:.3g}" for rate in rates) + " Mbps")
    return "; ".join(parts) + (" (quartiles)" if len(parts) > 1 else "")


_KINDS = {
    "availability": (_availability, "population.availability: {{kind: trace, path: {}}}"),
    "throughput": (_throughput, "population.link: {{downlink: {{trace: {0}}}, uplink: {{trace: {0}, scale: 0.3}}}}"),
    "devices": (_devices, "individuals of an item of population.groups: {{path: {}}}"),
}

# The commands below `traces`, by their names.
TRACES: Mapping[str, Callable[..., None]] = {"import": import_, "formats": formats}
