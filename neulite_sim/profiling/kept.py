"""Profiles that are kept on disk, so that no later command makes them again.

An entry is a JSON file named by the identity of what decides its profile. It is written beside its place and moved
there, so that any number of processes may share a folder, and it is checked before it is believed: what is damaged, or
no profile of what was asked for, is dropped in silence and made again. A folder that cannot be written keeps nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neulite_sim.outside import plain_json, read_regular
from neulite_sim.profiling.roofline import OperatorKind

if TYPE_CHECKING:
    from neulite_sim.profiling.profile import Profile

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

_Count = Annotated[int, Field(ge=0, lt=2**62)]
_Amount = Annotated[float, Field(ge=0, lt=2.0**62)]
_Amounts = list[_Amount]
_Kinds = list[Annotated[int, Field(ge=0, lt=len(OperatorKind))]]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Split(_Checked):
    parameters: _Count
    gradients: _Count
    optimizer: _Count
    activations: _Count
    inputs: _Count
    temporaries: _Count


class _Entry(_Checked):
    """A profile as it stands in a file."""

    submodel: str
    batch_size: _Count
    parameters: _Count
    trainable_parameters: _Count
    memory: _Split
    operator_flops: _Amounts
    operator_bytes: _Amounts
    operator_kinds: _Kinds | None
    bytes_down: _Count
    bytes_up: _Count
    micro_batch_sizes: list[_Count]
    allocator_bytes: _Count | None
    kept_bytes_per_sample: _Count
    later_operator_flops: _Amounts | None
    later_operator_bytes: _Amounts | None
    later_operator_kinds: _Kinds | None
    operator_counts: _Amounts | None
    later_operator_counts: _Amounts | None
    compares_samples: bool
    part_peaks_bytes: list[_Count]
    part_kept_bytes_per_sample: list[_Count]
    process_bytes: _Count | None
    loaded_bytes: _Count
    compared_with_memory: Literal["tensor_bytes", "allocator_bytes", "process_bytes"]

    @model_validator(mode="after")
    def _is_of_one_submodel(self) -> Self:
        first = (self.operator_flops, self.operator_bytes, self.operator_kinds, self.operator_counts)
        later = (self.later_operator_flops, self.later_operator_bytes, self.later_operator_kinds,
                 self.later_operator_counts)  # fmt: skip
        if any(len({len(column) for column in step if column is not None}) > 1 for step in (first, later)):
            raise ValueError("has columns of several lengths")
        if (later[0] is None) != (later[1] is None):
            raise ValueError("has half of a later step")
        if self.trainable_parameters > self.parameters:
            raise ValueError("has a part that is more than the whole")
        if sum(self.micro_batch_sizes) != self.batch_size:
            raise ValueError("has micro-batches of another batch")
        if len(self.part_peaks_bytes) != len(self.part_kept_bytes_per_sample):
            raise ValueError("has half of its parts")
        if self.compared_with_memory != "tensor_bytes" and getattr(self, self.compared_with_memory) is None:
            raise ValueError("lacks what is compared with memory")
        return self


_COLUMNS = tuple(name for name in _Entry.model_fields if "operator_" in name)
_TUPLES = ("micro_batch_sizes", "part_peaks_bytes", "part_kept_bytes_per_sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a folder of kept profiles holds."""

    entries: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class KeptProfiles:
    """The profiles kept in a folder, which need not be there yet."""

    folder: Path

    def find(self, identity: str, submodel: str, batch_size: int) -> Profile | None:
        """Return the profile of an identity; None where none is kept, or one that is damaged, which is dropped."""
        path = self._path(identity)
        try:
            content = read_regular(path, most_bytes=MOST_ENTRY_BYTES, follows_links=False)
        except FileNotFoundError:
            return None
        except OSError:
            _dropped(path)
            return None
        found = _read(content, identity)
        if found is None or (found.submodel, found.batch_size) != (submodel, batch_size):
            _dropped(path)
            return None
        # What is used stays longest.
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def keep(self, identity: str, profile: Profile) -> None:
        """Keep a profile; nothing happens where that is not possible."""
        content = _written(profile, identity)
        if content is None:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(suffix=_UNFINISHED, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
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


def kept_profiles() -> KeptProfiles | None:
    """Return where the user's profiles are kept, as `NEULITE_SIM_CACHE` says; None where it says `off`.

    By default that is `neulite-sim/profiles` in the user's folder for caches, as each system has it.
    """
    given = os.environ.get(VARIABLE, "")
    if given.strip().lower() == OFF:
        return None
    if given:
        return KeptProfiles(Path(given))
    folder = _user_caches()
    return None if folder is None else KeptProfiles(folder / "neulite-sim" / "profiles")


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


def _written(profile: Profile, identity: str) -> bytes | None:
    """Return the content of an entry; None for a profile that would not be believed again."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(profile).items()
    }  # fmt: skip
    content = json.dumps({"identity": identity, "sha256": _checksum(plain), "profile": plain}).encode()
    found = _read(content, identity)
    return content if len(content) <= MOST_ENTRY_BYTES and found is not None and _equal(found, profile) else None


def _equal(found: Profile, profile: Profile) -> bool:
    """Return whether nothing is lost by writing and reading, types of numbers included."""
    pairs = [(getattr(found, item.name), getattr(profile, item.name)) for item in fields(profile)]
    return all(
        one.dtype == other.dtype and np.array_equal(one, other)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        else type(one) is type(other) and one == other
        for one, other in pairs
    )


def _checksum(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _read(content: bytes, identity: str) -> Profile | None:
    """Return the profile in an entry; None where it is none, or another's."""
    try:
        found = plain_json(content)
        if not isinstance(found, dict) or found.keys() != {"identity", "sha256", "profile"}:
            return None
        if found["identity"] != identity or found["sha256"] != _checksum(found["profile"]):
            return None
        entry = _Entry.model_validate(found["profile"])
    except (ValueError, ValidationError):
        return None
    from neulite_sim.profiling.profile import Profile
    from neulite_sim.profiling.tracer import MemoryBytes

    values: dict[str, Any] = {name: getattr(entry, name) for name in _Entry.model_fields}
    for name in _COLUMNS:
        if values[name] is not None:
            values[name] = np.array(values[name], dtype=np.int8 if name.endswith("kinds") else np.float64)
    memory = MemoryBytes(**entry.memory.model_dump())
    return Profile(**{**values, "memory": memory, **{name: tuple(values[name]) for name in _TUPLES}})
