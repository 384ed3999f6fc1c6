"""What the tests of methods share: toys of a few channels, blueprints, updates and a ledger of peaks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from neulite_sim.methods.contract import Setting, Update
from neulite_sim.models.contract import BlockModel, Blueprint, scaled
from neulite_sim.registry import component

SETTING = Setting(num_blocks=2, num_devices=3, max_rounds=8, seed=0)
RATES = (1.0, 0.5, 0.25)


def toy(input_shape, num_classes, width):
    """Return conv 1 -> 4, BatchNorm, conv 4 -> 4 and a linear classifier: the layers of the worked oracles."""
    channels, height, side = scaled(4, width), *input_shape[1:]
    first = nn.Sequential(nn.Conv2d(input_shape[0], channels, 3, padding=1), nn.BatchNorm2d(channels))
    second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    shapes = ((channels, height, side),) * 2
    return BlockModel([first, second], head, tails=((), ()), block_shapes=shapes)


def twins(input_shape, num_classes, width):
    """Return a layer of convolution and BatchNorm, and two alike after it, which put out the shape that they read."""
    channels, height, side = scaled(16, width), *input_shape[1:]

    def layer(channels_in):
        conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())

    blocks = [nn.Sequential(layer(input_shape[0]), layer(channels)), nn.Sequential(layer(channels))]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    layers = ((("0",), ("1",)), (("0",),))
    shapes = ((channels, height, side),) * 2
    return BlockModel(blocks, head, tails=(("1",), ("0",)), block_shapes=shapes, layers=layers)


TOY = Blueprint(architecture=toy, input_shape=(1, 4, 4), num_classes=3, name="toy")
CONV1, CONV2 = "blocks.0.0.weight", "blocks.1.0.weight"
NORM, STATISTICS, HEAD, HEAD_BIAS = "blocks.0.1.weight", "blocks.0.1.running_mean", "head.2.weight", "head.2.bias"


def three(input_shape, num_classes, width):
    """Return three blocks with BatchNorm, of 4, 6 and 9 channels and sides that halve, and a head of its own norm."""
    channels, blocks, shapes = input_shape[0], [], []
    side = input_shape[1]
    for number, after in enumerate(scaled(base, width) for base in (4, 6, 9)):
        conv = nn.Conv2d(channels, after, 3, 2 if number else 1, padding=1)
        blocks.append(nn.Sequential(conv, nn.BatchNorm2d(after), nn.Tanh()))
        channels, side = after, side if not number else side // 2
        shapes.append((channels, side, side))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return BlockModel(blocks, head, tails=(("0",),) * 3, block_shapes=tuple(shapes))


THREE = Blueprint(architecture=three, input_shape=(1, 8, 8), num_classes=3, name="three")


def samples(count=9, dtype=torch.float64):
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 3
    images = rng.normal(size=(count, 1, 8, 8)) + labels[:, None, None, None]
    return torch.from_numpy(images).to(dtype), torch.from_numpy(labels)


def plain_block(weights, number, maps, *, trains):
    """Return what a block of `THREE` makes of maps, from its weights by name, as a plain script would write it.

    One that `trains` normalises by the batch and moves its running statistics in `weights`.
    """
    at = f"blocks.{number}"
    maps = F.conv2d(maps, weights[f"{at}.0.weight"], weights[f"{at}.0.bias"], 2 if number else 1, padding=1)
    mean, var = weights[f"{at}.1.running_mean"], weights[f"{at}.1.running_var"]
    if trains:
        with torch.no_grad():
            count = maps.numel() // maps.shape[1]
            mean += 0.1 * (maps.mean(dim=(0, 2, 3)) - mean)
            var += 0.1 * (maps.var(dim=(0, 2, 3), unbiased=False) * count / (count - 1) - var)
        mean, var = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3), unbiased=False)
    maps = (maps - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return torch.tanh(maps * weights[f"{at}.1.weight"][:, None, None] + weights[f"{at}.1.bias"][:, None, None])


def fitting(name, kind):
    """Return the kind of network that a test takes for a method: `kind`, or `twins` where layers are left out."""
    return "twins" if name == "fedra" else kind


def blueprint(kind, shape=(1, 8, 8), width=1.0, num_classes=10):
    chosen = None if kind == "twins" else component("model", kind)
    architecture = twins if chosen is None else chosen.build(chosen.options())
    return Blueprint(architecture=architecture, input_shape=shape, num_classes=num_classes, width=width, name=kind)


def method(kind, **options):
    found = component("method", kind)
    return found.build(found.options(**options), SETTING)


def constant(chosen, state, submodel, value, classes=(), device=0):
    """Return an update that puts `value` everywhere in a submodel's slice."""
    payload = chosen.payload(state, submodel)
    tensors = {name: torch.full_like(tensor, value) for name, tensor in payload.items()}
    return Update(
        device=device,
        submodel=submodel,
        num_samples=1,
        tensors=tensors,
        loss=0.0,
        classes=classes,
        version=state.version,
    )


def everywhere(state, value):
    """Return tensors of a state's shapes that hold one value."""
    return {name: torch.full_like(tensor, value) for name, tensor in state.tensors.items()}


class Peaks:
    """The part of a ledger that the methods read: a peak per submodel and the memory of each device."""

    def __init__(self, peaks, memory, owns_data=None):
        self.peaks = peaks
        self.memory = np.asarray(memory)
        self.owns_data = np.ones(len(memory), bool) if owns_data is None else np.asarray(owns_data)

    def fits(self, submodel):
        return self.memory >= self.peaks[submodel]

    def shortfall_bytes_of(self, submodel, devices):
        return self.shortfall_bytes(submodel)[devices]

    def shortfall_bytes(self, submodel):
        return np.maximum(self.peaks[submodel] - self.memory, 0)

    def total_s(self, submodel, devices):
        return np.ones(len(devices))
