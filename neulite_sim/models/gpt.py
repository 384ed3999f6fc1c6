"""Decoders: language models that predict each token from those before it, from 0.8 million parameters up.

`gpt` is one architecture with switches for what tells the published families apart (norm, positions, feed-forward,
shared keys and values, biases, tied embedding), and presets that set them: GPT-2's, Qwen2.5's, Llama's and Phi's. No
weights come with a preset: it starts from seeded ones, and real sizes are there to be charged (`workload.model`).

The network is a chain of an embedding and `depth` layers, cut into `blocks`; between blocks passes a map
`[B, dim, N]`, a view of the tokens `[B, N, dim]`. With `training.checkpointing` each layer is checkpointed by itself.

Width w keeps ceil(w K) of the K heads of keys and values with all queries that share them, that share of the channels
of a token, and ceil(w hidden) hidden units: the leading ones of each, so that a thinner network is a slice of the wider
one. Where positions are learned and less than one head would be left, one head keeps its leading channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from neulite_sim.bounds import LayerCount, VocabularySize
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.language_presets import PRESETS, DecoderSize, MlpName, NormName, PositionName
from neulite_sim.registry import Component, Options, refusal
from neulite_sim.samples import InputSpec

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel

Kernel = Literal["fused", "math"]
Preset = Literal[
    "gpt-0.8m", "gpt-3m", "gpt-11m", "gpt2", "qwen2.5-0.5b", "llama-3.2-1b", "tinyllama-1.1b", "phi-2", "llama-7b"
]
MOST_BLOCKS = 4
"""Blocks of a network that is not told how many."""
MOST_WIDTH = 2**17


class GptOptions(Options):
    """Options of `gpt`. The length of sequences comes from the data, and the vocabulary where a preset has none."""

    preset: Preset = "gpt-0.8m"
    """What gives every other option that is not given."""
    depth: LayerCount | None = None
    """Layers in all."""
    dim: int | None = Field(None, ge=2, le=MOST_WIDTH)
    """Channels of a token."""
    heads: int | None = Field(None, ge=1, le=1024)
    """Attention heads; must divide `dim`."""
    kv_heads: int | None = Field(None, ge=1, le=1024)
    """Heads of keys and values, each shared by as many of queries; must divide `heads`. As many as `heads` where
    neither it nor the preset says."""
    hidden: int | None = Field(None, ge=1, le=MOST_WIDTH * 4)
    """Hidden units of a layer's feed-forward; four times `dim` where `dim` is given and it is not."""
    vocabulary: VocabularySize | None = None
    """Tokens that it knows; the data's are the first of them. Those of the data if neither it nor the preset says."""
    norm: NormName | None = None
    """`layer` (GPT-2, Phi) or `rms` (Llama, Qwen)."""
    position: PositionName | None = None
    """`learned` vectors (GPT-2), or `rotary` angles (Llama, Qwen, Phi)."""
    mlp: MlpName | None = None
    """Feed-forward: `gelu`, its approximation `gelu-tanh` (GPT-2, Phi), or `swiglu` (Llama, Qwen)."""
    tied: bool | None = None
    """Whether the head's weight is the embedding: one tensor that is held, trained and sent once."""
    blocks: LayerCount | None = None
    """Into how many blocks the layers are cut, as evenly as can be; four, or as many as there are layers."""
    attention: Kernel = "fused"
    """`fused`: an attention that keeps no score of two tokens, as FlashAttention and PyTorch's own do. `math`: scores
    and their softmax are tensors, N x N for each head."""

    @model_validator(mode="after")
    def _sizes_go_together(self) -> GptOptions:
        size = self.size
        if size.head_dim is None and size.dim % size.heads:
            fitting = size.dim - size.dim % size.heads or size.heads
            raise refusal(f"{size.dim} is not a multiple of the {size.heads} heads; use {fitting}", "dim")
        if size.heads % size.shared_heads:
            raise refusal(f"{size.shared_heads} does not divide the {size.heads} heads", "kv_heads")
        if size.position == "rotary" and size.channels_per_head % 2:
            message = f"rotary turns pairs of channels, and a head has {size.channels_per_head}; use learned"
            raise refusal(message, "position")
        if self.blocks is not None and self.blocks > size.depth:
            raise refusal(f"is {self.blocks}, and there are {size.depth} layers; use 1 to {size.depth}", "blocks")
        return self

    @property
    def size(self) -> DecoderSize:
        """What the network is made of, from the preset where options do not say."""
        base = PRESETS[self.preset]
        names = ("depth", "dim", "heads", "kv_heads", "hidden", "vocabulary", "norm", "position", "mlp", "tied")
        given: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if given.keys() & {"dim", "heads"}:
            # A preset's own numbers for a head go with its own heads.
            given.setdefault("head_dim", None)
            if "heads" in given:
                given.setdefault("kv_heads", None)
        if "dim" in given:
            given.setdefault("hidden", 4 * given["dim"])
        return replace(base, **given)


@dataclass(frozen=True, slots=True)
class Decoder:
    """The architecture of a size, for sequences of tokens of any length; two of the same numbers are equal."""

    size: DecoderSize
    blocks: int
    kernel: Kernel

    def reads(self, spec: InputSpec) -> InputSpec:
        """Return what samples are for a network with a vocabulary of its own.

        Raises:
            ScenarioError: the samples are no sequences of tokens, or hold more tokens than it knows.
        """
        if not spec.is_text or (spec.target_shape and spec.target_shape != spec.shape):
            finding = f"gpt reads sequences of tokens, and the samples of data are {spec}"
            hint = "use data of kind synthetic-text, text or shakespeare, or another model"
            raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])
        return fitting_vocabulary(spec, self.size.vocabulary)

    def __call__(self, spec: InputSpec, width: float) -> BlockModel:
        """Return the network."""
        from neulite_sim.models.decoder import decoder

        return decoder(self.size, self.reads(spec), width, num_blocks=self.blocks, kernel=self.kernel)


def fitting_vocabulary(spec: InputSpec, known: int | None) -> InputSpec:
    """Return the spec of samples for a model that knows so many tokens, the data's first; as they are if it is None.

    Raises:
        ScenarioError: the samples hold more tokens.
    """
    met = spec.vocabulary or 0
    if known is None:
        return spec
    if met > known:
        finding = f"the model knows {known:,} tokens, and the data hold {met:,}"
        hint = f"set model.vocabulary to {met} or more"
        raise ScenarioError([Problem.advising(key="model.vocabulary", found=finding, hint=hint)])
    return spec.of_vocabulary(known)


def _build(options: GptOptions) -> Decoder:
    size = options.size
    return Decoder(size, options.blocks or min(MOST_BLOCKS, size.depth), options.attention)


COMPONENT = Component(
    kind="gpt",
    summary="a decoder of any depth and width that predicts the next token, with presets up to Llama-7B",
    source="Radford et al., 2019; Touvron et al. (LLaMA), 2023, https://arxiv.org/abs/2302.13971",
    options=GptOptions,
    build=_build,
)
