"""An encoder of sequences as a chain: embedding, layers that see all tokens, and the classifier on the first."""

from __future__ import annotations

import functools

from torch import nn

from neulite_sim.models.contract import BlockModel, scaled
from neulite_sim.models.decoder import cut_evenly, one_layer, token_chain
from neulite_sim.models.language_presets import EncoderSize
from neulite_sim.models.token_heads import FirstTokenHead
from neulite_sim.models.token_layers import Kernel, LayerPlan, TokenEmbedding, TokenLayer
from neulite_sim.samples import InputSpec

EPSILON = 1e-12


def encoder(size: EncoderSize, spec: InputSpec, width: float, *, num_blocks: int, kernel: Kernel) -> BlockModel:
    """Return the network of a size at a width, for samples of `spec`, in `num_blocks` blocks."""
    heads, per_head = scaled(size.heads, width), size.dim // size.heads
    if width * size.heads < 1:
        per_head = scaled(per_head, width * size.heads)
    dim, length = heads * per_head, spec.shape[0]
    plan = LayerPlan(
        dim=dim,
        heads=heads,
        kv_heads=heads,
        head_dim=per_head,
        hidden=scaled(size.hidden, width),
        num_layers=size.depth,
        norm_epsilon=EPSILON,
        causal=False,
        norm_last=True,
        kernel=kernel,
    )
    embedding = TokenEmbedding(
        spec.vocabulary or 0, dim, places=max(size.context or 0, length), norm=nn.LayerNorm(dim, eps=EPSILON)
    )
    layers = [TokenLayer(plan) for _ in range(size.depth)]
    head = FirstTokenHead(dim, spec.num_classes)
    chain = token_chain(embedding, layers, head, basic_layer=functools.partial(one_layer, plan=plan, rotary=None))
    return cut_evenly(chain, num_blocks, (dim, length))
