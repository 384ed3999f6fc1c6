"""`check_architecture` passes for every built-in and names the law that is broken."""

import functools

import pytest
import torch
from slow_cases import some_slow
from torch import nn

from neulite_sim.models.conformance import check_architecture
from neulite_sim.models.contract import BlockModel
from neulite_sim.registry import component, names

SMALL = {"vit": {"patch": 8, "dim": 24, "depth": 3}}


NOT_BY_THEMSELVES = {"given", "python", "timm", "torchvision", "bert", "gpt", "transformers"}
"""Kinds that stand for many networks, or read no images: tested in files of their own."""
DEEP = ("resnet20", "resnet34")
"""Made of the blocks of `resnet18`, and more of them."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """More threads only slow such small maps down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", some_slow(sorted({*names("model")} - NOT_BY_THEMSELVES), lambda kind: kind in DEEP))
def test_every_built_in_architecture_passes(kind):
    chosen = component("model", kind)
    check_architecture(chosen.build(chosen.options(**SMALL.get(kind, {}))), input_shape=(3, 16, 16), width=0.0625)


def test_a_classifier_of_torchvision_passes():
    chosen = component("model", "torchvision:squeezenet1_1")
    check_architecture(chosen.build(chosen.options(), "squeezenet1_1"), input_shape=(3, 24, 24))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    chosen = component("model", "logistic")
    check_architecture(chosen.build(chosen.options()), input_shape=(1, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)


class Stateful(BlockModel):
    """Has a buffer outside of its blocks."""

    def __init__(self, *parts, **more):
        super().__init__(*parts, **more)
        self.register_buffer("extra", torch.zeros(1))


class BatchMean(nn.Module):
    def forward(self, maps):
        return maps - maps.mean(dim=0)


class Valued(nn.Module):
    def forward(self, maps):
        return maps * 2 if maps.sum().item() > 0 else maps


def toy(shape, classes, width, *, wrong=""):
    """A 1x1 convolution and a linear layer, with one law broken."""
    channels = {"one width": 4, "upside down": max(1, round(1 / width))}.get(wrong, max(1, round(8 * width)))
    conv = nn.Conv2d(shape[0], channels, 1)
    parts = [conv, *{"in place": [nn.ReLU(inplace=True)], "values": [Valued()], "batch": [BatchMean()]}.get(wrong, [])]
    block = nn.Sequential(*(parts[::-1] if wrong == "in place" else parts))
    if wrong == "constant":
        nn.init.ones_(conv.weight)
        nn.init.zeros_(conv.bias)
    if wrong == "unused":
        block.register_parameter("spare", nn.Parameter(torch.zeros(1)))
    if wrong == "device":
        block.register_buffer("table", torch.zeros(1, device="cpu"))
    linear = nn.Linear(channels, classes + (wrong == "classes"))
    if wrong == "constant":
        nn.init.ones_(linear.weight)
        nn.init.zeros_(linear.bias)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    tails = {"no tail": (("9",),), "empty tail": (("1",),)}.get(
        wrong, ((str(len(parts) - 1 if wrong == "in place" else 0),),)
    )
    if wrong == "empty tail":
        block.append(nn.Identity())
    stated = (channels, shape[1] + (wrong == "shape"), shape[2])
    layers = {
        "few layers": (),
        "no such layer": ((("9",), ("0",)),),
        "a layer twice": ((("0",), ("0",)),),
        "empty layer": ((("1",), ("0",)),),
        "other tail": ((("0",), ("1",)),),
        "a layer missing": ((("1",), ("0",)),),
    }.get(wrong)
    if wrong == "empty layer":
        block.append(nn.Identity())
    if wrong == "a layer missing":
        block.extend([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])
    kind = Stateful if wrong == "names" else BlockModel
    return kind([block], head, tails=tails, block_shapes=(stated,), layers=layers)


BROKEN = {
    "names": r"named blocks.… or head.…, found \['extra'\]",
    "no tail": r"tails\[0\]: block 0 has no module \['9'\]",
    "empty tail": r"tails\[0\]: \['1'\] of block 0 has no parameter",
    "few layers": "layers: one entry per block is 1, found 0",
    "no such layer": r"layers\[0\]: block 0 has no module \['9'\]",
    "a layer twice": r"layers\[0\]: a parameter of block 0 is in two layers",
    "empty layer": r"layers\[0\]: \[\('1',\)\] of block 0 has no parameter",
    "other tail": r"layers\[0\]: the last must be the tail \('0',\), is \(\('1',\),\)",
    "a layer missing": r"layers\[0\]: block 0 has 6 parameters, its layers hold 4 of them",
    "in place": "block 0 changes its input in place",
    "shape": r"block_shapes\[0\]: states \(4, 5, 4\), block 0 puts out \(4, 4, 4\)",
    "classes": r"head: must put out \(3, 10\), \(3, 11\)",
    "unused": r"stage 1: no gradient reaches \['0.spare'\]",
    "batch": "must not depend on the others of its batch; they differ by",
    "constant": "initial weights do not depend on the seed",
    "upside down": r"blocks.0.0.weight: is \(2, 3, 1, 1\) at width 0.5 and \(1, 3, 1, 1\) at width 1",
    "values": "the network looks at the values of its maps: aten._local_scalar_dense",
    "device": r"built on the meta device, \['blocks.0.table'\] are not there",
}


def test_a_toy_that_keeps_the_contract_passes():
    check_architecture(toy, input_shape=(3, 4, 4), width=0.5)


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_broken_law_is_named(wrong):
    with pytest.raises(AssertionError, match=BROKEN[wrong]):
        check_architecture(functools.partial(toy, wrong=wrong), input_shape=(3, 4, 4), width=0.5)


def test_an_architecture_must_return_a_block_model():
    with pytest.raises(AssertionError, match="must return a BlockModel, it returns"):
        check_architecture(plain)


def plain(shape, classes, width):
    return nn.Linear(2, 2)
