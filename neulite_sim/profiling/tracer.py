"""Follow every live storage, operator, FLOP and byte of a real training step.

`StepTracer` is a dispatch mode: it sees each ATen operator below autograd, with its inputs and outputs. Over fake
tensors it predicts (no memory is used); over real tensors it is the audit. A storage counts from the operator that
makes it until its last reference is gone, so the peak is that of tensor bytes: allocator rounding, workspaces inside
an operator and the process itself are not in it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from neulite_sim.models.light_mode import LightMode
from neulite_sim.profiling.allocations import AllocationLog, storage_of
from neulite_sim.profiling.operators import DETACH, DEVICE, Done, ask_device, is_in_backward, run
from neulite_sim.profiling.roofline import OperatorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBytes:
    """Tensor bytes by category; `parameters` holds buffers too, `activations` are what autograd saved."""

    parameters: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    inputs: int = 0
    temporaries: int = 0

    @property
    def total(self) -> int:
        """Sum over the categories."""
        # Asked for each flight: going through the fields takes fifty times as long.
        return self.parameters + self.gradients + self.optimizer + self.activations + self.inputs + self.temporaries


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost:
    """What one operator did: floating-point operations, and bytes of its inputs and outputs."""

    name: str
    flops: int
    bytes_moved: int
    kind: OperatorKind = OperatorKind.OTHER
    live_bytes: int = 0
    """Total of live tensor bytes right after it."""


class StepTracer(LightMode):
    """Dispatch mode that keeps the live bytes per category, the split at their peak, and the operators.

    Tensors that exist before the mode sees them are told with `mark`; whatever an operator makes is `temporaries`
    until something marks it otherwise. `round_bytes` is what an allocator rounds each storage up to a multiple of.
    A `log` is told of every storage and operator.
    """

    def __init__(self, *, round_bytes: int = 1, log: AllocationLog | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: dict[int, tuple[weakref.ref[Any], int, str]] = {}
        self._round_bytes = round_bytes
        self._log = log
        self._rounded = 0
        self._bytes = dict.fromkeys((category.name for category in fields(MemoryBytes)), 0)
        self.reset()

    def reset(self) -> None:
        """Forget the peak and the operators seen so far; live storages stay known."""
        self._total = sum(self._bytes.values())
        self._peak_total = self._total
        self._peak = dict(self._bytes)
        self._rounded_peak = self._rounded
        self.operators: list[OperatorCost] = []
        self.ends: list[int] = []

    def note_end(self) -> None:
        """Take note that a micro-batch of the step has ended: `ends` holds how many operators there were by then."""
        self.ends.append(len(self.operators))

    @property
    def peak(self) -> MemoryBytes:
        """The split of the live bytes at the moment of their highest total since `reset`."""
        return MemoryBytes(**self._peak)

    @property
    def rounded_peak_bytes(self) -> int:
        """The highest total of live storages since `reset`, each rounded up to a multiple of `round_bytes`."""
        return self._rounded_peak

    @property
    def live(self) -> MemoryBytes:
        """The bytes that are live now."""
        return MemoryBytes(**self._bytes)

    def mark(self, tensors: Iterable[Tensor], category: str) -> None:
        """Put the storages of `tensors` into a category, whether or not they were known."""
        for tensor in tensors:
            if self._log is not None:
                self._log.note([tensor])
            self._note(tensor, category, moves=True)

    def _note(self, tensor: Tensor, category: str, *, moves: bool) -> None:
        storage = storage_of(tensor)
        # Views and their base share this address; a Python wrapper of the storage is made anew at each call.
        key = storage._cdata
        known = self._live.get(key)
        if known is None:
            num_bytes = storage.nbytes()
            # The callback tells the very operator after which the last reference is gone.
            if num_bytes:
                reference = weakref.ref(storage, functools.partial(self._forget, key))
                self._live[key] = (reference, num_bytes, category)
                self._add(category, num_bytes)
        elif moves and known[2] != category:
            self._live[key] = (known[0], known[1], category)
            self._bytes[known[2]] -= known[1]
            self._bytes[category] += known[1]

    def _forget(self, key: int, _reference: weakref.ref[Any]) -> None:
        _, num_bytes, category = self._live.pop(key)
        self._add(category, -num_bytes)

    def _add(self, category: str, num_bytes: int) -> None:
        # An allocator rounds each storage by itself, so the sum cannot be rounded afterwards.
        block_bytes = -(-abs(num_bytes) // self._round_bytes) * self._round_bytes
        self._rounded += block_bytes if num_bytes > 0 else -block_bytes
        self._rounded_peak = max(self._rounded_peak, self._rounded)
        self._bytes[category] += num_bytes
        self._total += num_bytes
        # The split belongs to one moment: the highest of each category by itself would add up to more.
        if self._total > self._peak_total:
            self._peak_total = self._total
            self._peak = dict(self._bytes)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operator and take note of what it made and moved."""
        if func is DEVICE:
            # Asked more often than all others together, by autograd of every tensor.
            if self._log is not None:
                self._log.note_moment()
            return ask_device(args)
        done = run(func, args, kwargs or {})
        if func is DETACH and args[0].requires_grad and is_in_backward():
            # So a checkpointed block that is computed again saves its activations; gradients require no gradient.
            self._save(done.result)
        if self._log is not None:
            self._log.note_operator(done)
        for output in done.outputs:
            self._note(output, "temporaries", moves=False)
        if done.facts.bytes_moved or done.facts.flops:
            self._account(done)
        return done.result

    def _account(self, done: Done) -> None:
        """Take note of what an operator cost that moved or computed anything."""
        name, flops, moved, kind, _ = done.facts
        self.operators.append(
            OperatorCost(name=name, flops=flops, bytes_moved=moved, kind=kind, live_bytes=self._total)
        )

    def _save(self, tensor: Tensor) -> None:
        known = self._live.get(storage_of(tensor)._cdata)
        # Autograd saves weights and inputs as well; their bytes are counted where they belong.
        if known is not None and known[2] == "temporaries":
            self._note(tensor, "activations", moves=True)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Within, what autograd saves for the backward pass is marked as activations, unless it is something else."""

        def pack(tensor: Tensor) -> Tensor:
            self._save(tensor)
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


def trace_steps(
    module: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    batch: tuple[Tensor, Tensor],
) -> StepTracer:
    """Return what `trace` does of plain steps: one forward pass, loss and backward pass, then the optimizer."""

    def step(images: Tensor, labels: Tensor) -> None:
        loss(images, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return trace(module, optimizer, step, batch)


def trace(
    module: nn.Module,
    optimizer: Optimizer,
    step: Callable[[Tensor, Tensor], None],
    batch: tuple[Tensor, Tensor],
    *,
    round_bytes: int = 1,
    log: AllocationLog | None = None,
    num_steps: int = 2,
    begun: Callable[[StepTracer], None] | None = None,
    after: Callable[[StepTracer], None] | None = None,
    first: Callable[[StepTracer], None] | None = None,
) -> StepTracer:
    """Take training steps, two by default, and return the tracer as it stands after the last.

    The first step makes the optimizer's state; peak and operators are those of the last, from before its forward
    pass until after its optimizer step. Gradients are freed before each step; `begun` is called before the first step,
    `after` after each. With `first` that is done in the place of the first step, and leaves the state that it would.
    Call it under `FakeTensorMode` with a fake module and batch to predict, or plainly to audit.
    """
    tracer = StepTracer(round_bytes=round_bytes, log=log)
    if begun is not None:
        begun(tracer)
    hooks = [
        parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            lambda leaf: tracer.mark([leaf.grad] if leaf.grad is not None else [], "gradients")
        )
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    with tracer:
        tracer.mark((*module.parameters(), *module.buffers()), "parameters")
        tracer.mark(batch, "inputs")
        # The first step runs without optimizer state and would show a peak that only one step in a run has.
        if first is not None:
            first(tracer)
            tracer.mark(_states_of(optimizer), "optimizer")
        for _ in range(num_steps if first is None else num_steps - 1):
            optimizer.zero_grad(set_to_none=True)
            tracer.reset()
            with tracer.saving():
                step(*batch)
            tracer.mark(_states_of(optimizer), "optimizer")
            if after is not None:
                after(tracer)
    for hook in hooks:
        hook.remove()
    return tracer


def _states_of(optimizer: Optimizer) -> Iterator[Tensor]:
    return (item for state in optimizer.state.values() for item in state.values() if isinstance(item, Tensor))
