"""YAML texts as plain values that know their places, whatever was written in them.

Read as YAML 1.2 (core schema, https://yaml.org/spec/1.2.2/#103-core-schema) rather than the 1.1 that PyYAML follows
by itself: `5e-4` is a number, `no` and `12:30` are text.
"""

from __future__ import annotations

import functools
import re

import yaml

from neulite_sim.errors import Problem
from neulite_sim.scenario.problems import MOST_PROBLEMS, shown
from neulite_sim.scenario.tree import Keys, Node, Place
from neulite_sim.scenario.yaml_writing import CORE_SCHEMA, TAG

MOST_DEPTH = 50
"""Mappings and lists inside one another; a scenario has ten at most."""

_ALIAS_ALLOWANCE = 10_000
_MOST_DIGITS = 400
_SHORT_TEXT = 100_000
"""Up to here PyYAML's own parser reads again what libyaml takes no sense of: its messages are the better ones."""


def read_yaml(text: str, file: str, *, with_lines: bool = True) -> tuple[Node | None, list[Problem]]:
    """Return the values of a YAML text with their places, and what is wrong with it; no values where it is not YAML."""
    read = _read if len(text) <= _SHORT_TEXT else _read.__wrapped__
    node, problems = read(text, file, with_lines)
    return node, list(problems)


@functools.lru_cache(maxsize=8)
def _read(text: str, file: str, with_lines: bool) -> tuple[Node | None, list[Problem]]:
    """Return the same; a study reads its scenario once for each of its methods, and nobody changes a node."""
    try:
        text.encode()
        if _is_too_deep(text):
            raise RecursionError
        root = _root(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        context = f"{error.context}, " if error.context and error.problem else ""
        advice = "; indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        message = f"not valid YAML at column {column}: {context}{error.problem or error.context}{advice}"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: character {error.character:#06x} is not allowed"
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        message = f"not valid YAML: character {ord(text[error.start]):#06x} is not allowed"
    except RecursionError:
        line, message = 1, f"not valid as a scenario: nested too deeply, more than {MOST_DEPTH} levels; write it flat"
    else:
        builder = _Builder(file, with_lines=with_lines, max_values=len(text) + _ALIAS_ALLOWANCE)
        return (builder.build(root, (), Place(file)) if root else Node(None, Place(file))), builder.problems
    return None, [Problem(key="", message=message, file=file, line=line if with_lines else None)]


def _root(text: str) -> yaml.Node | None:
    """Return the node of a text, read by libyaml where it can."""
    try:
        return _node(_FastLoader, text)
    except yaml.YAMLError:
        if len(text) > _SHORT_TEXT:
            raise
        return _node(_Loader, text)


def _node(loader: type[yaml.SafeLoader], text: str) -> yaml.Node | None:
    found: yaml.Node | None = loader(text).get_single_node()
    return found


def _is_too_deep(text: str) -> bool:
    """Return whether more than `MOST_DEPTH` collections stand inside one another; events are read without recursion."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_FastLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                return True
    except yaml.YAMLError as error:
        # What else is wrong is said by the loader.
        return "maximum nesting depth" in str(error)
    return False


class _Builder:
    """Turns PyYAML's nodes into ours: plain values only, each key once, no value inside itself."""

    def __init__(self, file: str, *, with_lines: bool, max_values: int) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._with_lines = with_lines
        self._values_left = max_values
        self._open: set[int] = set()

    def place(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1 if self._with_lines else None)

    def build(self, node: yaml.Node, path: Keys, place: Place) -> Node:
        """Return the value of one node of PyYAML, `place` being where its key or item stands."""
        self._values_left -= 1
        if id(node) in self._open or self._values_left < 0:
            why = "is part of itself" if id(node) in self._open else "is repeated by aliases beyond any use"
            if self._values_left >= -1:
                self._report(path, place, f"{why}; write the values out")
            return Node(None, place)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
                return Node(self._mapping(node, path), place)
            if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
                return Node(
                    [self.build(item, (*path, at), self.place(item)) for at, item in enumerate(node.value)], place
                )
            return Node(self._scalar(node), place)
        except ValueError as error:
            self._report(path, place, str(error))
            return Node(None, place)
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Keys) -> dict[str, Node]:
        merges: list[Node] = []
        content: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(path, place, "a key must be text, not a list or a mapping")
                continue
            key = _whole(str(key_node.value))
            if key in content or (key == "<<" and merges):
                first = f", first on line {(content.get(key) or merges[0]).place.line}" if self._with_lines else ""
                self._report((*path, key), place, f"is given twice{first}; remove one")
            elif key_node.tag == TAG + "merge":
                merges.append(self.build(value_node, (*path, key), place))
            else:
                content[key] = self.build(value_node, (*path, key), place)
        return self._merged(merges, path) | content

    def _merged(self, merges: list[Node], path: Keys) -> dict[str, Node]:
        """Return what `<<` brings: of several mappings, the first that has a key gives its value."""
        merged: dict[str, Node] = {}
        for found in merges:
            bases = found.content if isinstance(found.content, list) else [found]
            if any(not isinstance(base.content, dict) for base in bases):
                wish = "merges mappings only, one or a list of them"
                self._report((*path, "<<"), found.place, f"{wish}, found {shown(found.plain())}; remove it")
            for base in reversed(bases):
                merged |= base.content if isinstance(base.content, dict) else {}
        return merged

    def _scalar(self, node: yaml.Node) -> str | int | float | bool | None:
        tag, text = node.tag.removeprefix(TAG), str(node.value)
        if not isinstance(node, yaml.ScalarNode) or tag not in {"str", "null", "bool", "int", "float", "merge"}:
            name = node.tag.replace(TAG, "!!")
            raise ValueError(f"the tag {name} is not allowed; a scenario holds plain values")
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        try:
            if tag == "int" and len(text) > _MOST_DIGITS:
                raise ValueError
            if tag == "int":
                return int(text, 0 if text[:2] in {"0o", "0x"} else 10)
            if tag == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            raise ValueError(f"{shown(text)} is not a number, or has too many digits") from None
        return _whole(text)

    def _report(self, path: Keys, place: Place, message: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(
                Problem(key=".".join(map(str, path)), message=message, file=place.file, line=place.line)
            )


def _whole(text: str) -> str:
    """Return a text whose escapes may be halves of characters, as JSON writes those beyond 16 bits, with them whole.

    Raises:
        ValueError: a half without the other.
    """
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError(f"{shown(text)} holds half of a character (a lone surrogate); remove it") from None


class _Loader(yaml.SafeLoader):
    """Knows the scalars of YAML 1.2 only."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same with the parser of libyaml, where PyYAML was built with it."""


for _class in (_Loader, _FastLoader):
    _class.yaml_implicit_resolvers = {}
    for _name, _pattern in CORE_SCHEMA:
        _class.add_implicit_resolver(TAG + _name, re.compile(rf"(?:{_pattern})\Z"), None)
