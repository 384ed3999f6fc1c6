"""Made-up samples of any kind, for steps whose cost or course does not depend on what is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from neulite_sim.models.trainee import in_layout
from neulite_sim.samples import InputSpec


def noise(
    spec: InputSpec,
    num_samples: int,
    *,
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return inputs `[B, *shape]`: normal numbers, or ids of the vocabulary, all equally likely."""
    size = (num_samples, *spec.shape)
    if spec.vocabulary is None:
        return in_layout(torch.randn(size, device=device, generator=generator))
    return torch.randint(spec.vocabulary, size, device=device, generator=generator)


def taking_turns(spec: InputSpec, num_samples: int, *, num_classes: int, device: torch.device | None = None) -> Tensor:
    """Return targets `[B, *target_shape]`: one sample after the other is all of the next of `num_classes` classes."""
    numbers = torch.arange(num_samples, device=device).view(-1, *[1] * len(spec.target_shape))
    return numbers.expand(num_samples, *spec.target_shape) % num_classes
