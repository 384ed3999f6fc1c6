"""What is wrong with a scenario, in plain words: pydantic's errors become `Problem`s with file, line and key."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, core_schema

from neulite_sim.docstrings import attribute_docstrings
from neulite_sim.errors import Problem, close_matches
from neulite_sim.scenario.fields import has, keys_at, models_at, value_at
from neulite_sim.scenario.hints import unknown_key
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.tree import Keys, Node
from neulite_sim.units import written

# What a value must be, by pydantic's type of error; `{...}` are filled from the error's context.
_MUST_BE: Mapping[str, str] = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 4300 digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "none_required": "nothing (null)",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "invalid_key": "text",
    "component_type": "a mapping with a kind, or a bare kind",
}
# The same for families of rarer errors, by how their names begin; the first that fits.
_MUST_BE_SUCH: Mapping[str, str] = {
    "datetime": "a date and a time such as 2026-03-01T08:00:00",
    "date": "a date such as 2026-03-01",
    "timezone": "a date and a time with, or without, a time zone, as the others",
    "time_delta": "a length of time",
    "time": "a time such as 08:00:00",
    "url": "a URL",
    "uuid": "a UUID",
    "decimal": "a decimal number",
    "fraction": "a fraction",
    "complex": "a complex number",
    "multiple_of": "a multiple of {multiple_of}",
    "string": "text",
    "bytes": "text",
    "set": "a list",
    "frozen_set": "a list",
    "deque": "a list",
    "iter": "a list",
    "named_tuple": "a list",
    "json": "JSON",
    "recursion": "without a reference to itself",
    "": "a mapping",
}
_OF_PYDANTIC = frozenset(get_args(core_schema.ErrorType))
MOST_PROBLEMS = 100
"""So many problems are told at most; who has more made one mistake many times."""

# Longer values are not repeated in what to write instead.
_SHORT = 40
_PERCENT = re.compile(r"\s*(\d+\.?\d*)\s*%\s*", re.ASCII)
_QUOTED = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one error says: what the value must be, or where that does not fit a whole sentence of its own."""

    path: Keys
    must_be: str = ""
    text: str = ""


def explain(error: ValidationError, tree: Node) -> list[Problem]:
    """Return a problem for each key that pydantic refused, with the file and line it has in `tree`."""
    problems = [located(path, text, tree) for path, text in in_words(error, tree.plain())]
    if (every := error.error_count()) > MOST_PROBLEMS:
        more = f"{every - MOST_PROBLEMS} more problems are not listed"
        problems.append(Problem.advising(key="", found=more, hint="mend these first", file=tree.place.file))
    return problems


def in_words(error: ValidationError, given: Any, root: type[BaseModel] = Scenario) -> list[tuple[Keys, str]]:
    """Return what is wrong with each value that pydantic refused: its keys and a sentence, never pydantic's own.

    `given` are the plain values that were checked, `root` the model that checked them. Errors of the alternatives of
    one union become one sentence.
    """
    found: dict[Keys, list[_Finding]] = {}
    for details in error.errors(include_url=False)[:MOST_PROBLEMS]:
        # Pydantic counts only the items that are right; a list of wrong ones is not short.
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue
        finding = _finding(details, given, root)
        found.setdefault(finding.path, []).append(finding)
    return [(path, _sentence(findings, value_at(given, path))) for path, findings in found.items()]


def booleans_for_numbers(tree: Node) -> list[Problem]:
    """Return a problem for each true or false where a number belongs, which pydantic would take for one or zero."""
    given = tree.plain()
    return [
        located(path, f"must be a number, found {shown(value)}", tree)
        for path, value in itertools.islice(_booleans(given, ()), MOST_PROBLEMS)
        if not {int, float}.isdisjoint(leaves := _leaves_at(path, given)) and bool not in leaves
    ]


def _booleans(value: Any, path: Keys) -> Iterator[tuple[Keys, bool]]:
    if isinstance(value, bool):
        yield path, value
    elif isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _booleans(item, (*path, key))


def _leaves_at(path: Keys, given: Any) -> set[Any]:
    depth = max((at for at, key in enumerate(path) if isinstance(key, str)), default=0)
    models = models_at(path[:depth], given)
    infos = [model.model_fields[str(path[depth])] for model in models if path[depth] in model.model_fields]
    return {leaf for info in infos for leaf in _leaves(info.annotation)}


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is made of; a literal stands for the type of its value."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_args(annotation):
        for part in get_args(annotation):
            yield from _leaves(part)
    else:
        yield bool if annotation is Any else annotation


def located(path: Keys, message: str, tree: Node) -> Problem:
    """Return a problem of the value at `path`; the line of what surrounds it where the value itself is missing."""
    place = tree.nearest(path).place
    return Problem(key=".".join(map(str, path)), message=message, file=place.file, line=place.line)


def _finding(details: ErrorDetails, given: Any, root: type[BaseModel]) -> _Finding:
    kind, context = details["type"], details.get("ctx", {})
    path = _path_in_file(details["loc"], given, absent=kind in {"missing", "extra_forbidden", "refused"})
    if kind == "missing" and isinstance(path[-1], int):
        return _Finding(path[:-1], must_be=f"a list of at least {path[-1] + 1}")
    if kind == "missing":
        return _Finding(path, text=f"is missing{_meaning(path, given, root)}")
    if kind == "extra_forbidden":
        return _Finding(path, text=unknown_key(path, given, root))
    if kind in {"literal_error", "enum"}:
        value = details["input"]
        near = close_matches(value if isinstance(value, str) else written(value), _QUOTED.findall(context["expected"]))
        return _Finding(path, must_be=context["expected"], text=near)
    if kind == "union_tag_invalid":
        kinds = _QUOTED.findall(context["expected_tags"])
        near = close_matches(context["tag"], kinds)
        text = f"{context['tag']!r} is not a known {path[-1]}{near} (choices: {', '.join(kinds)})"
        return _Finding((*path, "kind"), text=text)
    if kind == "union_tag_not_found":
        kinds = [str(model.model_fields["kind"].default) for model in models_at(path, given, root)]
        return _Finding((*path, "kind"), text=f"is missing (choices: {', '.join(kinds)})")
    if kind in _MUST_BE:
        more = f"{context.get('hint', '')} ({context['choices']})" if "choices" in context else ""
        more = more or _more(kind, details["input"], context.get("le"), path, given, root)
        limits = {name: int(limit) if isinstance(limit, float) and limit.is_integer() and abs(limit) < 1e15 else limit
                  for name, limit in context.items()}  # fmt: skip
        return _Finding(path, must_be=_MUST_BE[kind].format(**limits), text=more)
    if kind == "refused":
        return _Finding(path, text=str(context["text"]))
    if kind in {"value_error", "assertion_error"}:
        return _Finding(path, text=str(context["error"]))
    if kind not in _OF_PYDANTIC:
        return _Finding(path, text=details["msg"])
    wish = next(words for start, words in _MUST_BE_SUCH.items() if kind.startswith(start))
    return _Finding(path, must_be=wish.format(**context))


def _more(kind: str, value: Any, limit: Any, path: Keys, given: Any, root: type[BaseModel]) -> str:
    """Return what else helps with a value of the wrong type or size; mostly nothing."""
    if kind in {"model_type", "model_attributes_type"}:
        keys = keys_at(path, given, root)
        return f" (keys: {', '.join(keys)})" if keys else ""
    if kind in {"tuple_type", "list_type"} and isinstance(value, int | float | str) and not isinstance(value, bool):
        is_plain = len(written(value)) < _SHORT and not keys_at(path, given, root)
        return f"; write [{value}]" if is_plain else ""
    if kind == "less_than_equal" and limit == 1 and 10 <= (percent := _as_number(value)) <= 100:
        return f"; a share of {percent:g} % is {percent / 100:g}"
    if kind in {"float_parsing", "float_type"} and isinstance(value, str) and (found := _PERCENT.fullmatch(value)):
        return f"; write {float(found[1]) / 100:g}"
    if kind == "int_from_float" and isinstance(value, float) and 0 < value < 1:
        return "; this is a count, not a share"
    return ""


def _as_number(value: Any) -> float:
    """Return the number that was compared with a limit, which a file may have in quotes; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _path_in_file(location: Keys, given: Any, *, absent: bool) -> Keys:
    """Return `location` without the names that pydantic adds for the members of a union.

    `absent` says that the last key is not in the file, because it is missing or named by a validator.
    """
    path: list[str | int] = []
    for depth, key in enumerate(location):
        is_last = depth == len(location) - 1
        is_tag = not is_last and isinstance(given, Mapping) and key == given.get("kind")
        if has(given, key) and not is_tag:
            path.append(key)
            given = given[key]
        elif is_last and absent:
            path.append(key)
    return tuple(path)


def _sentence(findings: list[_Finding], value: Any) -> str:
    """Return one message; what the alternatives of a union want is joined by "or" and followed by the value."""
    wishes = list(dict.fromkeys(finding.must_be for finding in findings if finding.must_be))
    texts = list(dict.fromkeys(finding.text for finding in findings if finding.text))
    if not wishes:
        return "; ".join(texts)
    hint = " (put it in quotes)" if wishes == ["text"] and isinstance(value, int | float) else ""
    return f"must be {' or '.join(wishes)}, found {shown(value)}{hint}{''.join(texts)}"


def shown(value: Any) -> str:
    """Return a value as a scenario file has it, short enough for a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return written(value)


def _meaning(path: Keys, given: Any, root: type[BaseModel]) -> str:
    for model in models_at(path[:-1], given, root):
        if text := attribute_docstrings(model).get(str(path[-1])):
            return f" ({text.splitlines()[0].rstrip('.')})"
    return ""
