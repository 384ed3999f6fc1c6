"""The sequence in which a training step allocates and frees, from the building of its model on.

`StepTracer` adds up what is live; what a process takes depends on the order as well (`heap.py`). Tensors are told by
the dispatch modes that see them; what operators allocate inside, for themselves, is added by rule (`workspaces.py`).
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.light_mode import LightMode
from neulite_sim.profiling.operators import DEVICE, Done, ask_device, device_of, is_in_backward, run

GRAPH_FREED = -1
"""Stands in place of the number of a block where a backward pass has ended, and the graph it went through is gone."""


class Event(NamedTuple):
    """A block is allocated or, where `num_bytes` is 0, freed."""

    block: int
    num_bytes: int = 0
    grows_graph: bool = False
    """Whether autograd makes a node for the operator whose block this is, which lives as long as the graph."""


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    """Return the memory of a tensor that a step has made.

    Raises:
        ScenarioError: it is no dense one, as are gradients of `nn.Embedding(sparse=True)`.
    """
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        kind, sizes = str(tensor.layout).removeprefix("torch."), "x".join(map(str, tensor.shape))
        finding = (
            f"a training step makes a {kind} tensor of {sizes}, and what a device needs is known of dense ones only"
        )
        hint = "build embeddings with sparse=False, which learn the same, and keep to dense tensors in forward"
        raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)]) from None


class AllocationLog:
    """Which blocks were allocated and freed, in order; each block has a number of its own."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ends: list[int] = []
        """How many events there were at the end of each part of the training."""
        self._alive: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._numbers = itertools.count()
        self._grows_graph = self._is_in_backward = False

    def end_part(self) -> None:
        """Take note that a part of the training has ended."""
        self.ends.append(len(self.events))

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Take note of the storages of tensors; those known stay as they are."""
        for tensor in tensors:
            storage = storage_of(tensor)
            key = storage._cdata
            # What stands on the meta device takes no memory; a fake tensor names the device that it stands for.
            if key in self._alive or not storage.nbytes() or device_of(tensor).type == "meta":
                continue
            number = next(self._numbers)
            # The callback tells when the last reference is gone.
            self._alive[key] = number, weakref.ref(storage, functools.partial(self._forget, key))
            self.events.append(Event(number, storage.nbytes(), self._grows_graph))

    def note_moment(self) -> None:
        """Take note of whether a backward pass runs now, and of the end of one that ran."""
        was_in_backward, self._is_in_backward = self._is_in_backward, is_in_backward()
        if was_in_backward and not self._is_in_backward:
            self.events.append(Event(GRAPH_FREED))

    def note_operator(self, done: Done) -> None:
        """Take note of what an operator has made, and of what it took for itself meanwhile."""
        self.note_moment()
        # What checkpointing builds again within the backward pass does not outlive its block.
        is_building = torch.is_grad_enabled() and not self._is_in_backward
        self._grows_graph = is_building and any(tensor.requires_grad for tensor in done.inputs)
        for place, held, passing in done.facts.workspaces:
            numbers = [self.allocate(num_bytes) for num_bytes in held]
            if place is not None:
                self.note([done.outputs[place]])
            numbers += [self.allocate(num_bytes) for num_bytes in passing]
            self.events += map(Event, numbers)
        self._grows_graph = False

    def allocate(self, num_bytes: int) -> int:
        """Take note of a block that is no tensor; returns its number."""
        number = next(self._numbers)
        self.events.append(Event(number, num_bytes))
        return number

    def _forget(self, key: int, _reference: weakref.ref[Any]) -> None:
        number, _ = self._alive.pop(key)
        self.events.append(Event(number))


class AllocationRecorder(LightMode):
    """Dispatch mode that tells a log of all tensors made within: of a model while it is built."""

    def __init__(self, log: AllocationLog) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log = log

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operator and take note of what it made."""
        if func is DEVICE:
            return ask_device(args)
        done = run(func, args, kwargs or {})
        self._log.note(done.outputs)
        return done.result
