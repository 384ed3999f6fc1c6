"""The journal: what is written comes back in order, as far as a checkpoint says."""

import json
import subprocess
import sys

import pytest
import torch

from neulite_sim.errors import DataNotFoundError, OutputError
from neulite_sim.results.journal import ROUNDS, TESTS, UPDATES, Journal, fingerprint, read_journal


def test_entries_come_back_in_their_order(tmp_path):
    entries = [{"flight": 1, "loss": 0.1 + 0.2}, {"flight": 2, "loss": None}]
    with Journal(tmp_path / "journal") as journal:
        for entry in entries:
            journal.add(UPDATES, entry)
        lengths = journal.sync()
    assert list(read_journal(tmp_path / "journal", UPDATES, lengths[UPDATES])) == entries
    assert list(read_journal(tmp_path / "journal", TESTS, lengths[TESTS])) == []


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.add(ROUNDS, {"round": 1})
        lengths = journal.sync()
        journal.add(ROUNDS, {"round": 2})
        journal.add(UPDATES, {"flight": 9})
    with Journal(tmp_path / "journal", lengths) as again:
        again.add(ROUNDS, {"round": 2, "again": True})
        found = again.sync()
    assert list(read_journal(tmp_path / "journal", ROUNDS, found[ROUNDS])) == [
        {"round": 1},
        {"round": 2, "again": True},
    ]
    assert found[UPDATES] == 0


def test_what_was_flushed_survives_the_process(tmp_path):
    code = (
        "import os, pathlib, sys; from neulite_sim.results.journal import *\n"
        "j = Journal(pathlib.Path(sys.argv[1])); j.add(UPDATES, {'flight': 1}); j.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "journal")], check=False)
    line = (tmp_path / "journal" / "updates.jsonl").read_text()
    assert json.loads(line) == {"flight": 1}


def test_a_journal_shorter_than_its_checkpoint_is_refused(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.add(UPDATES, {"flight": 1})
        journal.sync()
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: has 13 bytes, its checkpoint needs 99; it was cut"):
        read_journal(tmp_path / "journal", UPDATES, 99)


def test_a_journal_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "updates.jsonl").write_text("{nonsense\n")
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: a line is no JSON; it was changed"):
        list(read_journal(tmp_path, UPDATES, 10))


def test_a_journal_that_is_gone_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: cannot be read: No such file or directory"):
        read_journal(tmp_path, UPDATES, 0)


def test_two_processes_cannot_write_one_run(tmp_path):
    with Journal(tmp_path / "journal"), pytest.raises(OutputError, match="another process is writing this run"):
        Journal(tmp_path / "journal")


def test_a_journal_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "journal").write_text("a file in its place")
    with pytest.raises(OutputError, match=r"the journal cannot be written: .*; the last checkpoint stays"):
        Journal(tmp_path / "journal")


def test_the_fingerprint_tells_names_types_shapes_and_bits_apart():
    base = {"a": torch.tensor([1.0, 2.0])}
    others = [
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0000002])},
        {"a": torch.tensor([0.0]), "b": torch.tensor([0.0])},
        {"a": torch.tensor([-0.0]), "b": torch.tensor([0.0])},
    ]
    assert len({fingerprint(item) for item in (base, *others)}) == 7
    assert fingerprint(base) == fingerprint({"a": torch.tensor([1.0, 2.0])})
