"""Sizes of language models, from what two cores train to what a server would: the numbers of their published files.

A preset says what a decoder is made of. Parameters follow by arithmetic (`num_parameters`), and so stand beside those
that are published: nothing of a network is built to count them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NormName = Literal["layer", "rms"]
PositionName = Literal["learned", "rotary"]
MlpName = Literal["gelu", "gelu-tanh", "swiglu"]

RopeScaling = tuple[float, float, float, int]
"""Factor, low and high frequency factor and original length of Llama 3's stretched rotary positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSize:
    """What a decoder is made of; `vocabulary` and `context` are those of the data where they are None."""

    depth: int
    dim: int
    heads: int
    hidden: int
    kv_heads: int | None = None
    head_dim: int | None = None
    vocabulary: int | None = None
    context: int | None = None
    """Places that learned positions are kept for."""
    norm: NormName = "layer"
    norm_epsilon: float = 1e-5
    position: PositionName = "learned"
    rotary_share: float = 1.0
    """Share of a head's channels that rotary positions turn."""
    theta: float = 10_000.0
    scaling: RopeScaling | None = None
    mlp: MlpName = "gelu-tanh"
    bias: bool = True
    qkv_bias: bool = True
    head_bias: bool = False
    parallel: bool = False
    """Whether attention and feed-forward of a layer stand side by side behind one norm."""
    tied: bool = True
    """Whether the head's weight is the embedding."""
    source: str = ""

    @property
    def channels_per_head(self) -> int:
        """Channels of a head."""
        return self.head_dim or self.dim // self.heads

    @property
    def shared_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    def num_parameters(self, vocabulary: int, context: int = 0) -> int:
        """Return how many parameters it has, predicting tokens of a vocabulary in sequences of up to `context`."""
        norm = self.dim * (1 if self.norm == "rms" else 2)
        queries, keys = self.heads * self.channels_per_head, self.shared_heads * self.channels_per_head
        attention = self.dim * (queries + 2 * keys) + queries * self.dim
        attention += (queries + 2 * keys) * self.qkv_bias + self.dim * self.bias
        up = self.hidden * (2 if self.mlp == "swiglu" else 1)
        feed_forward = self.dim * (up + self.hidden) + (up + self.dim) * self.bias
        layer = attention + feed_forward + norm * (1 if self.parallel else 2)
        places = (self.context or context) * self.dim if self.position == "learned" else 0
        head = 0 if self.tied else vocabulary * self.dim
        head += vocabulary * self.head_bias
        return vocabulary * self.dim + places + self.depth * layer + norm + head


def _llama(depth: int, dim: int, heads: int, hidden: int, **others: object) -> DecoderSize:
    values: dict[str, object] = {
        "norm": "rms", "position": "rotary", "mlp": "swiglu", "bias": False, "qkv_bias": False, "tied": False,
    }  # fmt: skip
    return DecoderSize(depth=depth, dim=dim, heads=heads, hidden=hidden, **(values | others))  # type: ignore[arg-type]


_HUB = "https://huggingface.co"
PRESETS: dict[str, DecoderSize] = {
    "gpt-0.8m": DecoderSize(depth=4, dim=128, heads=4, hidden=512, source="nanoGPT's smallest, A. Karpathy, 2022"),
    "gpt-3m": DecoderSize(depth=4, dim=256, heads=8, hidden=1024),
    "gpt-11m": DecoderSize(depth=6, dim=384, heads=6, hidden=1536, source="nanoGPT's of Shakespeare's characters"),
    "gpt2": DecoderSize(
        depth=12, dim=768, heads=12, hidden=3072, vocabulary=50_257, context=1024,
        source=f"{_HUB}/openai-community/gpt2",
    ),
    "qwen2.5-0.5b": _llama(
        24, 896, 14, 4864, kv_heads=2, vocabulary=151_936, theta=1e6, qkv_bias=True, norm_epsilon=1e-6, tied=True,
        source=f"{_HUB}/Qwen/Qwen2.5-0.5B",
    ),
    "llama-3.2-1b": _llama(
        16, 2048, 32, 8192, kv_heads=8, vocabulary=128_256, theta=5e5, scaling=(32.0, 1.0, 4.0, 8192), tied=True,
        source=f"{_HUB}/meta-llama/Llama-3.2-1B",
    ),
    "tinyllama-1.1b": _llama(
        22, 2048, 32, 5632, kv_heads=4, vocabulary=32_000, source=f"{_HUB}/TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    ),
    "phi-2": DecoderSize(
        depth=32, dim=2560, heads=32, hidden=10_240, vocabulary=51_200, position="rotary", rotary_share=0.4,
        parallel=True, tied=False, head_bias=True, source=f"{_HUB}/microsoft/phi-2",
    ),
    "llama-7b": _llama(
        32, 4096, 32, 11_008, vocabulary=32_000, norm_epsilon=1e-6, source="https://arxiv.org/abs/2302.13971, table 2"
    ),
}  # fmt: skip
"""By the names that `model.preset` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSize:
    """What an encoder is made of; `vocabulary` and `context` are those of the data where they are None."""

    depth: int
    dim: int
    heads: int
    hidden: int
    vocabulary: int | None = None
    context: int | None = None
    source: str = ""


def _bert(depth: int, dim: int, heads: int, name: str) -> EncoderSize:
    return EncoderSize(
        depth=depth, dim=dim, heads=heads, hidden=4 * dim, vocabulary=30_522, context=512, source=f"{_HUB}/{name}"
    )


ENCODERS: dict[str, EncoderSize] = {
    "bert-0.4m": EncoderSize(depth=2, dim=128, heads=4, hidden=512),
    "bert-tiny": _bert(2, 128, 2, "google/bert_uncased_L-2_H-128_A-2"),
    "bert-mini": _bert(4, 256, 4, "google/bert_uncased_L-4_H-256_A-4"),
    "bert-base": _bert(12, 768, 12, "google-bert/bert-base-uncased"),
    "bert-large": _bert(24, 1024, 16, "google-bert/bert-large-uncased"),
}
"""By the names that `model.preset` of `bert` takes."""
