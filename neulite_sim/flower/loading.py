"""An app's own modules: imported as Flower imports them, named by file and line where they fail, and forgotten."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.supercore.object_ref import load_app

from neulite_sim.errors import AppError
from neulite_sim.flower.app import PYPROJECT, FlowerApp


class _NotThereError(Exception):
    """A reference does not name anything."""


def load_parts(app: FlowerApp) -> tuple[Any, Any]:
    """Return the ServerApp and the ClientApp of an app.

    Raises:
        AppError: a module cannot be imported, or what is named is not there or is something else.
    """
    server = _loaded(app, "serverapp", app.server, ServerApp)
    return server, _loaded(app, "clientapp", app.client, ClientApp)


def _loaded(app: FlowerApp, key: str, reference: str, kind: type) -> Any:
    where = f"{app.folder / PYPROJECT}: tool.flwr.app.components.{key} is {reference!r}"
    try:
        found = load_app(reference, _NotThereError, app.folder)
    except _NotThereError:
        module, _, name = reference.partition(":")
        raise AppError(f"{where}, and {module} has no {name}", hint=f"name the {kind.__name__} there") from None
    except Exception as error:
        raise AppError(f"{where}, which cannot be imported: {told(error, app.folder)}") from error
    if not isinstance(found, kind):
        what = f"a {type(found).__name__}"
        raise AppError(f"{where}, which is {what} and no {kind.__name__}", hint=f"name the {kind.__name__}")
    return found


def told(error: BaseException, folder: Path) -> str:
    """Return an error in one line: the app's own file and line where it was raised, or was called, and what it says."""
    home = folder.resolve()
    places = [
        frame for frame in traceback.extract_tb(error.__traceback__) if home in Path(frame.filename).resolve().parents
    ]
    said = f"{type(error).__name__}: {error}".strip().rstrip(":")
    if isinstance(error, SyntaxError) and error.filename and home in Path(error.filename).resolve().parents:
        return f"{_shown(error.filename, folder)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    return f"{_shown(places[-1].filename, folder)}:{places[-1].lineno}: {said}" if places else said


def _shown(file: str, folder: Path) -> Path:
    return folder / Path(file).resolve().relative_to(folder.resolve())


@contextmanager
def own_modules(folder: Path) -> Iterator[None]:
    """Forget afterwards which modules of an app were imported, so that another app may have some of the same name."""
    before, path = set(sys.modules), list(sys.path)
    home = folder.resolve()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and home in Path(file).resolve().parents:
                del sys.modules[name]
