"""Encoders: transformers in which each token sees all others, with a classifier on the first token.

J. Devlin et al., "BERT", NAACL 2019, https://arxiv.org/abs/1810.04805: embeddings of tokens and positions with a norm,
layers with the norm after each addition and exact GELU, a pooler (linear and tanh) and a classifier. One kind of
segment, so that no embedding of segments is held. No dropout, and no weights: it starts from seeded ones.

The network is cut into blocks, and thinned, as `gpt` is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from neulite_sim.bounds import LayerCount, VocabularySize
from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.models.gpt import MOST_BLOCKS, MOST_WIDTH, Kernel, fitting_vocabulary
from neulite_sim.models.language_presets import ENCODERS, EncoderSize
from neulite_sim.registry import Component, Options, refusal
from neulite_sim.samples import InputSpec

if TYPE_CHECKING:
    from neulite_sim.models.contract import BlockModel

Preset = Literal["bert-0.4m", "bert-tiny", "bert-mini", "bert-base", "bert-large"]


class BertOptions(Options):
    """Options of `bert`. The length of sequences and the classes come from the data."""

    preset: Preset = "bert-0.4m"
    """What gives every other option that is not given."""
    depth: LayerCount | None = None
    """Layers in all."""
    dim: int | None = Field(None, ge=2, le=MOST_WIDTH)
    """Channels of a token."""
    heads: int | None = Field(None, ge=1, le=1024)
    """Attention heads; must divide `dim`."""
    hidden: int | None = Field(None, ge=1, le=MOST_WIDTH * 4)
    """Hidden units of a layer's feed-forward; four times `dim` where `dim` is given and it is not."""
    vocabulary: VocabularySize | None = None
    """Tokens that it knows; the data's are the first of them. Those of the data if neither it nor the preset says."""
    blocks: LayerCount | None = None
    """Into how many blocks the layers are cut, as evenly as can be; four, or as many as there are layers."""
    attention: Kernel = "fused"
    """As the option of `gpt`: whether the scores of two tokens are kept."""

    @model_validator(mode="after")
    def _sizes_go_together(self) -> BertOptions:
        size = self.size
        if size.dim % size.heads:
            fitting = size.dim - size.dim % size.heads or size.heads
            raise refusal(f"{size.dim} is not a multiple of the {size.heads} heads; use {fitting}", "dim")
        if self.blocks is not None and self.blocks > size.depth:
            raise refusal(f"is {self.blocks}, and there are {size.depth} layers; use 1 to {size.depth}", "blocks")
        return self

    @property
    def size(self) -> EncoderSize:
        """What the network is made of, from the preset where options do not say."""
        names = ("depth", "dim", "heads", "hidden", "vocabulary")
        given: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if "dim" in given:
            given.setdefault("hidden", 4 * given["dim"])
        return replace(ENCODERS[self.preset], **given)


@dataclass(frozen=True, slots=True)
class Encoder:
    """The architecture of a size, for sequences of tokens with one class each."""

    size: EncoderSize
    blocks: int
    kernel: Kernel

    def reads(self, spec: InputSpec) -> InputSpec:
        """Return what samples are for a network with a vocabulary of its own.

        Raises:
            ScenarioError: the samples are no sequences of tokens with one class each, or hold more than it knows.
        """
        if not spec.is_text or spec.target_shape:
            finding = f"bert reads sequences of tokens with one class each, and the samples of data are {spec}"
            hint = "set data.targets: class, or use model gpt"
            if spec.predicts_tokens:
                finding += "; each token sees those after it, so that there is nothing to predict"
            raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])
        return fitting_vocabulary(spec, self.size.vocabulary)

    def __call__(self, spec: InputSpec, width: float) -> BlockModel:
        """Return the network."""
        from neulite_sim.models.token_encoder import encoder

        return encoder(self.size, self.reads(spec), width, num_blocks=self.blocks, kernel=self.kernel)


def _build(options: BertOptions) -> Encoder:
    size = options.size
    return Encoder(size, options.blocks or min(MOST_BLOCKS, size.depth), options.attention)


COMPONENT = Component(
    kind="bert",
    summary="an encoder of any depth and width with a classifier on its first token, with presets up to BERT-large",
    source="Devlin et al., NAACL 2019, https://arxiv.org/abs/1810.04805",
    options=BertOptions,
    build=_build,
)
