"""Where to cut a chain into a given number of blocks so that the largest stage needs as little memory as possible.

What a part costs is seen in one step of the chain on the meta device: the bytes that autograd keeps of it, and those
of its weights. A stage trains the parts between two cuts, holds those before them frozen, and the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Burden:
    """What training a chain takes, in bytes: an entry per part, the head's last, and `maps[0]` for the samples.

    `kept[k]` is what autograd keeps of part k and of no part before, `maps[k]` what part k - 1 puts out.
    """

    weights: tuple[int, ...]
    kept: tuple[int, ...]
    maps: tuple[int, ...]
    state_copies: int

    @property
    def num_parts(self) -> int:
        """Number of parts, without the head."""
        return len(self.weights) - 1

    def peak_bytes(self, begin: int, end: int) -> int:
        """Return about what a stage needs that trains parts `begin` to `end` - 1 and the head."""
        frozen = sum(self.weights[:begin])
        trained = sum(self.weights[begin:end]) + self.weights[-1]
        kept = sum(self.kept[begin:end]) + self.kept[-1]
        # In the backward pass a map's gradient is there beside the one that it is made of.
        passing = 2 * max(self.maps[begin + 1 : end + 1])
        return frozen + (2 + self.state_copies) * trained + self.maps[begin] + kept + passing


def burden(modules: Sequence[nn.Module], samples: Tensor, *, state_copies: int) -> Burden:
    """Return what a step of a chain takes, with `state_copies` tensors of the optimizer per weight.

    `modules` are its parts in order and its head, all on the meta device as `samples` are; nothing is computed.
    """
    known = {_key(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    kept, maps = [], []
    features = samples
    known[_key(features)] = features
    maps.append(_num_bytes(features))
    for module in modules:
        found: list[int] = []

        def keep(tensor: Tensor, found: list[int] = found) -> Tensor:
            if _key(tensor) not in known:
                # Storages are told apart by their address, so each must stay.
                known[_key(tensor)] = tensor
                found.append(tensor.untyped_storage().nbytes())
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            features = module(features)
        kept.append(sum(found))
        maps.append(_num_bytes(features))
    weights = tuple(_weight_bytes(module) for module in modules)
    return Burden(weights=weights, kept=tuple(kept), maps=tuple(maps), state_copies=state_copies)


def balanced_cuts(num_parts: int, num_blocks: int, peak_bytes: Callable[[int, int], int]) -> tuple[int, ...]:
    """Return the cuts of a chain into runs whose largest `peak_bytes(begin, end)` is least; of several, least in sum.

    Each cut is the number of parts before it. Dynamic programming over the number of blocks and the end of the last.
    """
    assert 1 <= num_blocks <= num_parts
    best: dict[int, tuple[int, int, tuple[int, ...]]] = {}
    for end in range(1, num_parts + 1):
        peak = peak_bytes(0, end)
        best[end] = (peak, peak, ())
    for number in range(2, num_blocks + 1):
        longer = {}
        for end in range(number, num_parts + 1):
            peaks = ((begin, peak_bytes(begin, end)) for begin in range(number - 1, end))
            longer[end] = min(
                (max(best[begin][0], peak), best[begin][1] + peak, (*best[begin][2], begin)) for begin, peak in peaks
            )
        best = longer
    return best[num_parts][2]


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _weight_bytes(module: nn.Module) -> int:
    return FLOAT_BYTES * sum(parameter.numel() for parameter in module.parameters())
