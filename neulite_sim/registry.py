"""Components: everything that a scenario names with `kind`, found through entry points.

The built-in components register in `pyproject.toml` exactly as those of any other package do: an entry point in the
group `neulite_sim.<field>s` names a `Component` value. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from neulite_sim.docstrings import attribute_docstrings
from neulite_sim.errors import UnknownComponentError, close_matches
from neulite_sim.later import homes
from neulite_sim.synonyms import EXAMPLES, kinds_meant_by

# Where plug-ins of older versions look for them.
__getattr__ = homes(
    __name__,
    BareKind="neulite_sim.scenario.component_fields",
    ComponentField="neulite_sim.scenario.component_fields",
)

GROUPS: Mapping[str, str] = {
    "data": "neulite_sim.datasets",
    "partition": "neulite_sim.partitions",
    "model": "neulite_sim.architectures",
    "method": "neulite_sim.methods",
    "selection": "neulite_sim.selectors",
    "protocol": "neulite_sim.protocols",
    "backend": "neulite_sim.backends",
    "available_memory": "neulite_sim.available_memory",
    "memory_motion": "neulite_sim.memory_motion",
    "availability": "neulite_sim.availability",
}

PYTHON, GIVEN = "python", "given"
"""Kinds that stand for a user's own: what a Python file holds, and what was given from Python, which nobody writes."""

TRACE_FORMAT = "trace format"
TOOLS: Mapping[str, str] = {TRACE_FORMAT: "neulite_sim.trace_importers"}
"""What a command names rather than a scenario."""


class Options(BaseModel):
    """Base of a component's options: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON Schema, in which the text below a field describes it."""
        found = handler(schema)
        describe(cls, handler.resolve_ref_schema(found), handler)
        return found

    def is_wish(self, name: str) -> bool:
        """Return whether an option is not at its default; a scenario that was written out names every value."""
        found, usual = getattr(self, name), type(self).model_fields[name].get_default(call_default_factory=True)
        is_mapping = isinstance(found, Options) and not isinstance(usual, Options)
        return bool(found != (type(found).model_validate(usual) if is_mapping else usual))

    def check_beside(self, scenario: Any) -> None:
        """Refuse what does not go with the rest of the scenario; anything goes by default.

        Raises:
            ValidationError: as `refusal` makes it, with keys from the scenario's top.
        """

    def remarks_beside(self, scenario: Any) -> tuple[str, ...]:
        """Return a sentence for each option that comes to nothing beside the rest of the scenario, its key first."""
        del scenario
        return ()


class JsonSchemas(GenerateJsonSchema):
    """Generates the same as its base, in less time."""

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON has it; the base makes a serializer for each."""
        return dft if type(dft) in _PLAIN else super().encode_default(dft)


_PLAIN = (type(None), bool, int, float, str)


def describe(options: type[Options], schema: dict[str, Any], handler: GetJsonSchemaHandler) -> None:
    """Put the text below each field into a JSON Schema of these options.

    Pydantic would read all sources as the classes are made, which takes longer than checking a scenario.
    """
    properties = schema.get("properties", {})
    for name, text in attribute_docstrings(options).items():
        # A section of a scenario may say it itself.
        if name in properties and handler.resolve_ref_schema(properties[name]).get("description") != text:
            properties[name].setdefault("description", text)


def refusal(message: str, *keys: str | int, given: object = None) -> ValidationError:
    """Return what a validator of `Options` raises to refuse one key below its own place, not the whole mapping.

    `raise refusal("acts only with optimizer sgd", "momentum", given=0.9)` is reported at `training.momentum`.
    """
    error = PydanticCustomError("refused", "{text}", {"text": message})
    return ValidationError.from_exception_data("options", [{"type": error, "loc": keys, "input": given}])


def refuse_inert(options: Options, conditions: Mapping[str, str]) -> None:
    """Refuse options that another one switches off, unless they stand at their defaults.

    `refuse_inert(self, {"epsilon": "nhsic nocco"})` refuses any other epsilon: "acts only with nhsic nocco".

    Raises:
        ValidationError: the first of `conditions` (by name, under what the option acts) that is not at its default.
    """
    for name, condition in conditions.items():
        if options.is_wish(name):
            found = getattr(options, name)
            shown = "" if isinstance(found, Options) else f", found {found}"
            raise refusal(f"acts only with {condition}{shown}; remove it", name, given=found)


def inert(section: str, options: Options, conditions: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each option that another one switches off, unless it stands at its default.

    For those that scenarios may name all the same; `refuse_inert` refuses others.
    """
    return tuple(
        f"{section}.{name} is {getattr(options, name)}, and acts only with {condition}: it has no effect"
        for name, condition in conditions.items()
        if options.is_wish(name)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What a name in a scenario stands for.

    `build` is called by the engine's assembly with the component's options and whatever its group's contract says;
    `source` is the paper, page or measurement that the component comes from. `takes_argument` is true where the
    name carries an argument after a colon (`torchvision:alexnet`), which `build` then gets after the options.
    """

    kind: str
    summary: str
    source: str
    options: type[Options]
    build: Callable[..., Any]
    takes_argument: bool = False
    survey: Callable[..., tuple[str, ...]] | None = None
    """For datasets of files: what their names show before any is read, a sentence each."""
    begun: Callable[..., contextlib.AbstractContextManager[None]] | None = None
    """For backends: begins with their options what takes long and waits for nothing, and ends what nobody took."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A component chosen in a scenario, with its validated options."""

    kind: str
    options: Any = field(default_factory=Options)

    @property
    def label(self) -> str:
        """What people call it: the kind, or the name of what a user's own file or program gives."""
        return str(self.options.name) if self.kind in (PYTHON, GIVEN) else self.kind

    @property
    def is_brought(self) -> bool:
        """Whether its code is not this project's: a user's own, or a plug-in's."""
        if self.kind in (PYTHON, GIVEN) or type(self.options).__module__.partition(".")[0] != __package__:
            return True
        return _is_brought(self.kind.partition(":")[0])

    def dump(self) -> dict[str, Any]:
        """Return the mapping that stands in the scenario: `kind` and every option."""
        return {"kind": self.kind, **self.options.model_dump(mode="json")}


@functools.cache
def _entry_points(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name; a checkout answers for its own from pyproject.toml."""
    found = {point.name: point for point in _installed().select(group=group)}
    for name, value in _declared().get(group, {}).items():
        # What an editable install recorded is from the day it was made, and modules move since.
        if name not in found or found[name].value.startswith(f"{__package__}."):
            found[name] = EntryPoint(name, value, group)
    return dict(sorted(found.items()))


def _is_brought(name: str) -> bool:
    """Return whether a program registered a name, or another package has it, whatever options go with it."""
    if any(name == known for _, known in _REGISTERED):
        return True
    found = (_entry_points(group).get(name) for group in GROUPS.values())
    return any(point is not None and not point.value.startswith(f"{__package__}.") for point in found)


@functools.cache
def _installed() -> Any:
    """Return all entry points: every package is looked through for them, so once is enough."""
    return entry_points()


def forget_installed() -> None:
    """Look for components anew when they are next asked for: after a package was installed while this process runs."""
    _installed.cache_clear()
    _entry_points.cache_clear()


@functools.cache
def _declared() -> Mapping[str, Mapping[str, str]]:
    """Return the entry points of a checkout by group; none where this is no checkout."""
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    if not pyproject.is_file():
        return {}
    declared: Mapping[str, Mapping[str, str]] = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"].get(
        "entry-points", {}
    )
    return declared


@functools.cache
def options_schema(options: type[Options]) -> dict[str, Any]:
    """Return the JSON Schema of a component's options."""
    return options.model_json_schema(schema_generator=JsonSchemas)


_REGISTERED: dict[tuple[str, str], tuple[Component, str]] = {}
"""What this process registered by itself, by field and name: known here alone."""


def register_component(group_field: str, name: str, found: Component, *, sha256: str) -> None:
    """Let `name` stand for a component in this process; the last one counts. `sha256` is over its code and data.

    Raises:
        UnknownComponentError: there is no such field, or an installed component has this name.
    """
    if name in _entry_points(_group(group_field)):
        raise UnknownComponentError(f"{group_field} {name!r} is there already", hint="register it by another name")
    _REGISTERED[group_field, name] = found, sha256


def registered_sha256(group_field: str, name: str) -> str | None:
    """Return the SHA-256 of what this process registered; None where it did not register this name."""
    return _REGISTERED.get((group_field, name), (None, None))[1]


def _group(group_field: str) -> str:
    found = GROUPS.get(group_field) or TOOLS.get(group_field)
    if found is None:
        known = (*GROUPS, *TOOLS)
        raise UnknownComponentError(
            f"{group_field!r} is not something that components are named for"
            f"{close_matches(group_field.rpartition('.')[2], known)} (choices: {', '.join(known)})"
        )
    return found


def names(group_field: str) -> tuple[str, ...]:
    """Return the components of a field of `GROUPS` or `TOOLS` that stand by themselves, sorted."""
    own = (name for field, name in _REGISTERED if field == group_field)
    return tuple(sorted({*_entry_points(_group(group_field)), *own} - {PYTHON, GIVEN}))


def kinds(group_field: str) -> tuple[str, ...]:
    """Return what can be named for a field of `GROUPS` or `TOOLS`, sorted: `names`, and a Python file where one can."""
    return tuple(sorted((*names(group_field), *({PYTHON} & _entry_points(_group(group_field)).keys()))))


def plug_ins() -> frozenset[str]:
    """Return the top-level packages of all components that are not built in."""
    groups = (*GROUPS.values(), *TOOLS.values())
    modules = (point.value.partition(":")[0] for group in groups for point in _entry_points(group).values())
    return frozenset(module.partition(".")[0] for module in modules) - {__package__}


def load(group_field: str, name: str) -> Component:
    """Return the component registered as `name`, without an argument.

    Raises:
        UnknownComponentError: no such component (the message lists close matches and all choices), or one whose
            package cannot be loaded.
    """
    points = _entry_points(_group(group_field))
    if (group_field, name) in _REGISTERED:
        return _REGISTERED[group_field, name][0]
    point = points.get(name)
    if point is None:
        meant = [kind for kind in kinds_meant_by(group_field, name) if kind in points]
        near = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else close_matches(name, names(group_field))
        near = near or example(group_field)
        raise UnknownComponentError(f"{name!r} is not a known {group_field}{near} ({choices(group_field)})")
    try:
        # What a package prints while it is imported would stand in the middle of a command's own output.
        with contextlib.redirect_stdout(sys.stderr):
            loaded = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        what = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise UnknownComponentError(
            f"{group_field} {name!r} cannot be loaded from {point.value}: {what}",
            hint=f"install or mend what is missing, or name another {group_field} ({choices(group_field)})",
        ) from error
    if not isinstance(loaded, Component):
        raise UnknownComponentError(
            f"{group_field} {name!r}: {point.value} is a {type(loaded).__name__}",
            hint="its package must name a neulite_sim.registry.Component there",
        )
    if not (isinstance(loaded.options, type) and issubclass(loaded.options, Options)):
        raise UnknownComponentError(
            f"{group_field} {name!r}: the options of {point.value} are {loaded.options!r}",
            hint="they must be a subclass of neulite_sim.registry.Options",
        )
    return loaded


_INDESCRIBABLE: WeakKeyDictionary[type[Options], str] = WeakKeyDictionary()
"""Options of which it was seen that they cannot be described, and why."""


def load_all(group_field: str, *only: str, tries: bool = True) -> tuple[dict[str, Component], dict[str, str]]:
    """Return what is registered for a field (or `only` these) and can be described, and why the others cannot, by name.

    A package that is broken takes nothing else with it. Without `tries`, what was never described counts as sound.
    """
    sound: dict[str, Component] = {}
    broken: dict[str, str] = {}
    for name in only or kinds(group_field):
        try:
            found = load(group_field, name)
        except UnknownComponentError as error:
            broken[name] = str(error)
            continue
        if tries:
            _describe(found.options)
        if found.options in _INDESCRIBABLE:
            why = _INDESCRIBABLE[found.options]
            broken[name] = f"{group_field} {name!r}: its options cannot be described ({why})"
        else:
            sound[name] = found
    return sound, broken


def _describe(options: type[Options]) -> None:
    try:
        options_schema(options)
    except Exception as error:
        _INDESCRIBABLE[options] = f"{type(error).__name__}: {error}"


def component(group_field: str, kind: str) -> Component:
    """Return the component called `kind`, which may carry an argument after a colon (`torchvision:alexnet`).

    Raises:
        UnknownComponentError: as `load`; also an argument where none is taken, or none where one is needed.
    """
    name, colon, argument = kind.partition(":")
    found = load(group_field, name)
    if found.takes_argument and not argument:
        raise UnknownComponentError(f"{kind!r} needs a name after a colon: {name}:NAME")
    if colon and not found.takes_argument:
        raise UnknownComponentError(f"{kind!r}: {name} takes nothing after a colon", hint=f"write {name}")
    return found


def example(group_field: str) -> str:
    """Return "; write for example {kind: ...}" for a field of `GROUPS` where a bare name does not tell enough."""
    return f"; write for example {EXAMPLES[group_field]}" if group_field in EXAMPLES else ""


def choices(group_field: str) -> str:
    """Return "choices: a, b, c" for a field of `GROUPS`, as error messages end."""
    return f"choices: {', '.join(names(group_field)) or 'none is installed'}"
