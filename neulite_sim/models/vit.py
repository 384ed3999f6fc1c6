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
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from neulite_sim.bounds import Side
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.later import homes, nn
from neulite_sim.registry import Component, Options, refusal, refuse_inert
from neulite_sim.samples import ImageShape, Shape

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel, ImageArchitecture, Layers

__getattr__ = homes(
    __name__,
    **dict.fromkeys(
        ("Attention", "Encoder", "Encoders", "MeanHead", "Position", "Stem"), "neulite_sim.models.encoders"
    ),
)

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
    from neulite_sim.models.contract import BlockModel, scaled
    from neulite_sim.models.encoders import Encoders, MeanHead, Stem
    from neulite_sim.models.initialisation import initialise

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
    from neulite_sim.models.encoders import Encoders

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
