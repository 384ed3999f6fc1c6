"""What a study expects of a round against what rounds of a run take."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_scenarios import waves

from neulite_sim.engine.simulation import simulate
from neulite_sim.studies.whatif import Budgets, Entrant, study

QUIET = ("population.availability=always", "population.speed_jitter=0", "backend=dry-run", "stop.rounds=600")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["neulite", "heterofl", "progfed"])
def test_the_mean_round_of_a_long_run_is_the_expected_one(method):
    """Without jitter and churn, within four standard errors of the mean over 600 rounds of random draws."""
    memory = "population.available_memory={kind: uniform, low: 2.2MB, high: 4MB}"
    scenario = waves(*QUIET, f"method={method}", memory)
    entrant = Entrant(method=method, variant=method, scenario=scenario)
    (row,) = study([entrant], Budgets(kind="scale", values=(1.0,)))["rows"]
    result = simulate(scenario)
    ends = np.array([0.0, *(float(line["virtual_time_s"]) for line in result.rounds)])
    durations = np.diff(ends)
    error = durations.std(ddof=1) / np.sqrt(len(durations))
    assert len(durations) == 600
    assert row["round_s"] == pytest.approx(durations.mean(), abs=4 * error)
    traffic = np.array([line["bytes_down"] + line["bytes_up"] for line in result.rounds], dtype=np.float64)
    spread = max(traffic.std(ddof=1) / np.sqrt(len(traffic)), 1e-6 * traffic.mean())
    assert row["bytes_per_round"] == pytest.approx(traffic.mean(), abs=4 * spread)
    assert row["participation_rate"] == result.summary["participation_rate"]
