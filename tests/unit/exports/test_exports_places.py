"""An export is whole or not there, is not written twice, and takes the place of nothing but its own run's."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from stored_runs import write_run

from neulite_sim.errors import OutputError
from neulite_sim.exports.origin import Origin, read_origin
from neulite_sim.exports.places import MARK, put_whole


def write_two(origin: Origin, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).write_text(f"{origin.run.summary['rounds']} rounds")


def write_one(origin: Origin, folder: Path) -> None:
    (folder / "a").write_text(f"{origin.run.summary['rounds']} rounds")


def put(folder: Path, run: Path, write: object = write_two) -> str:
    return put_whole(folder, "tool", read_origin(run), write)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run").path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != MARK}


def test_an_export_is_written_once(tmp_path: Path, run: Path) -> None:
    out = tmp_path / "some" / "where"
    assert put(out, run) == "written"
    assert contents(out) == {"a": "3 rounds", "b": "3 rounds"}
    assert json.loads((out / MARK).read_text())["files"] == ["a", "b"]
    assert put(out, run, write=None) == "already there"


def test_a_run_that_has_gone_on_since_takes_the_place_of_its_earlier_export(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    write_run(run, [(1.0, 0.5)], is_complete=False)
    assert put(out, run) == "written"
    (out / "note").write_text("of the user")
    with (run / "rounds.csv").open("a") as file:
        file.write((run / "rounds.csv").read_text().splitlines()[-1].replace("1,", "2,", 1) + "\n")
    assert put(out, run, write_one) == "renewed"
    assert contents(out) == {"a": "2 rounds", "note": "of the user"}
    assert put(out, run) == "already there"


def test_an_export_that_was_cut_off_is_begun_anew(tmp_path: Path, run: Path) -> None:
    out = tmp_path / "out"
    (out / ".partial").mkdir(parents=True)
    (out / ".partial" / "half").write_text("half")
    assert put(out, run) == "written"
    assert contents(out) == {"a": "3 rounds", "b": "3 rounds"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_stays_of_an_export_that_fails(error: BaseException, tmp_path: Path, run: Path) -> None:
    def fail(origin: Origin, folder: Path) -> None:
        write_one(origin, folder)
        raise error

    out = tmp_path / "some" / "where"
    told = pytest.raises(OutputError, match=r"where: cannot be written: No space left on device; make room or rights")
    with told if isinstance(error, OSError) else pytest.raises(KeyboardInterrupt):
        put(out, run, fail)
    assert not (tmp_path / "some").exists()
    run = write_run(tmp_path / "unfinished", is_complete=False).path
    put(out, run)
    before = contents(out)
    (run / "audit.json").write_text('{"submodels": []}')
    with pytest.raises((OutputError, KeyboardInterrupt)):
        put(out, run, fail)
    assert contents(out) == before


def test_what_is_not_an_export_of_this_run_stays(tmp_path: Path, run: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    out.mkdir()
    for name in ("c", "a", "d", "b"):
        (out / name).write_text(name)
    with pytest.raises(
        OutputError, match=r"out: already holds other files \(a, b, c and 1 more\); name a new or empty"
    ):
        put(out, run)
    assert contents(out) == {name: name for name in "abcd"}
    file.touch()
    with pytest.raises(OutputError, match=r"file: is a file; name a new or empty folder with --out"):
        put(file, run)
    other = write_run(tmp_path / "other", [(1.0, 0.5)], "seed=9").path
    put(tmp_path / "of other", other)
    with pytest.raises(OutputError, match=r"of other: already holds an export of another run \(a, b, export.json\)"):
        put(tmp_path / "of other", run)
    with pytest.raises(OutputError, match=r"of other: already holds an export to another tool \(a, b, export.json\)"):
        put_whole(tmp_path / "of other", "spoon", read_origin(other), write_two)
    (tmp_path / "of other" / MARK).write_text("[" * 10**6)
    with pytest.raises(OutputError, match=r"of other: already holds other files"):
        put(tmp_path / "of other", other)
