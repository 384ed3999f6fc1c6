"""Whether a sample's features depend on the batch that it comes in: known of known layers, tried out for others.

An own batch norm, `x - x.mean(0)`, attention along the wrong dimension and `x / len(x)` make something else of a sample
in other company. Layers of PyTorch, of this project and of the packages whose models it offers do not, but for those
that act along a dimension of choice, and for PyTorch's attention, whose small products may round by where they lie in
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neulite_sim.models.stretch import Stretch

_KNOWN = ("torch.nn", "torchvision", "timm", "transformers", "neulite_sim")


def is_known(layer: nn.Module) -> bool:
    """Return whether a layer, apart from those within, is known not to mix samples (BatchNorm is looked at elsewhere).

    That is so where its class, what hangs on it and a `forward` of its own are known, and it is no attention and acts
    along no dimension that could be the batch's.
    """
    foreign_calls = (*layer._forward_hooks.values(), *layer._forward_pre_hooks.values())
    forward = vars(layer).get("forward")
    dimension = getattr(layer, "dim", -1)
    return (
        _is_of_known(type(layer))
        # Its operations are somebody's own.
        and type(layer) is not Stretch
        and all(map(_is_of_known, foreign_calls))
        and (forward is None or _is_of_known(forward))
        and not isinstance(layer, nn.MultiheadAttention)
        and getattr(layer, "batch_first", True) is True
        and dimension is not None
        and not (isinstance(dimension, int) and (dimension == 0 or dimension < -1))
    )


def _is_of_known(code: Any) -> bool:
    module = getattr(getattr(code, "func", code), "__module__", None) or ""
    return any(module == known or module.startswith(f"{known}.") for known in _KNOWN)


class Trial:
    """Whether what `compute` makes of a sample is the same, to the bit, whichever samples come with it.

    Two samples of the first batch are computed again, each in a batch of copies of itself; then, for each other size of
    batch that is met, both in one of that size. Samples or features that are all alike tell nothing, and do not pass.
    """

    def __init__(self, compute: Callable[[Tensor], Any]) -> None:
        self._compute = compute
        self._sizes: set[int] = set()
        self._samples: Tensor | None = None
        self._expected: tuple[Tensor, ...] = ()

    def is_passed(self, inputs: Tensor, features: tuple[Tensor, ...]) -> bool:
        """Return whether nothing speaks against it after this batch, whose features are given.

        Batches of one sample pass: they have no company, and what is made of them is to be read for such alone.
        """
        size = len(inputs)
        if size == 1 or size in self._sizes:
            return True
        self._sizes.add(size)
        try:
            return self._is_first_passed(inputs, features) if self._samples is None else self._is_same(inputs, [0, 1])
        except Exception:  # Whatever it refuses it makes something of in other company.
            return False

    def _is_first_passed(self, inputs: Tensor, features: tuple[Tensor, ...]) -> bool:
        others = (inputs != inputs[:1]).flatten(1).any(dim=1).nonzero()
        if not len(others):
            return False
        chosen = [0, int(others[-1])]
        self._samples, self._expected = inputs[chosen], tuple(tensor[chosen] for tensor in features)
        if all(torch.equal(*tensor) for tensor in self._expected):
            return False
        return self._is_same(inputs, [0]) and self._is_same(inputs, [1])

    def _is_same(self, like: Tensor, chosen: list[int]) -> bool:
        """Return whether a batch of the chosen samples over and over, laid out as `like`, comes to what is expected."""
        assert self._samples is not None
        rows = [chosen[place % len(chosen)] for place in range(len(like))]
        found = self._compute(torch.empty_like(like).copy_(self._samples[rows]))
        tensors = found if isinstance(found, tuple) else (found,)
        return len(tensors) == len(self._expected) and all(
            torch.equal(tensor, expected[rows]) for tensor, expected in zip(tensors, self._expected, strict=True)
        )
