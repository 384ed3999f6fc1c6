"""The peak of a process that takes a training step: its runtime, and its heap, replayed allocation by allocation.

Between large blocks PyTorch keeps many small ones, above all the nodes of autograd's graph, which no dispatch mode
sees. glibc puts them into the slack around aligned blocks, where they keep holes from growing together until the graph
is gone. Which share of the slack is held in this way, for blocks of operators that autograd makes a node for and for
others, was chosen by `verification/process_memory.py` (`docs/background/memory_model.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from neulite_sim.profiling.allocations import GRAPH_FREED, AllocationLog
from neulite_sim.profiling.heap import GlibcHeap
from neulite_sim.scenario.ledgers import GlibcAllocator

TENSOR_ALIGNMENT_BYTES = 64
"""PyTorch's on processors."""
THRESHOLD_AFTER_IMPORTS_BYTES = 2 * 1024 * 1024
"""From which size on blocks are mapped by themselves once PyTorch and torchvision are imported; 128 KiB at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedShares:
    """Shares, 0 to 1, of the slack beside blocks of two kinds that small blocks hold until the graph is gone."""

    graph: float
    other: float


PINNED = PinnedShares(graph=1.0, other=0.25)


def process_peaks(
    log: AllocationLog, allocator: GlibcAllocator, *, more_bytes: int = 0, pinned: PinnedShares = PINNED
) -> tuple[int, ...]:
    """Return the predicted peak of a process at its first step of each part of the training, the runtime included.

    `log` begins before the model is built; `more_bytes` are there all the time and stand in no log.
    """
    heap = _heap(allocator)
    if more_bytes:
        heap.allocate("more", more_bytes, alignment=TENSOR_ALIGNMENT_BYTES)
    peaks, begin = [], 0
    for end in log.ends:
        heap.forget_highest()
        for event in log.events[begin:end]:
            if event.block == GRAPH_FREED:
                heap.unpin()
            elif event.num_bytes:
                share = pinned.graph if event.grows_graph else pinned.other
                heap.allocate(event.block, event.num_bytes, alignment=TENSOR_ALIGNMENT_BYTES, pinned_share=share)
            else:
                heap.free(event.block)
        peaks.append(allocator.base + heap.highest_bytes)
        begin = end
    return tuple(peaks)


def _heap(allocator: GlibcAllocator) -> GlibcHeap:
    if allocator.mmap_threshold is None:
        return GlibcHeap(mmap_threshold_bytes=THRESHOLD_AFTER_IMPORTS_BYTES)
    return GlibcHeap(mmap_threshold_bytes=allocator.mmap_threshold, is_fixed=True)
