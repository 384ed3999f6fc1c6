"""The texts below the attributes of a class, read from its source when somebody asks."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path

_LOCALS = "<locals>"
_OWN = __name__.partition(".")[0]
_AT_THE_MARGIN = re.compile(rb"^class \w+[(:].*\n(?:[ \t].*\n|\s*\n|\).*\n)*", re.MULTILINE)
"""A class and all that is indented below it."""


def attribute_docstrings(kind: type) -> Mapping[str, str]:
    """Return the text below each annotated attribute of a class and its bases, as `inspect.cleandoc` makes it.

    An attribute that is annotated again has the text that stands there, or none. Classes without a source have none.
    """
    found: dict[str, str] = {}
    for origin in reversed(kind.__mro__):
        for name in inspect.get_annotations(origin):
            found.pop(name, None)
        found |= _of_module(origin.__module__).get(origin.__qualname__, {})
    return found


@functools.cache
def _of_module(name: str) -> Mapping[str, Mapping[str, str]]:
    """Return the texts of the classes of a module by their qualified names; of several of one name, the last one's."""
    file = getattr(sys.modules.get(name), "__file__", None)
    # Models of Pydantic end in its own classes, which have no fields.
    if file is None or not file.endswith(".py") or name.partition(".")[0] in ("pydantic", *sys.stdlib_module_names):
        return {}
    try:
        source = Path(file).read_bytes()
        body = _parsed(source, of_classes=name.partition(".")[0] == _OWN)
    except (OSError, SyntaxError, ValueError):
        return {}
    found: dict[str, dict[str, str]] = {}
    _gather(body, "", found)
    return found


def _parsed(source: bytes, *, of_classes: bool) -> list[ast.stmt]:
    """Return the statements of a source, or `of_classes` at its margin alone, which takes a third of the time.

    Where code stands in a text at the margin, that would be taken for code: own modules have none.
    """
    parts = [match[0] for match in _AT_THE_MARGIN.finditer(source)] if of_classes else [source]
    return [statement for part in parts for statement in ast.parse(part).body]


def _gather(body: list[ast.stmt], inside: str, found: dict[str, dict[str, str]]) -> None:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            found[inside + statement.name] = _texts(statement)
            _gather(statement.body, f"{inside}{statement.name}.", found)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            _gather(statement.body, f"{inside}{statement.name}.{_LOCALS}.", found)


def _texts(kind: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for statement, after in zip(kind.body, kind.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            texts[statement.target.id] = inspect.cleandoc(after.value.value)
    return texts
