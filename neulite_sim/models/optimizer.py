"""The optimizer of a local training, in one place: as devices are charged for it, and as this machine runs it.

Both take the same step. The charged one goes through the parameters one by one; the fused one reads and writes each of
them once, in one call for all, and differs by rounding alone (`docs/decisions/0036-small-steps.md`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from neulite_sim.scenario.schema import Adam as AdamOptions
from neulite_sim.scenario.schema import Training

_LAYOUTS = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)
_FUSED_ON = ("cpu", "cuda")


class _Plain:
    """Methods of an optimizer as they are without the marks that keep them from being compiled.

    To set a mark at the first call PyTorch imports its compiler, which takes as long as importing PyTorch itself.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


def _plain_step(optimizer: type[Optimizer]) -> Any:
    step: Any = torch.no_grad()(inspect.unwrap(optimizer.step))
    # So PyTorch adds no profiler's mark and no hooks, of which nobody here has any.
    step.hooked = True
    return step


class _PlainSGD(_Plain, SGD):
    step = _plain_step(SGD)


class _PlainAdam(_Plain, Adam):
    step = _plain_step(Adam)


_SINGLE: dict[str, Any] = {"foreach": False, "fused": False}
_FOREACH: dict[str, Any] = {"foreach": True, "fused": False}
_FUSED: dict[str, Any] = {"foreach": False, "fused": True}


def make_optimizer(
    parameters: Iterable[nn.Parameter], training: Training, learning_rate: float, *, is_charged: bool = True
) -> Optimizer:
    """Return a fresh optimizer over the trainable ones of `parameters`.

    What devices are charged for (`is_charged`) is the single-tensor implementation: the fused and foreach ones may hold
    temporaries for all parameters at once, which would add up to the size of the model to the peak. What really trains
    is fused where it can be, else foreach; take its steps with `take_step`.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    how = _SINGLE if is_charged else _FUSED if all(map(lies_without_gaps, trainable)) else _FOREACH
    chosen = training.optimizer
    if isinstance(chosen, AdamOptions):
        return _PlainAdam(
            trainable,
            lr=learning_rate,
            betas=(chosen.beta1, chosen.beta2),
            eps=chosen.epsilon,
            weight_decay=training.weight_decay,
            **how,
        )
    optimizer = _PlainSGD(
        trainable, lr=learning_rate, momentum=training.momentum, weight_decay=training.weight_decay, **how
    )
    if how is _FUSED and training.momentum:
        # The fused step wants a momentum for all parameters or for none; zero stands for one that is not there yet.
        for parameter in trainable:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def take_step(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Let an optimizer over `parameters` take a step, whatever their gradients look like.

    The fused step on a processor takes numbers as they come in memory and does not look at strides (PyTorch 2.13), so
    gradients are brought into their parameters' layout. It knows no sparse ones: from the first on, it is not used.
    """
    if optimizer.defaults["fused"]:
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                for group in optimizer.param_groups:
                    group.update(_SINGLE)
                break
            if gradient.stride() != parameter.stride() and not _lie_alike(gradient, parameter):
                parameter.grad = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
    optimizer.step()


def lies_without_gaps(parameter: Tensor) -> bool:
    """Return whether a parameter's numbers lie without gaps, in a type and on a device that have a fused step."""
    return (
        parameter.is_floating_point()
        and parameter.device.type in _FUSED_ON
        and any(_is_in(parameter, layout) for layout in _LAYOUTS)
    )


def _lie_alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of one shape lie alike in memory; dimensions of one may have any stride."""
    return any(_is_in(one, layout) and _is_in(other, layout) for layout in _LAYOUTS)


def _is_in(tensor: Tensor, layout: torch.memory_format) -> bool:
    needed = {torch.channels_last: 4, torch.channels_last_3d: 5}.get(layout, tensor.ndim)
    return tensor.ndim == needed and tensor.is_contiguous(memory_format=layout)
