"""The machine: its kind of processor, how many of them and how much memory this process may use.

The memory is the memory of the machine, and of every control group that the process is in.

A container, a batch job or a service is a control group (Linux kernel documentation, "Control Group v2" and "Memory
Resource Controller"). Groups nest, and each holds all below it to its own limit, so every group up to the root counts.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What a version of control groups calls its limits, its use, and the cached pages that it gives back at once."""

    limits: tuple[str, ...]
    used: str
    reclaimable: str


_V1 = _Files(limits=("memory.limit_in_bytes",), used="memory.usage_in_bytes", reclaimable="total_inactive_file")
_V2 = _Files(limits=("memory.max", "memory.high"), used="memory.current", reclaimable="inactive_file")


def installed_memory_bytes(root: Path = ROOT) -> int:
    """Return the memory of this machine, or the lowest limit of the groups that this process is in.

    `root` is where `/proc` and `/sys` are looked up.
    """
    installed = _meminfo_bytes(root, "MemTotal") or _sysconf_bytes("SC_PHYS_PAGES") or 0
    limits = [limit for group, files in _groups(root) if (limit := _limit_bytes(group, files)) is not None]
    return min([installed, *limits]) if installed else min(limits, default=0)


def free_memory_bytes(root: Path = ROOT) -> int | None:
    """Return the memory that this process could still take; None where the system does not say.

    In a group with a limit that is what the group has left, its cached pages of files not counted as used. `root` is
    where `/proc` and `/sys` are looked up.
    """
    free = _meminfo_bytes(root, "MemAvailable")
    if free is None:
        free = _sysconf_bytes("SC_AVPHYS_PAGES")
    found = [] if free is None else [free]
    for group, files in _groups(root):
        limit = _limit_bytes(group, files)
        if limit is not None:
            reclaimable = _fields(group / "memory.stat").get(files.reclaimable, 0)
            used = max(0, (_number(group / files.used) or 0) - reclaimable)
            found.append(max(0, limit - used))
    return min(found, default=None)


def usable_processors() -> int:
    """Return how many processors this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name(root: Path = ROOT) -> str:
    """Return what the system calls the kind of its processor, its architecture where it has no name for it.

    Family and model are added where they are known: a virtual machine often hides them from the name. `root` is where
    `/proc` is looked up.
    """
    known: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        known.setdefault(key.strip(), value.strip())
    name = known.get("model name") or platform.processor() or platform.machine()
    kind = [f"{word} {known[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if known.get(key)]
    return f"{name} ({', '.join(kind)})" if kind else name


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """Yield the folder of every group that limits this process's memory, from its own up to the mounted root."""
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths["v2" if not controllers else "v1" if "memory" in controllers.split(",") else ""] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" and "v2" in paths:
            path, files = paths["v2"], _V2
        elif kind[0] == "cgroup" and "memory" in kind[2].split(",") and "v1" in paths:
            path, files = paths["v1"], _V1
        else:
            continue
        mounted = root / fields[4].lstrip("/")
        below = _below(path, fields[3])
        for depth in range(len(below.parts), -1, -1):
            yield mounted.joinpath(*below.parts[:depth]), files


def _below(path: str, mounted_root: str) -> PurePosixPath:
    """Return a group's path below what is mounted: a container often sees its own group as the root."""
    group, top = PurePosixPath(path), PurePosixPath(mounted_root)
    if ".." in group.parts or not group.is_relative_to(top):
        return PurePosixPath()
    return group.relative_to(top)


def _limit_bytes(group: Path, files: _Files) -> int | None:
    """Return a group's lowest limit; None where it has none (`max`, or in version 1 a number beyond any machine)."""
    limits = [limit for name in files.limits if (limit := _number(group / name)) is not None]
    return min((limit for limit in limits if limit < 2**60), default=None)


def _meminfo_bytes(root: Path, field: str) -> int | None:
    kibibytes = _fields(root / "proc/meminfo").get(field)
    return None if kibibytes is None else kibibytes * 1024


def _sysconf_bytes(pages: str) -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages)
    except (AttributeError, ValueError, OSError):
        return None


def _fields(path: Path) -> dict[str, int]:
    """Return a table of names and whole numbers."""
    rows = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
