import datetime
import json
import shutil
import subprocess
import sys

import pytest
from stored_runs import resealed, write_run
from tiny_scenarios import tiny

from neulite_sim.errors import OutputError
from neulite_sim.results.provenance import git_commit, installed_version, provenance, read_provenance
from neulite_sim.scenario.loading import scenario_hash


def test_provenance_names_versions_machine_seed_and_command():
    found = provenance(tiny("seed=42"), ["neulite-sim", "run", "my scenario.yaml"])
    assert found["scenario_hash"] == scenario_hash(tiny("seed=42"))
    assert found["seed"] == 42
    assert found["command"] == "neulite-sim run 'my scenario.yaml'"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found["libraries"]) == {"torch", "numpy", "ray", "simpy", "pydantic"}
    assert found["libraries"]["pydantic"].count(".") == 2
    assert found["schema_version"] == 2
    json.dumps(found)


def test_start_is_a_moment_of_now_in_utc():
    started = datetime.datetime.fromisoformat(provenance(tiny(), [])["started_at_utc"])
    assert abs((datetime.datetime.now(datetime.UTC) - started).total_seconds()) < 60


def test_missing_distribution_has_no_version():
    assert installed_version("no-such-distribution-as-this") is None


def test_ray_is_not_imported_for_its_version():
    program = "import sys; from neulite_sim.results.provenance import LIBRARIES, installed_version; "
    program += "[installed_version(name) for name in LIBRARIES]; "
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


@pytest.fixture
def file(tmp_path):
    write_run(tmp_path / "run", is_complete=False)
    return tmp_path / "run" / "provenance.json"


@pytest.mark.parametrize(
    ("old", "new"),
    [('"seed": 3', '"seed": 4'), ('"sha256": "', '"sha256": "0'), ('"command"', '"comment"'), ("2", "1")],
)
def test_a_provenance_that_was_changed_is_refused(file, old, new):
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(OutputError, match=r"provenance.json: is not as it was written; it was changed, so run its"):
        read_provenance(file.parent)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is no JSON"),
        ("[1]", "it is no JSON object"),
        ("[" * 100_000, "it is no JSON"),
        ("\xff", "it is no JSON"),
    ],
)
def test_what_is_no_provenance_is_refused(file, content, why):
    file.write_text(content, encoding="latin-1")
    with pytest.raises(OutputError, match=f"provenance.json: cannot be read: {why}; name the folder of a run"):
        read_provenance(file.parent)


def test_a_run_of_an_older_version_says_so(file):
    made = {key: value for key, value in json.loads(file.read_text()).items() if key not in ("sha256", "inputs")}
    file.write_text(json.dumps({**made, "schema_version": 1, "neulite_sim": "0.9"}))
    with pytest.raises(
        OutputError, match=r"was made by an older version of neulite-sim \(0.9\), which kept no checksums"
    ):
        read_provenance(file.parent)


def test_a_sealed_provenance_reads_back(file):
    resealed(file, seed=5)
    assert read_provenance(file.parent)["seed"] == 5
