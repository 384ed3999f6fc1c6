"""The heap of glibc, replayed: which addresses a sequence of allocations takes, and how much of them was ever touched.

What is freed in the middle of the heap stays resident, so a process's peak depends on the order of its allocations, not
only on their sum. Followed are, of `malloc/malloc.c` of glibc 2.26 to 2.39 on 64 bits
(https://sourceware.org/glibc/wiki/MallocInternals): chunks of 16 bytes with a header of 8, the smallest free chunk that
is large enough, splitting and coalescing, the top chunk and its trimming, blocks of their own (`mmap`) above a
threshold that grows with each such block that is freed, and aligned blocks, which are cut from a larger chunk. Left out
are the caches of small chunks (tcache, fast bins) and arenas of further threads.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

_PAGE_BYTES, _TOP_PAD_BYTES = 4096, 128 * 1024
_GRANULE_BYTES, _HEADER_BYTES, _SMALLEST_BYTES = 16, 8, 32
_CONSOLIDATION_BYTES = 64 * 1024
"""A free chunk must be as large before the top is looked at for trimming."""
LARGEST_THRESHOLD_BYTES = 32 * 1024 * 1024
"""The threshold of own blocks never grows further."""
FIRST_THRESHOLD_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    start: int
    size: int
    is_mapped: bool


class GlibcHeap:
    """The heap of a process, empty at first; blocks are known by any hashable name.

    Blocks of at least `mmap_threshold_bytes` that no free chunk holds are mapped by themselves. The threshold moves up
    with each such block that is freed, to its size, unless `is_fixed`: where `MALLOC_MMAP_THRESHOLD_` has set it.

    The slack that is cut off beside aligned blocks may be pinned: small blocks that nobody tells of lie in it, and it
    is no free chunk until `unpin`.
    """

    def __init__(self, *, mmap_threshold_bytes: int = FIRST_THRESHOLD_BYTES, is_fixed: bool = False) -> None:
        self._threshold = mmap_threshold_bytes
        self._trim_threshold = FIRST_THRESHOLD_BYTES if is_fixed else 2 * mmap_threshold_bytes
        self._is_fixed = is_fixed
        self._top = self._end = self._mapped = 0
        self._highest = 0
        self._free: dict[int, int] = {}
        self._free_ends: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []
        self._blocks: dict[object, _Block] = {}
        self._pinned: list[tuple[int, int]] = []
        self._pins_due = 0.0

    @property
    def resident_bytes(self) -> int:
        """Bytes of the heap up to its end, holes included, and of blocks of their own."""
        return self._end + self._mapped

    @property
    def highest_bytes(self) -> int:
        """The highest `resident_bytes` since the beginning or `forget_highest`."""
        return self._highest

    @property
    def mmap_threshold_bytes(self) -> int:
        """From which size on blocks are mapped by themselves."""
        return self._threshold

    def forget_highest(self) -> None:
        """Begin anew with the high-water mark."""
        self._highest = self.resident_bytes

    def allocate(
        self, name: object, num_bytes: int, *, alignment: int = _GRANULE_BYTES, pinned_share: float = 0.0
    ) -> None:
        """Take a block, aligned to a power of two as `posix_memalign` does it where that is more than 16.

        `pinned_share` of the pieces of slack, in turn, are pinned.
        """
        assert name not in self._blocks, f"block {name} is there already"
        size = max(_SMALLEST_BYTES, _up(num_bytes + _HEADER_BYTES, _GRANULE_BYTES))
        if alignment <= _GRANULE_BYTES:
            self._blocks[name] = self._taken(size)
            return
        block = self._taken(size + alignment + _SMALLEST_BYTES)
        self._blocks[name] = block if block.is_mapped else self._aligned(block, size, alignment, pinned_share)

    def free(self, name: object) -> None:
        """Give a block back; nothing happens where there is none of that name."""
        block = self._blocks.pop(name, None)
        if block is None:
            return
        if block.is_mapped:
            self._mapped -= block.size
            if not self._is_fixed and self._threshold < block.size <= LARGEST_THRESHOLD_BYTES:
                self._threshold, self._trim_threshold = block.size, 2 * block.size
        elif self._release(block.start, block.size) >= _CONSOLIDATION_BYTES:
            top_bytes = self._end - self._top
            if top_bytes >= self._trim_threshold:
                self._end -= max(0, top_bytes - _SMALLEST_BYTES - 1 - _TOP_PAD_BYTES) // _PAGE_BYTES * _PAGE_BYTES

    def unpin(self) -> None:
        """Make free chunks of all slack that is pinned."""
        for start, size in self._pinned:
            self._release(start, size)
        self._pinned.clear()

    def _aligned(self, block: _Block, size: int, alignment: int, pinned_share: float) -> _Block:
        """Cut an aligned chunk from a larger one; what is left on both sides is given back, or pinned."""
        start = _up(block.start + 2 * _HEADER_BYTES, alignment) - 2 * _HEADER_BYTES
        if 0 < start - block.start < _SMALLEST_BYTES:
            start += alignment
        if start > block.start:
            self._cut_off(block.start, start - block.start, pinned_share)
        left = block.start + block.size - start - size
        if left < _SMALLEST_BYTES:
            return _Block(start=start, size=size + left, is_mapped=False)
        self._cut_off(start + size, left, pinned_share)
        return _Block(start=start, size=size, is_mapped=False)

    def _cut_off(self, start: int, size: int, pinned_share: float) -> None:
        if start + size != self._top:
            self._pins_due += pinned_share
        if self._pins_due >= 1:
            self._pins_due -= 1
            self._pinned.append((start, size))
        else:
            self._release(start, size)

    def _taken(self, size: int) -> _Block:
        place = bisect_left(self._by_size, (size, -1))
        if place < len(self._by_size):
            found, start = self._by_size[place]
            self._forget(start)
            if found - size < _SMALLEST_BYTES:
                return _Block(start=start, size=found, is_mapped=False)
            self._remember(start + size, found - size)
            return _Block(start=start, size=size, is_mapped=False)
        top_bytes = self._end - self._top
        if top_bytes < size + _SMALLEST_BYTES:
            if size >= self._threshold:
                mapped = _up(size + _HEADER_BYTES, _PAGE_BYTES)
                self._mapped += mapped
                self._highest = max(self._highest, self.resident_bytes)
                return _Block(start=-1, size=mapped, is_mapped=True)
            self._end += _up(size + _TOP_PAD_BYTES + _SMALLEST_BYTES - top_bytes, _PAGE_BYTES)
            self._highest = max(self._highest, self.resident_bytes)
        start, self._top = self._top, self._top + size
        return _Block(start=start, size=size, is_mapped=False)

    def _release(self, start: int, size: int) -> int:
        """Join a chunk with the free ones beside it; returns the size of what that gives, the top included."""
        before = self._free_ends.get(start)
        if before is not None:
            size, start = size + self._forget(before), before
        if start + size == self._top:
            self._top = start
            return self._end - start
        if start + size in self._free:
            size += self._forget(start + size)
        self._remember(start, size)
        return size

    def _remember(self, start: int, size: int) -> None:
        self._free[start] = size
        self._free_ends[start + size] = start
        insort(self._by_size, (size, start))

    def _forget(self, start: int) -> int:
        size = self._free.pop(start)
        del self._free_ends[start + size]
        del self._by_size[bisect_left(self._by_size, (size, start))]
        return size


def _up(number: int, granule: int) -> int:
    return -(-number // granule) * granule
