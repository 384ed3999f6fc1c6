"""Law over all options that take a number, a size or a duration: no value ends a command in an error of Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from stored_runs import write_run
from timeline_runs import two_rounds
from tiny_scenarios import TINY
from typer.testing import CliRunner

from neulite_sim import cli
from neulite_sim.bounds import MOST_THREADS

NUMERIC = {"N", "N|auto", "SIZES", "FACTORS", "SIZE", "TIME", "DURATION", "WHEN", "ROUND", "WxH", "DEVICE", "BOUNDS",
           "ACCURACY"}  # fmt: skip
APP = str(Path(__file__).parents[1] / "flower_apps" / "numpy-client")
RUN = ("run", "good.yaml", "--backend", "dry-run", "--quiet")
WHATIF = ("whatif", "good.yaml", "--methods", "fedavg")
PLOT = ("--plot", "a.svg")
OPTIONS: dict[str, tuple[str, ...]] = {
    "run --seed": RUN,
    "run --workers": RUN,
    "resume --workers": ("resume", "run"),
    **{f"whatif {name}": WHATIF for name in ("--memory", "--scale-memory", "--cap-memory", "--jobs")},
    **{f"whatif {name}": WHATIF for name in ("--batch-sizes", "--micro-batch")},
    "whatif --size": (*WHATIF, *PLOT),
    "sweep --seeds": ("sweep", "good.yaml", "--dry-run"),
    "sweep --jobs": ("sweep", "good.yaml", "--dry-run"),
    "runs --since": ("runs", "."),
    "compare --budget": ("compare", "done", "--view", "quality-under-budget"),
    "compare --target": ("compare", "done", "--view", "cost-to-target"),
    "compare --size": ("compare", "done", *PLOT),
    "timeline --rounds": ("timeline", "run"),
    "timeline --from": ("timeline", "run"),
    "timeline --size": ("timeline", "run", *PLOT),
    "device number": ("device", "run"),
    "device --flights": ("device", "run", "1"),
    **{f"flower {name}": ("flower", APP, "--fleet", "gone.yaml") for name in ("--seed", "--step", "--memory")},
    "calibrate --threads": ("calibrate", "--budget", "0s"),
    "calibrate --budget": ("calibrate", "--threads", "0"),
}
"""Each of these options, and the command line that it is added to: one that does little or nothing if it is taken."""
VALUES = ["", "0", "-1", "1_0", "1e13", "1e400", "1e-400", "inf", "nan", "many", "9" * 19, "9" * 400, "9" * 5000,
          "9223372036854775807", "1e30GB", "1e30d", "1,1e13", "0x1", "1e400x1"]  # fmt: skip


def parameters(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from parameters(inner, f"{name} {word}")
    else:
        yield from ((f"{name} {found.opts[-1]}".strip(), found) for found in command.params)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    two_rounds(Path("run"))
    write_run(Path("done"))


def test_every_option_that_takes_a_number_is_tried_here() -> None:
    found = dict(parameters(typer.main.get_command(cli.app)))
    assert {name for name, option in found.items() if option.metavar in NUMERIC} == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_no_number_ends_a_command_in_an_error_of_python(name: str) -> None:
    option = name.split()[-1]
    bounds = ("memory", "time", "traffic", "energy") if option == "--budget" and name.startswith("compare") else ()
    codes = (0, 1, 2) if name.startswith("flower") and not find_spec("flwr") else (0, 2)
    for value in VALUES:
        for given in (f"{bound}={value}" for bound in bounds) if bounds else (value,):
            added = [f"{option}={given}"] if option.startswith("-") else ["--", given]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = CliRunner().invoke(cli.app, [*OPTIONS[name], *added], prog_name="neulite-sim")
            assert found.exit_code in codes, (value[:40], found.stderr)
            assert "mistake of neulite-sim" not in found.stderr, (value[:40], found.stderr)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--memory=1000000000TB", "--memory: '1000000000TB' is above 1000TB, far more than any device has"),
        ("--cap-memory=9300000000GB", "--cap-memory: '9300000000GB' is above 1000TB, far more than any device has"),
        ("--batch-sizes=1000001", "--batch-sizes: '1000001' is above 1000000 samples"),
        ("--micro-batch=1_0", "--micro-batch: '1_0' is not a whole number of samples; write for example 32"),
    ],
)
def test_what_no_device_holds_is_refused_with_its_limit(option: str, message: str) -> None:
    found = CliRunner().invoke(cli.app, [*WHATIF, option])
    assert (found.exit_code, found.stderr.strip(), found.stdout) == (2, message, "")


def test_a_factor_is_limited_by_the_largest_budget_of_the_fleet() -> None:
    found = CliRunner().invoke(cli.app, [*WHATIF, "--scale-memory=1,1e13"])
    assert found.exit_code == 2
    limit = float(found.stderr.rpartition(" ")[2])
    assert found.stderr.startswith("--scale-memory: 1e+13 times ")
    assert CliRunner().invoke(cli.app, [*WHATIF, f"--scale-memory={limit * 0.99}"]).exit_code == 0


def test_more_threads_than_a_scenario_may_have_are_refused_of_a_calibration() -> None:
    found = CliRunner().invoke(cli.app, ["calibrate", "--budget=1s", f"--threads={MOST_THREADS + 1}"])
    assert found.exit_code == 2
    assert str(MOST_THREADS) in found.stderr
