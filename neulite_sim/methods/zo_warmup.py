"""ZOWarmUp: devices that hold a training step train alone at first, then all send slopes along known noise.

G. Legate, I. Rish and E. Belilovsky, "Warming Up for Zeroth-Order Federated Pre-Training with Low Resource Clients",
CoLLAs 2025, https://arxiv.org/abs/2509.03503. For the first `warmup_rounds` the full model is trained by FedAvg on the
devices that hold its step. From then on all devices, these included, send the slopes of their loss along directions of
1 and -1 (`zeroth.py`), weighed by their samples, and the server moves the model along their mean.

With `capable: first-order` a device that holds the full step goes on training so, beside the slopes of the others. The
model is then the mean, by weight, of what each would make of it.

A device that sends slopes downloads the model where it has missed a round in which it changed otherwise, and else the
seeds and slopes of the rounds that it has missed: 4 (K P + K) bytes each.

Only the paper's abstract, introduction and a summary could be read for this: that directions are of 1 and -1, that all
devices join in the second phase and that both phases weigh by samples is from these; the number of steps and
directions, and how long the warm-up lasts, are options. Its step along several seeds of each device is not built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neulite_sim.arrays import Integers
from neulite_sim.bounds import LearningRate, RoundsOrNone
from neulite_sim.later import Tensor, torch
from neulite_sim.methods.catching_up import Attendance, CatchingUp
from neulite_sim.methods.contract import Offering, OwnTraining, Setting, State, Update, Weighting
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.seeding import stream

if TYPE_CHECKING:
    from neulite_sim.methods.zeroth import ZerothPlan
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

SLOPES = "zeroth-order"
WARM_UP = "warm-up"
MOST_STEPS = 10_000
MOST_PERTURBATIONS = 200
_FLOAT_BYTES = 4


class ZOWarmUpOptions(Options):
    """Options of `zo-warmup`."""

    warmup_rounds: RoundsOrNone = 50
    """Rounds in which the devices that hold the full model's step train alone."""
    capable: Literal["zeroth-order", "first-order"] = "zeroth-order"
    """What these devices do afterwards: send slopes like all others, or go on training the full model."""
    zeroth_learning_rate: LearningRate = 1e-3
    """How far the model moves along the mean slopes; `training.learning_rate` is that of the full step."""
    mu: float = Field(1e-3, ge=1e-9, le=1)
    """How far along a direction the loss is looked at."""
    perturbations: int = Field(1, ge=1, le=MOST_PERTURBATIONS)
    """Directions of a step, of whose slopes the mean is taken."""
    steps: int = Field(1, ge=1, le=MOST_STEPS)
    """Local steps along slopes, each on one batch; above 1 a device holds a copy of the weights."""
    differences: Literal["central", "forward"] = "central"
    """`central` looks ahead and behind, `forward` ahead and at the weights themselves, once for all directions."""
    noise: Literal["normal", "rademacher"] = "rademacher"
    """What a direction is drawn from: standard normal numbers, or 1 and -1 alike."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""

    def remarks_beside(self, scenario: Any) -> tuple[str, ...]:
        """Return that the run is over before the warm-up is."""
        if self.warmup_rounds < (rounds := scenario.stop.rounds):
            return ()
        return (
            f"method.warmup_rounds is {self.warmup_rounds} and stop.rounds {rounds}: no device ever sends slopes, and "
            "only those take part that hold a full step",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What is remembered beside the tensors: the weights that move, in order, and who holds which version."""

    names: tuple[str, ...]
    attendance: Attendance
    model_bytes: int


class ZOWarmUp(CatchingUp):
    """Full steps alone at first, then slopes from whoever holds a forward pass."""

    submodels = (FULL, SLOPES)
    needs_current_version = "seeds of each version"

    def __init__(self, options: ZOWarmUpOptions, setting: Setting) -> None:
        self._options = options
        self._seed = setting.seed
        self._num_devices = setting.num_devices
        self._charged = setting.charged

    @property
    def plan(self) -> ZerothPlan:
        """How slopes are found."""
        from neulite_sim.methods.zeroth import ZerothPlan

        options = self._options
        return ZerothPlan(
            steps=options.steps,
            perturbations=options.perturbations,
            mu=options.mu,
            differences=options.differences,
            noise=options.noise,
        )

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model, which takes steps along gradients or along noise."""
        from neulite_sim.methods.zeroth import ZerothModel
        from neulite_sim.models.trainee import FullModel

        return FullModel(blueprint) if submodel == FULL else ZerothModel(blueprint, self.plan)

    def own_training(self, submodel: str) -> OwnTraining:
        """Return that slopes are found in K steps, at a rate of their own."""
        if submodel == FULL:
            return OwnTraining()
        return OwnTraining(learning_rate=self._options.zeroth_learning_rate, steps=self._options.steps)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model."""
        from neulite_sim.models.trainee import float_tensors

        model = blueprint.build_seeded(seed)
        tensors = float_tensors(model)
        charged = tensors if self._charged is None else float_tensors(self._charged.build_meta())
        memory = _Memory(
            names=tuple(name for name, _ in model.named_parameters()),
            attendance=Attendance.begin(self._num_devices),
            model_bytes=_FLOAT_BYTES * sum(tensor.numel() for tensor in charged.values()),
        )
        return State(version=0, tensors=tensors, extra=memory)

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the full step, of slopes, or of the first of both that fits."""
        if state.version < self._options.warmup_rounds:
            return Offering(stage=WARM_UP, submodels=(FULL,))
        is_mixed = self._options.capable == "first-order"
        return Offering(stage=SLOPES, submodels=self.submodels if is_mixed else (SLOPES,))

    def _seeds(self, version: int) -> tuple[int, ...]:
        from neulite_sim.methods.zeroth import MOST_SEED

        rng = stream(self._seed, "zeroth-seeds", version)
        return tuple(rng.integers(MOST_SEED, size=self._options.steps).tolist())

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the model, and for slopes the seeds of this version."""
        from neulite_sim.methods.zeroth import SCALARS, SEEDS

        if submodel == FULL:
            return state.tensors
        seeds = torch.tensor(self._seeds(state.version), dtype=torch.float32)
        scalars = torch.zeros(self._options.steps, self._options.perturbations)
        return {**state.tensors, SEEDS: seeds, SCALARS: scalars}

    def owed_bytes(self, state: State, devices: Integers, submodels: Sequence[str]) -> Integers | None:
        """Return what those who send slopes have missed, the model at most; a full step's download has it all."""
        memory: _Memory = state.extra
        missed = memory.attendance.missed_bytes(devices, most=memory.model_bytes)
        # One round's slopes and seeds are among the submodel's own bytes.
        owed: Integers = np.maximum(missed - self._round_bytes, 0)
        owed[[submodel == FULL for submodel in submodels]] = 0
        return owed

    @property
    def _round_bytes(self) -> int:
        return _FLOAT_BYTES * self._options.steps * (self._options.perturbations + 1)

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the mean of the trained models and of the model that the mean slopes make, by their weights."""
        from neulite_sim.methods.zeroth import SCALARS

        memory: _Memory = state.extra
        came: list[tuple[int, int]] = []
        slopes: Tensor | None = None
        sums: dict[str, Tensor] = {}
        weights, is_full = {FULL: 0.0, SLOPES: 0.0}, False
        for update in updates:
            came.append((update.device, update.version))
            is_full |= update.submodel == FULL
            own = update.weight(self._options.weighting)
            if update.tensors:
                weights[update.submodel] += own
            for name, tensor in update.tensors.items():
                if name == SCALARS:
                    slopes = tensor.double() * own if slopes is None else slopes + tensor.double() * own
                else:
                    sums[name] = tensor.double() * own if name not in sums else sums[name].add_(tensor, alpha=own)
        told = memory.model_bytes if is_full else self._round_bytes
        after = replace(memory, attendance=memory.attendance.noted(came, told))
        tensors = dict(state.tensors)
        if slopes is not None:
            tensors |= self._moved(state, memory, (slopes / weights[SLOPES]).float())
        for name, total in sums.items():
            # What no slope moves, BatchNorm's statistics, is the mean over those who send it.
            share = weights[SLOPES] if name in memory.names else 0.0
            mean = (total + share * tensors[name].double()) / (weights[FULL] + share)
            tensors[name] = mean.to(tensors[name].dtype)
        return State(version=state.version + 1, tensors=tensors, extra=after)

    def _moved(self, state: State, memory: _Memory, slopes_KP: Tensor) -> dict[str, Tensor]:
        from neulite_sim.methods.zeroth import move

        moved = {name: state.tensors[name].clone() for name in memory.names}
        rate = self._options.zeroth_learning_rate
        move(list(moved.values()), self.plan, self._seeds(state.version), slopes_KP, rate)
        return moved


def _build(options: ZOWarmUpOptions, setting: Setting) -> ZOWarmUp:
    return ZOWarmUp(options, setting)


COMPONENT = Component(
    kind="zo-warmup",
    summary="the devices that hold a full step train alone at first, then all send slopes along known noise",
    source="Legate et al., ZOWarmUp, CoLLAs 2025, arXiv 2509.03503",
    options=ZOWarmUpOptions,
    build=_build,
)
