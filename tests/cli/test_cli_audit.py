"""`--audit` and the columns of `profile`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tiny_scenarios import TINY
from typer.testing import CliRunner, Result

from neulite_sim.cli import app


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    return tmp_path


def called(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="neulite-sim")


def test_a_run_prints_its_audit_on_standard_error_and_keeps_it() -> None:
    found = called("run", "tiny.yaml", "--audit", "--json", "--out", "run")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["rounds"] == 1
    assert "predicted and tracked on real tensors" in found.stderr
    (row,) = json.loads(Path("run/audit.json").read_text())["submodels"]
    assert abs(row["relative_error"]) <= 0.03


def test_a_quiet_run_keeps_its_audit_without_a_word() -> None:
    found = called("run", "tiny.yaml", "--audit", "--quiet", "--json", "--out", "run")
    assert (found.exit_code, found.stderr) == (0, "")
    assert Path("run/audit.json").is_file()


def test_without_the_option_nothing_is_audited() -> None:
    assert called("run", "tiny.yaml", "--quiet", "--out", "run").exit_code == 0
    assert not Path("run/audit.json").exists()


def test_a_profile_says_which_of_its_two_peaks_is_compared_with_devices() -> None:
    plain = called("profile", "tiny.yaml")
    assert "holds the column 'tensor bytes'" in plain.stdout
    assert "with allocator" not in plain.stdout
    rounded = called("profile", "tiny.yaml", "--set", "allocator={kind: caching, context: 1MB}", "--audit")
    assert "holds the column 'with allocator'" in rounded.stdout
    assert "audited" in rounded.stdout


@pytest.mark.slow
def test_a_profile_says_what_devices_need_on_top_where_they_keep_features() -> None:
    options = ("model=cnn", "data.image_size=12", "method=neulite", "training.epochs=2")
    settings = [part for option in options for part in ("--set", option)]
    assert "kept of each sample" not in called("profile", "tiny.yaml", *settings).stdout
    kept = called("profile", "tiny.yaml", *settings, "--set", "training.prefix_cache=device").stdout
    # 32 maps of 12 x 12 numbers.
    assert "kept of each sample, on top and counted in fits: stage-2 18.43 kB." in kept


def test_the_json_of_a_profile_holds_both_peaks() -> None:
    found = json.loads(
        called("profile", "tiny.yaml", "--json", "--set", "allocator={kind: caching, context: 1MB}").stdout
    )
    (entry,) = found["submodels"]
    assert found["compared_with_memory"] == "allocator_bytes"
    assert entry["peak_memory_bytes"] == entry["allocator_bytes"] > entry["tensor_bytes"] + 10**6
    assert sum(entry["memory_bytes"].values()) == entry["tensor_bytes"]
