"""What language models read from the last map of tokens: the next token, or the class of the whole sequence."""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from neulite_sim.models.token_layers import Linear, TokenEmbedding


class NextTokenHead(nn.Module):
    """A norm, and for each token the logits of the one that follows it, `[B, vocabulary, N]`.

    With `tied` the weight is that of the embedding, which the head does not hold: it is one tensor with one name, is
    trained with the first block and is frozen with it. A copy of the head alone, as NeuLite's output modules take one,
    has a weight of its own; copied with the embedding it is tied to that.
    """

    classes_last = True

    def __init__(self, norm: nn.Module, dim: int, vocabulary: int, *, bias: bool, tied: TokenEmbedding | None) -> None:
        super().__init__()
        self.norm = norm
        # In a tuple, so that PyTorch does not take it for a part of the head.
        self._tied: tuple[TokenEmbedding, ...] = () if tied is None else (tied,)
        self.out = Linear(dim, vocabulary, bias=bias) if tied is None else None

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return logits, the classes side by side in memory."""
        normed_BND = self.norm(tokens_BND)
        logits_BNV: Tensor = F.linear(normed_BND, self._tied[0].weight) if self.out is None else self.out(normed_BND)
        return logits_BNV.movedim(-1, 1)

    def __deepcopy__(self, memo: dict[int, Any]) -> NextTokenHead:
        made = NextTokenHead.__new__(NextTokenHead)
        nn.Module.__init__(made)
        memo[id(self)] = made
        made.norm = copy.deepcopy(self.norm, memo)
        made._tied = ()
        if self.out is not None or id(self._tied[0].weight) in memo:
            made._tied = copy.deepcopy(self._tied, memo)
            made.out = copy.deepcopy(self.out, memo)
        else:
            weight = self._tied[0].weight.detach()
            vocabulary, dim = weight.shape
            made.out = Linear(dim, vocabulary, bias=False)
            made.out.weight = nn.Parameter(weight.clone())
        return made


class LastTokenHead(nn.Module):
    """A norm, and logits of the sequence's class `[B, classes]` from its last token, which has seen all others."""

    def __init__(self, norm: nn.Module, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = norm
        self.out = Linear(dim, num_classes, bias=False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.out(self.norm(tokens_BND[:, -1]))
        return logits


class FirstTokenHead(nn.Module):
    """BERT's classifier: a linear layer and tanh of the first token, then logits of the class `[B, classes]`."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.pooler = Linear(dim, dim, bias=True)
        self.out = Linear(dim, num_classes, bias=True)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.out(self.pooler(tokens_BND[:, 0]).tanh())
        return logits
