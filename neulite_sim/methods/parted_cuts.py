"""Where FeDepth cuts a chain of blocks into parts: so that the largest part's step is as small as it can be.

What a part needs is seen in one forward pass on fake tensors: the bytes that autograd keeps of its blocks and of the
head, and those of weights, gradients and the optimizer's state. The whole model is held in every part, and so is the
state of the blocks that were trained in parts before.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from neulite_sim.methods.parted_plan import Ends
from neulite_sim.models.balancing import balanced_cuts
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.fakes.mode import FakeMode
from neulite_sim.models.noise import noise
from neulite_sim.profiling.identity import identity_of
from neulite_sim.profiling.kept_files import KeptFiles, kept_folder
from neulite_sim.scenario.schema import Adam, Training

_ENDS: TypeAdapter[Ends] = TypeAdapter(Ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burden:
    """Bytes of each block in order, the head's last: of its weights, and of each map that its backward pass keeps.

    `largest_bytes` is the largest of its weights. The optimizer keeps `copies` of each weight, and makes `temporaries`
    of one while it changes it.
    """

    weight_bytes: tuple[int, ...]
    largest_bytes: tuple[int, ...]
    kept: tuple[dict[int, int], ...]
    """By the map: neighbours may keep the same one."""
    copies: int
    temporaries: int

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self.weight_bytes) - 1

    def peak_bytes(self, begin: int, end: int) -> int:
        """Return about what the part of blocks `begin` to `end` - 1 needs beside the weights of the model."""
        chain = (*range(begin, end), len(self.weight_bytes) - 1)
        state_bytes = self.copies * (sum(self.weight_bytes[:begin]) + sum(self.weight_bytes[block] for block in chain))
        largest = max(self.largest_bytes[block] for block in chain)
        gradient_bytes, highest = 0, 0
        for place, block in reversed(list(enumerate(chain))):
            # Backwards through the chain, gradients of weights grow as maps are given up.
            kept = {key: size for each in chain[: place + 1] for key, size in self.kept[each].items()}
            gradient_bytes += self.weight_bytes[block]
            passing = 2 * max(self.kept[block].values(), default=0)
            highest = max(highest, gradient_bytes + sum(kept.values()) + passing)
        peak_bytes: int = state_bytes + max(highest, gradient_bytes + self.temporaries * largest)
        return peak_bytes


def balanced_ends(blueprint: Blueprint, training: Training) -> Ends:
    """Return, for each number of parts, after how many blocks each ends: the largest part is as small as possible.

    Cuts are kept on disk beside profiles: to see what a step keeps takes longer than all else before a warm study.
    """
    identity, folder = identity_of(built_by=burden, blueprint=blueprint, training=training), kept_folder()
    if identity is None or folder is None:
        return _worked_out(blueprint, training)
    kept = KeptFiles(folder)
    ends = _believed(kept.content(identity))
    if ends is None:
        ends = _worked_out(blueprint, training)
        kept.put(identity, ends)
    return ends


def _believed(content: Any) -> Ends | None:
    """Return cuts that were kept, where they are cuts: a row for each number of parts, up to the last block."""
    try:
        ends = _ENDS.validate_python(content)
    except ValidationError:
        return None
    is_whole = all(len(row) == number and row[-1] == len(ends) for number, row in enumerate(ends, start=1))
    ascends = all(0 < one < other for row in ends for one, other in pairwise((0.5, *row)))
    return ends if ends and is_whole and ascends else None


def _worked_out(blueprint: Blueprint, training: Training) -> Ends:
    found = burden(blueprint, training)
    numbers = range(1, found.num_blocks + 1)
    return tuple((*balanced_cuts(found.num_blocks, number, found.peak_bytes), found.num_blocks) for number in numbers)


def burden(blueprint: Blueprint, training: Training) -> Burden:
    """Return what a training step of the model takes, block by block."""
    num_samples = min(training.batch_size, training.micro_batch_size or training.batch_size)
    with FakeMode():
        model = blueprint.build()
        features = noise(blueprint.spec, num_samples)
        modules, kept = [*model.blocks, model.head], []
        weights = {_key(tensor) for tensor in (*model.parameters(), *model.buffers())}
        held: list[Tensor] = []
        for module in modules:
            found: dict[int, int] = {}

            def keep(tensor: Tensor, found: dict[int, int] = found) -> Tensor:
                if _key(tensor) not in weights:
                    # Maps are told apart by their address, so each must stay.
                    held.append(tensor)
                    found[_key(tensor)] = tensor.untyped_storage().nbytes()
                return tensor

            with saved_tensors_hooks(keep, lambda tensor: tensor):
                features = module(features)
            kept.append(found)
    sizes = [[*map(_num_bytes, module.parameters())] for module in modules]
    is_adam = isinstance(training.optimizer, Adam)
    return Burden(
        weight_bytes=tuple(map(sum, sizes)),
        largest_bytes=tuple(max(each, default=0) for each in sizes),
        kept=tuple(kept),
        copies=2 if is_adam else int(training.momentum > 0),
        temporaries=2 if is_adam else 1,
    )


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
