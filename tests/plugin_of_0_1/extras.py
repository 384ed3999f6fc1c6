"""A dataset, an architecture, a selector and a method for neulite-sim."""

import numpy as np
import torch
from pydantic import Field
from torch import nn

from neulite_sim.data.contract import Dataset, DatasetOptions
from neulite_sim.methods.aggregation import merged
from neulite_sim.methods.contract import State
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.models.contract import BlockModel, scaled
from neulite_sim.registry import Component, Options
from neulite_sim.seeding import stream
from neulite_sim.selection.contract import Selector, SelectorOptions


class BarsOptions(DatasetOptions):
    """Options of `bars`."""

    samples: int = Field(200, ge=2)
    """Number of training samples; half as many are for tests."""


def build_bars(options, seed):
    """Return grey images of 8x8 pixels: a bright row is class 0, a bright column class 1."""
    rng = stream(seed, "bars")
    count = options.samples + options.samples // 2
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 100, (count, 1, 8, 8)).astype(np.uint8)
    for image, label, place in zip(images[:, 0], labels, rng.integers(0, 8, count), strict=True):
        (image if label == 0 else image.T)[place] = 255
    cut = options.samples
    return Dataset(
        name="bars",
        train_images=images[:cut],
        train_labels=labels[:cut],
        test_images=images[cut:],
        test_labels=labels[cut:],
        num_classes=2,
        mean=(0.27,),
        std=(0.25,),
        pixel_scale=255.0,
    )


def small(input_shape, num_classes, width):
    """Return two convolutions, a block each, and a linear head; `width` scales both."""
    channels, height, side = input_shape
    first, second = scaled(8, width), scaled(16, width)
    blocks = [
        nn.Sequential(nn.Conv2d(channels, first, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU()),
    ]
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(second, num_classes))
    shapes = ((first, height, side), (second, -(-height // 2), -(-side // 2)))
    return BlockModel(blocks, head, tails=(("0",), ("0",)), block_shapes=shapes)


def build_small(options):
    return small


class Rotation(Selector):
    """Whoever was chosen least often; ties are drawn."""

    def __init__(self, num_devices):
        self._times = np.zeros(num_devices, dtype=np.int64)

    def choose(self, offers, count, rng):
        order = np.lexsort((rng.random(len(offers)), self._times[offers.devices]))
        chosen = np.sort(order[:count]).astype(np.int64)
        self._times[offers.devices[chosen]] += 1
        return chosen


def build_rotation(options, setting):
    return Rotation(setting.num_devices)


class Median(FedAvg):
    """FedAvg with the median of each scalar in place of the mean. Holds all updates of a round at once."""

    def digest(self, state, updates):
        received = [update.tensors for update in updates]
        names = received[0] if received else ()
        medians = {name: torch.stack([tensors[name] for tensors in received]).median(dim=0).values for name in names}
        return State(version=state.version + 1, tensors=merged(state.tensors, medians))


def build_median(options, setting):
    return Median(memory_limit=True, weighting="uniform")


BARS = Component(
    kind="bars", summary="bright rows and columns", source="this page", options=BarsOptions, build=build_bars
)
SMALL = Component(kind="small", summary="two convolutions", source="this page", options=Options, build=build_small)
ROTATION = Component(
    kind="rotation",
    summary="whoever was chosen least often",
    source="this page",
    options=SelectorOptions,
    build=build_rotation,
)
MEDIAN = Component(
    kind="median",
    summary="fedavg with the coordinate-wise median",
    source="Yin et al., ICML 2018, arXiv 1803.01498",
    options=Options,
    build=build_median,
)
