"""The C library's memory allocator, set for training steps: what one step frees the next one takes.

By default glibc returns large blocks to the system as soon as they are freed, and each step of a small network then
pays for hundreds of page faults. Nothing here changes results. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the parameters in glibc's malloc.h."""
_LARGEST_BLOCK_BYTES = 2**30
_NEVER = 2**31 - 1
_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb=1"


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for the next time that it needs as much."""
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _NEVER)


def give_back_freed_memory() -> None:
    """Return to the system what this process has freed and kept."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def with_huge_pages(environment: Mapping[str, str]) -> str:
    """Return the value of GLIBC_TUNABLES with which a new process asks for huge pages, unless it says otherwise."""
    given = environment.get(_TUNABLES, "")
    if "glibc.malloc.hugetlb" in given:
        return given
    return f"{given}:{_HUGE_PAGES}" if given else _HUGE_PAGES


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
