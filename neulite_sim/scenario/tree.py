"""A scenario before it is validated: plain values that remember the file and line they come from.

Files that extend one another are laid over each other with `overlay`; `--set` writes into the result with `assign`.
Options belong to their component, so both drop the options of a component that is replaced by another kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a file as the user called it, or an option of the command line without a line."""

    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. `content` is a dict of nodes by key, a list of nodes, or a scalar."""

    content: Any
    place: Place

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.content, dict):
            return {key: child.plain() for key, child in self.content.items()}
        if isinstance(self.content, list):
            return [child.plain() for child in self.content]
        return self.content

    def nearest(self, path: Keys) -> Node:
        """Return the node at `path`, or the deepest one on the way to it."""
        node = self
        for key in path:
            child = _child(node, key)
            if child is None:
                return node
            node = child
        return node

    def at(self, path: Keys) -> Node | None:
        """Return the node at `path`; None where there is none."""
        node: Node | None = self
        for key in path:
            node = None if node is None else _child(node, key)
        return node

    def files(self) -> Iterator[str | None]:
        """Yield the file of this value and of each value in it, in order."""
        yield self.place.file
        children = self.content.values() if isinstance(self.content, dict) else self.content
        for child in children if isinstance(self.content, dict | list) else ():
            yield from child.files()


def _child(node: Node, key: str | int) -> Node | None:
    if isinstance(node.content, dict):
        found: Node | None = node.content.get(key)
        return found
    if isinstance(node.content, list) and isinstance(key, int) and 0 <= key < len(node.content):
        item: Node = node.content[key]
        return item
    return None


def as_node(value: Any, place: Place) -> Node:
    """Return plain values as nodes that all stand at `place`."""
    if isinstance(value, Mapping):
        return Node({str(key): as_node(item, place) for key, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node([as_node(item, place) for item in value], place)
    return Node(value, place)


def overlay(base: Node, over: Node) -> Node:
    """Return `base` with `over` laid on it.

    Mappings merge key by key, everything else is replaced. A mapping whose `kind` differs from the inherited one
    replaces it whole. A bare kind counts as a mapping where options without a kind are laid over it.
    """
    if not isinstance(over.content, dict):
        return over
    if "kind" not in over.content:
        base = _spelt_out(base)
    if not isinstance(base.content, dict) or _other_kind(base, over.content.get("kind")):
        return over
    merged = dict(base.content)
    for key, child in over.content.items():
        merged[key] = overlay(merged[key], child) if key in merged else child
    return Node(merged, over.place)


def assign(root: Node, keys: Sequence[str], new: Node) -> Node:
    """Return `root` with the value at `keys` replaced by `new`; mappings on the way are created.

    A new `kind` drops the options that belonged to the old one, except those that were themselves assigned from
    the place of `new`: they are kept, so that validation reports them.

    Raises:
        ValueError: the keys lead into a scalar, or to an item that a list does not have.
    """
    if not keys:
        return new
    key, rest = keys[0], keys[1:]
    if root.content is None or isinstance(root.content, str):
        root = Node({"kind": root} if root.content else {}, new.place)
    if isinstance(root.content, list):
        index = _index(key, len(root.content))
        return Node([assign(child, rest, new) if at == index else child for at, child in enumerate(root.content)],
                    root.place)  # fmt: skip
    if not isinstance(root.content, dict):
        raise ValueError(f"{key!r} cannot be set inside {root.content!r}, which is neither a mapping nor a list")
    content = dict(root.content)
    if key == "kind" and not rest and _other_kind(root, new):
        content = {name: child for name, child in content.items() if name == "kind" or child.place == new.place}
    content[key] = assign(content.get(key, Node(None, new.place)), rest, new)
    return Node(content, root.place)


def _spelt_out(node: Node) -> Node:
    return Node({"kind": node}, node.place) if isinstance(node.content, str) else node


def _other_kind(base: Node, kind: Node | None) -> bool:
    return kind is not None and "kind" in base.content and base.content["kind"].content != kind.content


def _index(key: str, length: int) -> int:
    if not (key.isdecimal() and int(key) < length):
        known = f"numbered 0 to {length - 1}" if length else "none yet"
        raise ValueError(f"there is no item {key!r} in a list of {length} items ({known}); set the whole list instead")
    return int(key)
