"""What shapes a model that is trained part by part within a round; `parted.py` builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LinkKind = Literal["pad", "conv"]

Ends = tuple[tuple[int, ...], ...]
"""For each number of parts from 1 on, after how many blocks each part ends; the last of each is all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartedPlan:
    """How to build it: `num_frozen` blocks that no part trains, then parts that end after `ends` blocks each."""

    num_frozen: int
    ends: tuple[int, ...]
    link: LinkKind
    frozen_batch_norm: str
