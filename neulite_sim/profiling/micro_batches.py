"""The micro-batches of a step that have to be traced: of those that are alike, the first and one more.

The first finds no gradient, and every other adds its own to what is there. From the second on, micro-batches of one
size begin and end with the same tensors alive and run the same operators: one stands for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neulite_sim.models.step import micro_batch_sizes

_ALIKE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatches:
    """The sizes of a step's micro-batches, and of those that stand for them; both hold the same from `repeated` on.

    The traced micro-batch number 1 (from 0) happens `times` times.
    """

    sizes: tuple[int, ...]
    traced: tuple[int, ...]

    @classmethod
    def of(cls, batch_size: int, largest: int | None) -> MicroBatches:
        """Return the micro-batches of a step on `batch_size` samples, at most `largest` each; one where it is None."""
        sizes = tuple(micro_batch_sizes(batch_size, largest))
        alike = next((place for place, size in enumerate(sizes) if size != sizes[0]), len(sizes))
        traced = sizes[: min(alike, _ALIKE)] + sizes[alike:]
        # What is traced is a step, too: a shorter batch has to be cut in this very way.
        if tuple(micro_batch_sizes(sum(traced), largest)) != traced:
            traced = sizes
        return cls(sizes=sizes, traced=traced)

    @property
    def num_traced(self) -> int:
        """Samples of the step that is traced."""
        return sum(self.traced)

    @property
    def num_left_out(self) -> int:
        """Samples of the step that the traced one does without."""
        return sum(self.sizes) - self.num_traced

    def counts(self, ends: Sequence[int], num_operators: int) -> list[int] | None:
        """Return how often each operator of the traced step happens in the whole one; None where each does once.

        `ends[i]` is the number of operators up to the end of the i-th traced micro-batch.
        """
        if self.sizes == self.traced:
            return None
        times = len(self.sizes) - len(self.traced) + 1
        first, second = ends[0], ends[1]
        return [1] * first + [times] * (second - first) + [1] * (num_operators - second)
