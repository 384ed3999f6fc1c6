"""Zeroth order: devices send how steep their loss is along noise of a known seed; a number per direction travels.

Z. Li, B. Ying, Z. Liu, C. Dong and H. Yang, "Achieving Dimension-Free Communication in Federated Learning via
Zeroth-Order Optimization" (DeComFL), ICLR 2025, https://arxiv.org/abs/2405.15861; the rule of seeds is that of the
authors' code. In a round the server draws K seeds. A device takes K steps, finds in each the slopes along P directions
(`zeroth.py`), sends these K P numbers and goes back to the weights that it was sent. The server averages the numbers
and takes the same steps with them, at the learning rate that the devices had; so does, before it trains, every device
that holds an older version, with all that it has missed: 4 (K P + K) bytes a round. Server and devices come to the same
bits.

With `pool` it is FedKSeed (Qin et al., ICML 2024, https://arxiv.org/abs/2312.06353): seeds come from a fixed pool, each
device draws its own, and the slopes of all rounds are added up by seed. A device that was away downloads these sums,
4 bytes for each seed, however long it was, and makes the weights of the version from those of the beginning.

Memory is that of a forward pass (`zeroth.py`), with a copy of the weights where a device takes several steps, as it has
to go back. Weights move by plain steps of `training.learning_rate`: what else an optimizer does has no part in it.
Tensors beside the weights (BatchNorm's statistics) stay as they were: test with `batch_norm: recalibrated`, or use
`training.norm: group`.

Where this differs. Every device holds the weights of the beginning before the run, which count as no traffic. What a
device computes to catch up is not charged: two operators per direction and tensor for each round. FedKSeed's paper
gives the numbers of the pool by chances that depend on the slopes so far (FedKSeed-Pro) as an extension, which is not
built.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from neulite_sim.arrays import Integers
from neulite_sim.errors import SimulationError
from neulite_sim.later import Tensor, torch
from neulite_sim.methods.catching_up import Attendance, CatchingUp
from neulite_sim.methods.contract import Offering, OwnTraining, Setting, State, Update, Weighting
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options, refusal
from neulite_sim.scenario.learning_rate import learning_rate
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import stream

if TYPE_CHECKING:
    from neulite_sim.methods.zeroth import Told, ZerothPlan
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

SUBMODEL = "zeroth-order"
MOST_STEPS = 10_000
MOST_PERTURBATIONS = 200
"""With more of them the seeds of generators would be larger than 32 bits."""
MOST_POOL = 2**16

Mu = Annotated[float, Field(ge=1e-9, le=1)]


class ZerothOrderOptions(Options):
    """Options of `zeroth-order`; the defaults are DeComFL's."""

    mu: Mu = 1e-3
    """How far along the noise the loss is looked at."""
    perturbations: int = Field(1, ge=1, le=MOST_PERTURBATIONS)
    """Directions P of a step, of whose slopes the mean is taken."""
    steps: int = Field(1, ge=1, le=MOST_STEPS)
    """Local steps K, each on one batch; above 1 a device holds a copy of the weights."""
    differences: Literal["central", "forward"] = "central"
    """`central` looks ahead and behind, `forward` ahead and at the weights themselves, once for all directions."""
    noise: Literal["normal", "rademacher"] = "normal"
    """What a direction is drawn from: standard normal numbers, or 1 and -1 alike."""
    pool: int | None = Field(None, ge=1, le=MOST_POOL)
    """Seeds of FedKSeed's pool, 4096 in its paper; with none the server draws new seeds for each round."""
    weighting: Weighting = "uniform"
    """`uniform` weighs all devices alike, as the authors do; `samples` by the device's samples."""

    @model_validator(mode="after")
    def _pool_has_one_direction(self) -> ZerothOrderOptions:
        if self.pool is not None and self.perturbations > 1:
            message = f"is {self.perturbations}, but with a pool each step has one direction; remove one of them"
            raise refusal(message, "perturbations", given=self.perturbations)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What is remembered beside the tensors: what was made known, and who holds which version.

    With a pool `first` are the weights of the beginning, and `sums` the slopes of all rounds by seed.
    """

    names: tuple[str, ...]
    """Of the weights that move, in order."""
    attendance: Attendance
    told: Told
    first: Mapping[str, Tensor]
    sums: Tensor | None


class ZerothOrder(CatchingUp):
    """Slopes along known noise, from whoever holds a forward pass."""

    submodels = (SUBMODEL,)
    takes_gradients: ClassVar[bool] = False
    needs_current_version = "seeds of each version"

    def __init__(self, options: ZerothOrderOptions, setting: Setting) -> None:
        self._options = options
        self._seed = setting.seed
        self._num_devices = setting.num_devices
        self._max_rounds = setting.max_rounds
        self._training = setting.training or Training()

    @property
    def plan(self) -> ZerothPlan:
        """How slopes are found."""
        from neulite_sim.methods.zeroth import MOST_SEED, ZerothPlan

        options = self._options
        pool = None
        if options.pool is not None:
            pool = tuple(stream(self._seed, "zeroth-pool").integers(MOST_SEED, size=options.pool).tolist())
        return ZerothPlan(
            steps=options.steps,
            perturbations=options.perturbations,
            mu=options.mu,
            differences=options.differences,
            noise=options.noise,
            pool=pool,
        )

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model, which takes steps along noise."""
        from neulite_sim.methods.zeroth import ZerothModel

        return ZerothModel(blueprint, self.plan)

    def own_training(self, submodel: str) -> OwnTraining:
        """Return that a local training lasts K steps."""
        return OwnTraining(steps=self._options.steps)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model, of which nothing is known to nobody but what all hold."""
        from neulite_sim.methods.zeroth import Told
        from neulite_sim.models.trainee import float_tensors

        model, pool = blueprint.build_seeded(seed), self._options.pool
        tensors = float_tensors(model)
        names = tuple(name for name, _ in model.named_parameters())
        memory = _Memory(
            names=names,
            attendance=Attendance.begin(self._num_devices),
            told=Told.nothing(self.plan),
            first={} if pool is None else {name: tensors[name] for name in names},
            sums=None if pool is None else torch.zeros(pool),
        )
        return State(version=0, tensors=tensors, extra=memory)

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the forward passes to whoever holds them."""
        return Offering(stage=SUBMODEL, submodels=self.submodels)

    def seeds(self, version: int) -> tuple[int, ...]:
        """Return the seeds of a round's steps, the same for all devices."""
        from neulite_sim.methods.zeroth import MOST_SEED

        rng = stream(self._seed, "zeroth-seeds", version)
        return tuple(rng.integers(MOST_SEED, size=self._options.steps).tolist())

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the weights of this version, and what is made known of a round; with a pool sums to add slopes to."""
        from neulite_sim.methods.zeroth import SCALARS, SEEDS, SUMS

        options = self._options
        if options.pool is not None:
            return {**state.tensors, SUMS: torch.zeros(options.pool)}
        seeds = torch.tensor(self.seeds(state.version), dtype=torch.float32)
        return {**state.tensors, SEEDS: seeds, SCALARS: torch.zeros(options.steps, options.perturbations)}

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return, with a pool, the seeds that this device draws in this round, as numbers of the pool."""
        from neulite_sim.methods.zeroth import SEEDS

        options = self._options
        if options.pool is None:
            return {}
        drawn = stream(self._seed, "pool-seeds", state.version, device).integers(options.pool, size=options.steps)
        return {SEEDS: torch.from_numpy(drawn.astype(np.float32))}

    def owed_bytes(self, state: State, devices: Integers, submodels: Sequence[str]) -> Integers | None:
        """Return what was made known of the rounds that a device has missed but the last, which its submodel counts."""
        if self._options.pool is not None:
            return None
        missed = state.extra.attendance.missed_rounds(devices)
        owed: Integers = self._round_bytes * np.maximum(missed - 1, 0)
        return owed

    @property
    def _round_bytes(self) -> int:
        steps, perturbations = self._options.steps, self._options.perturbations
        return 4 * (steps * perturbations + steps)

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model after the steps that the devices' mean slopes describe."""
        from neulite_sim.methods.zeroth import SCALARS, SUMS, replayed

        memory: _Memory = state.extra
        name = SCALARS if self._options.pool is None else SUMS
        total: Tensor | None = None
        weight, rates = 0.0, set[float]()
        came: list[tuple[int, int]] = []
        for update in updates:
            came.append((update.device, update.version))
            if name in update.tensors:
                own = update.weight(self._options.weighting)
                found = update.tensors[name].double() * own
                total, weight = found if total is None else total + found, weight + own
                rates.add(self._rate_of(update, state))
        attendance = memory.attendance.noted(came, self._round_bytes)
        memory = replace(memory, attendance=attendance)
        version = state.version + 1
        if total is None:
            return replace(state, version=version, extra=memory)
        mean, rate = (total / weight).float(), _the_one(rates)
        if memory.sums is not None:
            # The rate of each round belongs to its slopes.
            sums = memory.sums + mean * rate
            tensors = self._from_the_first(state.tensors, memory, sums)
            return State(version=version, tensors=tensors, extra=replace(memory, sums=sums))
        told = memory.told.and_then(self.seeds(state.version), mean, rate)
        tensors = replayed(state.tensors, memory.names, self.plan, told[-1:])
        return State(version=version, tensors=tensors, extra=replace(memory, told=told))

    def _rate_of(self, update: Update, state: State) -> float:
        """Return the rate at which a device took its steps; that of as many rounds as digests where nobody says."""
        if update.learning_rate is not None:
            return update.learning_rate
        return learning_rate(self._training, state.version + 1, self._max_rounds)

    def _from_the_first(self, tensors: Mapping[str, Tensor], memory: _Memory, sums: Tensor) -> dict[str, Tensor]:
        """Return the weights that the sums of slopes by seed make of the first ones, as every device does."""
        from neulite_sim.methods.zeroth import move

        plan = self.plan
        assert plan.pool is not None, "only with a pool are slopes added up"
        met = torch.nonzero(sums).flatten().tolist()
        after = {name: tensor.clone() for name, tensor in memory.first.items()}
        seeds = [plan.pool[number] for number in met]
        move([after[name] for name in memory.names], plan, seeds, sums[met][:, None], 1.0)
        return {**tensors, **after}


def _the_one(rates: Collection[float]) -> float:
    """Return the rate of a round's steps.

    Raises:
        SimulationError: devices took them at several; as they go back to where they were, the server can follow none.
    """
    if len(rates) > 1:
        found = " and ".join(f"{rate:g}" for rate in sorted(rates))
        raise SimulationError(
            f"slopes that were found at learning rates {found} came into one round of zeroth-order",
            hint="use a protocol that merges the flights of one round, or training.learning_rate_schedule: constant",
        )
    return next(iter(rates))


def _build(options: ZerothOrderOptions, setting: Setting) -> ZerothOrder:
    return ZerothOrder(options, setting)


COMPONENT = Component(
    kind="zeroth-order",
    summary="devices send how steep their loss is along noise of known seeds: forward passes alone, a number per step",
    source="Li et al., DeComFL, ICLR 2025, arXiv 2405.15861; with a pool: Qin et al., FedKSeed, ICML 2024",
    options=ZerothOrderOptions,
    build=_build,
)
