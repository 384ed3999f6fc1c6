"""Write the pages of `docs/reference/` that follow from the code: scenario.md, hardware.md, commands.md, python.md.

    python docs/generate.py            write them
    python docs/generate.py --check    write nothing; exit code 1 where one is out of date

The tests run the check. What a page says stands where its subject is: descriptions of scenario fields and options
below the fields, help texts in the command files, numbers of devices in `catalogue.toml`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from neulite_sim import errors
from neulite_sim.cli import COMMAND_GROUPS, COMMANDS, app
from neulite_sim.cli.components import _INSIDE, Entry, Option, _default, _entries, _options
from neulite_sim.cli.failures import OWN_KINDS
from neulite_sim.population.hardware.catalogue import Fact, catalogue_entries
from neulite_sim.population.hardware.power import power_facts
from neulite_sim.registry import GROUPS
from neulite_sim.scenario.files import MOST_BYTES as MOST_FILE_BYTES
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.yaml_text import MOST_DEPTH
from neulite_sim.units import BITS_PER_SECOND, BYTES, SECONDS, format_bytes

REFERENCE = Path(__file__).parent / "reference"
HELP_WIDTH = 80
NOTE = "<!-- Written by docs/generate.py: change the code and run it again. -->\n"


def pages() -> dict[Path, str]:
    """Return the text of every generated page."""
    return {
        REFERENCE / "scenario.md": scenario_page(),
        REFERENCE / "hardware.md": hardware_page(),
        REFERENCE / "commands.md": commands_page(),
        REFERENCE / "python.md": python_page(),
    }


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (headers, ["---"] * len(headers), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


# ---- scenario.md --------------------------------------------------------------------------------------------------


def scenario_page() -> str:
    """Return the reference of the scenario file: its sections, then what can be named in them."""
    schema = Scenario.model_json_schema()
    sections = schema["properties"]
    lines = [
        NOTE,
        "# Scenario",
        "",
        "A scenario is one YAML file (YAML 1.2, core schema) that holds everything needed to repeat a run. Unknown",
        "keys are refused. `extends: other.yaml` starts from another file, whose path is relative to the file itself:",
        "mappings are merged key by key, everything else is replaced, and a mapping with another `kind` replaces the",
        "inherited one whole. Every other path is looked up beside the file that says it, then in the current folder;",
        "one on the command line in the current folder first. The `scenario.yaml` of a run folder has whole paths.",
        "The [guide](../guides/own_scenario.md) shows how to write one.",
        "",
        f"- Sizes: a number of bytes, or a text with a unit ({', '.join(BYTES)}).",
        f"- Durations: a number of seconds, or a text with a unit ({', '.join(SECONDS)}).",
        f"- Rates: a number of bits per second, or a text with a unit ({', '.join(BITS_PER_SECOND)}).",
        "",
        "Every number has a least and a most, every text and list a longest form; bounds of sizes, durations and rates",
        "are given in bytes, seconds and bits per second; [where they come from]"
        "(../decisions/0024-bounds-on-every-number.md).",
        f"A file holds at most {format_bytes(MOST_FILE_BYTES)} and {MOST_DEPTH} levels of nesting; `<<` merges",
        "mappings only. What a machine has no room for is refused there, with the bytes that it needs.",
        "",
        "A *component* is named by its `kind`; the other keys of its mapping are its options. A component that needs",
        "no option may be written as its bare kind (`backend: inprocess`).",
        "",
        "## Keys at the top",
        "",
        *_table(("key", "default", "meaning"), [_section_row(schema, name) for name in sections]),
    ]
    for name, described in sections.items():
        definition = _definition(schema, described)
        if definition:
            lines += _section(schema, f"`{name}`", definition)
        if name == "population":
            lines += _section(schema, "An item of `population.groups`", schema["$defs"]["Group"])
            lines += _section(schema, "`link` of the population or of a group", schema["$defs"]["Link"])
            lines += _section(
                schema, "`downlink` or `uplink` of a link that follows a trace", schema["$defs"]["RateTrace"]
            )
            lines += _section(schema, "`individuals` of an item of `population.groups`", schema["$defs"]["Individuals"])
        if name == "energy":
            lines += _section(schema, "`energy`", schema["$defs"]["Energy"])
            lines += _section(schema, "An item of `energy.power`", schema["$defs"]["DevicePower"])
            lines += _section(schema, "`energy.battery`", schema["$defs"]["FleetBattery"])
        if name == "training":
            lines += _section(schema, "`training.learning_rate_schedule` with kind `step`", schema["$defs"]["Step"])
            lines += _section(schema, "`training.learning_rate_schedule` with kind `cosine`", schema["$defs"]["Cosine"])
            lines += _section(schema, "`training.optimizer` with kind `adam`", schema["$defs"]["Adam"])
    lines += ["## Components", "", "`neulite-sim components` prints the same for what is installed on a machine.", ""]
    field = ""
    for entry in _built_in():
        if entry.field != field:
            field = entry.field
            lines += [f"## Components for `{_INSIDE.get(field, field)}`", ""]
        lines += _component(entry)
    return "\n".join(lines)


def _built_in() -> Iterator[Entry]:
    """Yield the components for scenarios that this project registers, whatever else is installed."""
    pyproject = tomllib.loads((REFERENCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    registered = pyproject["project"]["entry-points"]
    in_scenarios = (entry for entry in _entries(None) if entry.field in GROUPS)
    return (entry for entry in in_scenarios if entry.kind in registered[GROUPS[entry.field]])


def _definition(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return schema["$defs"][described["$ref"].rsplit("/", 1)[-1]] if "$ref" in described else None


def _section_row(schema: Mapping[str, Any], name: str) -> tuple[str, str, str]:
    described = schema["properties"][name]
    definition = _definition(schema, described)
    meaning = " ".join((described.get("description") or (definition or {})["description"]).split())
    if name in schema["required"]:
        return f"`{name}`", "required", meaning
    if definition:
        return f"`{name}`", "each key its own", meaning
    return f"`{name}`", f"`{json.dumps(described['default'])}`", meaning


def _section(schema: Mapping[str, Any], title: str, definition: Mapping[str, Any]) -> Iterator[str]:
    options = [option for option in _options(definition, schema["$defs"], inside="") if option.name != "kind"]
    meaning = " ".join(definition.get("description", "").split())
    yield from (f"## {title}", "", *([meaning, ""] if meaning else []))
    yield from _option_table("key", options)


def _option_table(heading: str, options: Sequence[Option]) -> Iterator[str]:
    rows = [(f"`{option.name}`", _default_cell(option), option.allowed, option.meaning) for option in options]
    return _table((heading, "default", "allowed", "meaning"), rows)


def _default_cell(option: Option) -> str:
    shown = _default(option)
    return shown if shown in ("required", "not given") else f"`{shown}`"


def _component(entry: Entry) -> Iterator[str]:
    yield from (f"### `{entry.kind}`", "", f"- {entry.summary}", f"- source: {entry.source}")
    if not entry.options:
        yield from ("- no options", "")
        return
    yield ""
    yield from _option_table("option", entry.options)


# ---- hardware.md --------------------------------------------------------------------------------------------------

_STATUSES = {
    "confirmed": "read in the source named",
    "derived": "computed from sourced numbers, as stated",
    "general": "general knowledge; the source named was not seen",
    "measured": "a public measurement",
    "nominal": "the rate printed on the interface",
    "assumed": "chosen here, for the reason stated",
}
_Shown = Callable[[float], str]
_QUANTITIES: Mapping[str, tuple[str, _Shown]] = {
    "installed_memory_bytes": ("installed memory", format_bytes),
    "usable_memory_bytes": ("usable memory", format_bytes),
    "peak_flops_per_second": ("peak, fp32", lambda value: f"{value / 1e9:,.4g} GFLOP/s"),
    "peak_fp16_flops_per_second": ("peak, fp16 (not used)", lambda value: f"{value / 1e9:,.4g} GFLOP/s"),
    "memory_bytes_per_second": ("memory bandwidth", lambda value: f"{value / 1e9:.4g} GB/s"),
    "efficiency": ("efficiency", lambda value: f"{value:g}"),
    "convolution_efficiency": ("efficiency, convolutions", lambda value: f"{value:g}"),
    "bandwidth_efficiency": ("share of bandwidth", lambda value: f"{value:g}"),
    "grouped_bandwidth_efficiency": ("share of bandwidth, grouped convolutions", lambda value: f"{value:g}"),
    "pointwise_efficiency": ("efficiency, convolutions of one point, forward", lambda value: f"{value:g}"),
    "grouped_backward_efficiency": ("efficiency, gradients of grouped convolutions", lambda value: f"{value:g}"),
    "loading_bytes_per_second": ("loading", lambda value: f"{value / 1e6:.3g} MB/s"),
    "operator_overhead_s": ("overhead per operator", lambda value: f"{value * 1e6:.3g} µs"),
    "downlink_bits_per_second": ("downlink", lambda value: f"{value / 1e6:g} Mbps"),
    "uplink_bits_per_second": ("uplink", lambda value: f"{value / 1e6:g} Mbps"),
}


def hardware_page() -> str:
    """Return the catalogue of hardware: every number of every device with its status and its source."""
    entries = catalogue_entries()
    overview = ("installed_memory_bytes", "usable_memory_bytes", "peak_flops_per_second", "memory_bytes_per_second")
    lines = [
        NOTE,
        "# Hardware",
        "",
        "What can be named as `device` of a group, with the numbers that the memory and time models use. How they are",
        "used stands in [time_model.md](../background/time_model.md). *Usable* memory is what the operating system",
        "offers; what training may use of it is the scenario's `available_memory`, which is capped at it. *Efficiency*",
        "is the share of the peak that training reaches on operators bound by arithmetic, *share of bandwidth* that",
        "on those bound by traffic; the *overhead* is spent on every operator, whatever its size. A device without an",
        "efficiency of convolutions or a share of bandwidth is charged its one efficiency and the whole bandwidth;",
        "without a rate of *loading*, none. What was fitted has its 95 % interval; `python verification/time_model.py`",
        "fits it.",
        "",
        *_table(("status", "meaning"), list(_STATUSES.items())),
        *_table(
            ("device", "compute unit", *(_QUANTITIES[key][0] for key in overview)),
            [
                (f"[{name}](#{name})", entry.compute_unit, *(_shown(key, entry.facts[key]) for key in overview))
                for name, entry in entries.items()
            ],
        ),
    ]
    for name, entry in entries.items():
        rows = [
            (_QUANTITIES[key][0], _shown(key, fact), _interval(key, fact), fact.status, fact.source)
            for key, fact in entry.facts.items()
        ]
        lines += [f"## {name}", "", f"{entry.device_class.family}: {entry.compute_unit}", ""]
        lines += _table(("quantity", "value", "95 % interval", "status", "source"), rows)
    return "\n".join([*lines, *_watts()])


def _watts() -> list[str]:
    """Return the watts of every device by state, each with its status and its source."""
    named = {"idle_watts": "idle", "compute_watts": "compute", "receive_watts": "receive", "send_watts": "send"}
    rows = [
        (name, named.get(key, "battery"), f"{fact.value:g} {'W' if key in named else 'Wh'}", fact.status, fact.source)
        for name, facts in power_facts().items()
        for key, fact in facts.items()
    ]
    return [
        "## Watts",
        "",
        "What each device draws in each state, all of it, and the energy of its battery, if it has one. How they are",
        "used stands in [energy.md](../background/energy.md).",
        "",
        *_table(("device", "state", "value", "status", "source"), rows),
    ]


def _shown(key: str, fact: Fact) -> str:
    return _QUANTITIES[key][1](fact.value)


def _interval(key: str, fact: Fact) -> str:
    if fact.low is None or fact.high is None:
        return ""
    return f"{_QUANTITIES[key][1](fact.low)} to {_QUANTITIES[key][1](fact.high)}"


# ---- commands.md --------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the reference of the command line, from the help texts of its commands."""
    lines = [
        NOTE,
        "# Commands",
        "",
        "What `neulite-sim COMMAND --help` prints. From a checkout that is not installed, `python cli.py COMMAND`",
        "does what `neulite-sim COMMAND` does. `neulite-sim --version` prints the version.",
        "",
        "An error that nobody foresaw is one sentence as well, and exit code 1; `neulite-sim --debug COMMAND` shows",
        "its traceback, which belongs into a report of it.",
        "",
        "A file that `--csv`, `--plot`, `--trace` or `--out` names is written whole or not at all: where that fails,",
        "on a full disk for one, what was there stays. None of them goes over what is read, or into a run folder.",
        "",
        "| exit code | meaning |",
        "| --- | --- |",
        "| 0 | done |",
        "| 1 | the run failed, its backend cannot start, or this program has a mistake |",
        "| 2 | the input is wrong: command line, scenario, data, an impossible set-up or an output that cannot be "
        "written |",
        "| 130 | interrupted with Ctrl-C, or asked to stop by another signal |",
        "",
        *_answers(),
    ]
    for words in ((), *((command.__name__,) for command in COMMANDS), *_grouped()):
        lines += [f"## {' '.join(words) or 'neulite-sim'}", "", "```text", help_of(words), "```", ""]
    return "\n".join(lines)


def _grouped() -> Iterator[tuple[str, ...]]:
    for word, (_, commands) in COMMAND_GROUPS.items():
        yield (word,)
        yield from ((word, name) for name in commands)


def help_of(words: Sequence[str]) -> str:
    """Return what `neulite-sim WORDS --help` prints on a terminal of 80 columns, whatever this one has."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    for name in ("neulite-sim", *words):
        command = command if context is None else command.commands[name]
        settings = {**command.context_settings, "terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
        context = command.context_class(command, info_name=name, parent=context, **settings)
    text: str = command.get_help(context)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _answers() -> Iterator[str]:
    kinds = {**errors.kinds(), **OWN_KINDS}
    yield from (
        "## Answers in JSON",
        "",
        "With `--json` standard output holds one JSON object at the end and nothing else; messages, and whatever a",
        "library prints, go to standard error. A command that fails prints its object as well, with the key `error`;",
        "no other answer has it:",
        "",
        "```json",
        '{"error": {"kind": "output", "message": "a.png: cannot write: No space left on device; choose another place '
        'with --plot", "hint": "choose another place with --plot"}}',
        "```",
        "",
        "`kind` is one of the words below and stays what it is. `message` is all that standard error says, without",
        "the `error:` before it, and `hint` the part of it, or the line to type, that says what to do; it is empty",
        "where that is not known apart from the rest. Where there is more to tell, `error` has further keys:",
        "`problems` of a scenario, each with `key`, `message`, `file` and `line`; `what` of a run that cannot be",
        "resumed, without the consequence; `runs` of a sweep or study, each with `run` and the error that this run",
        "answered. What was found before the failure stands beside `error`: the `rows` of the runs that could be",
        "read, the `run_dir` of a run that had begun.",
        "",
        "Nothing is printed where nobody is left to print it, after `kill -9` for one (a run on Ray is answered for",
        "even then), or to read it. Where standard output is full, closed or of a reader that has left (`| head -1`),",
        "the command says so in one line on standard error, does all else that it was asked for, a run to its end,",
        "and ends with exit code 2.",
        "",
    )
    rows = [(f"`{kind}`", str(code), meaning) for kind, (code, meaning) in kinds.items()]
    yield from _table(("kind", "exit code", "meaning"), rows)


# ---- python.md ----------------------------------------------------------------------------------------------------


def python_page() -> str:
    """Return the reference of the names that `import neulite_sim` gives, which `python_page.py` writes."""
    spec = importlib.util.spec_from_file_location("docs_python_page", Path(__file__).with_name("python_page.py"))
    assert spec is not None, "a file beside this one"
    assert spec.loader is not None, "a file beside this one"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.python_page(NOTE))


def outdated() -> list[Path]:
    """Return the generated pages whose files differ from what they should hold."""
    return [
        path for path, text in pages().items() if not path.is_file() or _gist(path.read_text("utf-8")) != _gist(text)
    ]


def _gist(text: str) -> str:
    """Return a page without what versions of Typer lay out each in their own way: braces, types and blanks."""
    return " ".join(re.sub(r" <[a-z\[\]]+>|[{}]", "", text).split())


def main() -> int:
    """Write the pages, or check them with `--check`; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    if parser.parse_args().check:
        for path in outdated():
            sys.stderr.write(f"{path} is out of date; run python docs/generate.py\n")
        return 1 if outdated() else 0
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
