"""Parameters that lie one behind the other in memory, so that one optimizer step, and one norm, is for all of them.

A thin network has some thirty tensors of a few numbers each, and a call for each of them costs more than its numbers.
What an optimizer does to a number does not depend on the numbers beside it: taken together the step differs from that
of each tensor by rounding alone, and the norm of all gradients by the order of its sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neulite_sim.models.optimizer import lies_without_gaps

_PIECE = 4096
"""Squares added up in one go, in single precision."""
_MOST_NUMBERS = 500_000
"""Of more parameters, copying their gradients together costs more than the calls that it saves."""


def pack(module: nn.Module) -> None:
    """Let the trainable parameters of a module on a processor lie one behind the other; values and strides stay."""
    packed = [each for each in module.parameters() if each.requires_grad and _may_be_packed(each)]
    for _, alike in itertools.groupby(packed, key=lambda parameter: parameter.dtype):
        parameters = list(alike)
        room = torch.empty(sum(each.numel() for each in parameters), dtype=parameters[0].dtype)
        start = 0
        for parameter in parameters:
            place = room.as_strided(parameter.size(), parameter.stride(), start)
            parameter.data = place.copy_(parameter.detach())
            start += parameter.numel()


class Together:
    """Runs of parameters that lie one behind the other, each run as one flat parameter with one flat gradient."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        groups = list(_runs(parameters))
        self.runs = [_flat(group) for group in groups]
        """One flat parameter per run, over the memory of its parameters."""
        self._groups = groups
        self._gradients: list[Tensor] = []
        for run, group in zip(self.runs, groups, strict=True):
            run.grad = torch.empty_like(run, requires_grad=False)
            self._gradients += [_within(run.grad, parameter, group[0]) for parameter in group]

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter]) -> Together | None:
        """Return the runs of these parameters; None if some lie with gaps or on no processor, or they are too many."""
        is_worth_it = 0 < sum(parameter.numel() for parameter in parameters) <= _MOST_NUMBERS
        return cls(parameters) if is_worth_it and all(map(_may_be_packed, parameters)) else None

    def gather(self) -> bool:
        """Copy the gradients of the parameters into those of the runs; return False if one has none or a sparse one."""
        found = [each.grad for each in self._parameters if each.grad is not None and each.grad.layout is torch.strided]
        if len(found) < len(self._parameters):
            return False
        torch._foreach_copy_(self._gradients, found)
        return True

    def apart(self, together: Optimizer, make: Callable[[Iterable[nn.Parameter]], Optimizer]) -> Optimizer:
        """Return the optimizer that `make` makes of the parameters themselves, with the states of that of the runs.

        The parameters have a memory of their own from then on: a sparse gradient that is added to a part of another
        tensor is written to where nobody may write (PyTorch 2.13).
        """
        optimizer = make(self._parameters)
        for run, group in zip(self.runs, self._groups, strict=True):
            states = together.state[run]
            for parameter in group:
                optimizer.state[parameter] = {
                    name: (_within(state, parameter, group[0]) if state.shape == run.shape else state).clone()
                    for name, state in states.items()
                }
        for parameter in self._parameters:
            parameter.data = parameter.detach().clone()
        return optimizer


def clip(parameters: Sequence[nn.Parameter], clip_norm: float) -> None:
    """Scale the flat gradients of runs so that their common norm is `clip_norm` at most, as `clip_grad_norm_` does."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    factor = clip_norm / (float(_norm(gradients)) + 1e-6)
    # Written so that a norm that is not a number makes all of them so, as there.
    if not factor >= 1:
        for gradient in gradients:
            gradient.mul_(factor)


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of flat tensors, from those of pieces: a long sum in single precision loses bits."""
    norms = []
    for gradient in gradients:
        whole = len(gradient) // _PIECE * _PIECE
        if whole:
            norms.append(torch.linalg.vector_norm(gradient[:whole].view(-1, _PIECE), dim=1))
        if whole < len(gradient):
            norms.append(torch.linalg.vector_norm(gradient[whole:]).reshape(1))
    norm: Tensor = torch.linalg.vector_norm(torch.cat(norms))
    return norm


def _runs(parameters: Sequence[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    """Yield parameters that follow each other in one memory, in order."""
    run: list[nn.Parameter] = []
    for parameter in parameters:
        if run and not _follows(parameter, run[-1]):
            yield run
            run = []
        run.append(parameter)
    yield run


def _follows(parameter: nn.Parameter, before: nn.Parameter) -> bool:
    return (
        parameter.dtype is before.dtype
        and parameter.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
        and parameter.storage_offset() == before.storage_offset() + before.numel()
    )


def _flat(group: Sequence[nn.Parameter]) -> nn.Parameter:
    first = group[0].detach()
    numbers = sum(parameter.numel() for parameter in group)
    return nn.Parameter(first.as_strided((numbers,), (1,), first.storage_offset()))


def _within(flat: Tensor, parameter: Tensor, first: Tensor) -> Tensor:
    """Return the part of a flat tensor that stands for a parameter of its run, which begins with `first`."""
    start = flat.storage_offset() + parameter.storage_offset() - first.storage_offset()
    return flat.as_strided(parameter.size(), parameter.stride(), start)


def _may_be_packed(parameter: Tensor) -> bool:
    return parameter.device.type == "cpu" and parameter.numel() > 0 and lies_without_gaps(parameter)
