"""The optimizer's step of a network with many parameters of few shapes, traced once for those that are alike.

The charged optimizer goes through the parameters one by one, and what it does with one depends on its shape and on
what it still holds of the one before; its state follows from their shapes alone, without a first step. So of two
neighbours of the same shapes as two others before them, nothing new is seen: their operators are those, and their state
is of the same sizes. A language model of 7 billion parameters has 291 of them, and a dozen such pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import Optimizer

from neulite_sim.models.optimizer import take_step
from neulite_sim.profiling.tracer import OperatorCost, StepTracer

FEWEST_PARAMETERS = 2**28
"""Numbers that a network trains before it is worth the while: below it every step is traced whole."""

_Shape = tuple[Any, ...]


def is_worthwhile(module: nn.Module, parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether to trace alike steps once: for a network of many parameters without numbers.

    Not of one that remembers something from its first step to the next (`remembers`).
    """
    held = sum(parameter.numel() for parameter in module.parameters())
    is_fake = all(isinstance(parameter, FakeTensor) for parameter in parameters)
    remembers = any(getattr(part, "remembers", False) is True for part in module.modules())
    return held >= FEWEST_PARAMETERS and is_fake and not remembers


def give_states(tracer: StepTracer, *, optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Let an optimizer hold what it would after a first step; nothing else outlives a step of such a network."""
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    take_alike_steps(tracer, optimizer, parameters)
    for parameter in parameters:
        parameter.grad = None


def take_alike_steps(tracer: StepTracer, optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Take the step of an optimizer over `parameters`, in its own order; `tracer` has all operators afterwards.

    Peak and operators are those of the whole step. The allocations of those that are alike are not made again.
    """
    (group,) = optimizer.param_groups
    everything = list(group["params"])
    known: dict[tuple[_Shape | None, _Shape], list[OperatorCost]] = {}
    before: nn.Parameter | None = None
    try:
        for parameter in everything:
            if parameter.grad is None:
                continue
            pair = (None if before is None else _shape_of(before), _shape_of(parameter))
            if pair in known and before is not None:
                _give_state(optimizer, parameter, everything)
                tracer.operators += known[pair]
            else:
                group["params"] = [parameter] if before is None else [before, parameter]
                start = len(tracer.operators)
                take_step(optimizer, group["params"])
                made = tracer.operators[start:]
                known[pair] = made[len(made) - len(made) // len(group["params"]) :]
                tracer.operators[start:] = known[pair]
            before = parameter
    finally:
        group["params"] = everything


def _shape_of(parameter: nn.Parameter) -> _Shape:
    gradient = parameter.grad
    assert gradient is not None
    return tuple(parameter.shape), parameter.stride(), parameter.dtype, gradient.stride(), gradient.dtype


def _give_state(optimizer: Optimizer, parameter: nn.Parameter, everything: Sequence[nn.Parameter]) -> None:
    """Let a parameter have the state that another of its shape has."""
    if optimizer.state.get(parameter):
        return
    same = (each for each in everything if each.shape == parameter.shape)
    if state := next(filter(None, map(optimizer.state.get, same)), None):
        optimizer.state[parameter] = {name: _like(value) for name, value in state.items()}


def _like(value: Any) -> Any:
    """Return a state of the same size; the count of steps is a number that the optimizer looks at, and begins at 0."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_like(value) if value.ndim else torch.tensor(0.0, dtype=value.dtype)
