"""Federated Dropout: every device trains a random subset of the channels of each layer, drawn anew in each round.

Caldas, Konecny, McMahan and Talwalkar, "Expanding the Reach of Federated Learning by Reducing Client Resource
Requirements", 2018, https://arxiv.org/abs/1812.07210, section 3.2. Per round, device and layer a random set of
`ceil(r n)` of the n channels is kept; a layer reads the set that the one before it put out. The device gets, trains
and returns a dense model of the kept channels alone, and does not know of the others. Layers that add into one stream
(residual connections) share one set, as their sums would mean nothing otherwise; so do those that act on single
channels (BatchNorm). Image channels and classes are all kept. The set of a round and device is drawn from the stream
(seed, "dropout-set", version of the model, device): the same wherever and whenever it is asked for.

A device trains the largest of `rates` that fits it, as with HeteroFL; each scalar becomes the mean over the updates
that hold it, and what nobody held stays as it was.

Where this differs from the paper: that has one rate for all devices, here memory decides; that drops a fixed number of
units of fully connected layers and of filters of convolutions and knows no residual networks, whose streams follow
FedRolex's comparison (`ResnetServerRandom` of its repository), which gives both convolutions of a residual block sets
of their own. There the second one's set differs from what the shortcut adds to; here it is the stream's. Outputs of
hidden layers are divided by the rate while training, the factor of inverted dropout, unless `scaler` is off: the
paper's text could not be read for this point. Devices normalise with the statistics of their batch, and the global
model is meant to be tested with `evaluation.batch_norm: recalibrated`; running statistics are averaged as well.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neulite_sim.later import Tensor, torch
from neulite_sim.methods.contract import Setting, State, Update
from neulite_sim.methods.sliced import SlicedMethod, SlicedOptions
from neulite_sim.methods.width import Indices, Layout, layout, take
from neulite_sim.models.names import FULL
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component
from neulite_sim.seeding import stream

if TYPE_CHECKING:
    from neulite_sim.models.contract import Blueprint


class FederatedDropoutOptions(SlicedOptions):
    """Options of `federated-dropout`."""

    masked_cross_entropy: bool = False
    """Set the logits of classes that a device does not own to 0 in its loss, as HeteroFL does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scattered(Layout):
    """A layout whose thin models hold any channels of each stream.

    `streams[name]` has for each dimension the streams of the maps that lie side by side in it, none for one that is
    held whole; stream s has `num_channels[s]` channels.
    """

    streams: Mapping[str, tuple[tuple[int, ...], ...]]
    num_channels: tuple[int, ...]

    def at(self, submodel: str, name: str, orders: tuple[Tensor, ...]) -> Indices:
        """Return which scalars of the global tensor `name` a device holds, for which streams are in these orders.

        Of each stream it holds the first ones of its order, as many as the submodel has, ascending.
        """
        return tuple(
            None
            if size == axis.size
            else axis.positions([orders[s][:n].sort().values for s, n in zip(maps, axis.counts(size), strict=True)])
            for axis, size, maps in zip(self.axes[name], self.shapes[submodel][name], self.streams[name], strict=True)
        )

    def is_whole(self, submodel: str, name: str) -> bool:
        """Return whether the submodel holds all of a tensor, whoever the device is."""
        return self.shapes[submodel][name] == tuple(axis.size for axis in self.axes[name])


class FederatedDropout(SlicedMethod):
    """The largest rate that fits, with channels of its own, on each device in each round."""

    def __init__(self, options: FederatedDropoutOptions, seed: int) -> None:
        super().__init__(options)
        self._seed = seed

    def start(self, blueprint: Blueprint, seed: int, ledger: Ledger) -> State:
        """Return the freshly initialised full model."""
        from neulite_sim.methods.streams import streams
        from neulite_sim.models.trainee import float_tensors

        tensors = float_tensors(blueprint.build_seeded(seed))
        flat = layout(blueprint, self._rates)
        of_tensors, num_channels = streams(blueprint, flat.axes)
        scattered = Scattered(
            axes=flat.axes,
            shapes=flat.shapes,
            classifier=flat.classifier,
            streams=of_tensors,
            num_channels=num_channels,
        )
        return State(version=0, tensors=tensors, extra=scattered)

    def payload(self, state: State, submodel: str) -> Mapping[str, Tensor]:
        """Return what every device of a rate holds: all of the full model, of a thin one what has only classes."""
        slices: Scattered = state.extra
        shapes = slices.shapes[submodel]
        return {name: state.tensors[name] for name in shapes if slices.is_whole(submodel, name)}

    def personal_payload(self, state: State, device: int, submodel: str) -> Mapping[str, Tensor]:
        """Return the rest of a thin model: the channels of this device in the round of this version."""
        slices: Scattered = state.extra
        if submodel == FULL:
            return {}
        orders = self._orders(slices, state.version, device)
        return {
            name: take(state.tensors[name], slices.at(submodel, name, orders))
            for name in slices.shapes[submodel]
            if not slices.is_whole(submodel, name)
        }

    def counted(self, slices: Layout, update: Update, name: str) -> tuple[Indices, Tensor]:
        """Return the scalars that the device of an update was sent in the round of its version."""
        assert isinstance(slices, Scattered), "the layout is the one of `start`"
        orders = self._orders(slices, update.version, update.device)
        return slices.at(update.submodel, name, orders), update.tensors[name]

    def _orders(self, slices: Scattered, version: int, device: int) -> tuple[Tensor, ...]:
        return drawn_orders(self._seed, version, device, slices.num_channels)


@functools.lru_cache(maxsize=8)
def drawn_orders(seed: int, version: int, device: int, num_channels: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return a random order of the channels of each stream; a device of rate r keeps the first `ceil(r n)` of each.

    They do not depend on the rate.
    """
    rng = stream(seed, "dropout-set", version, device)
    return tuple(torch.from_numpy(rng.permutation(number)) for number in num_channels)


def _build(options: FederatedDropoutOptions, setting: Setting) -> FederatedDropout:
    return FederatedDropout(options, setting.seed)


COMPONENT = Component(
    kind="federated-dropout",
    summary="each device trains random channels of each layer, drawn anew each round; meant for recalibrated BatchNorm",
    source="Caldas et al., 2018, arXiv 1812.07210",
    options=FederatedDropoutOptions,
    build=_build,
)
