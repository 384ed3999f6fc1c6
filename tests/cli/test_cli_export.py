"""`export` and `run --export`: where exports go, what is said, and that no run is lost to one that fails."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_runs import write_run
from tiny_scenarios import tiny
from typer.testing import CliRunner, Result

from neulite_sim.cli import app
from neulite_sim.exports import tools
from neulite_sim.scenario.loading import dump_scenario

pytest.importorskip("pyarrow")
pytest.importorskip("tensorboard")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        write_run(Path(f"runs/a-{seed}"), [(10.0 * seed, 0.5 + 0.1 * seed)], f"seed={seed}")
    return tmp_path


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="neulite-sim")


def written(path: str) -> list[str]:
    return sorted(file.name for file in Path(path).iterdir())


PARQUET = ["denials.parquet", "export.json", "flights.parquet", "rounds.parquet"]


def test_a_run_goes_into_a_folder_of_its_own_below_exports() -> None:
    found = ran("export", "runs/a-1", "--to", "parquet")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "a-1: written: exports/parquet/a-1",
        "read it with: pandas.read_parquet('exports/parquet/a-1/rounds.parquet')",
    ]
    assert written("exports/parquet/a-1") == PARQUET
    assert ran("export", "runs/a-1", "--to", "parquet").stdout.startswith("a-1: already there: exports/parquet/a-1\n")


def test_one_run_goes_straight_into_a_folder_that_is_named_and_several_below_it() -> None:
    assert ran("export", "runs/a-1", "--to", "parquet", "--out", "one").exit_code == 0
    assert written("one") == PARQUET
    found = ran("export", "runs", "--to", "tensorboard", "--out", "all of them")
    assert found.stdout.splitlines() == [
        "a-1: written: all of them/a-1",
        "a-2: written: all of them/a-2",
        "look at them with: tensorboard --logdir 'all of them'",
    ]


def test_exports_are_answered_in_json() -> None:
    found = ran("export", "runs/a-2", "--to", "parquet", "--json")
    assert json.loads(found.stdout) == {
        "exports": [
            {
                "run": "a-2", "run_dir": "runs/a-2", "to": "parquet", "path": "exports/parquet/a-2",
                "status": "written", "remarks": [],
            }
        ]
    }  # fmt: skip


def test_equal_runs_give_equal_files() -> None:
    for out in ("first", "second"):
        for tool in ("parquet", "tensorboard"):
            ran("export", "runs/a-1", "--to", tool, "--out", f"{out}-{tool}")
    for tool in ("parquet", "tensorboard"):
        contents = [
            {path.name: path.read_bytes() for path in Path(f"{out}-{tool}").iterdir()} for out in ("first", "second")
        ]
        assert contents[0] == contents[1]


def test_an_unfinished_run_is_exported_as_far_as_it_goes_and_again_when_it_has_gone_on() -> None:
    write_run(Path("runs/b"), [(1.0, 0.5)], is_complete=False)
    found = ran("export", "runs/b", "--to", "tensorboard")
    assert found.stdout.splitlines()[:2] == [
        "b: written: exports/tensorboard/b",
        "  the run was cut off or still goes on: exported as far as its rows go",
    ]
    with Path("runs/b/rounds.csv").open("a") as file:
        file.write(Path("runs/b/rounds.csv").read_text().splitlines()[-1].replace("1,", "2,", 1) + "\n")
    assert ran("export", "runs/b", "--to", "tensorboard").stdout.startswith("b: renewed: exports/tensorboard/b\n")


def test_a_run_that_cannot_be_read_is_told_and_the_others_are_exported() -> None:
    rounds = Path("runs/a-1/rounds.csv")
    rounds.write_text(rounds.read_text().replace("0.6", "0.7"))
    found = ran("export", "runs", "--to", "parquet", "--json")
    assert found.exit_code == 2
    answered = json.loads(found.stdout)
    assert [each["run"] for each in answered["exports"]] == ["a-2"]
    assert answered["error"]["kind"] == "data-not-found"
    assert found.stderr == (
        "error: runs/a-1/rounds.csv: is not what SHA256SUMS beside it says: one of the two was changed; put it back, or "
        "run the scenario again\n"
    )
    assert not Path("exports/parquet/a-1").exists()


@pytest.mark.parametrize("command", [("export", "runs/a-1", "--to"), ("run", "tiny.yaml", "--export")])
def test_a_tool_that_is_none_is_refused_with_the_choices(command: tuple[str, ...]) -> None:
    found = ran(*command, "parquett")
    assert found.exit_code == 2
    assert found.stderr == (
        f"{command[-1]}: 'parquett' is no tool to export to; did you mean 'parquet'; choose parquet, tensorboard, mlflow "
        "or wandb\n"
    )


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a module look as if it were not installed."""

    def hide(module: str) -> None:
        usual = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else usual(name))

    return hide


@pytest.mark.parametrize(
    ("tool", "module", "package"),
    [("parquet", "pyarrow", "pyarrow"), ("tensorboard",) * 3, ("mlflow", "mlflow", "mlflow-skinny"), ("wandb",) * 3],
)
def test_a_tool_that_is_not_installed_is_refused_with_the_line_that_installs_it(
    tool: str, module: str, package: str, missing: Callable[[str], None]
) -> None:
    missing(module)
    found = ran("export", "runs/a-1", "--to", tool)
    assert found.exit_code == 2
    assert found.stderr == (
        f"error: --to {tool} needs {package}, which is not installed; install it with: python -m pip install {package}\n"
    )
    started = ran("run", "missing.yaml", "--export", tool)
    assert started.stderr == found.stderr.replace("--to", "--export")
    assert not Path("exports").exists()


def a_scenario() -> None:
    Path("tiny.yaml").write_text(dump_scenario(tiny("stop.rounds=1")))


def test_a_run_is_exported_when_it_is_complete() -> None:
    a_scenario()
    found = ran("run", "tiny.yaml", "--json", "--export", "parquet", "--export", "tensorboard", "--export", "parquet")
    assert found.exit_code == 0, found.stderr
    answered = json.loads(found.stdout)
    assert [each["path"] for each in answered["exports"]] == ["exports/parquet/tiny-3", "exports/tensorboard/tiny-3"]
    assert written("exports/parquet/tiny-3") == sorted([*PARQUET, "devices.parquet"])
    assert answered["run_dir"] == "runs/tiny-3"


def test_a_run_outlives_an_export_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    a_scenario()
    Path("exports").write_text("a file in the way")

    def fail(*_: object) -> tuple[str, Path]:
        raise ValueError("no such\n thing")

    broken = {**tools.TOOLS, "tensorboard": dataclasses.replace(tools.TOOLS["tensorboard"], put=fail)}
    monkeypatch.setattr(tools, "TOOLS", broken)
    found = ran("run", "tiny.yaml", "--json", "--export", "tensorboard", "--export", "parquet")
    assert found.exit_code == 2
    assert (Path("runs/tiny-3") / "COMPLETE").exists()
    answered = json.loads(found.stdout)
    assert (answered["rounds"], answered["exports"]) == (1, [])
    told = [line for line in found.stderr.splitlines() if line.startswith("error")]
    assert told[0] == (
        "error: the run is complete in runs/tiny-3, and its export to tensorboard failed: exports/tensorboard/tiny-3: "
        "tensorboard could not take the run: no such thing; choose another place with --out; then: neulite-sim export "
        "runs/tiny-3 --to tensorboard"
    )
    assert (
        "its export to parquet failed: exports/parquet/tiny-3: cannot be written: Not a directory; make room" in told[1]
    )
    assert answered["error"]["hint"].splitlines() == [
        "neulite-sim export runs/tiny-3 --to tensorboard",
        "neulite-sim export runs/tiny-3 --to parquet",
    ]


def test_a_package_that_cannot_be_imported_is_told_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> tuple[str, Path]:
        raise ImportError("libarrow.so: cannot open shared object file")

    broken = {**tools.TOOLS, "parquet": dataclasses.replace(tools.TOOLS["parquet"], put=fail)}
    monkeypatch.setattr(tools, "TOOLS", broken)
    found = ran("export", "runs/a-1", "--to", "parquet")
    assert found.exit_code == 2
    assert found.stderr == (
        "error: pyarrow cannot be imported: libarrow.so: cannot open shared object file; install it anew with: python -m "
        "pip install --upgrade pyarrow\n"
    )


def test_a_run_that_nobody_could_train_is_exported_as_such() -> None:
    summary = json.loads(Path("runs/a-1/summary.json").read_text())
    unknown = dict.fromkeys(
        ("virtual_time_s", "peak_memory_bytes", "final_accuracy", "tail_accuracy", "best_accuracy", "digest")
    )
    Path("runs/a-1/summary.json").write_text(json.dumps({**summary, **unknown, "not_applicable": "NA: too small"}))
    shutil.copy("runs/a-1/SHA256SUMS", "sums")
    Path("runs/a-1/SHA256SUMS").unlink()
    made = json.loads(Path("runs/a-1/provenance.json").read_text())
    Path("runs/a-1/provenance.json").write_text(json.dumps({key: made[key] for key in made if key != "sha256"}))
    for tool in ("parquet", "tensorboard"):
        found = ran("export", "runs/a-1", "--to", tool)
        assert (found.exit_code, found.stderr) == (0, "")
        assert "  the run trained nothing: NA: too small\n" in found.stdout
