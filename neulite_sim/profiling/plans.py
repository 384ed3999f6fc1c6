"""Plans: the ways in which a device may take the steps of one and the same local training.

A plan is the batch of a step, its micro-batches, checkpointing and precision. With `training.fit: auto` a device takes
the fastest one whose peak fits the memory that it has now; with `training.shrink_batch` the next smaller batch where
none does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from neulite_sim.scenario.local_training import AutoFit, NoFit, Precision, Training

if TYPE_CHECKING:
    from neulite_sim.profiling.profile import Profile

SMALLEST_MICRO_BATCH = 2
"""Of the sizes that are taken where a scenario names none: one sample has no statistics for BatchNorm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a device takes its steps; the whole batch at once where `micro_batch_size` is None."""

    batch_size: int
    micro_batch_size: int | None = None
    checkpointing: bool = False
    precision: Precision = "fp32"

    @property
    def label(self) -> str:
        """The plan in words, without the batch: `whole batch`, `micro-batch 16 + checkpointing`."""
        size = "whole batch" if self.micro_batch_size is None else f"micro-batch {self.micro_batch_size}"
        extras = (("checkpointing", self.checkpointing), (self.precision, self.precision != "fp32"))
        return " + ".join([size, *(name for name, is_on in extras if is_on)])

    def applied(self, training: Training) -> Training:
        """Return a training whose every step is taken in this way."""
        changes = {
            "batch_size": self.batch_size,
            "micro_batch_size": self.micro_batch_size,
            "checkpointing": self.checkpointing,
            "precision": self.precision,
            "fit": NoFit(),
        }
        return training.model_copy(update=changes)

    def is_never_faster_than(self, other: Plan, *, is_linear: bool = True) -> bool:
        """Return whether the time model lets this plan never be faster, on no device.

        The same work in more parts of equal size, or with some of it done twice, has the same operations, at least the
        same bytes and more operators. Parts of one sample are another matter: they run without batch statistics. So is
        a submodel whose work is not linear in the batch.
        """
        if (self.precision, self.batch_size) != (other.precision, other.batch_size) or self == other:
            return False
        own, others = (plan.micro_batch_size or plan.batch_size for plan in (self, other))
        divides = own > 1 and others % own == 0 and self.batch_size % others == 0
        is_cut_finer = own == others or (is_linear and divides)
        return is_cut_finer and self.checkpointing >= other.checkpointing


def plan_of(training: Training) -> Plan:
    """Return the plan by which a training without choice takes its steps."""
    return Plan(
        batch_size=training.batch_size,
        micro_batch_size=training.micro_batch_size,
        checkpointing=training.checkpointing,
        precision=training.precision,
    )


def halvings(batch_size: int, minimum: int) -> tuple[int, ...]:
    """Return `batch_size` halved again and again, rounded down, as long as it stays at or above `minimum`."""
    sizes = []
    while (batch_size := batch_size // 2) >= max(minimum, 1):
        sizes.append(batch_size)
    return tuple(sizes)


Rung = tuple[Plan, ...]
"""Plans of one batch size; of those that fit a device the fastest is taken, the first of equally fast ones."""


def rungs_of(training: Training) -> tuple[Rung, ...]:
    """Return the plans that a training allows, by falling batch size; the first of the first is what all start from."""
    batch_sizes: tuple[int, ...] = (training.batch_size,)
    if training.shrink_batch is not None:
        batch_sizes += halvings(training.batch_size, training.shrink_batch.minimum)
    return tuple(_rung(training.model_copy(update={"batch_size": size})) for size in batch_sizes)


def _rung(training: Training) -> Rung:
    fit, plan = training.fit, plan_of(training)
    if not isinstance(fit, AutoFit):
        return (plan,)
    sizes = fit.micro_batch_sizes or halvings(training.batch_size, SMALLEST_MICRO_BATCH)
    micros = (None, *sorted((size for size in sizes if size < training.batch_size), reverse=True))
    ways = {"never": (False,), "always": (True,), "allowed": (False, True)}[fit.checkpointing]
    return tuple(
        replace(plan, micro_batch_size=micro, checkpointing=checkpointing, precision=precision)
        for precision in fit.precisions or (training.precision,)
        for checkpointing in ways
        for micro in micros
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The plans that devices choose from; `profile_of(submodel, plan)` is asked only where needed.

    It returns None where a submodel cannot be trained so.
    """

    rungs: tuple[Rung, ...]
    profile_of: Callable[[str, Plan], Profile | None]
