"""FeDepth: within one round a device trains the whole network, but part by part, so that it holds one part's step.

Zhang, Dai, Wang, Xing, Chen and Sun, "Memory-adaptive Depth-wise Heterogenous Federated Learning",
https://arxiv.org/abs/2303.04887; facts below are those of the authors' code (taokz/FeDepth). Part j of a device trains
its blocks, the link from its output to the head, and the head; what lies before is frozen, what lies behind is not
applied. Each part goes through all local epochs before the next begins, under one optimizer for all. A device takes the
fewest parts whose largest fits. The server takes the mean of the whole model over the devices, weighed by samples.

Parts are made of the blocks that NeuLite's stages are made of. `parts-k` cuts these into k runs such that the step of
the largest is as small as possible (`parted_cuts.py`); one part is the full model, trained as by FedAvg. A device that
holds no block's step beside the whole model trains partially (`partial-n`): the last n blocks, one after the other,
while those before stay frozen as they were sent. The mean of a tensor is over the devices that trained it.

Where this differs from the authors' code: that assigns 6, 3, 2 or 1 parts of PreResNet-20's nine blocks to the quarters
of the fleet (budgets of 1/6, 1/3, 1/2, 1), here memory decides. Its partial training leaves the first blocks out of the
network, which the shapes of other networks do not allow, and counts what was not trained in the mean. It normalises
frozen blocks by the batch, as with `bn_frozen: train`. On the PyTorch it names, gradients are zeroed instead of
dropped, so that parts trained before go on moving by momentum and weight decay; here frozen is frozen. Its second
model, which devices with memory to spare distil from (m-FeDepth), is another method and not built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import Tensor, homes, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.parted_plan import Ends, LinkKind, PartedPlan
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.scenario.schema import Training
from neulite_sim.seeding import integer_seed

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

__getattr__ = homes(__name__, PartedModel="neulite_sim.methods.parted")


class FeDepthOptions(Options):
    """Options of `fedepth`; the defaults are the authors' where nothing else is said."""

    link: LinkKind = "pad"
    """From a part's map to the shape that the head reads: `pad` takes every n-th pixel and adds channels of zeros, as
    the published code; `conv` takes these pixels through a 1x1 convolution, which is trained and averaged as well."""
    partial: bool = True
    """Whether a device that holds no block's step besides the whole model trains the last blocks alone."""
    bn_frozen: Literal["eval", "train"] = "eval"
    """Frozen BatchNorm uses running statistics, or those of the batch as in the authors' code."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What FeDepth remembers beside its tensors: where the parts of each submodel end."""

    ends: Mapping[str, tuple[int, ...]]


class FeDepth(Method):
    """Every device is offered the fewest parts that it can hold, and the last blocks where it can hold none."""

    def __init__(self, options: FeDepthOptions, *, num_blocks: int, ends: Ends | None) -> None:
        self._options = options
        self._num_blocks = num_blocks
        self._ends = ends
        parts = [FULL, *(f"parts-{number}" for number in range(2, num_blocks + 1))]
        partial = [f"partial-{number}" for number in range(num_blocks - 1, 0, -1)] if options.partial else []
        self.submodels = (*parts, *partial)

    @property
    def shaped_by(self) -> Any:
        """Where the parts of each submodel end, where what is charged has decided it."""
        return self._ends or ()

    @property
    def folds_by(self) -> Weighting | None:
        """The weighting of the mean: `digest` needs nothing else of the updates."""
        return self._options.weighting

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the whole model with the parts of a submodel."""
        from neulite_sim.methods.parted import PartedModel
        from neulite_sim.models.trainee import FullModel

        if submodel == FULL:
            return FullModel(blueprint)
        return PartedModel(blueprint, self.plan(submodel, blueprint))

    def plan(self, submodel: str, blueprint: Blueprint) -> PartedPlan:
        """Return the parts of a submodel: cut as what is charged says, or by `blueprint` where that is not known."""
        kind, _, number = submodel.partition("-")
        num_frozen = self._num_blocks - int(number) if kind == "partial" else 0
        if submodel == FULL:
            ends: tuple[int, ...] = (self._num_blocks,)
        elif kind == "partial":
            ends = tuple(range(num_frozen + 1, self._num_blocks + 1))
        else:
            from neulite_sim.methods.parted_cuts import balanced_ends

            ends = (self._ends or balanced_ends(blueprint, Training()))[int(number) - 1]
        return PartedPlan(
            num_frozen=num_frozen, ends=ends, link=self._options.link, frozen_batch_norm=self._options.bn_frozen
        )

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model, and a link behind each block but the last where links are trained."""
        from neulite_sim.methods.parted import make_link
        from neulite_sim.models.trainee import float_tensors

        model = blueprint.build_seeded(seed)
        tensors = float_tensors(model)
        for block in range(1, self._num_blocks):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(integer_seed(seed, "fedepth-link", block))
                link = float_tensors(make_link(model, block, self._options.link))
            tensors.update((f"links.{block}.{name}", tensor) for name, tensor in link.items())
        ends = {submodel: self.plan(submodel, blueprint).ends for submodel in self.submodels}
        return State(version=0, tensors=tensors, extra=_Memory(ends=ends))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the fewest parts that fit, then of the most blocks that can be trained alone."""
        return Offering(stage=FULL, submodels=self.submodels)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the whole model, and the links behind the submodel's parts."""
        memory: _Memory = state.extra
        sent = ("blocks.", "head.", *(f"links.{end}." for end in memory.ends[submodel]))
        return {name: tensor for name, tensor in state.tensors.items() if name.startswith(sent)}

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the weighted mean of each tensor over the devices that trained it; what nobody trained stays."""
        mean = weighted_mean(updates, self._options.weighting)
        return replace(state, version=state.version + 1, tensors=merged(state.tensors, mean))

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the model without the links: the whole of it is applied, as in the last part."""
        return {name: tensor for name, tensor in state.tensors.items() if not name.startswith("links.")}


def _build(options: FeDepthOptions, setting: Setting) -> FeDepth:
    if setting.num_blocks == 1:
        finding = "fedepth trains a model part by part, and this one has 1 block, which leaves one part: the full model"
        hint = "use a model of at least 2 blocks, or method fedavg, which trains the same"
        raise ScenarioError([Problem.advising(key="method", found=finding, hint=hint)])
    ends = None
    if setting.charged is not None:
        from neulite_sim.methods.parted_cuts import balanced_ends

        ends = balanced_ends(setting.charged, setting.training or Training())
    return FeDepth(options, num_blocks=setting.num_blocks, ends=ends)


COMPONENT = Component(
    kind="fedepth",
    summary="each device trains the whole model part by part within a round, in as few parts as it can hold",
    source="Zhang et al., FeDepth, arXiv 2303.04887",
    options=FeDepthOptions,
    build=_build,
)
