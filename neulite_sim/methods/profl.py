"""ProFL: shrink the network from its last block to a convolution each, then grow it from the first, a block at a time.

Wu, Li and Xu, "Breaking the Memory Wall for Heterogeneous Federated Learning via Progressive Training", KDD 2025.
https://arxiv.org/abs/2404.13349. Of T blocks stage t is blocks 1 to t with one basic layer for each later one, a
surrogate, and the classifier. The phases, one after the other, each on whoever fits it:

    shrink-t, distil-t     for t = T, ..., 2
    grow-t                 for t = 1, ..., T

Shrinking trains block t, the surrogates behind it and the classifier of stage t by cross-entropy; the blocks before it
are frozen at their random values. Distillation trains the surrogate of block t to give the logits that the block gives:
mean squared error, a learning rate of its own; of the last block with the classifier, of any other alone. Growing
starts from all that: block t is trained with the surrogates behind it and the classifier, and then frozen for good.
The last stage is the full model, and its block is trained until the run ends. A classifier that is a tied embedding
belongs to block 1: it is trained with that alone, and teacher and student read the same.

A block is trained until its effective movement says that it has converged, or for a number of rounds that is given. A
phase that fits nobody with data is left out: what it would have trained stays as it is. Rounds are counted in
aggregations with an update of the phase. In asynchronous protocols updates of phases that are over arrive as well, and
are merged into what they trained; `protocol.other_stage: discard` keeps what is frozen as it is.

Where this differs from the authors' example: that holds the frozen blocks a second time for the teacher, here teacher
and student share what is the same, and a device holds, receives and computes it once; it lets gradients flow into the
teacher that nobody uses; it ends phases by hand, and does not say for how many rounds it distils (one, unless
`distillation_rounds` says otherwise); its frozen BatchNorm goes on collecting statistics (`bn_frozen: train`), here
frozen means frozen; its devices send the whole state, here what they trained and the statistics that they collected.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import EpochCount, LearningRate, RoundCount, RoundsOrNone
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor, nn, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, OwnTraining, Setting, State, Update, Weighting
from neulite_sim.methods.convergence import Convergence, Movement, followed
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options, refuse_inert
from neulite_sim.seeding import integer_seed

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee


class ProFLOptions(Options):
    """Options of `profl`."""

    shrinking: bool = True
    """False: growing alone, from random blocks and surrogates (the paper's ablation)."""
    shrinking_rounds: RoundCount | None = None
    """Rounds in which shrinking trains a block; until it has converged where it is not given."""
    growing_rounds: RoundCount | None = None
    """Rounds in which growing trains a block but the last; until it has converged where it is not given."""
    convergence: Convergence = Field({}, validate_default=True)
    """When a block has converged."""
    distillation_rounds: RoundsOrNone = 1
    """Rounds in which a trained block is distilled into its surrogate; 0: surrogates learn beside the blocks alone."""
    distillation_learning_rate: LearningRate = 1e-5
    """Learning rate of distillation, the same in every round."""
    distillation_epochs: EpochCount | None = None
    """Passes over a device's samples in a round of distillation; as in other rounds where it is not given."""
    bn_frozen: Literal["eval", "train"] = "eval"
    """Frozen BatchNorm uses the statistics that it has, or goes on collecting them as in the authors' example."""
    weighting: Weighting = "uniform"
    """`uniform` as the authors' example; `samples` weighs an update by the device's samples."""

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """Refuse options that another one switches off, unless they stand at their defaults."""
        distilling = ("distillation_learning_rate", "distillation_epochs")
        inert: dict[str, str] = {}
        if not self.distillation_rounds:
            inert = dict.fromkeys(distilling, "distillation_rounds 1 or more")
        if not self.shrinking:
            inert = dict.fromkeys(("shrinking_rounds", "distillation_rounds", *distilling), "shrinking true")
        if self.growing_rounds is not None and (self.shrinking_rounds is not None or not self.shrinking):
            inert["convergence"] = "a phase without a number of rounds"
        refuse_inert(self, inert)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What is done in a phase, and to which block (1 to T)."""

    part: Literal["shrink", "distil", "grow"]
    block: int

    @property
    def name(self) -> str:
        """Its name as a submodel."""
        return f"{self.part}-{self.block}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """Where ProFL stands: `phases` are those that fit somebody, `rounds` those that the present one has had.

    `tested` is the phase of the latest update, "" before the first.
    """

    phases: tuple[str, ...]
    place: int = 0
    rounds: int = 0
    movement: Movement = field(default_factory=Movement)
    tested: str = ""

    @property
    def phase(self) -> str:
        """The present phase."""
        return self.phases[self.place]


class ProFL(Method):
    """One phase after the other, each on whoever fits it."""

    skippable_submodels: ClassVar[bool] = True
    rounds_go_by = "method.shrinking_rounds, method.growing_rounds, method.convergence"

    def __init__(self, options: ProFLOptions, *, num_blocks: int, seed: int) -> None:
        self._options = options
        self._num_blocks = num_blocks
        self._seed = seed
        self._phases = {phase.name: phase for phase in phases(num_blocks, options)}
        self.submodels = tuple(self._phases)
        self._distils = any(phase.part == "distil" for phase in self._phases.values())
        undecided = ("shrinking_rounds",) * options.shrinking + ("growing_rounds",)
        open_ended = [name for name in undecided if getattr(options, name) is None]
        self.decides_by_weights = f"{' and '.join(open_ended)}: null" if open_ended else ""

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._options.weighting

    def own_training(self, submodel: str) -> OwnTraining:
        """Return the learning rate and the epochs of distillation."""
        if self._phases[submodel].part != "distil":
            return OwnTraining()
        options = self._options
        return OwnTraining(learning_rate=options.distillation_learning_rate, epochs=options.distillation_epochs)

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model of a stage, or teacher and student of a distillation."""
        from neulite_sim.methods.distilling import Distillation, SurrogateStage

        phase = self._phases[submodel]
        build = Distillation if phase.part == "distil" else SurrogateStage
        return build(blueprint, phase.block, frozen_batch_norm=self._options.bn_frozen)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the whole model and a surrogate of each block but the first, all freshly initialised."""
        from neulite_sim.methods.distilling import surrogates_of
        from neulite_sim.models.trainee import float_tensors

        tensors = float_tensors(blueprint.build_seeded(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(seed, "surrogates"))
            tensors.update(surrogates_of(blueprint.build()))
        if self._distils:
            tensors.update(_teacher_head(tensors))
        fitting = tuple(name for name in self.submodels if ledger.fits_somebody(name))
        assert fitting, "assembly refuses a fleet that fits no submodel"
        return State(version=0, tensors=tensors, extra=_Memory(phases=fitting))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the present phase to whoever fits it."""
        phase = state.extra.phase
        return Offering(stage=phase, submodels=(phase,))

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the blocks up to that of the phase, the surrogates behind them, and the classifier."""
        phase = self._phases[submodel]
        is_distilled = phase.part == "distil"
        tensors = self._stage(state, phase.block, first_surrogate=phase.block - is_distilled)
        if is_distilled and phase.block == self._num_blocks:
            tensors.update((name, state.tensors[name]) for name in state.tensors if name.startswith("teacher_head."))
        return tensors

    def _stage(self, state: State, num_blocks: int, *, first_surrogate: int) -> dict[str, Tensor]:
        blocks = (f"blocks.{number}." for number in range(num_blocks))
        surrogates = (f"surrogates.{number}." for number in range(first_surrogate, self._num_blocks))
        prefixes = (*blocks, *surrogates, "head.")
        return {name: tensor for name, tensor in state.tensors.items() if name.startswith(prefixes)}

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the state with what was trained replaced by its mean, in the next phase where this one is over."""
        memory: _Memory = state.extra
        num_own = 0

        def counted() -> Iterator[Update]:
            nonlocal num_own
            for update in updates:
                num_own += update.submodel == memory.phase
                yield update

        tensors = merged(state.tensors, weighted_mean(counted(), self._options.weighting))
        if num_own:
            if self._distils and memory.phase == f"shrink-{self._num_blocks}":
                tensors = merged(tensors, _teacher_head(tensors))
            memory = self._moved_on(memory, tensors)
        return State(version=state.version + 1, tensors=tensors, extra=memory)

    def _moved_on(self, memory: _Memory, tensors: Mapping[str, Tensor] | None = None) -> _Memory:
        """Return the memory after a round; without `tensors`, only phases of a number of rounds come to an end."""
        phase, rule = self._phases[memory.phase], self._options.convergence
        now = replace(memory, rounds=memory.rounds + 1, tested=phase.name)
        if memory.place == len(memory.phases) - 1:
            return now
        limit = self._limit(phase)
        if limit is None and tensors is not None:
            weights = followed(tensors, phase.block, count=rule.scalars, seed=self._seed)
            now = replace(now, movement=memory.movement.seen(weights, rule))
        if now.movement.has_converged(rule) if limit is None else now.rounds >= limit:
            return replace(now, place=memory.place + 1, rounds=0, movement=Movement())
        return now

    def rounds_before(self, ledger: Ledger) -> Mapping[str, float]:
        """Return the rounds of the phases before that fit somebody, given or the least that convergence takes."""
        least = self._options.convergence.least_rounds
        fitting = [name for name in self.submodels if ledger.fits_somebody(name)]
        limits = [self._limit(self._phases[name]) for name in fitting]
        passed = itertools.accumulate((least if limit is None else limit for limit in limits), initial=0)
        return dict(zip(fitting, passed, strict=False))

    def _limit(self, phase: Phase) -> int | None:
        options = self._options
        limits = {
            "shrink": options.shrinking_rounds,
            "distil": options.distillation_rounds,
            "grow": options.growing_rounds,
        }
        return limits[phase.part]

    def progress(self, state: State) -> Mapping[str, Any]:
        """Return the phase and its rounds, and the version at which it stood so."""
        memory: _Memory = state.extra
        return {"phase": memory.phase, "rounds": memory.rounds, "version": state.version}

    def follow(self, state: State, progress: Mapping[str, Any]) -> State:
        """Return the state at the next version, in the phase that was noted of it.

        A study has no updates to digest and knows the progress of `state` alone: then a round of the phase has passed.
        """
        memory: _Memory = state.extra
        if progress["version"] == state.version:
            followed_up = self._moved_on(memory)
        else:
            place = memory.phases.index(progress["phase"])
            followed_up = replace(memory, place=place, rounds=int(progress["rounds"]))
        return replace(state, version=state.version + 1, extra=followed_up)

    def _tested(self, name: str) -> int:
        """Return the number of blocks of the stage that is tested in a phase: of a distillation, the student."""
        phase = self._phases[name]
        return phase.block - (phase.part == "distil")

    def evaluated(self, state: State) -> str:
        """Return the phase that was trained last, or the full model where all of its blocks are in place."""
        memory: _Memory = state.extra
        phase = memory.tested or memory.phase
        return FULL if self._tested(phase) == self._num_blocks else phase

    def evaluation_model(self, name: str, blueprint: Blueprint) -> nn.Module:
        """Return the stage of a phase, in a distillation that of the student."""
        from neulite_sim.methods.distilling import SurrogateStage

        if name == FULL:
            return blueprint.build()
        return SurrogateStage(blueprint, self._tested(name), frozen_batch_norm=self._options.bn_frozen)

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the blocks, surrogates and classifier that are tested."""
        name = self.evaluated(state)
        num_blocks = self._num_blocks if name == FULL else self._tested(name)
        return self._stage(state, num_blocks, first_surrogate=num_blocks)


def phases(num_blocks: int, options: ProFLOptions) -> Iterator[Phase]:
    """Yield the phases in order."""
    for block in range(num_blocks, 1, -1) if options.shrinking else ():
        yield Phase(part="shrink", block=block)
        if options.distillation_rounds:
            yield Phase(part="distil", block=block)
    for block in range(1, num_blocks + 1):
        yield Phase(part="grow", block=block)


def _teacher_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the classifier under the names that it has as the teacher's."""
    return {f"teacher_{name}": tensor for name, tensor in tensors.items() if name.startswith("head.")}


def _build(options: ProFLOptions, setting: Setting) -> ProFL:
    if setting.num_blocks < 2:
        finding = "profl trains block by block, and this model has 1 block"
        hint = "choose a model of 2 blocks or more, or method fedavg, which trains all of it"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
    return ProFL(options, num_blocks=setting.num_blocks, seed=setting.seed)


COMPONENT = Component(
    kind="profl",
    summary="blocks are trained and distilled into convolutions from the last to the first, then from the first on",
    source="Wu et al., ProFL, KDD 2025, arXiv 2404.13349",
    options=ProFLOptions,
    build=_build,
)
