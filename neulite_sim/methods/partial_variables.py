"""Partial variable training: every device trains a random subset of the variables, and the others stay frozen.

Yang, Guliani, Beaufays and Motta, "Partial Variable Training for Efficient On-Device Federated Learning", ICASSP 2022,
https://arxiv.org/abs/2110.05607. A *variable* is a tensor of weights or biases. A device holds the whole model, trains
the variables that were drawn for it in this round and sends back those alone; the server takes the mean of each over
the devices that trained it, and those that nobody trained stay. Memory falls by the gradients and optimizer states of
frozen variables, and by the activations before the first trained one; the others are needed to go backwards.

A device trains the largest of `shares` whose step fits it, whatever is drawn: what is charged is a peak that no draw of
the share exceeds (`HeaviestModel`). Seconds and bytes are those of a typical draw (decision 40). The set is drawn from
the stream (seed, "trained-variables", version of the model, device).

Only the paper's abstract and introduction could be read for this. That it draws anew per round and client is from
memory, as is that it freezes none but the variables that multiply, because biases need no activations: here all are
alike. It has one share for all devices, here memory decides. It counts variables, here a set is also bounded in
scalars (`variable_sets.py`). A BatchNorm layer of which nothing is trained normalises with its running statistics
(`bn_frozen: eval`) and sends none; the paper's networks have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from neulite_sim.bounds import Share
from neulite_sim.later import Tensor, torch
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.rates import falling
from neulite_sim.methods.variable_sets import MASK, Rung
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.seeding import stream

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

SHARES = (1.0, 0.5, 0.25, 0.125)
MOST_SHARES = 64
"""Each share is a submodel that is profiled."""


class PartialVariablesOptions(Options):
    """Options of `partial-variables`."""

    shares: tuple[Share, ...] = Field(SHARES, max_length=MOST_SHARES)
    """Shares of the variables that are offered, largest first, beginning with 1, which is the full model."""
    bn_frozen: Literal["eval", "train"] = "eval"
    """Frozen BatchNorm uses its running statistics (`eval`), or those of the batch (`train`)."""
    weighting: Weighting = "samples"
    """`samples` weighs an update by the device's samples, `uniform` weighs all alike."""

    @field_validator("shares")
    @classmethod
    def _shares_fall(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        return falling("shares", given, num_names=len(_names_of(given)))


def _names_of(shares: Iterable[float]) -> dict[str, float]:
    """Return the shares by the names of their submodels, in order."""
    return {FULL if share == 1 else f"share-{share:g}": share for share in shares}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The rungs of a model's shares, by submodel."""

    rungs: Mapping[str, Rung]


class PartialVariables(Method):
    """The largest share that fits, of variables drawn anew, on each device in each round."""

    skippable_submodels: ClassVar[bool] = True

    def __init__(self, options: PartialVariablesOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._shares = _names_of(options.shares)
        self.submodels = tuple(self._shares)

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the full model, or one that is told which of its variables are trained."""
        from neulite_sim.methods.variables import PartialModel
        from neulite_sim.models.trainee import FullModel

        if submodel == FULL:
            return FullModel(blueprint)
        return PartialModel(blueprint, self._shares[submodel], frozen_batch_norm=self._options.bn_frozen)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised full model."""
        from neulite_sim.models.trainee import float_tensors

        model = blueprint.build_seeded(seed)
        sizes = [variable.numel() for variable in model.parameters()]
        ladder = Ladder(rungs={name: Rung.of(share, sizes) for name, share in self._shares.items()})
        return State(version=0, tensors=float_tensors(model), extra=ladder)

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the largest share that fits."""
        return Offering(stage="variables", submodels=self.submodels)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return the whole model: what is frozen is needed, too."""
        return state.tensors

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return which variables this device trains in the round of this version: a one for each of them."""
        if submodel == FULL:
            return {}
        mask = state.extra.rungs[submodel].drawn(stream(self._seed, "trained-variables", state.version, device))
        return {MASK: torch.tensor([float(flag) for flag in mask])}

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model with each variable the mean over the devices that trained it."""
        mean = weighted_mean(updates, self._options.weighting)
        return State(version=state.version + 1, tensors=merged(state.tensors, mean), extra=state.extra)


def _build(options: PartialVariablesOptions, setting: Setting) -> PartialVariables:
    return PartialVariables(options, setting.seed)


COMPONENT = Component(
    kind="partial-variables",
    summary="each device trains a random share of the variables, drawn anew each round; the others are frozen",
    source="Yang et al., ICASSP 2022, arXiv 2110.05607",
    options=PartialVariablesOptions,
    build=_build,
)
