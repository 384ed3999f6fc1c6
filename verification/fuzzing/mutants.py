"""Scenarios changed at random: what `fuzz_scenarios.py` tries.

Every shipped scenario, and every registered component in its place, is spelt out and changed: numbers to extremes,
types, keys (dropped, misspelt, doubled, unknown), nesting, units, texts (NUL bytes, halves of characters, pipes,
endless devices), whole components, raw bytes of the file, and several of these at once.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neulite_sim import registry
from neulite_sim.scenario.loading import load_scenario

ROOT = Path(__file__).resolve().parents[2]

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 0.5, -0.5, 7.5, 1e-320, 1e-30, 1e-9, 1e-4, 0.001, 0.999999, 1.000001, 1000, 1024, 4096, 4097, 10**5,
    10**6, 10**7, 10**7 + 1, 10**9, 10**12, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 1e15, 1e30, 1e308, 10**30,
    10**400, -(10**30), -1e-320, math.inf, -math.inf, math.nan, True,
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "text",
    [],
    {},
    [[]],
    [None],
    {"kind": 3},
    {"kind": "no"},
    {"a": {}},
    3,
)
UNITS = ("5 parsecs", "1e400MB", "-5s", "", " ", "1_000MB", "5mbps", "1MBps", "１MB", "5 m", "0x10MB", "1e-400s", "5Gs",
         "100y", "3000000d", "1e9Gbps", "0.0000001bps", "9999999TB", "1,5MB", "MB", "10 %", "1:30", "010", "nan", "inf",
         "+5s", "5s5s", "٣MB")  # fmt: skip
TEXTS = ("\0", "a\0b", "\ud800", "x\udcffy", "x" * 5000, "x" * 300, "../../../etc/passwd", "/dev/zero", "/dev/stdin",
         "/dev/random", "FIFO", "LOOP", "FOLDER", "~nobody/x", "~", "🙂", "\n", "\u2028", " ", "-", "--help", "/",
         ".", "con",
         "%s", "{}", "torchvision:", "torchvision:no", "torchvision:resnet18:x", ":", "<<", "a b")  # fmt: skip
RAW = ("<<: 5", "<<: [1]", "<<: ~", "? [a]\n: b", "!!python/object:os.system {}", "x: !!binary aGk=", "\t- a",
       "a: &a [*a]",
       "%YAML 1.1", "---", "...", "*no", "&a &b c", "x: 2020-01-01", "x: !!timestamp 2020-01-01", "\x00", "\ufeff",
       "[", "}",
       "'", '"', "|", "x: |\n  y", "x: y: z", "@", "`")  # fmt: skip

Path_ = tuple[Any, ...]


def bases() -> list[dict[str, Any]]:
    """Return the shipped scenarios as plain values with every option written out."""
    paths = [path for path in sorted((ROOT / "scenarios").rglob("*.yaml")) if "sweeps" not in path.parts]
    return [load_scenario(path).dump() for path in paths]


def places(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every value inside `value` with the keys that lead to it."""
    if path:
        yield path, value
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def put(root: Any, path: Path_, value: Any) -> None:
    """Put a value in its place."""
    for key in path[:-1]:
        root = root[key]
    root[path[-1]] = value


def at(root: Any, path: Path_) -> Any:
    """Return the value at a place."""
    for key in path:
        root = root[key]
    return root


class Raw(str):
    """A piece of YAML that stands as it is."""


def _pick(rng: random.Random, plain: dict[str, Any], wanted: Callable[[Any], bool]) -> Path_ | None:
    found = [path for path, value in places(plain) if wanted(value)]
    return rng.choice(found) if found else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, _is_number)
    if path:
        value = rng.choice(NUMBERS)
        put(plain, path, Raw("0x" + "f" * 5000) if rng.random() < 0.03 else value)


def _scaled(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, _is_number)
    if path:
        value = at(plain, path) * 10.0 ** rng.randint(-9, 9)
        put(plain, path, int(value) if isinstance(at(plain, path), int) and abs(value) < 1e300 else value)


def _type(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, lambda value: True)
    if path:
        put(plain, path, copy.deepcopy(rng.choice(OTHERS)))


def _drop(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, lambda value: True)
    if path:
        del at(plain, path[:-1])[path[-1]]


def _key(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, lambda value: isinstance(value, dict)) or ()
    mapping = at(plain, path) if rng.random() < 0.7 else plain
    names = list(mapping) or ["a"]
    old = rng.choice(names)
    new = rng.choice(
        [old[:-1], old + "s", old.upper(), old.replace("_", "-"), "", "a.b", "kind", "\0", "<<", "x" * 2000]
    )
    mapping[new] = mapping.pop(old, 1) if rng.random() < 0.5 else copy.deepcopy(mapping.get(old, 1))


def _nest(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, lambda value: True)
    if path:
        depth, kind = rng.choice([1, 2, 40, 100, 1000, 5000]), rng.random()
        opened, closed = ("[", "]") if kind < 0.5 else ("{a: ", "}")
        put(plain, path, Raw(opened * depth + "1" + (closed * depth if kind > 0.1 else "")))


def _many(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, lambda value: isinstance(value, list))
    number = rng.choice([0, 2, 100, 1001, 20_000])
    if path and rng.random() < 0.7:
        items = at(plain, path) or [1]
        put(plain, path, [items[0]] * number)
    else:
        where = rng.choice([(), *[(key,) for key, value in plain.items() if isinstance(value, dict)]])
        at(plain, where).update({f"key{index}": index for index in range(number)})


def _unit(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, _is_number)
    if path:
        put(plain, path, rng.choice(UNITS))


def _text(rng: random.Random, plain: dict[str, Any]) -> None:
    path = _pick(rng, plain, lambda value: isinstance(value, str))
    if path:
        put(plain, path, rng.choice(TEXTS))


def _option(rng: random.Random, field: str, name: str) -> dict[str, Any]:
    """Return a component with some of its options at values of their own types."""
    found = registry.load(field, name)
    schema = found.options.model_json_schema()
    given: dict[str, Any] = {"kind": f"{name}:resnet18" if found.takes_argument else name}
    for key, described in schema.get("properties", {}).items():
        if key in schema.get("required", ()) or rng.random() < 0.5:
            given[key] = _value(rng, described, schema.get("$defs", {}))
    return given


def _value(rng: random.Random, described: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if "$ref" in described:
        return _value(rng, definitions[described["$ref"].rsplit("/", 1)[-1]], definitions)
    for word in ("anyOf", "oneOf"):
        if word in described:
            return _value(rng, rng.choice(described[word]), definitions)
    if "enum" in described or "const" in described:
        return rng.choice(described.get("enum", [described.get("const")]))
    kind = described.get("type")
    if kind in ("integer", "number"):
        least, most = (
            described.get(key, described.get("exclusive" + key.capitalize(), 0)) for key in ("minimum", "maximum")
        )
        value = rng.choice(
            [least, most, (least + most) / 2, least + 1, math.sqrt(max(1, abs(most))), rng.uniform(0, 10)]
        )
        return int(value) if kind == "integer" else value
    if kind == "array":
        items = described.get("prefixItems") or [described.get("items", {})] * rng.choice([0, 1, 3])
        return [_value(rng, item, definitions) for item in items]
    if kind == "object":
        named = described.get("properties", {})
        return {
            key: _value(rng, inner, definitions) for key, inner in named.items() if rng.random() < 0.7 or key == "kind"
        }
    if kind == "boolean":
        return rng.random() < 0.5
    return rng.choice(["missing.csv", "text", *TEXTS]) if kind == "string" else None


HOMES = {"partition": ("data", "partition"), "available_memory": ("population", "available_memory"),
         "memory_motion": ("population", "memory_motion"), "availability": ("population", "availability")}  # fmt: skip


def _component(rng: random.Random, plain: dict[str, Any]) -> None:
    field = rng.choice([field for field in registry.GROUPS if field != "backend"])
    path = HOMES.get(field, (field,))
    with contextlib.suppress(KeyError, TypeError):
        put(plain, path, _option(rng, field, rng.choice(registry.names(field))))


def _section(rng: random.Random, plain: dict[str, Any]) -> None:
    from neulite_sim.scenario.schema import Scenario

    schema = Scenario.model_json_schema()
    sections = [key for key, described in schema["properties"].items() if "$ref" in described]
    name = rng.choice(sections)
    given = _value(rng, schema["properties"][name], schema["$defs"])
    plain[name] = (
        {**(plain.get(name) or {}), **given} if rng.random() < 0.7 and isinstance(plain.get(name), dict) else given
    )


MUTATIONS: dict[str, Callable[[random.Random, dict[str, Any]], None]] = {
    "number": _number, "scaled number": _scaled, "type": _type, "dropped key": _drop, "other key": _key,
    "nesting": _nest,
    "many": _many, "unit": _unit, "text": _text, "component": _component, "section": _section,
}  # fmt: skip


def written(value: Any) -> str:
    """Return a plain value as YAML in flow style."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def mutant(number: int, seed: int, starts: list[dict[str, Any]]) -> tuple[str, bytes]:
    """Return the kind of a mutant, and its file."""
    rng = random.Random(f"{seed}/{number}")
    plain = copy.deepcopy(starts[rng.randrange(len(starts))])
    kinds = [*MUTATIONS, "several", "raw", "bytes"]
    kind = kinds[number % len(kinds)]
    if kind in MUTATIONS:
        MUTATIONS[kind](rng, plain)
    elif kind == "several":
        for _ in range(rng.randint(2, 4)):
            with contextlib.suppress(Exception):
                MUTATIONS[rng.choice(list(MUTATIONS))](rng, plain)
    lines = [f"{json.dumps(str(key))}: {written(value)}" for key, value in plain.items()]
    if kind == "raw":
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(RAW))
        if rng.random() < 0.3:
            lines.append(rng.choice(lines))
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    if kind == "bytes":
        for _ in range(rng.choice([1, 1, 5])):
            where = rng.randrange(len(text))
            text = (
                text[:where]
                + rng.choice([b"", bytes([rng.randrange(256)]), text[where : where + 40] * 2])
                + text[where + 1 :]
            )
    return kind, text
