"""The journal: what is written comes back in order, as far as a checkpoint says."""

import json
import os
import subprocess
import sys

import pytest

from neulite_sim.errors import DataNotFoundError, OutputError, SimulationError
from neulite_sim.results.journal import BEGINNING, ROUNDS, TESTS, UPDATES, Journal, Mark, read_journal


def plain(entry):
    return {key: value for key, value in entry.items() if key != "check"}


def test_entries_come_back_in_their_order(tmp_path):
    entries = [{"flight": 1, "loss": 0.1 + 0.2}, {"flight": 2, "loss": None}]
    with Journal(tmp_path / "journal") as journal:
        for entry in entries:
            journal.add(UPDATES, entry)
        lengths = journal.sync()
    assert list(map(plain, read_journal(tmp_path / "journal", UPDATES, lengths[UPDATES]))) == entries
    assert list(read_journal(tmp_path / "journal", TESTS, lengths[TESTS])) == []


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.add(ROUNDS, {"round": 1})
        lengths = journal.sync()
        journal.add(ROUNDS, {"round": 2})
        journal.add(UPDATES, {"flight": 9})
    with Journal(tmp_path / "journal", lengths) as again:
        again.begin()
        again.add(ROUNDS, {"round": 2, "again": True})
        found = again.sync()
    assert list(map(plain, read_journal(tmp_path / "journal", ROUNDS, found[ROUNDS]))) == [
        {"round": 1},
        {"round": 2, "again": True},
    ]
    assert found[UPDATES] == BEGINNING


def test_what_was_flushed_survives_the_process(tmp_path):
    code = (
        "import os, pathlib, sys; from neulite_sim.results.journal import *\n"
        "j = Journal(pathlib.Path(sys.argv[1])); j.add(UPDATES, {'flight': 1}); j.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "journal")], check=False)
    line = (tmp_path / "journal" / "updates.jsonl").read_text()
    assert plain(json.loads(line)) == {"flight": 1}


def test_a_journal_shorter_than_its_checkpoint_is_refused(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.add(UPDATES, {"flight": 1})
        journal.sync()
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: has 56 bytes, its checkpoint needs 99; it was cut"):
        list(read_journal(tmp_path / "journal", UPDATES, Mark(length=99, check="")))


def test_a_journal_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "updates.jsonl").write_text("{nonsense\n")
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: a line is not as it was written; it was changed"):
        read_journal(tmp_path, UPDATES, Mark(length=10, check=""))


def test_a_journal_that_is_gone_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: cannot be read: No such file or directory"):
        read_journal(tmp_path, UPDATES, BEGINNING)


def test_two_processes_cannot_write_one_run(tmp_path):
    with Journal(tmp_path / "journal"), pytest.raises(OutputError, match="another process is writing this run"):
        Journal(tmp_path / "journal")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_journal_that_cannot_be_written_to_its_end_keeps_no_lock(tmp_path):
    journal = Journal(tmp_path / "journal")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._files[UPDATES].fileno())
    os.close(full)
    journal.add(UPDATES, {"flight": 1})
    with pytest.raises(OutputError, match="the journal cannot be written: No space left on device"):
        journal.close()
    # What the first one still has open is kept by `journal`, which nobody closes again.
    Journal(tmp_path / "journal").close()


def test_a_journal_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "journal").write_text("a file in its place")
    with pytest.raises(OutputError, match=r"the journal cannot be written: .*; the last checkpoint stays"):
        Journal(tmp_path / "journal")


@pytest.fixture
def written(tmp_path):
    """A journal of three lines, and how far it reaches."""
    with Journal(tmp_path / "journal") as journal:
        for number in (1, 2, 3):
            journal.add(UPDATES, {"flight": number, "loss": 0.5})
        return tmp_path / "journal", journal.sync()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0], lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], lines[1].replace(b"0.5", b"0.6"), lines[2]],
        lambda lines: [lines[0], lines[2].replace(b"3", b"2"), lines[2]],
        lambda lines: [lines[0], lines[1].replace(b'"check"', b'"chuck"'), lines[2]],
        lambda lines: [b"\x00" * len(line) for line in lines],
        lambda lines: [b" " + lines[0][:-1], *lines[1:]],
    ],
    ids=["twice", "swapped", "a value", "another line", "its key", "zeros", "shifted"],
)
def test_a_line_that_is_not_the_one_that_was_written_is_refused_before_any_is_read(written, change):
    folder, marks = written
    path = folder / "updates.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: a line is not as it was written; it was changed, and"):
        read_journal(folder, UPDATES, marks[UPDATES])


def test_the_lines_of_another_stream_are_not_taken(written):
    folder, marks = written
    (folder / "updates.jsonl").replace(folder / "tests.jsonl")
    with pytest.raises(DataNotFoundError, match=r"tests.jsonl: a line is not as it was written"):
        read_journal(folder, TESTS, marks[UPDATES])


def test_a_whole_journal_that_its_checkpoint_does_not_go_with_is_refused(written, tmp_path):
    _, marks = written
    with Journal(tmp_path / "other") as journal:
        for number in (1, 2, 3):
            journal.add(UPDATES, {"flight": number, "loss": 0.7})
    with pytest.raises(DataNotFoundError, match=r"is not the journal that its checkpoint goes with; it was changed"):
        read_journal(tmp_path / "other", UPDATES, marks[UPDATES])


def test_opening_a_journal_changes_nothing_until_it_begins(written):
    folder, marks = written
    path = folder / "updates.jsonl"
    path.write_bytes(path.read_bytes() + b"what came after the checkpoint")
    before = path.read_bytes()
    with Journal(folder, marks):
        pass
    assert path.read_bytes() == before


def test_no_link_is_followed_and_no_pipe_waited_for(written, tmp_path):
    folder, marks = written
    target = tmp_path / "precious"
    target.write_text("keep me")
    for name, make in {"tests": lambda path: path.symlink_to(target), "rounds": os.mkfifo}.items():
        path = folder / f"{name}.jsonl"
        kept = path.read_bytes()
        path.unlink()
        make(path)
        with pytest.raises(OutputError, match="the journal cannot be written: "):
            Journal(folder, marks)
        path.unlink()
        path.write_bytes(kept)
    assert target.read_text() == "keep me"


def test_an_entry_that_json_does_not_have_is_refused(tmp_path):
    with (
        Journal(tmp_path / "journal") as journal,
        pytest.raises(SimulationError, match=r"an entry of rounds: Object of"),
    ):
        journal.add(ROUNDS, {"round": 1, "progress": {1, 2}})
