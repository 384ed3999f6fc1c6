"""A decoder as a chain: embedding, layers, and the head for the next token or for the class of the sequence."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from neulite_sim.models.chain import Chain, Part, Permuted
from neulite_sim.models.contract import BasicLayer, BlockModel, scaled
from neulite_sim.models.initialisation import initialise
from neulite_sim.models.language_presets import DecoderSize
from neulite_sim.models.token_heads import LastTokenHead, NextTokenHead
from neulite_sim.models.token_layers import (
    Kernel,
    LayerPlan,
    RopeScaling,
    Rotary,
    TokenEmbedding,
    TokenLayer,
    make_norm,
)
from neulite_sim.samples import InputSpec, Shape

TO_MAP = FROM_MAP = (0, 2, 1)
"""Between blocks the channels come first: `[B, D, N]`, a view of the tokens `[B, N, D]`."""


def decoder(size: DecoderSize, spec: InputSpec, width: float, *, num_blocks: int, kernel: Kernel) -> BlockModel:
    """Return the network of a size at a width, for samples of `spec`, in `num_blocks` blocks."""
    thin = at_width(size, width)
    length, vocabulary = spec.shape[0], spec.vocabulary or 0
    plan = layer_plan(thin, kernel)
    rotary = _rotary(thin, length)
    places = max(thin.context or 0, length) if thin.position == "learned" else None
    embedding = TokenEmbedding(vocabulary, thin.dim, places=places)
    norm = make_norm(plan)
    head: nn.Module = LastTokenHead(norm, thin.dim, spec.num_classes)
    if spec.predicts_tokens:
        tied = embedding if thin.tied else None
        head = NextTokenHead(norm, thin.dim, vocabulary, bias=thin.head_bias, tied=tied)
    layers = [TokenLayer(plan, rotary) for _ in range(thin.depth)]
    model = token_chain(embedding, layers, head, basic_layer=functools.partial(one_layer, plan=plan, rotary=rotary))
    return cut_evenly(model, num_blocks, (thin.dim, length))


def at_width(size: DecoderSize, width: float) -> DecoderSize:
    """Return a thinner size, its tensors being the leading parts of those of `size`."""
    if width == 1:
        return size
    kv_heads, per_head = scaled(size.shared_heads, width), size.channels_per_head
    heads = kv_heads * (size.heads // size.shared_heads)
    if size.position == "learned" and width * size.shared_heads < 1:
        per_head = scaled(size.channels_per_head, width * size.shared_heads)
    dim = scaled(size.dim, heads * per_head / (size.heads * size.channels_per_head))
    return replace(size, heads=heads, kv_heads=kv_heads, head_dim=per_head, dim=dim, hidden=scaled(size.hidden, width))


def layer_plan(size: DecoderSize, kernel: Kernel) -> LayerPlan:
    """Return what each layer is made of."""
    return LayerPlan(
        dim=size.dim,
        heads=size.heads,
        kv_heads=size.shared_heads,
        head_dim=size.channels_per_head,
        hidden=size.hidden,
        num_layers=size.depth,
        norm=size.norm,
        norm_epsilon=size.norm_epsilon,
        mlp=size.mlp,
        bias=size.bias,
        qkv_bias=size.qkv_bias,
        parallel=size.parallel,
        kernel=kernel,
    )


def _rotary(size: DecoderSize, length: int) -> Rotary | None:
    if size.position != "rotary":
        return None
    scaling = None
    if size.scaling is not None:
        factor, low, high, original = size.scaling
        scaling = RopeScaling(factor=factor, low_freq_factor=low, high_freq_factor=high, original_length=original)
    channels = int(size.channels_per_head * size.rotary_share)
    return Rotary(channels, length, theta=size.theta, scaling=scaling)


def one_layer(before: Shape, after: Shape, *, plan: LayerPlan, rotary: Rotary | None) -> nn.Module:
    """Return what NeuLite takes for a later block: the basic layer of a transformer is one of its layers."""
    assert before == after, f"a layer keeps the shape of its map: {before}, {after}"
    return nn.Sequential(Permuted(*FROM_MAP), TokenLayer(plan, rotary), Permuted(*TO_MAP))


def token_chain(
    embedding: nn.Module, layers: Sequence[nn.Module], head: nn.Module, *, basic_layer: BasicLayer
) -> Chain:
    """Return embedding, layers and head as a chain."""
    parts = (Part("embedding", embedding, 0), *(Part(f"layer{n}", layer, n) for n, layer in enumerate(layers)))
    return Chain(parts=parts, head=head, to_map=TO_MAP, from_map=FROM_MAP, basic_layer=basic_layer)


def cut_evenly(chain: Chain, num_blocks: int, shape: Shape) -> BlockModel:
    """Return a chain of an embedding and layers in blocks of about as many layers, with fresh weights."""
    model = cut_at(chain, num_blocks, shape)
    initialise(model)
    return model


def cut_at(chain: Chain, num_blocks: int, shape: Shape) -> BlockModel:
    """Return the same with the weights that it has."""
    depth = len(chain.parts) - 1
    cuts = tuple(1 + depth * number // num_blocks for number in range(1, num_blocks))
    return chain.model(cuts, (shape,) * num_blocks)
