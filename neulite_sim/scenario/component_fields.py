"""Fields of a scenario that hold a component, or options that may be written as a bare kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from neulite_sim.errors import UnknownComponentError
from neulite_sim.registry import Choice, Component, choices, component, describe, example, load_all, refusal
from neulite_sim.synonyms import EXAMPLES, meant_by


@dataclass(frozen=True, slots=True)
class ComponentField:
    """Marks a scenario field that holds a `Choice`: `Annotated[Choice, ComponentField("method")]`.

    Accepts `{kind: NAME, option: value, ...}`, or the bare name where every option has a default. Problems in
    the options are reported under their own keys.
    """

    group_field: str

    def _validate(self, value: object) -> Choice:
        if isinstance(value, Choice):
            return value
        given = {"kind": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            template = "must be a mapping with a kind, or a bare kind{hint} ({choices})"
            several = f"; to try several, neulite-sim sweep --grid {self.group_field}=A,B"
            is_varied = isinstance(given, list) and self.group_field not in EXAMPLES
            hint = several if is_varied else example(self.group_field)
            context = {"choices": choices(self.group_field), "hint": hint}
            raise PydanticCustomError("component_type", template, context)
        if not isinstance(given.get("kind"), str):
            wrong = f"must be a name, found {given['kind']!r}" if "kind" in given else "is missing"
            raise refusal(f"{wrong}{self._kinds_of(given)} ({choices(self.group_field)})", "kind")
        try:
            found = component(self.group_field, given["kind"])
        except UnknownComponentError as unknown:
            raise refusal(str(unknown), "kind", given=given["kind"]) from None
        rest = {key: item for key, item in given.items() if key != "kind"}
        return Choice(given["kind"], found.options.model_validate(rest))

    def _kinds_of(self, given: Mapping[Any, Any]) -> str:
        """Return "; a and b are options of KIND" where the keys without a kind tell which one is meant."""
        meant = {name: {str(name), *(path.rpartition(".")[2] for path in meant_by(str(name)))}
                 for name in given if name != "kind"}  # fmt: skip
        found, _ = load_all(self.group_field)
        kinds = [
            kind
            for kind, each in found.items()
            if all(meant[name] & each.options.model_fields.keys() for name in meant)
        ]
        if not meant or not kinds or len(kinds) == len(found):
            return ""
        verb = "is an option" if len(meant) == 1 else "are options"
        return f"; {' and '.join(map(str, meant))} {verb} of {' and '.join(kinds)}"

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate, serialization=core_schema.plain_serializer_function_ser_schema(Choice.dump)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found, _ = load_all(self.group_field, tries=False)
        variants = [_variant(name, item, handler) for name, item in found.items()]
        bare = [name for name, item in found.items() if not (item.takes_argument or _required(item))]
        return {"oneOf": [*variants, *([{"type": "string", "enum": bare}] if bare else [])]}


def _required(found: Component) -> list[str]:
    return [name for name, info in found.options.model_fields.items() if info.is_required()]


def _variant(name: str, found: Component, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    # Through the handler, models nested in the options land in the $defs of the whole schema, so each $ref resolves.
    options = handler.resolve_ref_schema(handler(found.options.__pydantic_core_schema__))
    describe(found.options, options, handler)
    kind = {"type": "string", "pattern": f"^{re.escape(name)}:.+"} if found.takes_argument else {"const": name}
    return {
        **options,
        "title": name,
        "description": found.summary,
        "properties": {"kind": kind, **options.get("properties", {})},
        "required": ["kind", *options.get("required", [])],
    }


@dataclass(frozen=True, slots=True)
class BareKind:
    """Lets a discriminated union be written as a bare kind: `optimizer: adam` for `optimizer: {kind: adam}`.

    Stands last: `Annotated[Sgd | Adam, Field(discriminator="kind"), BareKind()]`.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: {"kind": value} if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        union = handler(schema)
        options = {
            kind: handler.resolve_ref_schema({"$ref": ref}) for kind, ref in union["discriminator"]["mapping"].items()
        }
        bare = [kind for kind, option in options.items() if not option.get("required")]
        return {"anyOf": [union, {"type": "string", "enum": bare}]}
