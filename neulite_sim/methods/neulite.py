"""NeuLite: elastic progressive training, one block per round, so that a device never holds the whole model's step.

Wu, Li, Tian, Chang and Xu, "NeuLite: Memory-Efficient Federated Learning via Elastic Progressive Training",
https://arxiv.org/abs/2408.10826: stage models and eq. (1) under "Progressive Training Paradigm", eq. (4) under
"Curriculum-Aware Training Loss", cyclic stages, co-trained tail and output modules under "Parameter Co-Adaptation".

The state is one shared pool of blocks and an output module per stage. A stage trains its block, the last layers of
the block before and its own output module; the global model is the pool with the head of the last stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from neulite_sim.bounds import LayerCount, SignedWeight
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.convergence import Convergence, Movement, followed
from neulite_sim.methods.stage_plan import Curriculum, Form, Operand, StagePlan, ZSource
from neulite_sim.models.names import Surrogate
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options, refusal, refuse_inert
from neulite_sim.seeding import integer_seed

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

_CURRICULUM_OPTIONS = (
    "lambda_x", "lambda_y", "nhsic", "sigma", "epsilon", "z_source", "mlp_operand", "mlp_relu",
)  # fmt: skip


class NeuLiteOptions(Options):
    """Options of `neulite`; the defaults follow the paper, and the official code where the paper is silent."""

    curriculum: bool = True
    """False: cross-entropy alone, without the projection MLP (the paper's first ablation)."""
    coadaptation: bool = True
    """False: `tail` is false and `surrogate` is none (the paper's second ablation)."""
    tail: bool | LayerCount = True
    """Whether a stage trains the last layer of the block before as well, or how many of its layers at most."""
    surrogate: Surrogate = "conv"
    """What stands for a later block: a bare convolution (official code), `conv-bn-relu`, or nothing: a pooled head."""
    schedule: Literal["cyclic", "sequential"] = "cyclic"
    """`cyclic`: one stage per round, in turn. `sequential`: a block is trained until it has converged, then frozen."""
    convergence: Convergence = Field({}, validate_default=True)
    """When the sequential schedule moves on."""
    lambda_x: tuple[SignedWeight, SignedWeight] = (0.5, 0.05)
    """Weight of nHSIC(X; Z) in the first and in the last stage, linear between; the paper asks for a falling one."""
    lambda_y: tuple[SignedWeight, SignedWeight] = (0.05, 0.5)
    """Weight of nHSIC(Y; Z) in the first and in the last stage, linear between; the paper asks for a rising one."""
    nhsic: Form = "ratio"
    """`ratio` as the official code, `nocco` as the paper's wording."""
    sigma: float = Field(5.0, ge=1e-6, le=1e6)
    """Width of the Gaussian kernels."""
    epsilon: float = Field(1e-5, ge=1e-30, le=1e6)
    """Ridge of `nocco`."""
    z_source: ZSource = "block"
    """Z is the output of block t (paper) or the last map of the output module (official code)."""
    mlp_operand: Operand = "y"
    """Which term looks through the projection MLP: `y` as the official code, `x`, or `both`."""
    mlp_relu: bool = False
    """ReLU between the layers of the MLP; the official code has none."""
    output_modules: Literal["private", "shared"] = "private"
    """Whether each stage keeps an output module of its own, or all stages share surrogates, head and MLP."""
    bn_frozen: Literal["eval", "train"] = "eval"
    """Frozen BatchNorm uses running statistics, or goes on collecting them as in the official code."""
    weighting: Weighting = "samples"
    """`samples` is eq. (1); `uniform` is what the official code does."""
    upload: Literal["trained", "all"] = "trained"
    """Send back the trained parts (paper) or the whole stage model (official code)."""

    @model_validator(mode="after")
    def _coadaptation_is_the_sum_of_its_parts(self) -> Self:
        """Refuse a part that contradicts the whole, and keep one spelling of each choice."""
        given = self.model_fields_set
        if not self.coadaptation:
            self._refuse_parts()
            self._settle(tail=False, surrogate="none")
        elif not self.tail and self.surrogate == "none":
            if "coadaptation" in given:
                message = "is true, but tail is false and surrogate is none, which leaves nothing of it; remove one"
                raise refusal(message, "coadaptation", given=True)
            self._settle(coadaptation=False)
        if self.tail == 1:
            self._settle(tail=True)
        return self

    def _refuse_parts(self) -> None:
        for key, off in (("tail", False), ("surrogate", "none")):
            found = getattr(self, key)
            if key in self.model_fields_set and found != off:
                message = f"acts only with coadaptation true, found {str(found).lower()}; remove it, or coadaptation"
                raise refusal(message, key, given=found)

    def _settle(self, **values: object) -> None:
        """Let options follow from others; those that were given stay known as given."""
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @model_validator(mode="after")
    def _without_surrogates_heads_are_not_shared(self) -> Self:
        if self.surrogate == "none" and self.output_modules == "shared":
            cause = "surrogate is none" if self.coadaptation else "coadaptation is false"
            raise ValueError(
                f"output_modules is 'shared' but {cause}: the heads of the stages then differ in shape; "
                "use output_modules: private"
            )
        return self

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """Refuse options that another one switches off, unless they stand at their defaults."""
        inert: dict[str, str] = {}
        if self.schedule == "cyclic":
            inert["convergence"] = "schedule sequential"
        if self.mlp_operand == "both":
            inert["z_source"] = "mlp_operand x or y"
        if self.nhsic == "ratio":
            inert["epsilon"] = "nhsic nocco"
        if not self.curriculum:
            inert |= dict.fromkeys(_CURRICULUM_OPTIONS, "curriculum true")
        refuse_inert(self, inert)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What NeuLite remembers beside its tensors.

    `names[t - 1]` maps the names inside the model of stage t to those of the state. `sequence_stage` and `movement`
    say where the sequential schedule stands and how its block has moved; the cyclic one does not use them.
    """

    names: tuple[Mapping[str, str], ...]
    sequence_stage: int = 1
    movement: Movement = field(default_factory=Movement)


class NeuLite(Method):
    """One stage per round; whoever fits the stage may train it."""

    skippable_submodels: ClassVar[bool] = True
    trains_blocks: ClassVar[bool] = True

    def __init__(self, options: NeuLiteOptions, *, num_stages: int, seed: int) -> None:
        self._options = options
        self._seed = seed
        self.num_stages = num_stages
        self.submodels = tuple(f"stage-{stage}" for stage in range(1, num_stages + 1))
        is_sequential = options.schedule == "sequential"
        self.decides_by_weights = "schedule: sequential" if is_sequential else ""
        self.rounds_go_by = "method.convergence" if is_sequential else "method.schedule cyclic: a round for each"

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._options.weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model of a stage."""
        from neulite_sim.methods.stage import StageTrainee

        return StageTrainee(blueprint, self._plan(self._stage_of(submodel)))

    def _stage_of(self, submodel: str) -> int:
        return self.submodels.index(submodel) + 1

    def _plan(self, stage: int) -> StagePlan:
        options = self._options
        curriculum = Curriculum(
            lambda_x=_between(options.lambda_x, stage, self.num_stages),
            lambda_y=_between(options.lambda_y, stage, self.num_stages),
            form=options.nhsic,
            sigma=options.sigma,
            epsilon=options.epsilon,
            z_source=options.z_source,
            operand=options.mlp_operand,
        )
        return StagePlan(
            stage=stage,
            curriculum=curriculum if options.curriculum else None,
            tail_layers=int(options.tail),
            surrogate=options.surrogate,
            projection_relu=options.mlp_relu,
            frozen_batch_norm=options.bn_frozen,
            uploads_everything=options.upload == "all",
        )

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return a fresh pool of blocks and a fresh output module per stage."""
        from neulite_sim.models.trainee import float_tensors

        pool = float_tensors(blueprint.build_seeded(seed))
        tensors = {name: tensor for name, tensor in pool.items() if name.startswith("blocks.")}
        names: list[Mapping[str, str]] = []
        for stage, submodel in enumerate(self.submodels, start=1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(integer_seed(seed, "output-module", stage))
                own = float_tensors(self.trainee(submodel, blueprint))
            names.append({name: self._global_name(name, stage) for name in own})
            for name, tensor in own.items():
                tensors.setdefault(names[-1][name], tensor)
        return State(version=0, tensors=tensors, extra=_Memory(names=tuple(names)))

    def _global_name(self, name: str, stage: int) -> str:
        """Return the state's name of a stage's tensor; shared surrogates are numbered by the block they stand for."""
        if self._options.output_modules == "private" or not name.startswith("outputs."):
            return name
        _, _, part, *rest = name.split(".")
        if part == "surrogates":
            rest[0] = str(stage + int(rest[0]))
        return ".".join(("outputs", "shared", part, *rest))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the round's stage to whoever fits it; stages that fit nobody with data are skipped."""
        submodel = self.submodels[self._stage_now(state, ledger) - 1]
        return Offering(stage=submodel, submodels=(submodel,))

    def rounds_before(self, ledger: Ledger) -> Mapping[str, float]:
        """Return the rounds of the stages before that fit somebody: one each, or as many as convergence takes."""
        each = 1 if self._options.schedule == "cyclic" else self._options.convergence.least_rounds
        fitting = filter(ledger.fits_somebody, self.submodels)
        return {name: place * each for place, name in enumerate(fitting)}

    def _stage_now(self, state: State, ledger: Ledger) -> int:
        trainable = [
            stage for stage in range(1, self.num_stages + 1) if ledger.fits_somebody(self.submodels[stage - 1])
        ]
        assert trainable, "assembly refuses a fleet that fits no submodel"
        if self._options.schedule == "cyclic":
            return trainable[state.version % len(trainable)]
        return next((stage for stage in trainable if stage >= state.extra.sequence_stage), trainable[-1])

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the blocks up to the stage and its output module, under the stage model's names."""
        names: Mapping[str, str] = state.extra.names[self._stage_of(submodel) - 1]
        return {name: state.tensors[global_name] for name, global_name in names.items()}

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the pool with the trained parts replaced by their mean (eq. 1)."""
        memory: _Memory = state.extra
        stages: set[int] = set()

        def under_global_names() -> Iterator[Update]:
            for update in updates:
                stage = self._stage_of(update.submodel)
                stages.add(stage)
                names = memory.names[stage - 1]
                yield replace(update, tensors={names[name]: tensor for name, tensor in update.tensors.items()})

        tensors = merged(state.tensors, weighted_mean(under_global_names(), self._options.weighting))
        if self._options.schedule == "sequential" and stages:
            memory = self._moved_on(memory, tensors, max(stages))
        return State(version=state.version + 1, tensors=tensors, extra=memory)

    def _moved_on(self, memory: _Memory, tensors: Mapping[str, Tensor], stage: int) -> _Memory:
        """Return the memory after a round of a stage; one of late updates alone does not bring back its stage."""
        if stage < memory.sequence_stage:
            return memory
        rule = self._options.convergence
        movement = memory.movement if memory.sequence_stage == stage else Movement()
        movement = movement.seen(followed(tensors, stage, count=rule.scalars, seed=self._seed), rule)
        if stage < self.num_stages and movement.has_converged(rule):
            return replace(memory, sequence_stage=stage + 1, movement=Movement())
        return replace(memory, sequence_stage=stage, movement=movement)

    def progress(self, state: State) -> Mapping[str, Any]:
        """Return the stage of the sequence."""
        return {"sequence_stage": state.extra.sequence_stage}

    def follow(self, state: State, progress: Mapping[str, Any]) -> State:
        """Return the state at the next version, at the stage of the sequence that was noted."""
        extra = replace(state.extra, sequence_stage=int(progress["sequence_stage"]))
        return replace(state, version=state.version + 1, extra=extra)

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the full model: all blocks, and the head of the last stage."""
        names: Mapping[str, str] = state.extra.names[-1]
        prefix = f"outputs.{self.num_stages}.head."
        return {
            f"head.{name.removeprefix(prefix)}" if name.startswith(prefix) else name: state.tensors[global_name]
            for name, global_name in names.items()
            if name.startswith(("blocks.", prefix))
        }


def _between(ends: tuple[float, float], stage: int, num_stages: int) -> float:
    """Return the weight of a stage: linear from the first to the last."""
    return ends[0] if num_stages == 1 else ends[0] + (ends[1] - ends[0]) * (stage - 1) / (num_stages - 1)


def _check_tail(tail: int, setting: Setting) -> None:
    longest = max(setting.num_layers[:-1], default=0)
    if not setting.num_layers or tail <= max(longest, 1):
        return
    message = f"is {tail} layers, but a model of one block has none before it; remove it"
    if longest:
        use = "true" if longest == 1 else f"1 to {longest}"
        message = f"is {tail} layers, but blocks that come before another have {longest} at most; use {use}"
    raise ScenarioError([Problem(key="method.tail", message=message)])


def _build(options: NeuLiteOptions, setting: Setting) -> NeuLite:
    _check_tail(int(options.tail), setting)
    return NeuLite(options, num_stages=setting.num_blocks, seed=setting.seed)


COMPONENT = Component(
    kind="neulite",
    summary="one block per round with its own output module; a device holds only a stage's step",
    source="Wu et al., NeuLite, arXiv 2408.10826",
    options=NeuLiteOptions,
    build=_build,
)
