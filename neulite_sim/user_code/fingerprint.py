"""A SHA-256 over a value given from Python: over its data, and over the code of a user's own that it leads to.

Code is what it does: the instructions, constants, defaults and enclosed values of a function, the members of a class,
and whatever of the user's own these name. Installed packages count by their names. Equal values have equal
fingerprints in any process of the same version of Python.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import random
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from neulite_sim.user_code.origins import is_users_file, is_users_module

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_WEAK = (weakref.ref, weakref.WeakKeyDictionary, weakref.WeakSet, weakref.WeakValueDictionary)
"""What remembers others as long as they are there: no data, and other after each call."""
_NO_MEMBERS = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__", "__qualname__",
     "__abstractmethods__", "_abc_impl", "__annotations_cache__"}
)  # fmt: skip
"""Of a class: what Python adds, and what no instruction reads."""


class NotTrackedError(Exception):
    """A value holds something that can neither be told from another nor sent to another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The SHA-256 of a value, 64 hexadecimal digits, and the modules of a user's own whose code it leads to."""

    sha256: str
    modules: frozenset[str]
    generators: tuple[str, ...] = ()
    """Ways to generators of random numbers that it holds: nobody seeds these for a run."""


def fingerprint(value: Any) -> Fingerprint:
    """Return the fingerprint of a value.

    Raises:
        NotTrackedError: it holds an open file, a lock, a generator or the like; says which and where.
    """
    walk = Walk()
    sha256 = walk.result(value)
    return Fingerprint(sha256=sha256, modules=frozenset(walk.modules), generators=tuple(walk.generators))


class Walk:
    """One way through all that a value holds: `result` is its SHA-256."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.generators: list[str] = []
        self._digest = hashlib.sha256()
        self._met: dict[int, int] = {}
        self._kept: list[Any] = []
        self._way: list[str] = []

    def result(self, value: Any) -> str:
        """Return the SHA-256 of a value; raises what `fingerprint` raises."""
        self._of(value)
        return self._digest.hexdigest()

    def _note(self, *words: object) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
            self._digest.update(b"%d:" % len(data))
            self._digest.update(data)

    def _step(self, name: str, value: Any) -> None:
        self._way.append(name)
        try:
            self._of(value)
        finally:
            self._way.pop()

    def _of(self, value: Any) -> None:
        if type(value) in _PLAIN:
            self._note(type(value).__name__, repr(value) if not isinstance(value, bytes | str) else value)
            return
        place = self._met.setdefault(id(value), len(self._met))
        if place < len(self._kept):
            self._note("again", place)
            return
        self._kept.append(value)
        self._compound(value)

    def _compound(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self._array(value)
        elif _is_tensor(value):
            self._tensor(value)
        elif type(value) in (list, tuple):
            self._note(type(value).__name__, len(value))
            for place, item in enumerate(value):
                self._step(f"[{place}]", item)
        elif type(value) in (dict, MappingProxyType):
            self._mapping(value)
        elif type(value) in _VIEWS:
            self._of(list(value))
        elif isinstance(value, set | frozenset):
            self._set(value)
        elif isinstance(value, ModuleType):
            self._module(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, CodeType):
            self._code(value)
        else:
            self._object(value)

    def _array(self, value: np.ndarray[Any, Any]) -> None:
        self._note("array", value.dtype.str, value.shape)
        if value.dtype.hasobject:
            for item in value.ravel():
                self._of(item)
        else:
            self._digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def _tensor(self, value: Any) -> None:
        self._note("tensor", value.dtype, tuple(value.shape), value.requires_grad, value.device.type)
        if value.device.type != "meta" and value.layout == _torch().strided:
            flat = value.detach().cpu().contiguous().reshape(-1)
            self._digest.update(flat.view(_torch().uint8).numpy().data if flat.numel() else b"")

    def _mapping(self, value: Mapping[Any, Any]) -> None:
        self._note("mapping", len(value))
        for key, item in value.items():
            self._of(key)
            self._step(f"[{key!r}]", item)

    def _set(self, value: set[Any] | frozenset[Any]) -> None:
        walks = [type(self)() for _ in value]
        self._note("set", *sorted(walk.result(item) for walk, item in zip(walks, value, strict=True)))
        self.modules.update(*(walk.modules for walk in walks))

    def _module(self, value: ModuleType) -> None:
        self._note("module", value.__name__)
        if not is_users_module(value.__name__):
            return
        self.modules.add(value.__name__)
        for name, item in sorted(vars(value).items()):
            if not name.startswith("__"):
                self._note(name)
                self._step(f".{name}", item)

    def _class(self, value: type) -> None:
        if not is_users_module(value.__module__):
            self._note("class", value.__module__, value.__qualname__)
            return
        self.modules.add(value.__module__)
        self._note("own class", value.__qualname__)
        for base in (*value.__bases__, type(value)):
            self._of(base)
        for name, member in sorted(vars(value).items()):
            if name not in _NO_MEMBERS:
                self._note(name)
                self._step(f".{name}", member)

    def _function(self, value: FunctionType) -> None:
        is_own = is_users_module(value.__module__) or is_users_file(value.__code__.co_filename)
        if not is_own:
            self._note("function", value.__module__, value.__qualname__)
            self._enclosed(value)
            return
        if is_users_module(value.__module__):
            self.modules.add(value.__module__)
        self._note("own function", value.__qualname__)
        self._code(value.__code__)
        self._step(" defaults", [value.__defaults__, value.__kwdefaults__])
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            self._note(name)
            try:
                enclosed = cell.cell_contents
            except ValueError:
                continue
            self._step(f" {name}", enclosed)
        for name in sorted(set(_names_in(value.__code__))):
            if name in value.__globals__:
                self._note(name)
                self._step(f" {name}", value.__globals__[name])

    def _enclosed(self, value: FunctionType) -> None:
        """Take what a function of somebody else's encloses: what it was made of, if it was made of a user's own."""
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError, NotTrackedError):
                self._of(cell.cell_contents)

    def _code(self, value: CodeType) -> None:
        self._note("code", value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_flags)
        for constant in value.co_consts:
            self._of(constant)

    def _object(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType):
            self._note("method", value.__func__.__name__)
            self._of(value.__self__)
            self._of(value.__func__)
        elif isinstance(value, BuiltinFunctionType):
            self._note("builtin", value.__module__, value.__qualname__)
        elif isinstance(value, staticmethod | classmethod):
            self._note(type(value).__name__)
            self._of(value.__func__)
        elif isinstance(value, property):
            self._of([value.fget, value.fset, value.fdel])
        elif isinstance(value, functools.partial):
            self._of([type(value), value.func, value.args, value.keywords])
        elif isinstance(value, functools.cached_property):
            # Up to Python 3.11 it holds a lock, too.
            self._of([type(value), value.func, value.attrname])
        elif isinstance(value, _WEAK):
            self._note("weak", type(value).__name__)
        elif hasattr(value, "__wrapped__"):
            # A cache around a function, say.
            self._of([type(value), value.__wrapped__])
        elif isinstance(value, Enum):
            self._of(type(value))
            self._note(value.name)
        elif isinstance(value, PurePath):
            self._note("path", str(value))
        else:
            self._instance(value)

    def _generator(self, value: Any) -> None:
        self.generators.append("".join(self._way).strip())
        self._note("generator", type(value).__name__)

    def _instance(self, value: Any) -> None:
        """Take an object by what it would be copied from."""
        if isinstance(value, np.random.Generator | np.random.RandomState | random.Random) or _is_of_torch(
            value, "Generator"
        ):
            self._generator(value)
            return
        try:
            parts = _reduced(value)
        except Exception as error:
            way = "".join(self._way).strip()
            where = f" ({way})" if way else ""
            raise NotTrackedError(f"holds {_a(type(value).__name__)}{where}") from error
        if isinstance(parts, str):
            self._note("object", type(value).__module__, parts)
            return
        self._of(type(value))
        builder, arguments, *rest = parts
        if builder not in (copyreg.__newobj__, copyreg.__newobj_ex__):  # type: ignore[attr-defined]
            self._of(builder)
        self._of(list(arguments))
        for item in rest:
            self._of(list(item) if isinstance(item, Iterator) else item)


def _reduced(value: Any) -> Any:
    reducer: Callable[[Any], Any] | None = copyreg.dispatch_table.get(type(value))
    return reducer(value) if reducer else value.__reduce_ex__(4)


def _a(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _torch() -> Any:
    return sys.modules["torch"]


def _is_tensor(value: Any) -> bool:
    return _is_of_torch(value, "Tensor")


def _is_of_torch(value: Any, kind: str) -> bool:
    # Whoever has made one has imported PyTorch; without that it is not imported here.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, kind))
