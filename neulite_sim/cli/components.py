"""`neulite-sim components [KIND]`: what can be named in a scenario or a command, with its options and its source."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from neulite_sim.cli.answers import answer
from neulite_sim.cli.brief import uncollected
from neulite_sim.cli.options import AsJson
from neulite_sim.errors import UnknownComponentError, close_matches

# Where in a scenario a field of the registry stands, for those that are not at the top.
_INSIDE: Mapping[str, str] = {
    "partition": "data.partition",
    "available_memory": "population.available_memory",
    "memory_motion": "population.memory_motion",
    "availability": "population.availability",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a component. `default` is None where the option is required."""

    name: str
    allowed: str
    required: bool
    default: Any
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One component as it is listed. `error` says why it cannot be loaded, where it cannot."""

    field: str
    kind: str
    summary: str
    source: str
    options: tuple[Option, ...]
    error: str | None = None


def components(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="Only one field of a scenario (method, data, ...), the trace formats, or the components of one name.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be named in a scenario, and the formats of traces import, with options and source."""
    from neulite_sim.reports.screen import is_drawn_on

    with uncollected():
        found = list(_entries(kind))
    if as_json:
        answer({"components": [asdict(entry) for entry in found]})
    elif is_drawn_on(sys.stdout):
        _print_tables(found)
    else:
        for line in _lines(found):
            typer.echo(line)


def _entries(wanted: str | None) -> Iterator[Entry]:
    from neulite_sim import registry

    fields = {field: registry.kinds(field) for field in (*registry.GROUPS, *registry.TOOLS)}
    known = {name for names in fields.values() for name in names}
    if wanted is not None and wanted not in fields and wanted not in known:
        near = close_matches(wanted, [*fields, *sorted(known)])
        raise UnknownComponentError(
            f"{wanted!r} is neither a field of a scenario nor a component{near} (fields: {', '.join(fields)})"
        )
    for field, names in fields.items():
        for name in names:
            if wanted is None or wanted in (field, name):
                yield _entry(field, name)


def _entry(field: str, name: str) -> Entry:
    from neulite_sim import registry

    sound, broken = registry.load_all(field, name)
    if name in broken:
        return Entry(field=field, kind=name, summary="", source="", options=(), error=broken[name])
    found = sound[name]
    schema = registry.options_schema(found.options)
    kind = f"{name}:NAME" if found.takes_argument else name
    options = tuple(_options(schema, schema.get("$defs", {}), inside=""))
    return Entry(field=field, kind=kind, summary=found.summary, source=found.source, options=options)


def _options(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, inside: str) -> Iterator[Option]:
    """Yield the options of a JSON Schema; of an option that is a mapping, each of its keys after a dot."""
    for name, described in schema.get("properties", {}).items():
        mapping = definitions[described["$ref"].rsplit("/", 1)[-1]] if "$ref" in described else {}
        if mapping.get("properties"):
            yield from _options(mapping, definitions, inside=f"{inside}{name}.")
            continue
        yield Option(
            name=inside + name,
            allowed=_allowed(described, definitions),
            required=name in schema.get("required", ()),
            default=described.get("default"),
            meaning=" ".join(described.get("description", "").split()),
        )


def _allowed(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return in a few words what JSON Schema allows for an option."""
    if "$ref" in described:
        return _allowed(definitions[described["$ref"].rsplit("/", 1)[-1]], definitions)
    if "examples" in described:
        number: Mapping[str, Any] = next(
            (part for part in described.get("anyOf", ()) if part.get("type") == "number"), {}
        )
        return f"such as {described['examples'][0]},{_range(number)}".rstrip(",")
    if "enum" in described or "const" in described:
        return " | ".join(_text(value) for value in described.get("enum", [described.get("const")]))
    alternatives = described.get("oneOf") or described.get("anyOf")
    if alternatives:
        parts = (_allowed(alternative, definitions) for alternative in alternatives)
        return " | ".join(dict.fromkeys(name for part in parts for name in part.split(" | ") if name != "null"))
    kind = described.get("properties", {}).get("kind", {})
    if kind:
        return str(kind.get("const") or kind.get("pattern", "kind").strip("^+.") + "NAME")
    words = {"integer": "whole number", "boolean": "true | false", "string": "text", "object": "mapping"}
    if described.get("type") == "array":
        items = described.get("prefixItems") or [described.get("items", {})]
        count = f"{len(items)} of " if "prefixItems" in described else ""
        inner = _allowed(items[0], definitions)
        return f"list of {count}{'values ' if inner.startswith('such as') else ''}{inner}"
    named = str(described.get("type", "anything"))
    return words.get(named, named) + _range(described)


def _range(described: Mapping[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {described[key]:g}" for key, sign in signs.items() if key in described]
    return f" {' and '.join(bounds)}" if bounds else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _default(option: Option) -> str:
    if option.required:
        return "required"
    return "not given" if option.default is None else _text(option.default)


def _headings(found: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    for field in dict.fromkeys(entry.field for entry in found):
        yield _INSIDE.get(field, field), [entry for entry in found if entry.field == field]


def _lines(found: list[Entry]) -> Iterator[str]:
    for number, (heading, entries) in enumerate(_headings(found)):
        if number:
            yield ""
        yield heading
        for entry in entries:
            yield f"  {entry.kind}: {entry.error or entry.summary}"
            if entry.source:
                yield f"    source: {entry.source}"
            for option in entry.options:
                meaning = f"  {option.meaning}" if option.meaning else ""
                yield f"    {option.name} = {_default(option)}  ({option.allowed}){meaning}"


def _print_tables(found: list[Entry]) -> None:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from neulite_sim.reports.screen import screen

    console = screen(highlight=False)
    for heading, entries in _headings(found):
        console.rule(Text(heading, "bold"), align="left")
        for entry in entries:
            console.print(Text.assemble((entry.kind, "bold cyan"), "  ", (entry.error or entry.summary, "")))
            if entry.source:
                console.print(Padding(Text(f"source: {entry.source}", "dim"), (0, 0, 0, 2)))
            if entry.options:
                table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
                for column in ("option", "default", "allowed", "meaning"):
                    table.add_column(column, overflow="fold", ratio=3 if column == "meaning" else None)
                for option in entry.options:
                    table.add_row(*map(Text, (option.name, _default(option), option.allowed, option.meaning)))
                console.print(Padding(table, (0, 0, 0, 2)))
