"""Which code is a user's own: neither this package's, nor Python's, nor that of anything installed."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from types import ModuleType

from neulite_sim.errors import NeuliteError

PACKAGE = "neulite_sim"


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    named = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    found = {*filter(None, named), *site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.realpath(folder) + os.sep for folder in found)


@functools.cache
def _own_folder() -> str:
    return os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep


def is_users_file(path: str) -> bool:
    """Return whether a source file is a user's own. What was typed at a prompt or in a notebook is."""
    if path.startswith("<frozen"):
        return False
    if path.startswith("<"):
        return True
    real = os.path.realpath(path)
    return not real.startswith((_own_folder(), *_installed_folders()))


def is_users_module(name: str | None) -> bool:
    """Return whether a module is a user's own: one that is not loaded, or was made by hand, is nobody's."""
    if not name or name.partition(".")[0] in {PACKAGE, *sys.builtin_module_names}:
        return False
    if name == "__main__":
        return True
    module = sys.modules.get(name)
    return isinstance(module, ModuleType) and _is_users(module)


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_users_file(file)


def place_of(kind: type) -> str:
    """Return " (FILE:LINE)" of the definition of a user's own class; empty for others."""
    if not is_users_module(kind.__module__):
        return ""
    try:
        return f" ({inspect.getsourcefile(kind)}:{inspect.getsourcelines(kind)[1]})"
    except (OSError, TypeError):
        return ""


def line_of(error: BaseException) -> str:
    """Return "FILE:LINE: " of the last line of a user's own code that an error passed through; empty where none is."""
    if isinstance(error, SyntaxError) and error.filename and is_users_file(error.filename):
        return f"{error.filename}:{error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_users_file(frame.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}: " if own else ""


def in_a_line(error: BaseException) -> str:
    """Return where in a user's code an error arose, of which class it is, and what it says, in one line."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{line_of(error)}{error.msg}; install the package that has it, or mend the import"
    said = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{line_of(error)}{type(error).__name__}{f': {said[:500]}' if said else ''}"


@contextlib.contextmanager
def telling_lines() -> Iterator[None]:
    """Let an error that arises inside, in a user's own code, say in which line.

    Raises:
        RuntimeError: in place of such an error.
    """
    try:
        yield
    except NeuliteError:
        raise
    except Exception as error:
        if line_of(error):
            raise RuntimeError(in_a_line(error)) from error
        raise
