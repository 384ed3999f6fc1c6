"""Layers of language models: embedding, self-attention, feed-forward, and the norms and positions that go with them.

A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017; A. Radford et al., "Language Models are Unsupervised
Multitask Learners", 2019 (LayerNorm first, learned positions, GELU); H. Touvron et al., "LLaMA", 2023,
https://arxiv.org/abs/2302.13971 (RMSNorm, rotary positions, SwiGLU); J. Ainslie et al., "GQA", EMNLP 2023 (fewer keys
and values than queries). Shapes: B batch, N tokens, D channels of a token, H heads, K heads of keys and values.

Linear layers and embeddings start normal with deviation 0.02, those that end a residual branch with 0.02 / sqrt(2 L) in
a network of L layers, as GPT-2; biases start at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

NormName = Literal["layer", "rms"]
Kernel = Literal["fused", "math"]
Mlp = Literal["gelu", "gelu-tanh", "swiglu"]

DEVIATION = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How Llama 3 stretches its rotary positions ("llama3" in the files of Hugging Face)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """What one layer of a language model is made of."""

    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    num_layers: int
    """Layers of the whole network: the deviation of the weights that end a branch falls with it."""
    norm: NormName = "layer"
    norm_epsilon: float = 1e-5
    mlp: Mlp = "gelu"
    bias: bool = True
    """Whether the linear layers have biases, but for those of queries, keys and values."""
    qkv_bias: bool = True
    causal: bool = True
    """Whether a token sees only itself and those before it."""
    parallel: bool = False
    """Whether attention and feed-forward read the same norm side by side."""
    norm_last: bool = False
    """Whether the norm follows each addition, as in BERT, or comes first in each branch."""
    kernel: Kernel = "fused"


class Linear(nn.Linear):
    """A linear layer that starts as those of GPT-2."""

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool, deviation: float = DEVIATION) -> None:
        self.deviation = deviation
        super().__init__(channels_in, channels_out, bias=bias)

    def reset_parameters(self) -> None:
        """Draw the weight anew."""
        if has_numbers(self.weight):
            nn.init.normal_(self.weight, std=self.deviation)
            if self.bias is not None:
                nn.init.zeros_(self.bias)


class TokenEmbedding(nn.Module):
    """A vector for each token, and one for each place where positions are learned."""

    is_table = True

    def __init__(self, vocabulary: int, dim: int, *, places: int | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, dim))
        self.position = nn.Parameter(torch.empty(places, dim)) if places is not None else None
        self.norm = norm
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        for table in (self.weight, self.position):
            if table is not None and has_numbers(table):
                nn.init.normal_(table, std=DEVIATION)

    def forward(self, ids_BN: Tensor) -> Tensor:
        """Return the tokens `[B, N, D]`."""
        tokens_BND = F.embedding(ids_BN, self.weight)
        if self.position is not None:
            tokens_BND = tokens_BND + self.position[: ids_BN.shape[1]]
        if self.norm is not None:
            tokens_BND = self.norm(tokens_BND)
        return tokens_BND


class Rotary(nn.Module):
    """Turns pairs of the leading channels of a head by angles that grow with the place of its token.

    J. Su et al., "RoFormer", 2021, https://arxiv.org/abs/2104.09864: pair i of `channels` turns by
    place theta^(-2 i / channels). The pairs are (i, i + channels / 2), as in the released weights of Llama, Qwen and
    Phi. All layers of a network hold the same tables, which are made once and are no weights.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, channels: int, places: int, *, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.channels = channels
        frequencies = theta ** -(torch.arange(0, channels, 2, dtype=torch.float32) / channels)
        if scaling is not None:
            frequencies = _stretched(frequencies, scaling)
        angles_NC = torch.outer(torch.arange(places, dtype=torch.float32), frequencies).repeat(1, 2)
        self.register_buffer("cosines", angles_NC.cos(), persistent=False)
        self.register_buffer("sines", angles_NC.sin(), persistent=False)

    def forward(self, heads_BHND: Tensor) -> Tensor:
        """Return queries or keys, turned."""
        places = heads_BHND.shape[2]
        cosines_NC, sines_NC = (table[:places].to(heads_BHND.dtype) for table in (self.cosines, self.sines))
        turned, kept = heads_BHND[..., : self.channels], heads_BHND[..., self.channels :]
        half = self.channels // 2
        swapped = torch.cat((-turned[..., half:], turned[..., :half]), dim=-1)
        turned = turned * cosines_NC + swapped * sines_NC
        return torch.cat((turned, kept), dim=-1) if kept.shape[-1] else turned


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Return frequencies of which the slow ones are slower by a factor, with a smooth passage between."""
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_length / wavelengths
    smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    smooth = smooth.clamp(0, 1)
    return (1 - smooth) * frequencies / scaling.factor + smooth * frequencies


class Attention(nn.Module):
    """Multi-head self-attention; several heads of queries may share one of keys and values."""

    def __init__(self, plan: LayerPlan, rotary: Rotary | None) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = plan.heads, plan.kv_heads, plan.head_dim
        self.causal, self.kernel = plan.causal, plan.kernel
        inner, shared = plan.heads * plan.head_dim, plan.kv_heads * plan.head_dim
        self.query = Linear(plan.dim, inner, bias=plan.qkv_bias)
        self.key = Linear(plan.dim, shared, bias=plan.qkv_bias)
        self.value = Linear(plan.dim, shared, bias=plan.qkv_bias)
        self.out = Linear(inner, plan.dim, bias=plan.bias, deviation=branch_deviation(plan))
        self.rotary = rotary

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return as many tokens of the same size."""
        query = self._by_head(self.query(tokens_BND), self.heads)
        key = self._by_head(self.key(tokens_BND), self.kv_heads)
        value = self._by_head(self.value(tokens_BND), self.kv_heads)
        if self.rotary is not None:
            query, key = self.rotary(query), self.rotary(key)
        mixed_BHND = self._mixed(query, self._for_all(key), self._for_all(value))
        mixed: Tensor = self.out(mixed_BHND.transpose(1, 2).flatten(2))
        return mixed

    def _by_head(self, channels_BND: Tensor, heads: int) -> Tensor:
        return channels_BND.view(*channels_BND.shape[:2], heads, self.head_dim).transpose(1, 2)

    def _for_all(self, shared_BKND: Tensor) -> Tensor:
        """Return keys or values, each repeated for the heads of queries that share it."""
        times = self.heads // self.kv_heads
        return shared_BKND if times == 1 else shared_BKND.repeat_interleave(times, dim=1)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.kernel == "fused":
            fused: Tensor = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
            return fused
        scores_BHNN = query @ key.transpose(2, 3) * self.head_dim**-0.5
        if self.causal:
            places = query.shape[2]
            ahead_NN = torch.ones(places, places, dtype=torch.bool, device=query.device).triu(1)
            scores_BHNN = scores_BHNN.masked_fill(ahead_NN, -torch.inf)
        mixed: Tensor = scores_BHNN.softmax(dim=3) @ value
        return mixed


class FeedForward(nn.Module):
    """What is done to each token by itself: two linear layers with GELU between, or SwiGLU's three."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.kind = plan.mlp
        self.gate = Linear(plan.dim, plan.hidden, bias=plan.bias) if plan.mlp == "swiglu" else None
        self.up = Linear(plan.dim, plan.hidden, bias=plan.bias)
        self.down = Linear(plan.hidden, plan.dim, bias=plan.bias, deviation=branch_deviation(plan))

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return as many tokens of the same size."""
        if self.gate is not None:
            hidden = F.silu(self.gate(tokens_BND)) * self.up(tokens_BND)
        else:
            hidden = F.gelu(self.up(tokens_BND), approximate="tanh" if self.kind == "gelu-tanh" else "none")
        made: Tensor = self.down(hidden)
        return made


class TokenLayer(nn.Module):
    """One layer: attention and feed-forward, each a branch whose result is added to what came in."""

    checkpoints_alone = True

    def __init__(self, plan: LayerPlan, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.parallel, self.norm_last = plan.parallel, plan.norm_last
        self.norm1 = make_norm(plan)
        self.attention = Attention(plan, rotary)
        self.norm2 = None if plan.parallel else make_norm(plan)
        self.feed_forward = FeedForward(plan)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return as many tokens of the same size."""
        if self.norm2 is None:
            normed_BND = self.norm1(tokens_BND)
            both: Tensor = self.attention(normed_BND) + self.feed_forward(normed_BND) + tokens_BND
            return both
        if self.norm_last:
            tokens_BND = self.norm1(tokens_BND + self.attention(tokens_BND))
            last: Tensor = self.norm2(tokens_BND + self.feed_forward(tokens_BND))
            return last
        tokens_BND = tokens_BND + self.attention(self.norm1(tokens_BND))
        added: Tensor = tokens_BND + self.feed_forward(self.norm2(tokens_BND))
        return added


def make_norm(plan: LayerPlan) -> nn.Module:
    """Return a norm of tokens."""
    make = nn.RMSNorm if plan.norm == "rms" else nn.LayerNorm
    return make(plan.dim, eps=plan.norm_epsilon)


def branch_deviation(plan: LayerPlan) -> float:
    """Return the first deviation of the weights that end a branch."""
    return DEVIATION / math.sqrt(2 * plan.num_layers)


def has_numbers(tensor: Tensor) -> bool:
    """Return whether a tensor holds numbers that can be drawn; PyTorch imports its compiler to draw none."""
    return not (tensor.is_meta or isinstance(tensor, FakeTensor))
