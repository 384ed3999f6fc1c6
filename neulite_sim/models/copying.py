"""Copies of a module whose tensors are made anew: with the same numbers, or without any."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.nn.modules.batchnorm import _BatchNorm

TensorMaker = Callable[[Tensor], Tensor]


def copied(module: nn.Module, make: TensorMaker) -> nn.Module:
    """Return a copy of a module that holds `make(tensor)` in the place of each of its tensors; it shares none of them.

    Tensors that it holds without having registered them are copied alike. A tensor in two places stays one.
    """
    made: dict[int, object] = {}
    for tensor in _tensors(module):
        if id(tensor) not in made:
            copy_of_it = make(tensor)
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(copy_of_it, tensor.requires_grad) if is_parameter else copy_of_it
    with unset_fake_temporarily():
        return copy.deepcopy(module, made)


def let_count(module: nn.Module) -> nn.Module:
    """Return a module without numbers whose batch norms take some momentum where theirs follows from a count.

    A step costs the same with either, and a count is a number.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.momentum is None:
            part.momentum = 0.1
    return module


def maker_here() -> TensorMaker:
    """Return what copies a tensor to PyTorch's current default device: with its numbers, or on meta and fake without.

    A copy on the processor has the memory layout of the original.
    """
    here = torch.empty(0)
    if here.is_meta or isinstance(here, FakeTensor):
        return lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)
    return lambda tensor: tensor.detach().clone(memory_format=torch.preserve_format)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        for held in (part._parameters, part._buffers, vars(part)):
            yield from (value for value in held.values() if isinstance(value, Tensor))
