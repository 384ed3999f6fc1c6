"""The optimizer of a local training, in one place: prediction, audit and training must run the same operators."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from neulite_sim.scenario.schema import Adam as AdamOptions
from neulite_sim.scenario.schema import Training


class _Plain:
    """Methods of an optimizer as they are without the marks that keep them from being compiled.

    To set a mark at the first call PyTorch imports its compiler, which takes as long as importing PyTorch itself.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


class _PlainSGD(_Plain, SGD):
    step = torch.no_grad()(inspect.unwrap(SGD.step))  # type: ignore[assignment]


class _PlainAdam(_Plain, Adam):
    step = torch.no_grad()(inspect.unwrap(Adam.step))  # type: ignore[assignment]


def make_optimizer(parameters: Iterable[nn.Parameter], training: Training, learning_rate: float) -> Optimizer:
    """Return a fresh optimizer over the trainable ones of `parameters`.

    The single-tensor implementation is asked for: the fused and foreach ones hold temporaries for all parameters at
    once, which would add up to the size of the model to the peak.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    chosen = training.optimizer
    if isinstance(chosen, AdamOptions):
        return _PlainAdam(
            trainable,
            lr=learning_rate,
            betas=(chosen.beta1, chosen.beta2),
            eps=chosen.epsilon,
            weight_decay=training.weight_decay,
            foreach=False,
        )
    return _PlainSGD(
        trainable,
        lr=learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        foreach=False,
    )
