"""The files that a scenario reads: which options name them, where they are found, what they hold.

An option that names a file is declared as `InputFile`, one that names a folder with `input_folder`, one that may name
either as `InputPath`. That is all a component has to do: its paths are then looked up beside the scenario's file, and
what it reads is hashed into the provenance of a run, so that a resume or a sweep finds out when it changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from neulite_sim.bounds import PathText
from neulite_sim.outside import TABLE_BYTES, file_sha256
from neulite_sim.registry import Choice
from neulite_sim.scenario.tree import Keys

CONTENT_BYTES = 512 * 2**20
"""Folders up to this size are compared by content, larger ones by the names and sizes of their files."""
MOST_NAMED = 1000
"""Folders of up to as many files are recorded file by file, others by the folders inside them."""

Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reads:
    """Marks an option as the path of a file, or of a folder of which the folders `below` (or all of it) are read.

    `is_folder` is None where it may be either.
    """

    is_folder: bool | None = False
    below: tuple[str, ...] = ()


InputFile = Annotated[PathText, Reads()]
"""The path of a file that a component reads."""
InputPath = Annotated[PathText, Reads(is_folder=None)]
"""The path of a file, or of a folder of which all is read."""


def input_folder(*below: str) -> Reads:
    """Return the mark of an option that names a folder, and of what is read in it.

    `root: Annotated[PathText, input_folder("train", "test")]` reads all below these two; without names, all of the
    folder.
    """
    return Reads(is_folder=True, below=below)


def mark_of(info: FieldInfo) -> Reads | None:
    """Return how a field of options is marked, also where the mark stands inside of an optional or a list."""
    return next(_marks((*info.metadata, info.annotation)), None)


def _marks(items: Sequence[Any]) -> Iterator[Reads]:
    for item in items:
        if isinstance(item, Reads):
            yield item
        elif not isinstance(item, str):
            yield from _marks((*getattr(item, "__metadata__", ()), *typing.get_args(item)))


def mapped(value: T, change: Callable[[Keys, str, Reads], str], at: Keys = ()) -> T:
    """Return a scenario, or a part of it, with every path that it names replaced by what `change` returns."""
    return typing.cast("T", _mapped(value, change, at, None))


def _mapped(value: Any, change: Callable[[Keys, str, Reads], str], at: Keys, mark: Reads | None) -> Any:
    if isinstance(value, str):
        return change(at, value, mark) if mark is not None else value
    if isinstance(value, Choice):
        options, kind = _mapped(value.options, change, at, None), value.kind
        # What stands after the colon of a kind may be a path.
        of_kind: Reads | None = getattr(type(options), "argument_reads", None)
        if of_kind is not None and ":" in kind:
            name, _, argument = kind.partition(":")
            kind = f"{name}:{change((*at, 'kind'), argument, of_kind)}"
        is_same = options is value.options and kind == value.kind
        return value if is_same else dataclasses.replace(value, options=options, kind=kind)
    if isinstance(value, BaseModel):
        changes = {}
        for name, info in type(value).model_fields.items():
            old = getattr(value, name)
            new = _mapped(old, change, (*at, name), mark_of(info))
            if new is not old:
                changes[name] = new
        return value.model_copy(update=changes) if changes else value
    if isinstance(value, Mapping):
        pairs = {key: _mapped(item, change, (*at, str(key)), mark) for key, item in value.items()}
        return value if all(pairs[key] is item for key, item in value.items()) else pairs
    if isinstance(value, tuple | list) and not (mark is None and value and isinstance(value[0], str | float | int)):
        items = [_mapped(item, change, (*at, place), mark) for place, item in enumerate(value)]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def found_from(scenario: T, folders_of: Callable[[Keys], Sequence[str]]) -> T:
    """Return a scenario whose relative paths lead to what they name in one of the folders that `folders_of` their keys.

    The first folder that has it counts; what is nowhere stays as it was written.
    """

    def change(keys: Keys, path: str, mark: Reads) -> str:
        expanded = os.path.expanduser(path)
        if not path or os.path.isabs(expanded):
            return path
        candidates = (os.path.join(folder, expanded) for folder in folders_of(keys))
        return next((candidate for candidate in candidates if _is_there(candidate, mark)), path)

    return mapped(scenario, change)


def pinned(scenario: T) -> T:
    """Return a scenario that names what its paths lead to from the current folder by whole paths: it holds anywhere."""
    here = os.getcwd()
    return found_from(scenario, lambda _keys: (here,))


def _is_there(path: str, mark: Reads) -> bool:
    if mark.is_folder is None:
        return os.path.exists(path)
    if not mark.is_folder:
        return os.path.exists(path) and not os.path.isdir(path)
    return any(os.path.isdir(os.path.join(path, part)) for part in mark.below or ("",))


def without_places(scenario: T) -> T:
    """Return a scenario whose paths are names alone: equal for the same files in other places."""
    return mapped(scenario, lambda _keys, path, _mark: os.path.basename(path.rstrip(os.sep)) or path)


def input_records(scenario: object) -> dict[str, Record]:
    """Return for each path that a scenario names, by its dotted key, what is there: sizes and SHA-256.

    A file has `path`, `bytes` and `sha256`. A folder has `parts` in place of the last, files or folders by name, and
    `by`: "content", or "names and sizes" above CONTENT_BYTES. `missing` says why nothing could be read.
    """
    records: dict[str, Record] = {}

    def note(keys: Keys, path: str, mark: Reads) -> str:
        place = os.path.abspath(os.path.expanduser(path))
        try:
            is_folder = os.path.isdir(place) if mark.is_folder is None else mark.is_folder
            found = _folder(place, mark) if is_folder else _file(place)
        except (OSError, ValueError) as error:
            found = {"missing": getattr(error, "strerror", None) or str(error)}
        records[".".join(map(str, keys))] = {"path": place, **found}
        return path

    mapped(scenario, note)
    return records


def _file(path: str) -> Record:
    return {"bytes": os.stat(path).st_size, "sha256": file_sha256(path, most_bytes=TABLE_BYTES)}


def _folder(root: str, mark: Reads) -> Record:
    tops = [part for part in mark.below if os.path.isdir(os.path.join(root, part))] if mark.below else [""]
    if not tops:
        raise FileNotFoundError(2, os.strerror(2), root)
    files = sorted((name, size) for top in tops for name, size in _inside(root, top))
    total = sum(size for _, size in files)
    is_hashed = total <= CONTENT_BYTES
    parts: dict[str, Any] = {}
    for name, size in files:
        key = name if len(files) <= MOST_NAMED else os.path.dirname(name) or "."
        line = f"{name}\0{size}\0{file_sha256(os.path.join(root, name)) if is_hashed else ''}\n"
        parts.setdefault(key, hashlib.sha256()).update(line.encode("utf-8", "surrogateescape"))
    return {
        "by": "content" if is_hashed else "names and sizes",
        "files": len(files),
        "bytes": total,
        "parts": {key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"): digest.hexdigest()
                  for key, digest in parts.items()},
    }  # fmt: skip


def _inside(root: str, top: str) -> Iterator[tuple[str, int]]:
    """Yield name and size of the regular files below a folder that are not hidden; a loop of links is walked once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(os.path.join(root, top), followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in names:
            path = os.path.join(folder, name)
            if not name.startswith(".") and os.path.exists(path):
                found = os.stat(path)
                if stat.S_ISREG(found.st_mode):
                    yield os.path.relpath(path, root), found.st_size


def differences(recorded: Mapping[str, Record], now: Mapping[str, Record]) -> list[str]:
    """Return in words which of the files that a scenario reads are not what they were; places do not count."""
    return [
        f"{key}: {why}" for key in now if (why := _difference(recorded.get(key), now[key])) is not None
    ]  # fmt: skip


def _difference(then: Record | None, now: Record) -> str | None:
    path = now["path"]
    if then is None:
        return f"no checksum of {path} was kept"
    if "missing" in now:
        return f"{path} cannot be read any more ({now['missing']})"
    if "parts" not in now or "parts" not in then:
        is_same = all(then.get(name) == now.get(name) for name in ("bytes", "sha256", "by"))
        return _beside(then, path) if is_same else f"{path} holds something else now"
    old, new = then["parts"], now["parts"]
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if not changed:
        return None if then.get("by") == now["by"] else f"{path} holds something else now"
    name = changed[0]
    what = "is gone" if name not in new else "is new" if name not in old else "was changed"
    more = f", and {len(changed) - 1} more of that folder differ" if len(changed) > 1 else ""
    return f"{os.path.join(path, name)} {what}{more}"


def _beside(then: Record, path: str) -> str | None:
    """Return in words which of the files that code imported from its own folder is not what it was."""
    beside = then.get("beside")
    for name, sha256 in beside.items() if isinstance(beside, Mapping) else ():
        file = os.path.join(os.path.dirname(path), str(name))
        try:
            if file_sha256(file, most_bytes=TABLE_BYTES) != sha256:
                return f"{file}, which it imports, holds something else now"
        except (OSError, ValueError) as error:
            return f"{file}, which it imports, cannot be read any more ({getattr(error, 'strerror', None) or error})"
    return None
