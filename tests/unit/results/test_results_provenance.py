import datetime
import json
import shutil
import subprocess
import sys

import pytest

from neulite_sim.results.provenance import git_commit, installed_version, provenance


def test_provenance_names_versions_machine_seed_and_command():
    found = provenance("c0ffee", 42, ["neulite-sim", "run", "my scenario.yaml"])
    assert found["scenario_hash"] == "c0ffee"
    assert found["seed"] == 42
    assert found["command"] == "neulite-sim run 'my scenario.yaml'"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found["libraries"]) == {"torch", "numpy", "ray", "simpy", "pydantic"}
    assert found["libraries"]["pydantic"].count(".") == 2
    assert found["schema_version"] == 1
    json.dumps(found)


def test_start_is_a_moment_of_now_in_utc():
    started = datetime.datetime.fromisoformat(provenance("", 0, [])["started_at_utc"])
    assert abs((datetime.datetime.now(datetime.UTC) - started).total_seconds()) < 60


def test_missing_distribution_has_no_version():
    assert installed_version("no-such-distribution-as-this") is None


def test_ray_is_not_imported_for_its_version():
    program = "import sys; from neulite_sim.results.provenance import provenance; provenance('', 0, []); "
    program += "print('ray' in sys.modules, 'torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_folder_outside_any_checkout_has_no_commit(tmp_path):
    assert git_commit(tmp_path) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_changed_checkout_is_called_dirty(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*command):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True, capture_output=True)

    git("init")
    assert git_commit(tmp_path) is None
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{clean}-dirty"
