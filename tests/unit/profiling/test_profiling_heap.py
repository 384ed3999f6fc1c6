"""The replayed heap of glibc, against sizes worked out by hand."""

import pytest

from neulite_sim.profiling.heap import GlibcHeap

MIB = 2**20


def heap_of(*sizes, **how):
    heap = GlibcHeap(mmap_threshold_bytes=how.pop("threshold", 64 * MIB), is_fixed=how.pop("is_fixed", True))
    for name, size in enumerate(sizes):
        heap.allocate(name, size, **how)
    return heap


def test_the_end_of_the_heap_lies_behind_the_blocks_in_whole_pages():
    assert heap_of(MIB).resident_bytes == MIB + 128 * 1024 + 4096
    assert GlibcHeap().resident_bytes == 0


def test_a_hole_in_the_middle_stays_resident_and_is_taken_again():
    heap = heap_of(MIB, 2 * MIB, MIB)
    before = heap.resident_bytes
    heap.free(1)
    assert heap.resident_bytes == before
    heap.allocate("again", 2 * MIB)
    assert heap.resident_bytes == heap.highest_bytes == before


def test_an_aligned_block_does_not_fit_the_hole_of_one_as_large_while_its_slack_is_pinned():
    def grown(share):
        heap = heap_of(MIB, MIB, MIB, alignment=64, pinned_share=share)
        before = heap.resident_bytes
        heap.free(1)
        heap.allocate("again", MIB, alignment=64, pinned_share=share)
        return heap.resident_bytes - before

    assert (grown(0.0), grown(1.0)) == (0, MIB)


def test_holes_grow_together_once_their_slack_is_free():
    heap = heap_of(MIB, MIB, MIB, alignment=64, pinned_share=1.0)
    before = heap.resident_bytes
    heap.free(0)
    heap.free(1)
    heap.unpin()
    heap.allocate("both", 2 * MIB, alignment=64)
    assert heap.resident_bytes == before


def test_freed_memory_at_the_end_goes_back_beyond_the_trim_threshold():
    heap = heap_of(MIB, 32 * 1024)
    before = heap.resident_bytes
    heap.free(1)
    assert heap.resident_bytes == before
    heap.free(0)
    assert heap.resident_bytes == 132 * 1024
    assert heap.highest_bytes > MIB


def test_large_blocks_are_mapped_by_themselves_and_go_back_at_once():
    heap = heap_of(MIB, threshold=65536)
    assert heap.resident_bytes == MIB + 4096
    heap.free(0)
    assert heap.resident_bytes == 0


@pytest.mark.parametrize(("is_fixed", "after"), [(True, 65536), (False, MIB + 4096)])
def test_the_threshold_follows_what_is_freed_unless_it_is_fixed(is_fixed, after):
    heap = heap_of(MIB, threshold=65536, is_fixed=is_fixed)
    heap.free(0)
    assert heap.mmap_threshold_bytes == after


def test_the_threshold_never_grows_beyond_32_mib():
    heap = heap_of(33 * MIB, threshold=65536, is_fixed=False)
    heap.free(0)
    assert heap.mmap_threshold_bytes == 65536


def test_the_highest_can_be_forgotten_and_what_is_not_there_be_freed():
    heap = heap_of(MIB, threshold=65536)
    heap.free(0)
    heap.free("unknown")
    heap.forget_highest()
    assert heap.highest_bytes == 0
