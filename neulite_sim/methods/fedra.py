"""FedRA: each device trains adapters of layers drawn at random, and these layers are all that it holds of the network.

S. Su, B. Li and X. Xue, "FedRA: A Random Allocation Strategy for Federated Tuning to Unleash the Power of Heterogeneous
Clients", ECCV 2024, https://arxiv.org/abs/2311.11227. In each round l of the L layers of a transformer are drawn for
each device, without replacement; its model is what stands before them, these layers in their order, and the head. It
trains adapters (`adapters.py`) of rank 8 with alpha 8, and the head. The server takes the mean of each layer's factors
over the devices that held it, unweighted; what nobody held stays.

A device holds the largest of `shares` of the layers that fits it. The layers are alike, so any draw of as many costs
the same, in memory, seconds and bytes. They are drawn from the stream (seed, "fedra-layers", version, device).

Where this differs: shares in place of numbers, so that what is charged and what is really trained may be networks of
different depth. The paper's layers are those of released weights; here they are those that the model starts with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from neulite_sim.bounds import MOST_CHANNELS, Share
from neulite_sim.later import Tensor
from neulite_sim.methods.aggregation import merged, weighted_mean
from neulite_sim.methods.contract import Method, Offering, Setting, State, Update, Weighting
from neulite_sim.methods.rates import falling
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.seeding import stream

if TYPE_CHECKING:
    from neulite_sim.methods.layer_row import LayerRow
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.trainee import Trainee

SHARES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)
MOST_SHARES = 64
"""Each share is a submodel that is profiled."""


class FedRAOptions(Options):
    """Options of `fedra`; the defaults are the authors' where nothing else is said."""

    shares: tuple[Share, ...] = Field(SHARES, max_length=MOST_SHARES)
    """Shares of the layers that are offered, largest first, beginning with 1; a share is rounded up to whole layers."""
    rank: int = Field(8, ge=1, le=MOST_CHANNELS)
    """Rank of the adapters."""
    alpha: float = Field(8.0, gt=0, le=1e6)
    """What is added to a frozen weight is alpha / rank times the product of the factors."""
    head: Literal["trained", "frozen"] = "trained"
    """Whether the head is trained, whole, beside the adapters."""
    base: Literal["installed", "sent"] = "installed"
    """`installed`: devices have the frozen weights of all layers from before the run, on their storage. `sent`: each
    flight downloads those that it uses."""
    weighting: Weighting = "uniform"
    """`uniform` weighs all devices alike, as the authors do; `samples` by the device's samples."""

    @field_validator("shares")
    @classmethod
    def _shares_fall(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        return falling("shares", given, num_names=len(_names_of(given)))


def _names_of(shares: Iterable[float]) -> dict[str, float]:
    return {f"layers-{share:g}": share for share in shares}


class FedRA(Method):
    """The largest share of the layers that fits, drawn anew, on each device in each round."""

    skippable_submodels: ClassVar[bool] = True

    def __init__(self, options: FedRAOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._shares = _names_of(options.shares)
        self.submodels = tuple(self._shares)

    def num_layers(self, submodel: str, row: LayerRow) -> int:
        """Return how many of a network's layers a submodel holds."""
        return math.ceil(self._shares[submodel] * len(row.layers))

    def trainee(self, submodel: str, blueprint: Blueprint) -> Trainee:
        """Return the network with as many of its layers, each with adapters."""
        from neulite_sim.methods.adapters import AdaptedModel, AdapterPlan
        from neulite_sim.methods.layer_row import layer_row, leave_out

        options, row = self._options, layer_row(blueprint)
        plan = AdapterPlan(
            adapted="auto",
            rank=options.rank,
            scale=options.alpha / options.rank,
            trains_head=options.head == "trained",
            sends_base=options.base == "sent",
        )
        cut = functools.partial(leave_out, row=row, num_left=self.num_layers(submodel, row))
        return AdaptedModel(blueprint, plan, prepare=cut)

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised model, with adapters whose product is zero."""
        from neulite_sim.methods.adapters import adapted_shapes, first_factors
        from neulite_sim.methods.layer_row import layer_row
        from neulite_sim.models.trainee import float_tensors

        tensors = float_tensors(blueprint.build_seeded(seed))
        tensors.update(first_factors(adapted_shapes(blueprint, "auto"), self._options.rank, self._seed, 0))
        return State(version=0, tensors=tensors, extra=layer_row(blueprint))

    def offering(self, state: State, ledger: Ledger) -> Offering:
        """Return the offer of the largest share of the layers that fits."""
        return Offering(stage="layers", submodels=self.submodels)

    def drawn(self, row: LayerRow, submodel: str, version: int, device: int) -> tuple[int, ...]:
        """Return the layers that a device holds in the round of a version, as numbers from 0, rising."""
        order = stream(self._seed, "fedra-layers", version, device).permutation(len(row.layers))
        return tuple(sorted(order[: self.num_layers(submodel, row)].tolist()))

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return what every device holds: all that is no layer."""
        row: LayerRow = state.extra
        return {name: tensor for name, tensor in state.tensors.items() if row.place_of(name) is None}

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return the layers that were drawn for this device, by the names of their places."""
        row: LayerRow = state.extra
        drawn = self.drawn(row, submodel, state.version, device)
        places = {name: row.place_of(name) for name in state.tensors}
        return {name: state.tensors[row.at(name, drawn)] for name, place in places.items()
                if place is not None and place < len(drawn)}  # fmt: skip

    def digest(self, state: State, updates: Iterable[Update]) -> State:
        """Return the model with each layer's factors the mean over the devices that held it."""
        row: LayerRow = state.extra
        put_back = (self._put_back(row, update) for update in updates)
        mean = weighted_mean(put_back, self._options.weighting)
        return replace(state, version=state.version + 1, tensors=merged(state.tensors, mean))

    def _put_back(self, row: LayerRow, update: Update) -> Update:
        """Return an update under the names of the layers that its device held."""
        drawn = self.drawn(row, update.submodel, update.version, update.device)
        return replace(update, tensors={row.at(name, drawn): tensor for name, tensor in update.tensors.items()})

    def evaluation_tensors(self, state: State) -> Mapping[str, Tensor]:
        """Return the whole network whose weights hold what the adapters add."""
        from neulite_sim.methods.adapters import with_adapters

        return with_adapters(state.tensors, self._options.alpha / self._options.rank)


def _build(options: FedRAOptions, setting: Setting) -> FedRA:
    if setting.charged is not None:
        from neulite_sim.methods.layer_row import layer_row

        # A model without such a row is refused here, before a profile is begun.
        layer_row(setting.charged)
    return FedRA(options, setting.seed)


COMPONENT = Component(
    kind="fedra",
    summary="each device trains adapters of random layers, which are all that it holds, as many as its memory takes",
    source="Su et al., FedRA, ECCV 2024, arXiv 2311.11227",
    options=FedRAOptions,
    build=_build,
)
