"""The learning rate of a round, where those who wrote against it look for it: see `neulite_sim.scenario.learning_rate`."""

from __future__ import annotations

from neulite_sim.scenario.learning_rate import learning_rate as learning_rate
