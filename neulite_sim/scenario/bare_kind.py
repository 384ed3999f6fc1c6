"""A discriminated union of options that may be written as a bare kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema


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
