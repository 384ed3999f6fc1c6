"""The learning rate of a round: constant, in steps, or along a cosine (Loshchilov and Hutter, ICLR 2017)."""

from __future__ import annotations

import math

from neulite_sim.scenario.local_training import Cosine, Step, Training


def learning_rate(training: Training, round_number: int, max_rounds: int) -> float:
    """Return the learning rate of a round; rounds count from 1, so the first has the full rate.

    `step` makes it smaller after as many rounds as a milestone says, as PyTorch's MultiStepLR does after epochs.
    `cosine` starts at the full rate in round 1 and reaches `final` after the last one.
    """
    start, schedule = training.learning_rate, training.learning_rate_schedule
    if isinstance(schedule, Step):
        return start * schedule.factor ** sum(round_number > milestone for milestone in schedule.milestones)
    if isinstance(schedule, Cosine):
        progress = min(1.0, (round_number - 1) / (schedule.rounds or max_rounds))
        return schedule.final + (start - schedule.final) * (1 + math.cos(math.pi * progress)) / 2
    return start
