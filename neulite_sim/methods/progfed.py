"""ProgFed: the network grows from its first block to the whole, and every round trains all that is there.

Wang, Stich, He and Fritz, "ProgFed: Effective, Communication, and Computation Efficient Federated Learning by
Progressive Training", ICML 2022. https://arxiv.org/abs/2110.05323. Stage s of S is blocks 1 to s with a head of its own
(mean over the pixels, one linear layer); a head is thrown away when the network grows, and the last stage has the
model's real one. By default a stage s < S lasts T / (2 S) of the T rounds and the full model the rest.

Growth saves traffic and compute early on; memory rises to that of the full model. A fleet in which nobody holds the
full model cannot finish: when a growth comes to a stage that fits nobody, every device is denied with its shortfall
and the run ends with a message that says so. Set `growth_rounds` beyond the run's last round to stay below.

Rounds are counted in aggregations. The learning rate follows the scenario's schedule, in warm-up rounds too.

Where this differs from the authors' code: that takes plain means (`weighting: uniform`) and applies them as one step of
a server's SGD with a rate of its own, here the mean replaces the model; it warms up for 25 rounds where asked to, here
`warmup_rounds` is 0 unless given, and stops the learning rate's schedule meanwhile; its devices keep their momentum
from round to round, here an optimizer begins anew; it normalises in two groups, here as the architecture does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from neulite_sim.bounds import MOST_ITEMS, RoundsOrNone
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor, homes, nn, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.seeding import integer_seed

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

__getattr__ = homes(__name__, GrowingModel="neulite_sim.methods.growing")

WARMUP = "-warmup"


class ProgFedOptions(Options):
    """Options of `progfed`."""

    growth_rounds: tuple[RoundsOrNone, ...] = Field((), max_length=MOST_ITEMS)
    """After how many rounds the network grows, once per block but the last; empty: every T / (2 S) rounds."""
    warmup_rounds: RoundsOrNone = 0
    """Rounds after each growth, counted within the stage, in which only the newest block and the head train."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` as the reference code does."""

    @field_validator("growth_rounds")
    @classmethod
    def _growth_goes_forward(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        for before, after in itertools.pairwise((0, *given)):
            if after <= before:
                raise ValueError(f"growth_rounds must rise from 1 on, but {after} follows {before}; sort them")
        return given


class ProgFed(Method):
    """One stage after the other, each on whoever fits it."""

    trains_blocks: ClassVar[bool] = True
    rounds_go_by = "method.growth_rounds, method.warmup_rounds"

    def __init__(self, *, growth_rounds: tuple[int, ...], warmup_rounds: int, weighting: Weighting) -> None:
        self.growth_rounds = growth_rounds
        self._num_stages = len(growth_rounds) + 1
        self._warmup_rounds = warmup_rounds
        self._weighting = weighting
        stages = range(1, self._num_stages + 1)
        self._stages = {
            self._name(stage, is_warmup=is_warmup): (stage, is_warmup)
            for stage in stages
            for is_warmup in ((True, False) if stage > 1 and warmup_rounds else (False,))
        }
        self.submodels = tuple(self._stages)

    def _name(self, stage: int, *, is_warmup: bool) -> str:
        whole = FULL if stage == self._num_stages else f"grow-{stage}"
        return whole + (WARMUP if is_warmup else "")

    def submodel_at(self, version: int) -> str:
        """Return what is trained after `version` rounds."""
        stage = 1 + sum(version >= growth for growth in self.growth_rounds)
        since_growth = version - self.growth_rounds[stage - 2] if stage > 1 else version
        return self._name(stage, is_warmup=stage > 1 and since_growth < self._warmup_rounds)

    def rounds_before(self, ledger: Ledger) -> Mapping[str, float]:
        """Return after which round each stage begins, its warm-up first; never, if that lasts until the next growth."""
        del ledger
        begins, ends = (0, *self.growth_rounds), (*self.growth_rounds, math.inf)
        found: dict[str, float] = {}
        for name, (stage, is_warmup) in self._stages.items():
            begin = begins[stage - 1] + (0 if is_warmup or stage == 1 else self._warmup_rounds)
            found[name] = begin if begin < ends[stage - 1] else math.inf
        return found

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model of a stage, all of it trainable, or only its newest block and head in a warm-up."""
        from neulite_sim.methods.growing import GrowingModel

        stage, is_warmup = self._stages[submodel]
        return GrowingModel(blueprint, stage, is_warmup=is_warmup)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the whole model and a head for each stage before the last, all freshly initialised."""
        from neulite_sim.models.output import simplest_head
        from neulite_sim.models.trainee import float_tensors

        tensors = float_tensors(blueprint.build_seeded(seed))
        shapes = blueprint.look().block_shapes
        for stage in range(1, self._num_stages):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(integer_seed(seed, "progfed-head", stage))
                head = float_tensors(simplest_head(shapes[stage - 1], blueprint.spec))
            tensors.update((f"heads.{stage}.{name}", tensor) for name, tensor in head.items())
        return State(version=0, tensors=tensors)

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the round's submodel to whoever fits it."""
        submodel = self.submodel_at(state.version)
        return Offering(stage=submodel, submodels=(submodel,))

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the blocks up to the stage and its head."""
        stage, _ = self._stages[submodel]
        head = "head." if stage == self._num_stages else f"heads.{stage}."
        prefixes = (head, *(f"blocks.{block}." for block in range(stage)))
        return {name: tensor for name, tensor in state.tensors.items() if name.startswith(prefixes)}

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the state with what was trained replaced by its mean."""
        mean = weighted_mean(updates, self._weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean))

    def evaluated(self, state: State) -> str:
        """Return the stage that the latest round trained: a block that nobody has trained yet is not tested."""
        return self.submodel_at(max(0, state.version - 1)).removesuffix(WARMUP)

    def evaluation_model(self, name: str, blueprint: Blueprint) -> nn.Module:
        """Return the model of a stage."""
        return self.trainee(name, blueprint)

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the blocks and the head of the stage that is tested."""
        return self.payload(state, self.evaluated(state))


def growth_schedule(num_rounds: int, num_stages: int) -> tuple[int, ...]:
    """Return after which rounds the network grows: T / (2 S) rounds a stage, rounded down, but at least one each."""
    return tuple(max(stage, stage * num_rounds // (2 * num_stages)) for stage in range(1, num_stages))


def _build(options: ProgFedOptions, setting: Setting) -> ProgFed:
    wanted = setting.num_blocks - 1
    if options.growth_rounds and len(options.growth_rounds) != wanted:
        finding = (
            f"has {len(options.growth_rounds)} rounds, but a model of {setting.num_blocks} blocks grows {wanted} times"
        )
        hint = f"give {wanted}, or none for one every T / (2 S) rounds"
        raise ScenarioError([Problem.advising(key="method.growth_rounds", found=finding, hint=hint)])
    return ProgFed(
        growth_rounds=options.growth_rounds or growth_schedule(setting.max_rounds, setting.num_blocks),
        warmup_rounds=options.warmup_rounds,
        weighting=options.weighting,
    )


COMPONENT = Component(
    kind="progfed",
    summary="the network grows block by block; each round trains all of it that is there",
    source="Wang et al., ProgFed, ICML 2022, arXiv 2110.05323",
    options=ProgFedOptions,
    build=_build,
)
