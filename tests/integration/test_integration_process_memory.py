"""The script that measures processes, on two tiny steps of its own: measured once, predicted, told."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "verification" / "process_memory.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("process_memory", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["process_memory"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["process_memory"]


@pytest.fixture
def two(script, monkeypatch):
    plain = {"model": "cnn", "shape": [3, 16, 16], "batch": 4, "malloc": "default"}
    monkeypatch.setattr(script, "cases", lambda networks=None: [plain, {**plain, "malloc": "mmap"}])
    return [plain, {**plain, "malloc": "mmap"}]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_two_steps_are_measured_in_fresh_processes_and_not_measured_again(script, two, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "kept.jsonl"
    assert script.main(["--measured", str(kept), "--json"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert [row["malloc"] for row in found["rows"]] == ["default", "mmap"]
    assert all(row["measured_bytes"] > row["tensor_bytes"] > 0 for row in found["rows"])
    assert found["worst_error"] < 0.2
    monkeypatch.setattr(script, "in_fresh_process", lambda case: pytest.fail("measured again"))
    script.main(["--measured", str(kept)])
    assert "2 steps of 1 networks" in capsys.readouterr().out


def test_errors_count_steps_that_were_predicted_to_fit_and_the_margin(script):
    rows = [{"error": error, "error_above_base": 2 * error, "tensor_bytes": 1, "measured_bytes": 2}
            for error in (-0.2, 0.1, 0.0, -0.04)]  # fmt: skip
    found = script.errors(rows)
    assert (found["median_error"], found["worst_error"]) == (pytest.approx(0.07), 0.2)
    assert (found["does_not_fit_share"], found["does_not_fit_share_with_5_percent"]) == (0.5, 0.25)
    assert found["safety_margin"] == pytest.approx(0.25)


def test_every_case_has_a_name_of_its_own_and_networks_can_be_chosen(script):
    everything = script.cases()
    assert len({script.key(case) for case in everything}) == len(everything)
    assert len({case["model"] for case in everything if ":" in case["model"]}) >= 25
    assert {case["model"] for case in script.cases(["vit"])} == {"vit"}


def test_what_was_never_measured_is_no_table(script, two, tmp_path, capsys):
    assert script.main(["--only-measured", "--measured", str(tmp_path / "none")]) == 1
    assert "nothing was measured" in capsys.readouterr().err
