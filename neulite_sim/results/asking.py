"""Which columns a run asks for, beside those that every run has."""

from __future__ import annotations

from neulite_sim.results.rows import ENERGY, PERPLEXITY, Asked
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Scenario


def asked_of(scenario: Scenario, spec: InputSpec | None = None) -> Asked:
    """Return what a run of the scenario asks for; `spec` is that of what is trained on, where it is known."""
    wanted = {ENERGY: scenario.energy is not None, PERPLEXITY: spec is not None and spec.predicts_tokens}
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)
