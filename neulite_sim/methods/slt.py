"""SLT: layers are filled up one after the other, those behind them stay thin, and no device needs more memory for it.

Pfeiffer, Khalili and Henkel, "Aggregating Capacity in FL through Successive Layer Training for
Computationally-Constrained Devices", NeurIPS 2023, https://openreview.net/pdf?id=nXNsqB4Yr1, and the authors' code,
https://github.com/k1l1/SLT. The layers of convolutions are counted 1 to K (the stem counts, shortcuts do not). In a
configuration (s, d) the first int(K d) layers are at full width and the later ones keep max(int(s C), 1) of their C
channels; the head keeps all classes. Trained are the last `training_depth` layers of full width, all thin ones and the
head; the layers before are frozen. A run begins at width s_1 throughout and goes through the configurations of rising
d, each as wide as the memory allows (`staircase.py`). Tested is the model of the latest round, whole once s is 1.

Which configurations: those that need no more than a budget by the ledger, on every device that owns data. The budget is
the smallest memory in the fleet that holds a staircase at all, unless `memory` or `subset` says otherwise. A device
that holds more may train more layers, `training_depths`. Rounds are counted in aggregations.

An update is averaged where it holds something, all alike. A layer that one device trains and another holds frozen is
averaged over both, as in the authors' code (`averaged_over`).

BatchNorm has no running statistics in the authors' code: frozen layers, too, normalise by their batch, and so does the
test. Here devices do the same (`bn_frozen: train`); running statistics of trained layers are averaged, and the test
uses them, or better statistics rebuilt from training data, `evaluation.batch_norm: recalibrated`.

Where this differs further from the authors' code: that reads its configurations from a file, which it made with an
estimate of memory of its own; of a device with more memory it counts a shortcut's convolution as one of the layers that
it trains. Its learning rate falls from 0.1 to 0.01 along a cosine, with momentum 0.9, weight decay 0.001, batches of 32
and one epoch: set these in `training`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from neulite_sim.arrays import Integers
from neulite_sim.bounds import MOST_ITEMS, LayerCount, Share
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor, homes, nn
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.staircase import Configuration, OverBudgetError, depths_of, search, switch_rounds
from neulite_sim.methods.width import Layout, OverlapMean, take
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options, refusal
from neulite_sim.units import Bytes, format_bytes

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

__getattr__ = homes(__name__, SuccessiveModel="neulite_sim.methods.successive")

UNSETTLED = ((0.25, 0.25), (0.5, 0.5), (1.0, 0.75))
"""What stands for the configurations until a fleet has settled them."""

LedgerOf = Callable[[Method], Ledger]
Depth = Annotated[float, Field(gt=0, lt=1)]


class SLTOptions(Options):
    """Options of `slt`."""

    memory: Bytes | None = None
    """The budget of every configuration; by default the smallest memory in the fleet that holds a staircase at all."""
    subset: Share | None = None
    """The budget is what the whole network needs at this width, as in the paper: 0.125, 0.25 or 0.5 there."""
    configurations: tuple[tuple[Share, Depth], ...] = Field((), max_length=MOST_ITEMS)
    """Pairs [s, d] in order, in place of a search; s must not fall and d must rise."""
    width_step: Annotated[float, Field(ge=0.001, le=1)] = 0.001
    """The widths that are searched lie so far apart, from 1 downwards."""
    training_depths: tuple[LayerCount, ...] = Field((1,), min_length=1, max_length=MOST_ITEMS)
    """How many layers of full width a device may train, from 1 upwards; each trains the most that its memory holds."""
    averaged_over: Literal["holders", "trainers"] = "holders"
    """Whether devices that hold a layer frozen count, with its old value, where others train it."""
    weighting: Weighting = "uniform"
    """`uniform` weighs all updates alike, as the authors do; `samples` by the device's samples."""
    bn_frozen: Literal["eval", "train"] = "train"
    """Frozen BatchNorm uses the statistics of its batch, as in the authors' code, or running ones."""

    @field_validator("configurations")
    @classmethod
    def _configurations_rise(cls, given: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for (width, depth), (next_width, next_depth) in pairwise(given):
            if next_width < width or next_depth <= depth:
                pair, other = f"[{width:g}, {depth:g}]", f"[{next_width:g}, {next_depth:g}]"
                raise ValueError(f"configurations: s must not fall and d must rise, but {other} follows {pair}; sort")
        return given

    @field_validator("training_depths")
    @classmethod
    def _training_depths_rise(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if given[0] != 1 or any(after <= before for before, after in pairwise(given)):
            raise ValueError(f"training_depths is {list(given)}, but must rise from 1 on; for example [1, 2, 4]")
        return given

    @model_validator(mode="after")
    def _one_way_to_the_configurations(self) -> Self:
        searched = {"memory": self.memory, "subset": self.subset}
        for key, value in searched.items():
            if self.configurations and value is not None:
                raise refusal("acts only without configurations; remove one of them", key, given=value)
        if self.memory is not None and self.subset is not None:
            message = f"does not go with subset {self.subset:g}, each is a budget; remove one of them"
            raise refusal(message, "memory", given=self.memory)
        if self.configurations and self.width_step != type(self).model_fields["width_step"].default:
            raise refusal("acts only without configurations; remove it", "width_step", given=self.width_step)
        return self


class SLT(Method):
    """One configuration after the other, on whoever holds it."""

    scales_width: ClassVar[bool] = True
    rounds_go_by = "in proportion to what each of method.configurations trains"

    def __init__(
        self,
        options: SLTOptions,
        stages: Sequence[Configuration],
        ends: Sequence[int],
        *,
        num_layers: int,
        num_rounds: int,
    ) -> None:
        self._options = options
        self._num_layers, self._num_rounds = num_layers, num_rounds
        self.stages = tuple(stages)
        """The configurations that are trained, in order; the first is thin throughout."""
        self.switches = tuple(ends)
        """After how many rounds each stage ends; the last one goes on if there are more."""
        self._submodels = tuple(self._ladder(stage) for stage in self.stages)
        self.submodels = tuple(dict.fromkeys(name for ladder in self._submodels for name in ladder))
        self._needed_bytes: dict[tuple[object, ...], int] = {}

    def _ladder(self, stage: Configuration) -> tuple[str, ...]:
        """Return the submodels of a stage, the one that trains most first."""
        layers = stage.threshold(self._num_layers)
        depths = [depth for depth in self._options.training_depths if depth == 1 or depth <= layers]
        return tuple(replace(stage, training_depth=depth).name for depth in reversed(depths))

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the means: slices of one submodel lie at the same place."""
        return self._options.weighting

    def _with(self, stages: Sequence[Configuration], ends: Sequence[int]) -> SLT:
        return SLT(self._options, stages, ends, num_layers=self._num_layers, num_rounds=self._num_rounds)

    def settled(self, blueprint: Blueprint, ledger_of: LedgerOf) -> SLT:
        """Return the method with the configurations that its budget allows, and the rounds in proportion to them.

        Raises:
            ScenarioError: `memory` or `subset` does not hold the thinnest configuration of some depth.
        """
        given = tuple(Configuration(width=width, depth=depth) for width, depth in self._options.configurations)
        configurations = given or self._searched(_Needs(self, blueprint, ledger_of, self._needed_bytes))
        if isinstance(configurations, Configuration):
            return self._with((configurations,), (self._num_rounds,))
        stages = _from_thin(configurations)
        if len(stages) == 1:
            return self._with(stages, (self._num_rounds,))
        names = [stage.name for stage in configurations]
        profiles = ledger_of(self._with(configurations, ())).profiles
        trained = [profiles[name].trainable_parameters for name in names]
        return self._with(stages, switch_rounds(trained, configurations[0].width, self._num_rounds))

    def _searched(self, needs: _Needs) -> tuple[Configuration, ...] | Configuration:
        """Return what the search finds; one configuration that nobody holds where it finds nothing for anybody."""
        options, depths = self._options, depths_of(self._num_layers)
        budgets = needs.owned_bytes if options.memory is None else np.array([options.memory])
        if options.subset is not None:
            budgets = np.array([needs.bytes_of(options.subset, 0.0)])
        budget = int(budgets.min())
        while True:
            try:
                return search(needs.bytes_of, budget, depths, step=options.width_step)
            except OverBudgetError as short:
                if options.memory is not None or options.subset is not None:
                    raise _too_little(options, budget, short) from None
                larger = budgets[budgets >= short.needed]
                if not len(larger):
                    return short.thinnest
                budget = int(larger.min())

    def rounds_before(self, ledger: Ledger) -> Mapping[str, float]:
        """Return after which round each stage begins; never, if the next one begins with it."""
        del ledger
        begins, ends = (0, *self.switches), (*self.switches[: len(self.stages) - 1], math.inf)
        names = (ladder[-1] for ladder in self._submodels)
        return {name: begin if begin < end else math.inf for name, begin, end in zip(names, begins, ends, strict=False)}

    def _stage_at(self, version: int) -> int:
        """Return which stage comes after `version` rounds."""
        return min(sum(version >= end for end in self.switches), len(self.stages) - 1)

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the model of the configuration that the submodel is named for."""
        from neulite_sim.methods.successive import SuccessiveModel

        return SuccessiveModel(blueprint, Configuration.named(submodel), frozen_batch_norm=self._options.bn_frozen)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised full model."""
        from neulite_sim.methods.successive import slices_of
        from neulite_sim.models.trainee import float_tensors

        tensors = float_tensors(blueprint.build_seeded(seed))
        slices = slices_of(blueprint, {name: Configuration.named(name) for name in self.submodels})
        return State(version=0, tensors=tensors, extra=slices)

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the round's configuration, with as many trained layers as fit."""
        ladder = self._submodels[self._stage_at(state.version)]
        return Offering(stage=ladder[-1], submodels=ladder)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the leading channels of each layer that the configuration holds."""
        slices: Layout = state.extra
        return slices.taken(state.tensors, submodel)

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model with each scalar the mean over the updates that hold it; what nobody trained stays."""
        slices: Layout = state.extra
        mean = OverlapMean(state.tensors)
        trained: set[str] = set()
        frozen: dict[tuple[str, str], float] = {}
        for update in updates:
            weight = update.weight(self._options.weighting)
            for name, tensor in update.tensors.items():
                mean.add(name, slices.indices(update.submodel, name), tensor, weight)
            trained |= update.tensors.keys()
            for name in slices.shapes[update.submodel].keys() - update.tensors.keys():
                frozen[update.submodel, name] = frozen.get((update.submodel, name), 0.0) + weight
        if self._options.averaged_over == "holders":
            for (submodel, name), weight in sorted(frozen.items()):
                if name in trained:
                    indices = slices.indices(submodel, name)
                    mean.add(name, indices, take(state.tensors[name], indices), weight)
        return State(version=state.version + 1, tensors=mean.result(), extra=slices)

    def evaluated(self, state: State) -> str:
        """Return what the latest round trained, the full model once that is at full width."""
        stage = self.stages[self._stage_at(max(0, state.version - 1))]
        return FULL if stage.width == 1 else stage.name

    def evaluation_model(self, name: str, blueprint: Blueprint) -> nn.Module:
        """Return the model of a configuration, or the full one."""
        return blueprint.build() if name == FULL else self.trainee(name, blueprint)

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the tensors of what is tested."""
        name = self.evaluated(state)
        return state.tensors if name == FULL else self.payload(state, name)


class _Needs:
    """How much memory configurations need by the ledger, each asked of it once; `known` is what others were told.

    Where devices choose from several plans for their steps, that is by the plan in which the full model needs least.
    """

    def __init__(
        self, method: SLT, blueprint: Blueprint, ledger_of: LedgerOf, known: dict[tuple[object, ...], int]
    ) -> None:
        from neulite_sim.methods.successive import chain_of

        self._method, self._ledger_of = method, ledger_of
        self._chain, self._known = chain_of(blueprint), known
        ledger = self._ledger(Configuration(width=1.0, depth=0.0))
        self._owners = np.flatnonzero(ledger.owns_data)
        self.owned_bytes: Integers = ledger.available_memory_bytes[self._owners]
        nothing = ledger.with_memory(np.zeros_like(ledger.available_memory_bytes))
        self._plan = ledger.plans[int(nothing.chosen(FULL)[self._owners[0]])]

    def _ledger(self, configuration: Configuration) -> Ledger:
        return self._ledger_of(self._method._with((configuration,), ()))

    def bytes_of(self, width: float, depth: float) -> int:
        """Return the memory with which every device that owns data trains a configuration."""
        asked = width, depth
        if asked not in self._known:
            configuration = Configuration(width=width, depth=depth)
            # Many widths keep equally many channels.
            shapes = configuration.num_frozen(self._chain.num_layers), *self._chain.shapes(configuration).values()
            if shapes not in self._known:
                ledger = self._ledger(configuration)
                self._known[shapes] = int(ledger.peak_by(configuration.name, self._plan, self._owners).max())
            self._known[asked] = self._known[shapes]
        return self._known[asked]


def _from_thin(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """Return the first configuration's width throughout, then the configurations; at width 1 the former is all."""
    thin = Configuration(width=configurations[0].width, depth=0.0)
    return (thin,) if thin.width == 1 else (thin, *configurations)


def _too_little(options: SLTOptions, budget: int, short: OverBudgetError) -> ScenarioError:
    """Return the refusal of a budget that was asked for."""
    key = "memory" if options.memory is not None else "subset"
    given = "" if key == "memory" else f"{options.subset:g}, a budget of "
    finding = (
        f"is {given}{format_bytes(budget)}, but {short.thinnest.name}, the thinnest configuration of its depth, needs "
        f"{format_bytes(short.needed)}"
    )
    return ScenarioError([Problem.advising(key=f"method.{key}", found=finding, hint="raise it, or remove it")])


def _build(options: SLTOptions, setting: Setting) -> SLT:
    pairs = options.configurations or UNSETTLED
    stages = _from_thin([Configuration(width=width, depth=depth) for width, depth in pairs])
    later = len(stages) - 1
    ends = switch_rounds([1] * later, stages[0].width, setting.max_rounds) if later else (setting.max_rounds,)
    num_layers = sum(setting.num_layers) or setting.num_blocks
    return SLT(options, stages, ends, num_layers=num_layers, num_rounds=setting.max_rounds)


COMPONENT = Component(
    kind="slt",
    summary="layers are filled up one after the other, those behind stay thin; meant for batch_norm: recalibrated",
    source="Pfeiffer, Khalili and Henkel, SLT, NeurIPS 2023",
    options=SLTOptions,
    build=_build,
)
