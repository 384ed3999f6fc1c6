"""Law of answers: whatever a scenario holds, what is wrong with it is said in words.

The mutants of `verification/fuzz_scenarios.py`, a few of them and without the runs.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neulite_sim import room
from neulite_sim.api.checks import check_fleet
from neulite_sim.errors import NeuliteError
from neulite_sim.scenario.loading import load_scenario

SCRIPT = Path(__file__).parents[2] / "verification" / "fuzz_scenarios.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verification_fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def starts(fuzz: ModuleType) -> list[dict[str, Any]]:
    return fuzz.bases()


@pytest.mark.slow
def test_mutants_load_or_are_refused_in_words(
    fuzz: ModuleType, starts: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10**8)
    monkeypatch.chdir(tmp_path)
    fuzz.furnish(tmp_path)
    path = tmp_path / "mutant.yaml"
    said: list[str] = []
    for number in range(56):
        _, content = fuzz.mutant(number, 7, starts)
        path.write_bytes(content)
        try:
            load_scenario("mutant.yaml", checks=[check_fleet])
        except NeuliteError as error:
            said.append(str(error))
    assert all(said)
    assert 20 <= len(said) <= 56


def test_every_kind_of_mutation_changes_something(fuzz: ModuleType, starts: list[dict[str, Any]]) -> None:
    mutants = sys.modules[fuzz.mutant.__module__]
    kinds = {fuzz.mutant(number, 1, starts)[0] for number in range(28)}
    assert kinds >= {*mutants.MUTATIONS, "several", "raw", "bytes"}
    assert fuzz.mutant(3, 1, starts) == fuzz.mutant(3, 1, starts) != fuzz.mutant(3, 2, starts)
    assert mutants.written({"a": [math.inf, -math.inf, "\ud800", None]}) == '{"a": [.inf, -.inf, "\\ud800", null]}'
