"""What shapes one NeuLite stage: its number, its curriculum and its output module; `stage.py` builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neulite_sim.models.names import Surrogate

Form = Literal["ratio", "nocco"]
ZSource = Literal["block", "module"]
Operand = Literal["y", "x", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """The curriculum-aware loss of one stage. `operand` says which terms look through the projection MLP."""

    lambda_x: float
    lambda_y: float
    form: Form
    sigma: float
    epsilon: float
    z_source: ZSource
    operand: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """How to build a stage: its number (1 to T) and the choices that shape it.

    `tail_layers` is how many of the last layers of the block before are trained with it, at most all of them.
    """

    stage: int
    curriculum: Curriculum | None
    tail_layers: int
    surrogate: Surrogate
    projection_relu: bool
    frozen_batch_norm: Literal["eval", "train"]
    uploads_everything: bool
