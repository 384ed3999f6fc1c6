"""The reference of the package's names, from their signatures and docstrings: `docs/reference/python.md`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import neulite_sim
from neulite_sim.api.compare import ComparisonResult
from neulite_sim.api.profile import ProfileResult
from neulite_sim.api.sources import Values
from neulite_sim.api.sweep import SweepResult
from neulite_sim.api.whatif import StudyResult
from neulite_sim.docstrings import attribute_docstrings
from neulite_sim.engine.run_result import RunResult
from neulite_sim.results.row_table import Rows

RESULTS = (RunResult, Rows, ProfileResult, StudyResult, ComparisonResult, SweepResult)
_WIDTH = 100
_FOR_COMMANDS = {"drawn", "check_labels"}
_HEADING = re.compile(r"^(Args|Raises|Returns):$", re.M)
_ITEM = re.compile(r"^    ([\w, ]+): ", re.M)

HEAD = f"""\
# Python

What `import neulite_sim` gives. Importing it costs nothing: each name loads what it needs when it is first used. The
[guide](../guides/from_python.md) shows how to use them; [commands.md](commands.md) has the commands that do the same.

Functions print nothing and return objects; errors are those of the commands, as exceptions below
`neulite_sim.errors.NeuliteError` (drawn as a tree in its module). Messages name
options: `--memory` is the argument `memory`.

A *scenario* is a path, a mapping of plain values as a scenario file has them, or a `Scenario`. *Values* are what
`simulate` takes in the place of components: {", ".join(f"`{name}`" for name in Values.__annotations__)}.
"""


def python_page(note: str) -> str:
    """Return the page: every public name, then what the functions return."""
    functions = [name for name in neulite_sim.__all__ if inspect.isfunction(getattr(neulite_sim, name))]
    lines = [note, *HEAD.splitlines(), "", "## Functions", ""]
    for name in functions:
        lines += _function(name, getattr(neulite_sim, name))
    lines += ["## Results", ""]
    for kind in RESULTS:
        lines += _class(kind)
    return "\n".join(lines)


def _function(name: str, function: Any) -> Iterator[str]:
    yield from (f"### {name}", "", "```text", _call(f"neulite_sim.{name}", function), "```", "")
    yield from _told(function)


def _call(name: str, function: Any) -> str:
    """Return how a function is called, with its defaults and without types, wrapped."""
    parts, is_keyword = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            parts.append("*")
            is_keyword = True
        start = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        parts.append(f"{start}{parameter.name}{default}")
    return "\n".join(textwrap.wrap(f"{name}({', '.join(parts)})", _WIDTH, subsequent_indent="    "))


def _told(thing: Any) -> Iterator[str]:
    """Yield a docstring: paragraphs, a list of arguments, and what is raised."""
    text = inspect.getdoc(thing) or ""
    first, *sections = _HEADING.split(text)
    yield from (*_paragraphs(first), "")
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        items = _ITEM.split(body)[1:]
        if title == "Raises":
            yield from ("Raises:", "")
        for name, meaning in zip(items[::2], items[1::2], strict=True):
            names = ", ".join(f"`{each}`" for each in name.split(", "))
            yield f"- {names}: {' '.join(meaning.split())}"
        yield ""


def _paragraphs(text: str) -> Sequence[str]:
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n")).splitlines()


def _class(kind: type) -> Iterator[str]:
    yield from (f"### {kind.__name__}", "", *_paragraphs(inspect.getdoc(kind) or ""), "")
    for name, told in attribute_docstrings(kind).items():
        yield f"- `.{name}`: {' '.join(told.split())}"
    for name in _members(kind):
        member = inspect.getattr_static(kind, name)
        call = f".{name}" if isinstance(member, property) else _call(f".{name}", getattr(kind, name))
        told = (inspect.getdoc(getattr(kind, name)) or "").partition("\n\n")[0]
        yield f"- `{' '.join(call.split())}`: {' '.join(told.split())}"
    yield ""


def _members(kind: type) -> list[str]:
    """Return the public members that the package itself defines, those of the class first."""
    own = (base for base in kind.__mro__ if base.__module__.startswith("neulite_sim."))
    found = dict.fromkeys(name for base in own for name in vars(base) if not name.startswith("_"))
    return [
        name
        for name in found
        if name not in _FOR_COMMANDS
        and (isinstance(inspect.getattr_static(kind, name), property) or inspect.isfunction(getattr(kind, name, None)))
    ]
