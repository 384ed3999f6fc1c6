"""The learning rate of a round, where plug-ins of older versions look for it."""

from __future__ import annotations

from neulite_sim.scenario.learning_rate import learning_rate as learning_rate
