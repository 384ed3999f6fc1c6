"""Damaged run folders: a resume ends in the unbroken digest or in a refusal that changes nothing (verification/)."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "verification" / "damage_run_folders.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("damage_run_folders", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def runs(study, tmp_path_factory):
    return study.originals(tmp_path_factory.mktemp("originals"), pairs=(("fedavg", "fedbuff"),))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_run_ends_in_the_unbroken_digest_or_is_refused_and_left(study, runs, tmp_path, seed):
    outcome = study.one(runs[seed % 2], random.Random(seed), tmp_path)
    assert not outcome.fault, outcome


NEEDED = ("scenario.yaml", "provenance.json", "journal/updates.jsonl", "journal/rounds.jsonl", "journal/tests.jsonl",
          "checkpoint/round-00000004/manifest.json", "checkpoint/round-00000004/state.json",
          "checkpoint/round-00000004/tensors.safetensors")  # fmt: skip


DAMAGES = ("all cut off", "removed", "end cut off", "link in its place", "pipe in its place")


@pytest.mark.parametrize(("place", "name"), tuple(enumerate(NEEDED)))
def test_what_a_resume_needs_is_not_gone_on_with_when_damaged(study, runs, tmp_path, place, name):
    damage = DAMAGES[place % len(DAMAGES)]
    (run,) = (item for item in runs if not item.is_complete)
    study.shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "precious").mkdir()
    kinds = {**study.OF_ANY, **study.OF_CONTENT}
    kinds[damage](tmp_path / "run" / name, random.Random(1), tmp_path / "precious")
    before, precious = study.content_of(tmp_path / "run"), study.content_of(tmp_path / "precious")
    code, _, errors = study.ran("resume", str(tmp_path / "run"))
    assert code == 2, errors
    assert name.rpartition("/")[2] in errors or damage == "removed"
    assert study.content_of(tmp_path / "run") == before
    assert study.content_of(tmp_path / "precious") == precious


@pytest.mark.parametrize(
    ("name", "damage"),
    [("rounds.csv", "bit flipped"), ("flights.csv", "removed"), ("denials.csv", "line doubled"),
     ("timeline.json.gz", "all cut off")],
)  # fmt: skip
def test_what_a_resume_writes_anew_may_be_damaged(study, runs, tmp_path, name, damage):
    (run,) = (item for item in runs if not item.is_complete)
    study.shutil.copytree(run.folder, tmp_path / "run")
    kinds = {**study.OF_ANY, **study.OF_CONTENT}
    kinds[damage](tmp_path / "run" / name, random.Random(1), tmp_path)
    code, said, errors = study.ran("resume", str(tmp_path / "run"))
    assert code == 0, errors
    assert run.digest in said
