"""What `run` prints while it runs, where there is no terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tiny_scenarios import tiny

from neulite_sim.engine import assembly, tracking
from neulite_sim.engine.simulation import simulate
from neulite_sim.reports.plain import PlainConsole
from neulite_sim.results.rows import Event, RunStarted

PREPARATION_S, EVENT_S, STORING_S = 40.0, 0.75, 9.0


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Put the run's wall clock into the test's hands: it moves on in preparing, at each event and in storing."""
    now_s = [1000.0]
    prepare = assembly.ready

    def slow_preparation(*parts: Any) -> Any:
        now_s[0] += PREPARATION_S
        return prepare(*parts)

    monkeypatch.setattr(assembly, "ready", slow_preparation)
    monkeypatch.setattr(tracking, "time", SimpleNamespace(perf_counter=lambda: now_s[0]))
    return now_s


def test_the_last_round_and_the_summary_tell_the_same_wall_time(now_s: list[float]) -> None:
    class Passing:
        def notify(self, event: Event) -> None:
            now_s[0] += 0.0 if isinstance(event, RunStarted) else EVENT_S

    said: list[str] = []
    with PlainConsole(said.append, clock=lambda: now_s[0]) as view:
        summary = simulate(tiny("stop.rounds=3"), observers=[Passing(), view]).summary
        now_s[0] += STORING_S
    view.finish(summary)
    (last,) = [line for line in said if line.startswith("round 3/3")]
    (total,) = [line.split()[-1] for line in said[-1].splitlines() if line.startswith("  wall time")]
    assert last.endswith(f" | wall {total}")
    # A round has a dispatch, three results and its end.
    assert summary["wall_time_s"] == 3 * 5 * EVENT_S
