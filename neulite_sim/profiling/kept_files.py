"""What is kept on disk for later commands: files in the user's folder for caches, each checked before it is believed.

A file is JSON, named by the identity of what decides its content. It is written beside its place and moved there, so
that any number of processes may share a folder; what is damaged, or another's, is dropped in silence. A folder that
cannot be written keeps nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulite_sim.outside import plain_json, read_regular

VARIABLE = "NEULITE_SIM_CACHE"
"""Environment variable: a folder in which profiles are kept, or `off`."""
OFF = "off"

MOST_ENTRIES = 4096
MOST_BYTES = 256 * 10**6
"""Of a folder; beyond either, entries that were used longest ago make room."""
MOST_ENTRY_BYTES = 16 * 10**6
_KEPT_SHARE = 0.75
_LEFT_BEHIND_S = 3600.0
_SUFFIX, _UNFINISHED = ".json", ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a folder of kept files holds."""

    entries: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The files kept in a folder, which need not be there yet."""

    folder: Path

    def content(self, identity: str) -> Any:
        """Return what is kept of an identity; None where nothing is, or something damaged, which is dropped.

        Whoever asks checks that it is what was asked for, and drops it where it is not.
        """
        path = self._path(identity)
        try:
            written = read_regular(path, most_bytes=MOST_ENTRY_BYTES, follows_links=False)
        except FileNotFoundError:
            return None
        except OSError:
            _dropped(path)
            return None
        found = _read(written, identity)
        if found is None:
            _dropped(path)
            return None
        # What is used stays longest.
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def drop(self, identity: str) -> None:
        """Drop what is kept of an identity."""
        _dropped(self._path(identity))

    def put(self, identity: str, content: Any) -> None:
        """Keep what JSON can hold; nothing happens where that is not possible."""
        written = json.dumps({"identity": identity, "sha256": checksum(content), "content": content}).encode()
        if len(written) > MOST_ENTRY_BYTES:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(suffix=_UNFINISHED, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(written)
                os.replace(name, self._path(identity))
            except BaseException:
                _dropped(Path(name))
                raise
            self._make_room()

    def contents(self) -> Contents:
        """Return how many profiles are kept, and how many bytes they take."""
        files = self._files()
        return Contents(entries=len(files), num_bytes=sum(size for _, size, _ in files))

    def clear(self) -> Contents:
        """Drop everything that is kept; returns what that was."""
        before = self.contents()
        for _, _, path in (*self._files(), *self._files(_UNFINISHED)):
            _dropped(path)
        return before

    def _path(self, identity: str) -> Path:
        return self.folder / f"{identity}{_SUFFIX}"

    def _files(self, suffix: str = _SUFFIX) -> list[tuple[float, int, Path]]:
        """Return when each file was used last, its size and its path; files that vanish meanwhile are left out."""
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False):
                            about = entry.stat(follow_symlinks=False)
                            found.append((about.st_mtime, about.st_size, Path(entry.path)))
        except OSError:
            return []
        return found

    def _make_room(self) -> None:
        files = sorted(self._files())
        left, left_bytes = len(files), sum(size for _, size, _ in files)
        if left > MOST_ENTRIES or left_bytes > MOST_BYTES:
            for _, size, path in files:
                if left <= MOST_ENTRIES * _KEPT_SHARE and left_bytes <= MOST_BYTES * _KEPT_SHARE:
                    break
                _dropped(path)
                left, left_bytes = left - 1, left_bytes - size
        for used_at, _, path in self._files(_UNFINISHED):
            if used_at < time.time() - _LEFT_BEHIND_S:
                _dropped(path)


def kept_folder() -> Path | None:
    """Return where files are kept, as `NEULITE_SIM_CACHE` says; None where it says `off`.

    By default that is `neulite-sim/profiles` in the user's folder for caches, as each system has it.
    """
    given = os.environ.get(VARIABLE, "")
    if given.strip().lower() == OFF:
        return None
    if given:
        return Path(given)
    folder = _user_caches()
    return None if folder is None else folder / "neulite-sim" / "profiles"


def _user_caches() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    # A relative path is to be ignored: XDG Base Directory Specification.
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    return Path(named) if os.path.isabs(named) else home / ".cache"


def _dropped(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def checksum(plain: Any) -> str:
    """Return a SHA-256 over what JSON can hold."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _read(written: bytes, identity: str) -> Any:
    """Return the content of a file; None where it is none, or another's."""
    try:
        found = plain_json(written)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.keys() != {"identity", "sha256", "content"}:
        return None
    is_own = found["identity"] == identity and found["sha256"] == checksum(found["content"])
    return found["content"] if is_own else None
