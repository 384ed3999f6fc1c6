"""What is wrong with a scenario, in plain words: pydantic's errors become `Problem`s with file, line and key."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neulite_sim import registry
from neulite_sim.docstrings import attribute_docstrings
from neulite_sim.errors import Problem, UnknownComponentError, close_matches
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.tree import Keys, Node

# What a value must be, by pydantic's type of error; `{...}` are filled from the error's context.
_MUST_BE: Mapping[str, str] = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of reasonable size",
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
MOST_PROBLEMS = 100
"""So many problems are told at most; who has more made one mistake many times."""

_QUOTED = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one error says: what the value must be, or where that does not fit a whole sentence of its own."""

    path: Keys
    must_be: str = ""
    text: str = ""


def explain(error: ValidationError, tree: Node) -> list[Problem]:
    """Return a problem for each key that pydantic refused, with the file and line it has in `tree`.

    Errors of the alternatives of one union become one problem.
    """
    given = tree.plain()
    found: dict[Keys, list[_Finding]] = {}
    every = error.errors(include_url=False)
    for details in every[:MOST_PROBLEMS]:
        # Pydantic counts only the items that are right; a list of wrong ones is not short.
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue
        finding = _finding(details, given)
        found.setdefault(finding.path, []).append(finding)
    problems = [located(path, _sentence(findings, value_at(given, path)), tree) for path, findings in found.items()]
    if len(every) > MOST_PROBLEMS:
        more = f"{len(every) - MOST_PROBLEMS} more problems are not listed"
        problems.append(Problem.advising(key="", found=more, hint="mend these first", file=tree.place.file))
    return problems


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


def _finding(details: ErrorDetails, given: Any) -> _Finding:
    kind, context = details["type"], details.get("ctx", {})
    path = _path_in_file(details["loc"], given, absent=kind in {"missing", "extra_forbidden", "refused"})
    if kind == "missing" and isinstance(path[-1], int):
        return _Finding(path[:-1], must_be=f"a list of at least {path[-1] + 1}")
    if kind == "missing":
        return _Finding(path, text=f"is missing{_meaning(path, given)}")
    if kind == "extra_forbidden":
        return _Finding(path, text=_unknown_key(path, given))
    if kind in {"literal_error", "enum"}:
        near = close_matches(str(details["input"]), _QUOTED.findall(context["expected"]))
        return _Finding(path, must_be=context["expected"], text=near)
    if kind == "union_tag_invalid":
        kinds = _QUOTED.findall(context["expected_tags"])
        near = close_matches(context["tag"], kinds)
        text = f"{context['tag']!r} is not a known {path[-1]}{near} (choices: {', '.join(kinds)})"
        return _Finding((*path, "kind"), text=text)
    if kind == "union_tag_not_found":
        kinds = [str(model.model_fields["kind"].default) for model in models_at(path, given)]
        return _Finding((*path, "kind"), text=f"is missing (choices: {', '.join(kinds)})")
    if kind in _MUST_BE:
        choices = f" ({context['choices']})" if "choices" in context else ""
        limits = {name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
                  for name, limit in context.items()}  # fmt: skip
        return _Finding(path, must_be=_MUST_BE[kind].format(**limits), text=choices)
    text = str(context["error"]) if kind == "value_error" else details["msg"]
    return _Finding(path, text=text.replace("Input should be", "must be"))


def _path_in_file(location: Keys, given: Any, *, absent: bool) -> Keys:
    """Return `location` without the names that pydantic adds for the members of a union.

    `absent` says that the last key is not in the file, because it is missing or named by a validator.
    """
    path: list[str | int] = []
    for depth, key in enumerate(location):
        is_last = depth == len(location) - 1
        is_tag = not is_last and isinstance(given, Mapping) and key == given.get("kind")
        if _has(given, key) and not is_tag:
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
    # Python does not write out an integer of thousands of digits.
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 1000 else f"{value:#x}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def value_at(given: Any, path: Keys) -> Any:
    """Return the value at `path` of plain values, or None where there is none."""
    for key in path:
        if not _has(given, key):
            return None
        given = given[key]
    return given


def _has(given: Any, key: str | int) -> bool:
    if isinstance(given, Mapping):
        return key in given
    return isinstance(given, list) and isinstance(key, int) and key < len(given)


def _unknown_key(path: Keys, given: Any) -> str:
    key = str(path[-1])
    keys = _keys_at(path[:-1], given)
    if "." in key:
        near = "; dots join keys in --set only, in a file write one mapping inside the other"
    else:
        homes = [f"{name}.{key}" for name in Scenario.model_fields if key in _keys_at((name,), given)]
        near = close_matches(key, keys) or (f"; did you mean {' or '.join(homes)}?" if homes else "")
    return f"unknown key{near} (choices: {', '.join(keys) or 'none, it takes no options'})"


def _meaning(path: Keys, given: Any) -> str:
    for model in models_at(path[:-1], given):
        if text := attribute_docstrings(model).get(str(path[-1])):
            return f" ({text.splitlines()[0].rstrip('.')})"
    return ""


def _keys_at(path: Keys, given: Any) -> list[str]:
    names = dict.fromkeys(name for model in models_at(path, given) for name in model.model_fields)
    has_kind = bool(path) and _has(value_at(given, path), "kind")
    return list(dict.fromkeys([*(["kind"] if has_kind else []), *names]))


def models_at(path: Keys, given: Any) -> list[type[BaseModel]]:
    """Return the models whose keys may stand at `path`; of a component that `given` names, its options."""
    fields: list[tuple[Any, list[Any]]] = [(Scenario, [])]
    for depth, key in enumerate(path):
        if isinstance(key, str):
            models = _models_of(fields, value_at(given, path[:depth]))
            infos = [model.model_fields[key] for model in models if key in model.model_fields]
            fields = [(info.annotation, info.metadata) for info in infos]
    return _models_of(fields, value_at(given, path))


def _models_of(fields: list[tuple[Any, list[Any]]], value: Any) -> list[type[BaseModel]]:
    models = [model for annotation, marks in fields for model in _models_in(annotation, marks, value)]
    kind = value.get("kind") if isinstance(value, Mapping) else value
    named = [model for model in models if "kind" in model.model_fields and model.model_fields["kind"].default == kind]
    return named or models


def _models_in(annotation: Any, marks: list[Any], value: Any) -> Iterator[type[BaseModel]]:
    for mark in marks:
        if isinstance(mark, registry.ComponentField):
            kind = value.get("kind") if isinstance(value, Mapping) else value
            try:
                yield registry.component(mark.group_field, str(kind)).options
            except UnknownComponentError:
                return
    if get_origin(annotation) is Annotated:
        inner, *inner_marks = get_args(annotation)
        yield from _models_in(inner, inner_marks, value)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _models_in(part, [], value)
