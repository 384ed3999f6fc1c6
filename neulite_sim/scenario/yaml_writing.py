"""Plain values as YAML texts that this project, and any reader of YAML 1.1 or 1.2, reads back as what they were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    ("merge", r"<<"),
)


def as_yaml(content: Mapping[str, Any], *, width: int = 120) -> str:
    """Return a mapping as YAML, its keys in their order; lists and mappings without others inside on one line."""
    return str(
        yaml.dump(
            dict(content), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=width, allow_unicode=True
        )
    )


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and quotes what either version of YAML would read as something other than text."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Only double quotes escape the line breaks of Unicode, which PyYAML would otherwise fold into spaces.
    return dumper.represent_scalar(TAG + "str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)
for _name, _pattern in CORE_SCHEMA:
    _Dumper.add_implicit_resolver(TAG + _name, re.compile(rf"(?:{_pattern})\Z"), None)
