"""The optimizer of a local training, in one place: prediction, audit and training must run the same operators."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from neulite_sim.scenario.schema import Adam as AdamOptions
from neulite_sim.scenario.schema import Training


def make_optimizer(parameters: Iterable[nn.Parameter], training: Training, learning_rate: float) -> Optimizer:
    """Return a fresh optimizer over the trainable ones of `parameters`.

    The single-tensor implementation is asked for: the fused and foreach ones hold temporaries for all parameters at
    once, which would add up to the size of the model to the peak.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    chosen = training.optimizer
    if isinstance(chosen, AdamOptions):
        return Adam(
            trainable,
            lr=learning_rate,
            betas=(chosen.beta1, chosen.beta2),
            eps=chosen.epsilon,
            weight_decay=training.weight_decay,
            foreach=False,
        )
    return SGD(
        trainable,
        lr=learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        foreach=False,
    )
