"""Python files beside a scenario: each is run once per content, as a module of its own, and known by what it holds.

What such a file imports from its own folder belongs to it. All of it travels by value to worker processes, which need
not find the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from neulite_sim.errors import Problem, ScenarioError, close_matches
from neulite_sim.outside import file_sha256, read_regular, user_path
from neulite_sim.turns import my_turn
from neulite_sim.user_code.origins import in_a_line

MOST_BYTES = 10 * 10**6
PREFIX = "user_code_"
"""Begins the names of modules made of such files, which no import finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A file that was run: the module that came of it, and the files of its folder that it imported."""

    module: ModuleType
    sha256: str
    beside: tuple[str, ...]


_LOADED: dict[str, Loaded] = {}


def loaded_modules() -> tuple[ModuleType, ...]:
    """Return all modules that came of users' files in this process."""
    names = (name for found in _LOADED.values() for name in (found.module.__name__, *found.beside))
    return tuple(sys.modules[name] for name in dict.fromkeys(names) if name in sys.modules)


def files_beside(path: str) -> dict[str, str]:
    """Return the SHA-256 of each file that a file, which was loaded, imported from its folder, by its path in there."""
    place = os.path.realpath(user_path(path))
    found = _LOADED.get(place)
    modules = [sys.modules[name] for name in found.beside if name in sys.modules] if found else []
    files = [os.path.realpath(str(module.__file__)) for module in modules]
    return {os.path.relpath(file, os.path.dirname(place)): file_sha256(file, most_bytes=MOST_BYTES) for file in files}


def line_in_files(error: BaseException) -> str:
    """Return FILE:LINE of the last line of users' files, run in this process, that an error passed through, or ""."""
    files = {os.path.realpath(str(module.__file__)) for module in loaded_modules()}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.realpath(frame.filename) in files]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def from_file(path: str, name: str, *, key: str) -> Any:
    """Return what is called `name` in a Python file, which is run if it was not, or is no more what it was.

    Raises:
        ScenarioError: at `key`.path or `key`.name: there is no such file, running it fails (with the line), or it
            holds nothing of this name.
    """
    module = _module(path, f"{key}.path")
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [each for each in vars(found) if not each.startswith("_")]
            own = [each for each in known if not isinstance(getattr(found, each), ModuleType)]
            near = close_matches(part, own)
            message = f"{path} holds no {name!r}{near}" + ("" if near else f"; it holds {', '.join(own) or 'nothing'}")
            raise ScenarioError([Problem(key=f"{key}.name", message=message)])
        found = getattr(found, part)
    return found


def _module(path: str, key: str) -> ModuleType:
    place = os.path.realpath(user_path(path))
    try:
        content = read_regular(place, most_bytes=MOST_BYTES)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        hint = "name a Python file, relative to the scenario or to the current folder"
        raise ScenarioError([Problem.advising(key=key, found=message, hint=hint)]) from None
    sha256 = hashlib.sha256(content).hexdigest()
    if (known := _known(place, sha256)) is not None:
        return known
    # It may draw from the generators of a run in another thread, and is run once whoever asks for it.
    with my_turn():
        return _known(place, sha256) or _run(place, content, sha256, path, key)


def _known(place: str, sha256: str) -> ModuleType | None:
    known = _LOADED.get(place)
    return known.module if known is not None and known.sha256 == sha256 else None


def _run(place: str, content: bytes, sha256: str, path: str, key: str) -> ModuleType:
    stem = re.sub(r"\W", "_", Path(place).stem)
    module = ModuleType(f"{PREFIX}{stem}_{sha256[:12]}")
    module.__file__ = place
    sys.modules[module.__name__] = module
    before = set(sys.modules)
    try:
        with _folder_first(os.path.dirname(place)), contextlib.redirect_stdout(sys.stderr):
            exec(compile(content, place, "exec", dont_inherit=True), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[module.__name__]
        message = f"running {path} fails: {in_a_line(error)}"
        if isinstance(error, ModuleNotFoundError):
            raise ScenarioError([Problem(key=key, message=message)]) from error
        raise ScenarioError([Problem.advising(key=key, found=message, hint="mend the file")]) from error
    folder = os.path.dirname(place) + os.sep
    beside = tuple(sorted(name for name in set(sys.modules) - before if _lies_below(sys.modules[name], folder)))
    _LOADED[place] = Loaded(module=module, sha256=sha256, beside=beside)
    return module


def _lies_below(module: ModuleType | None, folder: str) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and os.path.realpath(file).startswith(folder)


@contextlib.contextmanager
def _folder_first(folder: str) -> Iterator[None]:
    """Let imports find what lies in a folder; imports that happen later, inside of functions, do not."""
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
