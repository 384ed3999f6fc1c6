"""Steps without gradients: how much a loss changes along noise that anybody can draw again from a seed.

A step moves weights w by -lr / P sum_p g_p z_p, where z_p is noise of the size of w and g_p the slope of the loss along
it: (L(w + mu z) - L(w - mu z)) / (2 mu), or (L(w + mu z) - L(w)) / mu. Spall, 1992; Malladi et al., "Fine-Tuning
Language Models with Just Forward Passes" (MeZO), NeurIPS 2023, https://arxiv.org/abs/2305.17333.

No graph is kept, and w is never touched: each tensor of weights is replaced by a moved one while an operator reads it,
drawn anew each time. So a step holds the weights, the inputs, what an operator reads and puts out, one moved tensor and
one of noise, and afterwards w is what it was, bit for bit; moving in place and back drifts (fp32 makes -2 to
-1.99999988).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.prefix import Rows
from neulite_sim.models.statistics import statistics_kept
from neulite_sim.models.step import Note, Stepper, autocast, micro_batch_sizes
from neulite_sim.models.trainee import FullModel
from neulite_sim.scenario.schema import Training

Noise = Literal["normal", "rademacher"]
Differences = Literal["central", "forward"]
MOST_SEED = 2**24
"""Seeds lie below it: as float32, which is what travels, they are exact."""
SEEDS, SCALARS, SUMS = "seeds", "scalars", "sums"
"""Names of the buffers that a device receives and sends."""

_WORD = 2**32
_ODD = 0x9E3779B1
_ASKING = frozenset({"__get__", "size", "dim", "numel", "stride", "is_contiguous", "element_size", "is_floating_point",
                     "is_complex", "ndimension", "nelement", "__len__", "__hash__", "__eq__"})  # fmt: skip
"""What does not read a tensor's numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZerothPlan:
    """How slopes are found: `steps` K of a local training, `perturbations` P of a step, `mu` and the kind of noise.

    With a `pool` of seeds a step's seed is the number of one of them, and slopes are added up by seed.
    """

    steps: int = 1
    perturbations: int = 1
    mu: float = 1e-3
    differences: Differences = "central"
    noise: Noise = "normal"
    pool: tuple[int, ...] | None = None


def generator_seed(seed: int, perturbation: int, place: int = 0) -> int:
    """Return the seed of the generator that draws noise for the `place`-th tensor in perturbation p: s (p + 17) + p.

    That is the rule of DeComFL's code for weights in one piece (place 0). Every further tensor has a generator of its
    own, so that its noise can be drawn when and as often as it is needed. PyTorch's generator reads 32 bits.
    """
    return (seed * (perturbation + 17) + perturbation + place * _ODD) % _WORD


def drawn_noise(like: Tensor, seed: int, perturbation: int, place: int, kind: Noise) -> Tensor:
    """Return noise of the shape of a tensor, drawn on the processor wherever that is: all draw the same."""
    generator = torch.Generator("cpu").manual_seed(generator_seed(seed, perturbation, place))
    if kind == "normal":
        return torch.randn(like.shape, generator=generator).to(like.device)
    return torch.empty(like.shape).bernoulli_(0.5, generator=generator).mul_(2).sub_(1).to(like.device)


class Moved(TorchFunctionMode):
    """Within, every operator that reads one of the weights reads what `at(place, weight)` makes of it."""

    def __init__(self, weights: Sequence[Tensor], at: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self._places = {id(weight): place for place, weight in enumerate(weights)}
        self._at = at

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch on moved weights."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _ASKING:
            return func(*args, **kwargs)
        return func(*map(self._moved, args), **{name: self._moved(value) for name, value in kwargs.items()})

    def _moved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            place = self._places.get(id(value))
            return value if place is None else self._at(place, value)
        if type(value) in (list, tuple):
            return type(value)(map(self._moved, value))
        return value


def slope(
    loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    plan: ZerothPlan,
    seed: int,
    perturbation: int,
    *,
    base: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the slope of a loss along a perturbation, and the loss there; `base` is that of the weights themselves.

    The second point of a central difference is reached from the first, as in DeComFL's code, with its roundings.
    """

    def ahead(place: int, weight: Tensor) -> Tensor:
        noise = drawn_noise(weight, seed, perturbation, place, plan.noise)
        return torch.add(weight, noise, alpha=plan.mu)

    def behind(place: int, weight: Tensor) -> Tensor:
        noise = drawn_noise(weight, seed, perturbation, place, plan.noise)
        return torch.add(weight, noise, alpha=plan.mu).add_(noise, alpha=-2 * plan.mu)

    with torch.no_grad():
        with Moved(weights, ahead):
            first = loss()
        if base is not None:
            return (first - base) / plan.mu, first
        with Moved(weights, behind):
            second = loss()
        return (first - second) / (2 * plan.mu), (first + second) / 2


def move(
    weights: Sequence[Tensor], plan: ZerothPlan, seeds: Sequence[int], scalars_KP: Tensor, learning_rate: float
) -> None:
    """Take the steps that seeds and slopes describe, in place: for each seed w moves by -lr / P sum_p g_p z_p.

    The server, a device that catches up and one that trains do this very thing, so that they come to the same bits.
    """
    factors_KP = scalars_KP * (-learning_rate / scalars_KP.shape[1])
    with torch.no_grad():
        for place, weight in enumerate(weights):
            for seed, factors_P in zip(seeds, factors_KP, strict=True):
                for perturbation, factor in enumerate(factors_P):
                    noise = drawn_noise(weight, seed, perturbation, place, plan.noise)
                    weight.add_(noise.mul_(factor.to(weight.device)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """What the server has made known: for each round so far its seeds `[R, K]`, the mean slopes `[R, K, P]`, its rate.

    Who holds the weights of some version comes to those of a later one by what was made known in between.
    """

    seeds: NDArray[np.int64]
    scalars: NDArray[np.float32]
    rates: NDArray[np.float64]

    @classmethod
    def nothing(cls, plan: ZerothPlan) -> Told:
        """Return what is known before the first round."""
        return cls(
            seeds=np.zeros((0, plan.steps), np.int64),
            scalars=np.zeros((0, plan.steps, plan.perturbations), np.float32),
            rates=np.zeros(0),
        )

    def __len__(self) -> int:
        return len(self.rates)

    def __getitem__(self, rounds: slice) -> Told:
        """Return some of the rounds."""
        return Told(seeds=self.seeds[rounds], scalars=self.scalars[rounds], rates=self.rates[rounds])

    def and_then(self, seeds: Sequence[int], scalars_KP: Tensor, rate: float) -> Told:
        """Return what is known after one more round."""
        return Told(
            seeds=np.append(self.seeds, [list(seeds)], axis=0),
            scalars=np.append(self.scalars, scalars_KP.numpy()[None].astype(np.float32), axis=0),
            rates=np.append(self.rates, rate),
        )


def replayed(tensors: Mapping[str, Tensor], names: Sequence[str], plan: ZerothPlan, told: Told) -> dict[str, Tensor]:
    """Return the tensors after all rounds of `told`; `names` are those of the weights that move, in order."""
    after = {name: tensor.clone() if name in set(names) else tensor for name, tensor in tensors.items()}
    weights = [after[name] for name in names]
    for seeds, scalars, rate in zip(told.seeds.tolist(), told.scalars, told.rates.tolist(), strict=True):
        move(weights, plan, seeds, torch.from_numpy(scalars), rate)
    return after


class ZerothModel(FullModel):
    """The whole model; what travels are seeds and the slopes along their noise.

    BatchNorm normalises by the batch and collects no statistics. Nothing is kept for a backward pass, so there is
    nothing to checkpoint.
    """

    def __init__(self, blueprint: Blueprint, plan: ZerothPlan) -> None:
        super().__init__(blueprint)
        self.plan = plan
        self.weights = tuple(self.parameters())
        self.chosen: list[int] = [0] * plan.steps
        self.register_buffer(SEEDS, torch.zeros(plan.steps))
        if plan.pool is None:
            self.register_buffer(SCALARS, torch.zeros(plan.steps, plan.perturbations))
        else:
            self.register_buffer(SUMS, torch.zeros(len(plan.pool)))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        features = images_BCHW
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.head(features)
        return logits

    def see_labels(self, labels_N: Tensor) -> None:
        """Take note of the seeds of this flight; its payload is loaded by now."""
        self.chosen = [int(seed) for seed in self.get_buffer(SEEDS).tolist()]

    def upload_names(self) -> tuple[str, ...]:
        """Return the slopes: those of each step, or their sums by the seeds of the pool."""
        return (SCALARS,) if self.plan.pool is None else (SUMS,)

    def download_names(self) -> tuple[str, ...]:
        """Return what is made known of one round: seeds and mean slopes; with a pool the sums of all rounds."""
        return (SEEDS, SCALARS) if self.plan.pool is None else (SUMS,)

    def stepper(self, training: Training, **how: Any) -> ZerothStepper:
        """Return what takes steps along noise."""
        return ZerothStepper(self, training, **how)


class ZerothStepper(Stepper):
    """Takes steps along noise, of one local training after the other.

    With several steps a device needs the weights that it was sent again when all are taken: it keeps a copy of them.
    """

    def __init__(self, trainee: ZerothModel, training: Training, *, is_charged: bool = True, **how: Any) -> None:
        plain = training.model_copy(update={"momentum": 0.0, "clip_norm": None})
        super().__init__(trainee, plain, is_charged=True, **how)
        self._model = trainee
        self._rate: float = how["learning_rate"]
        self._count = 0
        if is_charged and trainee.plan.steps > 1:
            for weight in trainee.weights:
                self.optimizer.state[weight] = {"kept": weight.detach().clone()}

    def step(
        self, images_BCHW: Tensor, labels_B: Tensor, note: Note | None = None, *, rows: Rows | None = None
    ) -> None:
        """Find the slopes of a batch along the noise of the step's seed, and move along them where more steps follow.

        A slope is the mean over micro-batches, each of which goes through all passes before the next.
        """
        model, plan = self._model, self._model.plan
        number = self._count % plan.steps
        self._count += 1
        chosen = model.chosen[number]
        seed = chosen if plan.pool is None else plan.pool[chosen]
        slopes_P = torch.zeros(plan.perturbations)
        sizes = micro_batch_sizes(len(labels_B), self._training.micro_batch_size)
        with torch.no_grad(), statistics_kept(model):
            for images, labels in zip(torch.split(images_BCHW, sizes), torch.split(labels_B, sizes), strict=True):
                slopes_P += self._slopes(images, labels, seed, note).cpu() * (len(labels) / len(labels_B))
                if self.after_micro_batch is not None:
                    self.after_micro_batch()
            self._keep(number, slopes_P)
            if plan.steps > 1:
                move(model.weights, plan, [seed], slopes_P[None], self._rate)

    def _slopes(self, images_BCHW: Tensor, labels_B: Tensor, seed: int, note: Note | None) -> Tensor:
        """Return the slope along each perturbation `[P]`. Dropout leaves out the same in each of the passes."""
        model, plan, told = self._model, self._model.plan, dict[str, Tensor]()
        drawn = torch.get_rng_state()

        def loss() -> Tensor:
            torch.set_rng_state(drawn)
            with autocast(self._training.precision, images_BCHW.device.type):
                found, scalars = model.loss(images_BCHW, labels_B)
            told.update(scalars)
            return found.float()

        if is_lone := len(labels_B) == 1:
            model.use_batch_statistics(False)
        base = loss() if plan.differences == "forward" else None
        found = [slope(loss, model.weights, plan, seed, number, base=base) for number in range(plan.perturbations)]
        if is_lone:
            model.use_batch_statistics(True)
        if note is not None:
            note(len(labels_B), found[0][1] if base is None else base, told)
        return torch.stack([each for each, _ in found])

    def _keep(self, number: int, slopes_P: Tensor) -> None:
        """Put the slopes of a step where they are sent from."""
        if self._model.plan.pool is None:
            self._model.get_buffer(SCALARS)[number] = slopes_P
        else:
            self._model.get_buffer(SUMS)[self._model.chosen[number]] += slopes_P[0]
