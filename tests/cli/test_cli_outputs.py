"""What commands write where a user says: whole or not at all, over no input, and never into a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from stored_runs import write_run
from tiny_scenarios import online_trace, tiny
from typer.testing import CliRunner, Result

import neulite_sim
from neulite_sim.cli import app
from neulite_sim.errors import OutputError, ScenarioError
from neulite_sim.exports import places
from neulite_sim.results.outputs import beside, check_outputs
from neulite_sim.scenario.loading import dump_scenario
from neulite_sim.studies.sweeps import plan_written

resource = pytest.importorskip("resource")

OLD = b"what was there before\n"
WHATIF = "whatif child.yaml --methods fedavg --memory 15MB,25MB"
COMMANDS: Mapping[str, tuple[str, str]] = {
    "compare --csv": ("compare runs --csv", "out.csv"),
    "compare --plot": ("compare runs --plot", "out.png"),
    "compare --group --plot": ("compare runs --group --plot", "out.svg"),
    "view --csv": ("compare runs --view cost-to-target --target 0.5 --csv", "out.csv"),
    "view --plot": ("compare runs --view cost-to-target --target 0.5 --plot", "out.pdf"),
    "timeline --plot": ("timeline runs/a-1 --plot", "out.svg"),
    "timeline --trace": ("timeline runs/a-1 --trace", "out.json.gz"),
    "report of a run": ("report runs/a-1 --out", "out.html"),
    "report of several": ("report runs --out", "out.html"),
    "report of a study": ("report study.json --out", "out.html"),
    "whatif --csv": (f"{WHATIF} --csv", "out.csv"),
    "whatif --plot": (f"{WHATIF} --plot", "out.png"),
}
"""The line of each command that writes a file, up to the name of the file, and a name that it takes."""


def ran(line: str) -> Result:
    return CliRunner().invoke(app, line.split(), prog_name="neulite-sim")


@contextlib.contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: writing fails in its midst, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        write_run(Path(f"runs/a-{seed}"), [(10.0 * seed, 0.5 + 0.1 * seed)], f"seed={seed}")
    Path("base.yaml").write_text(dump_scenario(tiny()))
    online_trace(tmp_path, (0, 0.0, 100.0))
    Path("child.yaml").write_text(
        "extends: base.yaml\npopulation: {availability: {kind: trace, path: trace.csv, repeat: false}}\n"
    )
    return tmp_path


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def study() -> None:
    Path("study.json").write_text(ran(f"{WHATIF} --json").stdout)


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_write_that_fails_leaves_what_was_there(command: str, folder: Path) -> None:
    line, name = COMMANDS[command]
    assert ran(f"{line} first-{name}").exit_code == 0
    assert Path(f"first-{name}").stat().st_size > 200
    Path(name).write_bytes(OLD)
    before = content_of(folder)
    with files_of_at_most(200):
        found = ran(f"{line} {name}")
    assert (found.exit_code, f"{name}: cannot write: File too large" in found.stderr) == (2, True), found.output
    assert content_of(folder) == before
    assert ran(f"{line} {name}").exit_code == 0
    assert Path(name).read_bytes() == Path(f"first-{name}").read_bytes()


def test_an_export_that_fails_leaves_the_one_that_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    assert ran("export runs/a-1 --to parquet --out out").exit_code == 0
    mark = json.loads(Path("out/export.json").read_text())
    Path("out/export.json").write_text(json.dumps({**mark, "state": "of an earlier round"}))
    before = content_of(folder)
    with files_of_at_most(200):
        assert ran("export runs/a-1 --to parquet --out out").exit_code == 2
    assert content_of(folder) == before
    with monkeypatch.context() as full:
        full.setattr(places, "write_whole", _no_space)
        assert ran("export runs/a-1 --to parquet --out out").exit_code == 2
    assert content_of(folder) == before
    assert ran("export runs/a-1 --to parquet --out out").stdout.startswith("a-1: renewed: out\n")


def _no_space(path: Path, content: str) -> None:
    raise OutputError(f"{path}: cannot write {len(content)} characters")


INPUTS = ("base.yaml", "child.yaml", "trace.csv")
IN_A_RUN = ("runs/a-1/rounds.csv", "runs/a-1/scenario.yaml", "runs/a-1/new", "runs/a-1/deep/er/new")


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_output_goes_into_a_run_folder(command: str, folder: Path) -> None:
    line, name = COMMANDS[command]
    os.symlink("runs/a-1", "link", target_is_directory=True)
    before = content_of(folder)
    ending = "".join(Path(name).suffixes) if "--plot" in command else ""
    for place in (*IN_A_RUN, "link/rounds.csv"):
        found = ran(f"{line} {place}{ending}")
        assert (found.exit_code, "lies in the run folder" in found.stderr) == (2, True), found.output
        assert content_of(folder) == before


@pytest.mark.parametrize("name", INPUTS)
def test_no_output_goes_over_what_a_scenario_is_read_from(name: str, folder: Path) -> None:
    os.symlink(name, "link.csv")
    os.link(name, "twin.csv")
    before = content_of(folder)
    for place in (name, f"./{name}", str(folder / name), "link.csv", "twin.csv"):
        found = ran(f"{WHATIF} --csv {place}")
        told = f"--csv: {Path(place)} is what is read here; name another file"
        assert (found.exit_code, told in found.stderr) == (2, True), found.output
        assert content_of(folder) == before


@pytest.mark.usefixtures("study")
def test_no_report_goes_over_its_study(folder: Path) -> None:
    before = content_of(folder)
    assert "--out: study.json is what the report is made from; name another file" in (
        ran("report study.json --out study.json").stderr
    )
    assert content_of(folder) == before


@pytest.mark.parametrize("tool", ["parquet", "tensorboard", "mlflow", "wandb"])
def test_no_export_goes_into_a_run_folder(tool: str, folder: Path) -> None:
    pytest.importorskip({"parquet": "pyarrow"}.get(tool, tool))
    before = content_of(folder)
    for place in ("runs/a-1", "runs/a-1/export", "runs/a-2/export"):
        found = ran(f"export runs/a-1 --to {tool} --out {place}")
        assert (found.exit_code, f"--out: {place} lies in the run folder" in found.stderr) == (2, True)
        assert content_of(folder) == before


def test_a_study_trains_nothing_beside_the_scenario_that_it_is_read_from(folder: Path) -> None:
    Path("out/scenarios").mkdir(parents=True)
    Path("out/scenarios/a.yaml").write_text(dump_scenario(tiny()))
    before = content_of(folder)
    found = ran("whatif out/scenarios/a.yaml --methods fedavg --memory 15MB --train --out out")
    told = "--out: out holds the scenario out/scenarios/a.yaml, which a run's may replace; name another folder"
    assert (found.exit_code, told in found.stderr) == (2, True)
    assert content_of(folder) == before


def test_two_outputs_of_one_command_are_two_files() -> None:
    found = ran("compare runs --csv a.png --plot ./a.png")
    assert (found.exit_code, "--plot: a.png is --csv as well; name another file" in found.stderr) == (2, True)


def test_what_is_no_run_folder_takes_outputs(folder: Path) -> None:
    """A scenario beside them, folders that hold runs, and an output of before."""
    Path("scenario.yaml").write_text(dump_scenario(tiny()))
    for place in ("all.csv", "runs/all.csv", "runs/all.csv"):
        assert ran(f"compare runs --csv {place}").exit_code == 0
    assert ran("whatif scenario.yaml --methods fedavg --memory 15MB --csv all.csv").exit_code == 0
    assert (folder / "runs" / "all.csv").read_text().startswith("run,")


def test_nothing_in_a_folder_of_data_is_replaced_and_what_is_new_may_lie_in_it(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "old.csv").write_bytes(OLD)
    with pytest.raises(Exception, match=r"--csv: data/old.csv is what is read here"):
        check_outputs({"--csv": "data/old.csv"}, [], kept=["data"])
    check_outputs({"--csv": "data/new.csv", "--plot": None}, [], kept=["data"])


def test_a_link_is_followed_and_a_pipe_is_written_to(folder: Path) -> None:
    Path("real.csv").write_bytes(OLD)
    os.symlink("real.csv", "link.csv")
    assert ran("compare runs --csv link.csv").exit_code == 0
    assert Path("link.csv").is_symlink()
    assert Path("real.csv").read_text().startswith("run,")
    os.mkfifo("pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    reader.start()
    assert ran("compare runs --csv pipe").exit_code == 0
    reader.join()
    assert got == [Path("real.csv").read_bytes()]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
@pytest.mark.parametrize("is_file", [True, False])
def test_what_is_open_already_is_written_to_and_not_replaced(is_file: bool, folder: Path) -> None:
    (folder / "open").write_bytes(b"")
    read, write = (None, os.open("open", os.O_WRONLY)) if is_file else os.pipe()
    inode = (folder / "open").stat().st_ino
    assert ran(f"compare runs --csv /dev/fd/{write}").exit_code == 0
    os.close(write)
    found = (folder / "open").read_bytes() if read is None else os.read(read, 1 << 16)
    assert (found[:4], (folder / "open").stat().st_ino) == (b"run,", inode)
    if read is not None:
        os.close(read)


def test_a_file_keeps_its_rights_and_one_that_may_not_be_written_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_bytes(OLD)
    (folder / "a").chmod(0o640)
    with beside(folder / "a") as place:
        place.write_bytes(b"new")
    assert ((folder / "a").read_bytes(), (folder / "a").stat().st_mode & 0o777) == (b"new", 0o640)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="Permission denied"), beside(folder / "a"):
        pass
    with pytest.raises(IsADirectoryError, match="Is a directory"), beside(folder):
        pass
    assert not list(folder.glob("*.partial"))


def test_the_scenario_of_a_run_is_not_replaced_by_another_that_is_refused(folder: Path) -> None:
    write_run(folder / "out" / "x")
    (folder / "out" / "scenarios").mkdir()
    (folder / "out" / "scenarios" / "x.yaml").write_bytes(OLD)
    with pytest.raises(OutputError, match="another scenario"):
        plan_written(tiny("training.learning_rate=0.5"), "x", out=folder / "out")
    assert (folder / "out" / "scenarios" / "x.yaml").read_bytes() == OLD


@pytest.mark.parametrize("write", ["to_json", "to_html", "plot"])
def test_what_python_asks_for_stays_out_of_run_folders_as_well(write: str, folder: Path) -> None:
    before = content_of(folder)
    with pytest.raises(ScenarioError, match=r"path: runs/a-1/new.png lies in the run folder .*a-1, in which nothing"):
        getattr(neulite_sim.compare("runs/*"), write)("runs/a-1/new.png")
    assert content_of(folder) == before
