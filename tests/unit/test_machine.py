"""The kind of processor; the machine's memory, and the limits of every control group it is in, of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neulite_sim import machine
from neulite_sim.machine import free_memory_bytes, installed_memory_bytes, processor_name, usable_processors

GIB = 2**30
V1_MOUNT = "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2_MOUNT = "31 23 0:28 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_V2_MOUNT = "41 31 0:38 {top} /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
NO_LIMIT_V1 = "9223372036854771712\n"


def write(root: Path, files: dict[str, str]) -> Path:
    machine_files = {"proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {8 * 2**20} kB\n"}
    for name, text in {**machine_files, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v2(path: str, groups: dict[str, tuple[str, str, str]], top: str = "/") -> dict[str, str]:
    """Files of a process in the v2 group `path`; groups by folder: (memory.max, memory.current, inactive_file)."""
    files = {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2_MOUNT.format(top=top)}
    for group, (limit, used, cached) in groups.items():
        folder = f"sys/fs/cgroup{group}"
        files |= {f"{folder}/memory.max": limit, f"{folder}/memory.current": used}
        files[f"{folder}/memory.stat"] = f"anon 5\ninactive_file {cached}\nactive_file 7\n"
    return files


def v1(path: str, groups: dict[str, tuple[str, str, str]], top: str = "/") -> dict[str, str]:
    files = {
        "proc/self/cgroup": f"9:name=systemd:/x\n4:hugetlb,memory:{path}\n0::/\n",
        "proc/self/mountinfo": V1_MOUNT.format(top=top) + HYBRID_V2_MOUNT.format(top="/"),
    }
    for group, (limit, used, cached) in groups.items():
        folder = f"sys/fs/cgroup/memory{group}"
        files |= {f"{folder}/memory.limit_in_bytes": limit, f"{folder}/memory.usage_in_bytes": used}
        files[f"{folder}/memory.stat"] = f"inactive_file 1\ntotal_inactive_file {cached}\n"
    return files


G = str
CASES = {
    "no groups at all": ({}, 16 * GIB, 8 * GIB),
    "v2, its own limit": (v2("/job", {"/job": (G(4 * GIB), G(GIB), "0")}), 4 * GIB, 3 * GIB),
    "v2, max": (v2("/job", {"/job": ("max\n", G(GIB), "0")}), 16 * GIB, 8 * GIB),
    "v2, a parent's limit": (
        v2("/slurm/job/step", {"/slurm": (G(2 * GIB), G(GIB), "0"), "/slurm/job/step": ("max", "5", "0")}),
        2 * GIB,
        GIB,
    ),
    "v2, the parent is tighter although its limit is higher": (
        v2("/a/b", {"/a": (G(6 * GIB), G(5 * GIB), "0"), "/a/b": (G(4 * GIB), G(GIB), "0")}),
        4 * GIB,
        GIB,
    ),
    "v2, cached files can be taken": (v2("/job", {"/job": (G(4 * GIB), G(3 * GIB), G(2 * GIB))}), 4 * GIB, 3 * GIB),
    "v2, in a container that sees itself as the root": (v2("/", {"": (G(2 * GIB), G(GIB), "0")}), 2 * GIB, GIB),
    "v2, a namespace above": (v2("/../../x", {"": (G(2 * GIB), G(GIB), "0")}), 2 * GIB, GIB),
    "v2, used beyond the limit": (v2("/job", {"/job": (G(GIB), G(2 * GIB), "0")}), GIB, 0),
    "v2, a limit above the machine": (v2("/job", {"/job": (G(64 * GIB), "0", "0")}), 16 * GIB, 8 * GIB),
    "v1, its own limit": (v1("/job", {"/job": (G(4 * GIB), G(2 * GIB), G(GIB))}), 4 * GIB, 3 * GIB),
    "v1, no limit": (v1("/job", {"/job": (NO_LIMIT_V1, G(GIB), "0"), "": (NO_LIMIT_V1, "0", "0")}), 16 * GIB, 8 * GIB),
    "v1, a parent's limit": (
        v1("/a/b", {"/a": (G(2 * GIB), G(GIB), "0"), "/a/b": (NO_LIMIT_V1, "0", "0")}),
        2 * GIB,
        GIB,
    ),
    "v1, mounted into a container": (
        v1("/docker/123", {"": (G(2 * GIB), G(GIB), "0")}, top="/docker/123"),
        2 * GIB,
        GIB,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_memory_is_that_of_the_machine_and_of_every_group_around_the_process(case: str, tmp_path: Path) -> None:
    files, installed, free = CASES[case]
    root = write(tmp_path, files)
    assert (installed_memory_bytes(root), free_memory_bytes(root)) == (installed, free)


def test_a_soft_limit_counts_as_well(tmp_path: Path) -> None:
    """Above `memory.high` a group is throttled until it stands still."""
    root = write(tmp_path, v2("/job", {"/job": ("max", "0", "0")}) | {"sys/fs/cgroup/job/memory.high": G(GIB)})
    assert free_memory_bytes(root) == GIB


def test_where_the_system_tells_nothing_free_memory_is_asked_of_its_library_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"SC_PAGE_SIZE": 4096, "SC_AVPHYS_PAGES": 10, "SC_PHYS_PAGES": 20}
    monkeypatch.setattr(machine.os, "sysconf", known.__getitem__)
    assert (installed_memory_bytes(tmp_path), free_memory_bytes(tmp_path)) == (81920, 40960)

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(machine.os, "sysconf", unknown)
    assert free_memory_bytes(tmp_path) is None


def test_this_machine_has_memory_and_some_of_it_is_free() -> None:
    free = free_memory_bytes()
    assert free is not None
    assert 10**6 < free <= installed_memory_bytes()


def test_a_processor_is_told_by_name_family_and_model(tmp_path: Path) -> None:
    one = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n"
    write(tmp_path, {"proc/cpuinfo": one + "\n" + one.replace("25", "26")})
    assert processor_name(tmp_path) == "AMD EPYC (family 25, model 1)"


def test_a_processor_without_a_name_is_told_by_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "processor", str)
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    assert processor_name(tmp_path) == "riscv64"


def test_processors_are_those_that_this_process_may_use_or_all_where_the_system_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert usable_processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_processors() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_processors() == 1
