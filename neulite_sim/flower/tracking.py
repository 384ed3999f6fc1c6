"""What one call of a ClientApp takes: the peak of its tensor bytes, and every operator, whoever wrote the training.

The tracker is the one of the audit (`profiling.tracer`) over real tensors, without a module to be told: parameters,
gradients, optimizer state, activations and batches are all made by operators, and are counted from the operator that
makes them until their last reference is gone. The samples that a device stores are not counted, as the ledger of
`profile` does not count them: only the batch that is at work.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.profiling.operators import Done, is_view
from neulite_sim.profiling.roofline import rates_of, step_s
from neulite_sim.profiling.tracer import StepTracer

Operator = tuple[int, int, int]
"""Kind, floating-point operations, and bytes of inputs and outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one call took: how often each operator, the peak in bytes, and seconds that no operator accounts for.

    `rounded_peak_bytes` is the peak of blocks, each rounded up as the scenario's allocator does.
    """

    operators: Mapping[Operator, int] = field(default_factory=dict)
    peak_bytes: int = 0
    rounded_peak_bytes: int = 0
    slept_s: float = 0.0

    @property
    def is_seen(self) -> bool:
        """Whether any operator of PyTorch was seen at all."""
        return bool(self.operators)

    @property
    def flops(self) -> int:
        """Floating-point operations of all operators."""
        return sum(flops * count for (_, flops, _), count in self.operators.items())

    def seconds_on(self, device: DeviceClass) -> float:
        """Return the seconds of the operators on a device by the roofline, sleeping aside; 0 where none was seen."""
        if not self.operators:
            return 0.0
        # In one order, whatever came first: a sum of other order has other last bits.
        rows = sorted(self.operators.items())
        kinds, flops, moved = (np.array([key[place] for key, _ in rows]) for place in range(3))
        counts = np.array([count for _, count in rows], np.float64)
        return step_s(
            flops.astype(np.float64), moved.astype(np.float64), kinds.astype(np.int8), rates_of(device), counts=counts
        )


class CallTracer(StepTracer):  # type: ignore[no-untyped-call]
    """Follows live storages through a whole call, and counts operators instead of listing them.

    The training begins with the first operator that computes with a parameter. What is alive then and is neither an
    operand of it nor as large as a parameter (a copy of one, its statistics) is data that the device stores, and so
    is what no operator has made; of those only the batch counts that the model is given.
    """

    def __init__(self, *, round_bytes: int = 1) -> None:
        super().__init__(round_bytes=round_bytes)
        self.counted: Counter[Operator] = Counter()
        self._stored: set[int] = set()
        self._parameters: set[int] = set()
        self._has_begun = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and take note of what it made and moved; a view makes nothing."""
        for leaf in tree_leaves((args, kwargs)):
            # Parameters that were made before the call are held in it all the same.
            if isinstance(leaf, nn.Parameter):
                self._parameters.add(_key_of(leaf))
                self._note(leaf, "parameters", moves=True)
        if is_view(func):
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _note(self, tensor: Tensor, category: str, *, moves: bool) -> None:
        if _key_of(tensor) not in self._stored:
            super()._note(tensor, category, moves=moves)

    def _forget(self, key: int, _reference: weakref.ref[Any]) -> None:
        self._parameters.discard(key)
        if key in self._stored:
            self._stored.discard(key)
        else:
            super()._forget(key, _reference)

    def _account(self, done: Done) -> None:
        facts = done.facts
        if facts.flops and any(_key_of(tensor) in self._parameters for tensor in done.inputs):
            self._compute_with(done.inputs, done.outputs)
        self.counted[int(facts.kind), int(facts.flops), int(facts.bytes_moved)] += 1

    def _compute_with(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Take note of the operands of an operator that computes with a parameter."""
        if not self._has_begun:
            self._has_begun = True
            # Of what is only a part of its storage, the storage holds other samples as well.
            self._store({_key_of(tensor) for tensor in (*inputs, *outputs) if _is_whole(tensor)})
        for tensor in inputs:
            key = _key_of(tensor)
            if key in self._stored or key not in self._live:
                self._take_batch(tensor.numel() * tensor.element_size())

    def _store(self, operands: set[int]) -> None:
        """Count what is alive and no part of the training as stored data, and forget the peak of loading it."""
        sizes = {self._live[key][1] for key in self._parameters if key in self._live}
        for key, (_, num_bytes, category) in list(self._live.items()):
            if category == "temporaries" and key not in operands and num_bytes not in sizes:
                self._add(category, -num_bytes)
                del self._live[key]
                self._stored.add(key)
        self._peak_total, self._peak, self._rounded_peak = self._total, dict(self._bytes), self._rounded

    def _take_batch(self, num_bytes: int) -> None:
        """Hold a batch that is a part of stored data, in the place of the one before."""
        before = self._bytes["inputs"]
        if num_bytes != before:
            self._add("inputs", -before)
            self._add("inputs", num_bytes)

    def work(self, *, slept_s: float = 0.0) -> Work:
        """Return what was seen since the tracer was made."""
        return Work(
            operators=dict(self.counted),
            peak_bytes=self.peak.total,
            rounded_peak_bytes=self.rounded_peak_bytes,
            slept_s=slept_s,
        )


def _key_of(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() >= tensor.untyped_storage().nbytes()


@contextmanager
def tracked(*, round_bytes: int = 1) -> Iterator[CallTracer]:
    """Track what PyTorch does inside; storages that live on afterwards are no longer followed."""
    tracer = CallTracer(round_bytes=round_bytes)
    with tracer:
        yield tracer
