"""The folder of a Flower app, read without Flower: what it names, its run configuration, the digest of its files."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulite_sim.errors import AppError, DataNotFoundError, NeuliteError
from neulite_sim.outside import TEXT_BYTES, read_regular

PYPROJECT = "pyproject.toml"
COMPONENTS = "tool.flwr.app.components"
_PARTS = ("serverapp", "clientapp")
_MOST_FILES = 10_000
_LEFT_OUT = {"__pycache__", "node_modules"}
_SETTING = re.compile(r"(\S+?)\s*=\s*('[^']*'|\"[^\"]*\"|\[[^\]]*\]|\S+)")

Config = dict[str, bool | int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerApp:
    """An app as its `pyproject.toml` describes it; `config` is its run configuration, overrides applied.

    `server` and `client` are references such as `quickstart.server_app:app`, looked up in `folder`.
    """

    folder: Path
    name: str
    server: str
    client: str
    config: Config
    overrides: Config
    sha256: str
    """Digest of all files of the folder, hidden ones and caches aside: of each its name and its content."""
    num_files: int


def read_app(folder: Path, overrides: Sequence[str] = ()) -> FlowerApp:
    """Return the app in a folder. `overrides` are as `flwr run --run-config` takes them: `key=value key2="text"`.

    Raises:
        DataNotFoundError: there is no such folder, or no `pyproject.toml` in it.
        AppError: `pyproject.toml` is no TOML, or names no ServerApp or ClientApp.
        NeuliteError: an override is none.
    """
    if not folder.is_dir():
        raise DataNotFoundError(f"{folder}: is no folder", hint="name the folder of a Flower app")
    file = folder / PYPROJECT
    made = _parsed(file)
    app = _table(_table(_table(made, "tool"), "flwr"), "app")
    parts = _table(app, "components")
    references: dict[str, str] = {}
    for part in _PARTS:
        found: Any = parts.get(part)
        if not isinstance(found, str) or not all(found.partition(":")[::2]):
            what = "is missing" if found is None else f"is {found!r}"
            kind = "ServerApp" if part == "serverapp" else "ClientApp"
            raise AppError(
                f"{file}: {COMPONENTS}.{part} {what}: the app has no {kind} that could be found",
                hint=f'write {part} = "package.module:app" under [{COMPONENTS}]',
            )
        references[part] = found
    config = dict(_flat(_table(app, "config")))
    given = _settings(overrides)
    if unknown := [key for key in given if key not in config]:
        raise NeuliteError(
            f"--run-config: {', '.join(unknown)}: {file} has no such key in [tool.flwr.app.config], but "
            f"{', '.join(sorted(config)) or 'none at all'}",
            hint="name one of these, or add it there",
        )
    name = _table(made, "project").get("name")
    digest, count = _digest(folder)
    return FlowerApp(
        folder=folder,
        name=name if isinstance(name, str) and name else folder.resolve().name,
        server=references["serverapp"],
        client=references["clientapp"],
        config={**config, **given},
        overrides=given,
        sha256=digest,
        num_files=count,
    )


def _parsed(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_regular(file, most_bytes=TEXT_BYTES).decode())
    except FileNotFoundError:
        hint = "name the folder of a Flower app, the one in which `flwr run .` would work"
        raise DataNotFoundError(f"{file}: does not exist", hint=hint) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AppError(f"{file}: cannot be read as TOML: {reason}") from None


def _table(outer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = outer.get(key)
    return found if isinstance(found, Mapping) else {}


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables under dotted keys, as Flower hands them to an app."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _settings(texts: Sequence[str]) -> Config:
    """Return `key=value` settings, several in one text, values as TOML.

    Raises:
        NeuliteError: a text is no setting, or a value no TOML.
    """
    found: Config = {}
    for text in texts:
        matches = _SETTING.findall(text)
        rest = _SETTING.sub("", text).strip()
        if rest or not matches:
            hint = 'write key=value, such as num-server-rounds=5 or name="text"'
            raise NeuliteError(f"--run-config: {text!r} sets nothing that can be understood", hint=hint)
        for key, value in matches:
            try:
                found[key] = tomllib.loads(f"value = {value}")["value"]
            except tomllib.TOMLDecodeError:
                hint = f"quote a text: {key}='\"{value}\"'"
                raise NeuliteError(f"--run-config: {key}={value}: {value} is no value of TOML", hint=hint) from None
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _LEFT_OUT)
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _digest(folder: Path) -> tuple[str, int]:
    """Return the digest of a folder's regular files and how many they are; links and others are passed over.

    Raises:
        AppError: there are too many, so that this is hardly the folder of an app.
    """
    whole, count = hashlib.sha256(), 0
    for path in _files(folder):
        if path.is_symlink() or not path.is_file():
            continue
        count += 1
        if count > _MOST_FILES:
            hint = "name the folder of one app, and keep data elsewhere"
            raise AppError(f"{folder}: holds more than {_MOST_FILES} files", hint=hint)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest(), count
