"""What decides a profile, written down, so that a profile made before can be known again; None where that cannot be.

A value is described by its content, a function or class by its place, and every module that is named in this way by
its source and by the sources of all that it imports. What stands in a versioned package counts by its version. Values
of other kinds, code without a readable source and code that decides while it runs what it reads or executes are not
described: what depends on them is profiled each time anew.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from neulite_sim import version
from neulite_sim.outside import read_regular

OWN = "neulite_sim"

_ABOVE = frozenset({"cli", "engine", "reports", "results", "selection", "studies", "timeline", "training"})
"""Packages above methods and models: these cannot import them, so nothing there shapes a step."""

_VERSIONED = ("numpy", "pydantic", "timm", "torch", "torchvision", "transformers")
"""What trainees are made of and does not change without its version."""

_ELUSIVE_NAMES = frozenset({"__import__", "compile", "environ", "eval", "exec", "getenv", "import_module", "open"})
_ELUSIVE_ATTRIBUTES = frozenset({"environ", "getenv", "import_module", "open", "read_bytes", "read_text"})
"""What code is not followed through: it may read or run what no import names."""

_MOST_FILES = 400
_MOST_BYTES = 4 * 10**6


class _NotDescribedError(Exception):
    """Something decides a profile that cannot be written down."""


def identity_of(**decisive: Any) -> str | None:
    """Return a SHA-256 over values that decide a profile together with the code that they name; None where none is.

    Equal identities mean equal profiles. `decisive` may hold plain values, collections, enumerations, frozen options,
    dataclasses, and functions and classes by which something is built.
    """
    described = _Described()
    try:
        values = described.of(decisive)
        code = {**_surroundings(), "own": _own_source(), **_sources(described.modules)}
    except _NotDescribedError:
        return None
    text = json.dumps([values, code], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Described:
    """Turns values into what JSON can hold, and gathers the modules of the code that they name."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._is_foreign = False

    def of(self, value: Any) -> Any:
        """Return a description that no other value has."""
        if value is None or type(value) in (bool, int, str):
            if self._is_foreign and isinstance(value, str) and _names_a_file(value):
                raise _NotDescribedError
            return value
        if type(value) is float:
            return ["float", value.hex()]
        if type(value) in (tuple, list):
            return [type(value).__name__, *map(self.of, value)]
        if type(value) is dict:
            return ["mapping", *([self.of(key), self.of(item)] for key, item in value.items())]
        if isinstance(value, frozenset | set):
            return ["set", *sorted(json.dumps(self.of(item), sort_keys=True) for item in value)]
        return self._object(value)

    def _object(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType | BuiltinFunctionType):
            return self._code(value)
        kind = self._code(type(value))
        if isinstance(value, functools.partial) and type(value) is functools.partial:
            return ["partial", self.of(value.func), self.of(value.args), self.of(dict(value.keywords))]
        if isinstance(value, Enum):
            return ["enum", kind, value.name]
        if isinstance(value, PurePath):
            return ["path", kind, self.of(str(value))]
        if isinstance(value, np.generic):
            return ["number", str(value.dtype), value.tobytes().hex()]
        if isinstance(value, BaseModel):
            if value.__pydantic_extra__ or value.__pydantic_private__:
                raise _NotDescribedError
            return ["options", kind, *self._fields(value, dict(value))]
        if dataclasses.is_dataclass(value):
            names = (item.name for item in dataclasses.fields(value))
            return ["dataclass", kind, *self._fields(value, {name: getattr(value, name) for name in names})]
        raise _NotDescribedError

    def _fields(self, holder: object, values: Mapping[str, Any]) -> list[Any]:
        """Return the described fields of an object; a file that others' options name may be read for its content."""
        before = self._is_foreign
        self._is_foreign = before or type(holder).__module__.partition(".")[0] != OWN
        described = [[name, self.of(item)] for name, item in values.items()]
        self._is_foreign = before
        return described

    def _code(self, value: type | FunctionType | BuiltinFunctionType) -> list[str]:
        """Return the place of a function or class; what is found there must be this very one."""
        module, path = value.__module__, value.__qualname__
        if not isinstance(module, str) or "<" in path:
            raise _NotDescribedError
        found: Any = sys.modules.get(module)
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is not value:
            raise _NotDescribedError
        for origin in value.__mro__ if isinstance(value, type) else (value,):
            self.modules.add(origin.__module__)
        return ["code", module, path]


def _names_a_file(text: str) -> bool:
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


@functools.cache
def _surroundings() -> dict[str, str]:
    """Return versions of all that is not followed by its source, and what PyTorch decides by."""
    return {
        **{name: _version(name) for name in _VERSIONED},
        "neulite-sim": version.__version__,
        "python": sys.version,
        "machine": platform.machine(),
        "build": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(name: str) -> str:
    # What is installed may be newer than what runs.
    loaded = getattr(sys.modules.get(name), "__version__", None)
    if isinstance(loaded, str):
        return loaded
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def _own_source() -> str:
    """Return a SHA-256 over this package's files from the methods on down.

    Raises:
        _NotDescribedError: they cannot be read.
    """
    root = Path(__file__).parent.parent
    paths = (path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in _ABOVE)
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()} {_digest(path)}\n".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    """Return the source in a file, which must be the one that runs: not changed since this process began to load any.

    Raises:
        _NotDescribedError: it may be another, or cannot be read.
    """
    try:
        content, about = read_regular(path, most_bytes=_MOST_BYTES), os.stat(path)
    except OSError:
        raise _NotDescribedError from None
    if max(about.st_mtime, about.st_ctime) >= version.LOADED_AT_S:
        raise _NotDescribedError
    return content


def _sources(modules: Iterable[str]) -> dict[str, str]:
    """Return a SHA-256 of the source of each of these modules, and of all that they import, by name.

    Raises:
        _NotDescribedError: a source is not to be had, or not to be followed.
    """
    found: dict[str, str] = {}
    waiting = sorted(modules)
    while waiting:
        name = waiting.pop()
        if name in found or _is_known(name):
            continue
        if len(found) >= _MOST_FILES:
            raise _NotDescribedError
        parent = name.rpartition(".")[0]
        path = _file_of(name)
        if path is None:
            found[name] = "missing"
        else:
            content = _content(path)
            found[name] = hashlib.sha256(content).hexdigest()
            if name.partition(".")[0] == OWN:
                continue
            waiting += _imports(content, name, is_package=path.name == "__init__.py")
        waiting += [parent] if parent else []
    return found


def _is_known(name: str) -> bool:
    """Return whether a module counts by a version, or with this package's own source."""
    root, _, rest = name.partition(".")
    if root == OWN:
        return rest.partition(".")[0] not in _ABOVE
    return root in sys.stdlib_module_names or root in _VERSIONED


def _file_of(name: str) -> Path | None:
    """Return the source file of a module; None where there is no such module.

    Raises:
        _NotDescribedError: it has no source file of its own.
    """
    module = sys.modules.get(name)
    try:
        spec = module.__spec__ if module is not None else importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        spec = None
    if module is None and spec is None:
        return None
    file = getattr(module, "__file__", None) or getattr(spec, "origin", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        raise _NotDescribedError
    return Path(file)


def _imports(content: bytes, name: str, *, is_package: bool) -> Iterator[str]:
    """Yield the modules that a source imports, wherever in it.

    Raises:
        _NotDescribedError: it is no Python, or does what cannot be followed.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        raise _NotDescribedError from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _origin(node, name, is_package=is_package)
            yield base
            # A name taken from a package may be a module in it; where it is none, its package's source says so.
            yield from (f"{base}.{alias.name}" for alias in node.names if _is_module(f"{base}.{alias.name}"))
        elif _is_elusive(node):
            raise _NotDescribedError


def _is_elusive(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _ELUSIVE_NAMES
    return isinstance(node, ast.Attribute) and node.attr in _ELUSIVE_ATTRIBUTES


def _origin(node: ast.ImportFrom, name: str, *, is_package: bool) -> str:
    if not node.level:
        return str(node.module)
    parts = name.split(".")
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def _is_module(name: str) -> bool:
    if name in sys.modules:
        return True
    if _is_known(name) or name.rpartition(".")[0] not in sys.modules:
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False
