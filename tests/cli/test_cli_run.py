"""What `run` prints while it runs, where there is no terminal; how many actors `--workers` asks for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tiny_scenarios import TINY, tiny
from typer.testing import CliRunner

from neulite_sim import cli
from neulite_sim.api.backend import with_backend
from neulite_sim.cli.options import workers_asked
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


@pytest.mark.parametrize(("text", "workers"), [("auto", "auto"), ("1", 1), ("1024", 1024)])
def test_workers_are_a_number_or_auto(text: str, workers: int | str) -> None:
    asked = workers_asked(text)
    assert asked == workers
    backend = with_backend(tiny("backend={kind: ray, workers: 3}"), workers=asked).backend.dump()
    assert backend["workers"] == workers
    assert workers_asked(None) is None


@pytest.mark.parametrize("command", ["run", "resume"])
@pytest.mark.parametrize("text", ["Auto", "0", "-1", "1025", "two", "1_0", "", "9" * 5000])
def test_anything_else_is_refused_before_anything_is_read(command: str, text: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "nowhere", f"--workers={text}"], prog_name="neulite-sim")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert said.startswith(f"--workers: {text!r} is neither auto nor a whole number from 1 to 1024; write for example")
    assert said.endswith("--workers 4, or --workers auto for as many as the processors hold")


def test_auto_acts_with_workers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    result = CliRunner().invoke(cli.app, ["run", "tiny.yaml", "--backend", "dry-run", "--workers", "auto"])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "--workers: 'auto' acts only with backend ray or inprocess, not with 'dry-run'; add --backend ray" in said
