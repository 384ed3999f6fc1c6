"""Runs with a scripted backend in place of the scenario's own, and with the profiles that others have made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny_scenarios import ScriptedBackend

from neulite_sim.engine import building
from neulite_sim.engine.run_result import RunResult
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.schema import Scenario


@pytest.fixture(autouse=True, scope="module")
def _shared(shared_profiles: None) -> None:
    """Profile nothing twice."""


@pytest.fixture
def run_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunResult]:
    """Return a function that runs a scenario on a given backend."""

    def run(scenario: Scenario, backend: ScriptedBackend, **arguments: Any) -> RunResult:
        with monkeypatch.context() as patch:
            patch.setattr(building, "build_backend", lambda scenario: backend)
            return simulate(scenario, **arguments)

    return run
