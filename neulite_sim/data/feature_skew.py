"""Feature skew: each device sees its samples in a way of its own. A partition says who owns what; this, how it looks.

| kind | what device j sees of what networks read, x | source |
| --- | --- | --- |
| noise | x + strength * r_j / N * n, n standard normal | Li et al., ICDE 2022, arXiv 2102.02079, "noise-based" |
| rotation | x turned by (r_j mod turns) * 360 / turns degrees | Ghosh et al. (IFCA), NeurIPS 2020, arXiv 2006.04088 |
| brightness | x + strength * u_j | |
| contrast | x * exp(strength * u_j) | |

r_j is the rank of the device, 1 to N, and u_j its place from -1 to 1 in the same order; which device has which rank is
drawn, so that no kind of hardware sees worse than another. x is standardised, so that `strength` counts deviations of
the training part. All is drawn from the seed and the device: the same bits in every round, for any number of workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor, torch
from neulite_sim.registry import Options, refuse_inert
from neulite_sim.samples import InputSpec
from neulite_sim.seeding import brief_stream, stream

KEY = "data.feature_skew"
Kind = Literal["noise", "rotation", "brightness", "contrast"]


class FeatureSkew(Options):
    """How devices see their samples."""

    kind: Kind = "noise"
    """What is altered."""
    strength: float = Field(0.5, ge=0, le=1000)
    """Of noise, brightness and contrast: of the device that is altered most, in deviations of the training part."""
    turns: Literal[2, 4] = 4
    """Of rotation: how many directions there are; 4 are quarter turns, which need square images."""
    test: bool = False
    """Whether test samples are altered as well, each as the device of its number modulo the devices sees it."""

    @model_validator(mode="after")
    def _acts(self) -> Self:
        refuse_inert(self, {"strength": "another kind"} if self.kind == "rotation" else {"turns": "kind rotation"})
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How each device sees samples; `ranks` holds a number from 0 to N - 1 for each device."""

    kind: Kind
    strength: float
    turns: int
    test: bool
    seed: int
    ranks: NDArray[np.int64]

    def own(self, seen: Tensor, device: int) -> Tensor:
        """Return all samples of a device, in their order, as it sees them."""
        if self.kind == "noise":
            rng = stream(self.seed, "feature-noise", device)
            drawn = torch.from_numpy(rng.standard_normal(tuple(seen.shape), np.float32)).to(seen.device)
            return seen + drawn * self._noise(device)
        return self._altered(seen, device)

    def augmented(self, seen: Tensor, device: int, generator: torch.Generator) -> Tensor:
        """Return a batch of a device's samples as it sees them; noise is drawn anew, as augmentation is."""
        if self.kind == "noise":
            drawn = torch.randn(seen.shape, generator=generator, device=generator.device).to(seen.device)
            return seen + drawn * self._noise(device)
        return self._altered(seen, device)

    def tested(self, seen: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Return test samples of these numbers as a network is tested on them."""
        if not self.test:
            return seen
        return torch.stack([self._one(sample, int(row)) for sample, row in zip(seen, rows, strict=True)])

    def _one(self, sample: Tensor, row: int) -> Tensor:
        device = row % len(self.ranks)
        if self.kind == "noise":
            rng = brief_stream(self.seed, "feature-noise-test", row)
            drawn = torch.from_numpy(rng.standard_normal(tuple(sample.shape), np.float32)).to(sample.device)
            return sample + drawn * self._noise(device)
        return self._altered(sample[None], device)[0]

    def _noise(self, device: int) -> float:
        return self.strength * (int(self.ranks[device]) + 1) / len(self.ranks)

    def _altered(self, seen: Tensor, device: int) -> Tensor:
        if self.kind == "rotation":
            quarters = int(self.ranks[device]) % self.turns * (4 // self.turns)
            return torch.rot90(seen, quarters, (-2, -1)).contiguous()
        place = 2 * int(self.ranks[device]) / max(1, len(self.ranks) - 1) - 1
        return seen + self.strength * place if self.kind == "brightness" else seen * math.exp(self.strength * place)


def view_of(skew: FeatureSkew | None, spec: InputSpec, num_devices: int, seed: int) -> View | None:
    """Return how devices see samples; None where all see them as they are.

    Raises:
        ScenarioError: samples cannot be altered in this way.
    """
    if skew is None:
        return None
    if spec.vocabulary is not None:
        raise _refused("", "alters numbers", spec)
    if skew.kind == "rotation" and not spec.is_image:
        raise _refused(".kind", "rotation turns images", spec)
    if skew.kind == "rotation" and skew.turns == 4 and spec.shape[1] != spec.shape[2]:
        raise _refused(".turns", "quarter turns need square images; use turns: 2", spec)
    return View(
        kind=skew.kind,
        strength=skew.strength,
        turns=skew.turns,
        test=skew.test,
        seed=seed,
        ranks=stream(seed, "feature-skew").permutation(num_devices).astype(np.int64),
    )


def _refused(key: str, what: str, spec: InputSpec) -> ScenarioError:
    return ScenarioError([Problem(key=f"{KEY}{key}", message=f"{what}; the samples of data are {spec}")])
