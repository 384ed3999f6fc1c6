"""A command draws the fleet of its scenario once: the one that was checked is the one that is used."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_scenarios import TINY
from typer.testing import CliRunner

from neulite_sim.cli import app
from neulite_sim.population import sampling


@pytest.mark.parametrize(
    "command",
    ["run --backend dry-run --quiet", "run --backend dry-run --audit", "profile", "whatif --memory 20MB", "validate"],
)
def test_a_command_draws_the_fleet_once(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    drawn, draw = [], sampling.build_population
    monkeypatch.setattr(sampling, "build_population", lambda *given: drawn.append(given) or draw(*given))
    name, *options = command.split()
    found = CliRunner().invoke(app, [name, "tiny.yaml", *options], prog_name="neulite-sim")
    assert (found.exit_code, len(drawn)) == (0, 1), found.output
