"""Small inputs that once went wrong: a row each in `CASES`, with the command and what it must end in.

The files lie in `tests/cases`; where the data folder stands beside the project, its own are tried as well. Whoever
adds a file adds a row: the test that every file has one says so.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neulite_sim.cli import app
from neulite_sim.data import image_folder
from neulite_sim.traces.throughput import read_throughput

OWN = Path(__file__).parents[1] / "cases"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "cases"
ROOTS = [pytest.param(OWN, id="own"), pytest.param(SHARED, id="shared", marks=pytest.mark.real_data)]

BASE = """\
name: case
seed: 1
data: {kind: digits, image_size: 8, train_samples: 40, test_samples: 20}
model: {kind: logistic}
training: {epochs: 1, batch_size: 4}
population:
  devices: 2
  groups: [{device: raspberry-pi-4-2gb, share: 1}]
  available_memory: {kind: uniform, low: 100MB, high: 200MB}
method: {kind: fedavg}
selection: {kind: uniform, devices_per_round: 2}
stop: {rounds: 1}
backend: dry-run
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command, and what it must end in.

    `arguments` may name `{cases}`, the folder of the files, `{base}`, a right scenario, and `{out}`, a folder that is
    not there yet. `says` are patterns of what is printed, on either channel; `summary` judges what `run` gives back.
    """

    file: str
    arguments: tuple[str, ...]
    exit_code: int = 2
    says: tuple[str, ...] = ()
    summary: Callable[[Mapping[str, Any]], bool] = field(default=lambda _: True)


def _run(scenario: str, *settings: str) -> tuple[str, ...]:
    sets = (part for setting in settings for part in ("--set", setting))
    return ("run", scenario, *sets, "--out", "{out}")


def images(file: str, **wanted: Any) -> Case:
    return Case(
        file=file, arguments=_run("{base}", f"data={{{{kind: image-folder, root: '{{cases}}/{file}'}}}}"), **wanted
    )


def femnist(file: str, says: str) -> Case:
    chosen = f"data={{{{kind: femnist, root: '{{cases}}/{file}'}}}}"
    place = rf"error: femnist: \S*{file}/train/\S+\.json (of writer f0\d+ has|is not a file of LEAF's format:) "
    return Case(file=file, arguments=_run("{base}", chosen), says=(place + says,))


def online(file: str, **wanted: Any) -> Case:
    chosen = f"population.availability={{{{kind: trace, path: '{{cases}}/{file}'}}}}"
    return Case(file=file, arguments=_run("{base}", chosen), **wanted)


def scenario(file: str, command: str, *says: str) -> Case:
    arguments = _run(f"{{cases}}/{file}") if command == "run" else (command, f"{{cases}}/{file}")
    return Case(file=file, arguments=arguments, says=(re.escape(Path(file).name), *says))


def protocol(*settings: str, rounds: int = 5, below_s: float = 10.0) -> Case:
    file = "protocol/fedbuff_slow.yaml"
    return Case(
        file=file,
        arguments=(*_run(f"{{cases}}/{file}", *settings), "--json"),
        exit_code=0,
        summary=lambda found: found["rounds"] == rounds and found["virtual_time_s"] < below_s,
    )


CHURN = "population.availability={{kind: markov, mean_on: 1min, mean_off: 1min}}"
CHARGED = (
    "workload.model=resnet18",
    "workload.input_shape=[3, 32, 32]",
    "population.available_memory={{kind: uniform, low: 300MB, high: 400MB}}",
)

CASES = (
    images("images/png16", exit_code=0),
    images("images/ipynb", exit_code=0, says=(r"! image-folder: .*train left out: \.ipynb_checkpoints",)),
    images("images/mixwebp", exit_code=0),
    images("images/emptyclass", exit_code=0, says=("train has no image of bird", "cat, dog are 0 to 1")),
    images("images/oneclass", says=("train has one class, cat; a classifier needs two, a folder each",)),
    images("images/badihdr", says=(r"train/cat/9\.png cannot be read as an image \(.+\); replace or remove it",)),
    femnist("femnist/floatlabel", r"label 3\.7 of image 0; labels are whole, 0 to 61"),
    femnist("femnist/strlabel", r"label '\d+' of image 0; labels are whole, 0 to 61"),
    femnist("femnist/nanpix", "NaN is not a number"),
    Case(
        file="throughput/tr_MBps.csv",
        arguments=("traces", "import", "throughput-csv", "{cases}/throughput/tr_MBps.csv", "--out", "{out}"),
        exit_code=0,
        says=("mean rate 80, 80, 80 Mbps",),
    ),
    online("availability/tiny.csv", says=(r"tiny\.csv:2: .*the interval 0 to 0\.0000001 is shorter than a tick",)),
    online(
        "availability/epoch.csv",
        exit_code=0,
        says=("nobody is online before virtual day 18,292", r"set population\.availability\.origin to first"),
    ),
    online("availability/period_amp.csv", exit_code=0),
    online("availability/underscore.csv", says=(r"underscore\.csv:2: .*end_s '1_000' is not a number of seconds",)),
    Case(
        file="traces/fedscale_capacity_surrogate.pkl",
        arguments=("traces", "import", "fedscale-capacity", "{cases}/traces/fedscale_capacity_surrogate.pkl",
                   "--out", "{out}"),
        exit_code=0,
        says=("1 devices; speed factor 1, 1, 1",),
    ),
    scenario("scenarios/merge_scalar.yaml", "validate", "<<"),
    scenario("scenarios/batch_size_1e30.yaml", "validate", "training.batch_size"),
    scenario("scenarios/batch_size_1e30.yaml", "run", "training.batch_size"),
    scenario("scenarios/tiers_1e23.yaml", "validate", "selection.tiers"),
    scenario("scenarios/tiers_1e23.yaml", "run", "selection.tiers"),
    scenario("scenarios/downlink_1e-320.yaml", "validate", "server.downlink"),
    scenario("scenarios/downlink_1e-320.yaml", "run", "server.downlink"),
    scenario("scenarios/seed_big_hex.yaml", "validate", "seed"),
    scenario("scenarios/seed_big_hex.yaml", "run", "seed"),
    scenario("scenarios/extends_nul.yaml", "validate", "extends"),
    *(protocol(f"protocol.buffer_size={size}", *extra)
      for size, extra in ((9, ()), (10, ()), (11, ("protocol.concurrency=11",)))),
    protocol("population.devices=8", "population.groups=[{{device: raspberry-pi-4-2gb, share: 1}}]", "protocol=fedbuff"),
    protocol("population.devices=6", "protocol=fedasync", CHURN, *CHARGED, rounds=5, below_s=3600.0),
)  # fmt: skip


@pytest.fixture
def handlers() -> Iterator[None]:
    """Give back the signal handlers that a command takes."""
    taken = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
    yield
    for name, handler in taken.items():
        signal.signal(name, handler)


@pytest.fixture
def cases(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The files of one folder, with what no version control keeps: empty and hidden folders, and long files."""
    folder = tmp_path / "cases"
    if not request.param.is_dir():
        pytest.skip(f"there is no {request.param}")
    shutil.copytree(request.param, folder)
    for part in ("train", "test"):
        (folder / "images" / "emptyclass" / part / "bird").mkdir(exist_ok=True)
    hidden = folder / "images" / "ipynb" / "train" / ".ipynb_checkpoints"
    hidden.mkdir(exist_ok=True)
    shutil.copy(folder / "images" / "ipynb" / "train" / "cat" / "0.png", hidden / "0-checkpoint.png")
    if not (folder / "femnist").exists():
        for name, label, pixel in (("floatlabel", 3.7, 0.0), ("strlabel", "3", 0.0), ("nanpix", 3, float("nan"))):
            _leaf(folder / "femnist" / name / "train" / "a.json", label, pixel)
            _leaf(folder / "femnist" / name / "test" / "a.json", 3, 0.0)
    return folder


def _leaf(file: Path, label: object, pixel: float) -> None:
    users = {"f0000": {"x": [[pixel] + [1.0] * 783] * 4, "y": [label, 1, 2, 3]}}
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"users": [*users], "num_samples": [4], "user_data": users}))


def _named(case: Case) -> str:
    return f"{case.arguments[0]} {case.file}"


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("cases", ROOTS, indirect=True)
@pytest.mark.parametrize("case", CASES, ids=_named)
def test_a_case_ends_as_it_must(case: Case, cases: Path, tmp_path: Path) -> None:
    base, out = tmp_path / "base.yaml", tmp_path / "out"
    base.write_text(BASE)
    arguments = [argument.format(cases=cases, base=base, out=out) for argument in case.arguments]
    found = CliRunner().invoke(app, arguments)
    printed = found.stdout + found.stderr
    assert (found.exit_code, found.exception is None or isinstance(found.exception, SystemExit)) == (
        case.exit_code, True,
    ), printed  # fmt: skip
    for pattern in case.says:
        assert re.search(pattern, printed), printed
    if case.exit_code == 0 and "--json" in arguments:
        assert case.summary(json.loads(found.stdout)), printed
    assert out.exists() == (case.exit_code == 0 and "{out}" in " ".join(case.arguments)), printed


@pytest.mark.parametrize("cases", ROOTS, indirect=True)
def test_every_file_has_a_row(cases: Path) -> None:
    rows = {case.file for case in CASES}
    files = {path.relative_to(cases).as_posix() for path in cases.rglob("*") if path.is_file()} - {"README.md"}
    assert {file for file in files if not any(file == row or file.startswith(f"{row}/") for row in rows)} == set()


@pytest.mark.parametrize("cases", ROOTS, indirect=True)
def test_what_is_read_is_what_stands_there(cases: Path) -> None:
    from PIL import Image

    root = cases / "images" / "png16"
    dataset = image_folder.build(image_folder.COMPONENT.options(root=str(root)), 0)
    with Image.open(root / "train" / "cat" / "0.png") as picture:
        np.testing.assert_array_equal(dataset.train_images[0, 0], np.asarray(picture).astype(np.int64) >> 8)
    mixed = image_folder.build(image_folder.COMPONENT.options(root=str(cases / "images" / "mixwebp")), 0)
    assert len(mixed.train_labels) == len(list((cases / "images" / "mixwebp" / "train").rglob("*.*")))


@pytest.mark.usefixtures("handlers")
def test_megabytes_are_eight_times_as_much(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    CliRunner().invoke(
        app, ["traces", "import", "throughput-csv", str(OWN / "throughput/tr_MBps.csv"), "--out", str(own)]
    )
    assert read_throughput(own).traces[0].rates.tolist() == [8e7] * 3
