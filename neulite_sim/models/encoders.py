"""The layers of a vision transformer: tokens out of patches, encoders over a map of tokens, and the head.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1, https://arxiv.org/abs/2010.11929. Number
c of queries, keys and values is channel c // heads of head c % heads, so that the leading ones thin every head alike.
Shapes: B batch, C or D channels of a token, N tokens, H and W their places.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        if self.embedding.is_meta:
            return
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
