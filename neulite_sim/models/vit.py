"""A vision transformer as three blocks of encoders.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929: patches embedded
by a strided convolution, learned positions, encoders with LayerNorm before attention and before the MLP. The logits
are read from the mean over the tokens (their section D.4 finds it on a par with a class token), so that what passes
between blocks is a map of one token per patch, `[B, dim, H/patch, W/patch]`. No dropout.

Width w keeps the number of heads and takes the leading ceil(w dim / heads) channels of each: number c of queries, keys
and values is channel c // heads of head c % heads, so cutting off the last rows of a weight thins every head alike.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from neulite_sim.bounds import Side
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers, scaled
from neulite_sim.models.initialisation import initialise
from neulite_sim.registry import Component, Options, refusal, refuse_inert
from neulite_sim.samples import ImageShape, Shape

NUM_BLOCKS = 3

PRESETS = {"cifar": (4, 192, 3), "mini-imagenet": (12, 384, 6)}
"""Patch, dim and heads: the tiny and the small size of H. Touvron et al. (DeiT), ICML 2021, with 8x8 tokens for images
of 32 pixels and 7x7 tokens for images of 84."""


class VitOptions(Options):
    """Options of `vit`. The image size comes from the dataset."""

    preset: Literal["cifar", "mini-imagenet"] = "cifar"
    """Gives `patch`, `dim` and `heads` unless they are given: 4, 192, 3 (`cifar`) or 12, 384, 6 (`mini-imagenet`)."""
    patch: Side | None = None
    """Side of a patch in pixels; must divide the image's sides."""
    dim: int | None = Field(None, ge=1, le=2**16)
    """Channels of a token at full width; must be a multiple of `heads`."""
    heads: int | None = Field(None, ge=1, le=1024)
    """Attention heads."""
    depth: int = Field(12, ge=NUM_BLOCKS, le=192, multiple_of=NUM_BLOCKS)
    """Encoders in all, shared out evenly over three blocks."""
    mlp_ratio: float = Field(4.0, ge=0.01, le=100)
    """Hidden units of an encoder's MLP per channel of a token."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> VitOptions:
        _, dim, heads = self.sizes
        if dim % heads:
            raise refusal(f"{dim} is not a multiple of the {heads} heads; use {dim - dim % heads or heads}", "dim")
        if None not in (self.patch, self.dim, self.heads):
            refuse_inert(self, {"preset": "patch, dim or heads left to it"})
        return self

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Patch, dim and heads, from the preset where they are not given."""
        given = (self.patch, self.dim, self.heads)
        patch, dim, heads = (own or base for own, base in zip(given, PRESETS[self.preset], strict=True))
        return patch, dim, heads


class Stem(nn.Module):
    """Patches to tokens: a convolution as strided as it is wide, and a learned position for each patch."""

    def __init__(self, channels_in: int, dim: int, *, patch: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, dim, patch, patch)
        self.position = Position(dim, grid)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return the tokens as a map."""
        tokens: Tensor = self.position(self.conv(images_BCHW))
        return tokens


class Position(nn.Module):
    """A learned vector for each place, added to its token; normal with deviation 0.02 at first."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(dim, *grid))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the positions anew."""
        nn.init.normal_(self.embedding, std=0.02)

    def forward(self, tokens_BCHW: Tensor) -> Tensor:
        """Return the map with the positions added."""
        return tokens_BCHW + self.embedding


class Attention(nn.Module):
    """Multi-head self-attention, head number being the fastest index of a channel (see the module's docstring)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return as many tokens of the same size."""
        query, key, value = (self._by_head(layer(tokens_BND)) for layer in (self.query, self.key, self.value))
        # Written out: PyTorch's fused attention differs from machine to machine in what it keeps for the backward pass.
        shares_BHNN = (query @ key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(dim=3)
        mixed: Tensor = self.out((shares_BHNN @ value).permute(0, 2, 3, 1).reshape(tokens_BND.shape))
        return mixed

    def _by_head(self, channels_BND: Tensor) -> Tensor:
        batch, num_tokens, dim = channels_BND.shape
        return channels_BND.reshape(batch, num_tokens, dim // self.heads, self.heads).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """One encoder: x + attention(norm(x)), then x + MLP(norm(x)) with GELU."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return as many tokens of the same size."""
        attended = tokens_BND + self.attention(self.norm1(tokens_BND))
        encoded: Tensor = attended + self.fc2(F.gelu(self.fc1(self.norm2(attended))))
        return encoded


class Encoders(nn.Module):
    """Encoders `layer0` to `layer{depth - 1}` over a map, after the stem where there is one."""

    def __init__(self, dim: int, *, depth: int, heads: int, hidden: int, stem: Stem | None = None) -> None:
        super().__init__()
        self.stem = stem if stem is not None else nn.Identity()
        self.depth = depth
        for layer in range(depth):
            self.add_module(f"layer{layer}", Encoder(dim, heads, hidden))

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Return a map of one token per place."""
        tokens_BCHW = self.stem(maps_BCHW)
        batch, channels, height, side = tokens_BCHW.shape
        tokens_BND = tokens_BCHW.permute(0, 2, 3, 1).reshape(batch, height * side, channels)
        for layer in range(self.depth):
            tokens_BND = self.get_submodule(f"layer{layer}")(tokens_BND)
        maps: Tensor = tokens_BND.reshape(batch, height, side, channels).permute(0, 3, 1, 2)
        return maps


class MeanHead(nn.Module):
    """LayerNorm of each token, their mean, and one linear layer."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, num_classes)

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        logits: Tensor = self.fc(self.norm(maps_BCHW.flatten(2).transpose(1, 2)).mean(dim=1))
        return logits


def vit(
    input_shape: ImageShape,
    num_classes: int,
    width: float,
    *,
    sizes: tuple[int, int, int],
    depth: int,
    mlp_ratio: float,
) -> BlockModel:
    """Return the transformer; `sizes` is patch, dim and heads at full width.

    Raises:
        ScenarioError: the patch does not divide the sides of the image.
    """
    patch, full_dim, heads = sizes
    channels, height, side = input_shape
    if height % patch or side % patch:
        shape = "x".join(map(str, input_shape))
        finding = f"vit cuts images into patches of {patch}x{patch}, which do not fit the input of {shape}"
        hint = (
            f"use a patch (model.patch) that divides {height} and {side}, or images (data.image_size, "
            f"workload.input_shape) whose sides are multiples of {patch}"
        )
        raise ScenarioError([Problem.advising(key="model.patch", found=finding, hint=hint)])
    dim, hidden = heads * scaled(full_dim // heads, width), scaled(round(full_dim * mlp_ratio), width)
    grid = (height // patch, side // patch)
    stem = Stem(channels, dim, patch=patch, grid=grid)
    per_block = depth // NUM_BLOCKS
    blocks: list[nn.Module] = [
        Encoders(dim, depth=per_block, heads=heads, hidden=hidden, stem=stem if index == 0 else None)
        for index in range(NUM_BLOCKS)
    ]
    encoders: Layers = tuple((f"layer{layer}",) for layer in range(per_block))
    model = BlockModel(
        blocks,
        MeanHead(dim, num_classes),
        tails=(encoders[-1],) * NUM_BLOCKS,
        layers=((("stem",), *encoders), *((encoders,) * (NUM_BLOCKS - 1))),
        block_shapes=((dim, *grid),) * NUM_BLOCKS,
        basic_layer=functools.partial(_one_encoder, heads=heads, hidden=hidden),
    )
    initialise(model)
    return model


def _one_encoder(before: Shape, after: Shape, *, heads: int, hidden: int) -> nn.Module:
    """Return what NeuLite takes for a later block: the basic layer of a transformer is one encoder."""
    assert before == after, f"an encoder keeps the shape of its map: {before}, {after}"
    return Encoders(before[0], depth=1, heads=heads, hidden=hidden)


def _build(options: VitOptions) -> ImageArchitecture:
    return functools.partial(vit, sizes=options.sizes, depth=options.depth, mlp_ratio=options.mlp_ratio)


COMPONENT = Component(
    kind="vit",
    summary="vision transformer of 12 encoders with mean pooling: three blocks of four encoders",
    source="Dosovitskiy et al., ICLR 2021, https://arxiv.org/abs/2010.11929",
    options=VitOptions,
    build=_build,
)
