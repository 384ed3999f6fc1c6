"""The script that shows everything on a GPU goes through all its parts on a processor."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "verification" / "on_gpu.py"


@pytest.fixture(name="script")
def _script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "on_gpu", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_it_goes_through_all_parts_on_a_processor(script: Any, tmp_path: Path, capsys: Any) -> None:
    assert script.main(["--small", "--device", "cpu", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert max(row["error"] for row in found["peaks"]) <= script.GOAL
    assert {row["case"].split()[0] for row in found["peaks"]} == {"fedavg", "neulite"}
    assert found["throughput"][0]["ours_per_s"] > 0
    assert found["digests"][0] == found["digests"][1]
    assert found["clients"]["apart"] < 1e-4, found["clients"]
    assert found["paper"]["rounds"] == 1
    assert "WRONG" not in capsys.readouterr().out


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_without_a_gpu_it_says_so(script: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        script.main([])
    assert "PyTorch finds no CUDA device here; --small --device cpu goes through" in capsys.readouterr().err
