"""Whatever makes `run` refuse a scenario before its first flight makes `validate` refuse it, in the same words."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_scenarios import TINY
from typer.testing import CliRunner

from neulite_sim.cli import app
from neulite_sim.data import cifar10, cifar100, fashion_mnist
from neulite_sim.torchvision_compat import torchvision_module

# What is wrong, as values of --set; told without PyTorch.
AT_ONCE = (
    ("data={kind: cifar10, root: nowhere}",),
    ("data={kind: cifar10, root: empty}",),
    ("data={kind: cifar10, root: half}",),
    ("data={kind: cifar100, root: empty}",),
    ("data={kind: fashion-mnist, root: empty}",),
    ("data={kind: femnist, root: empty}",),
    ("data={kind: cinic10, root: nowhere}",),
    ("data={kind: mini-imagenet, root: nowhere}",),
    ("data={kind: image-folder, root: nowhere}",),
    ("data.train_samples=5000", "data.test_samples=400"),
    ("data={kind: cifar10, root: whole, train_samples: 50001}",),
    ("population.availability={kind: trace, path: gone.csv}",),
    ("population.availability={kind: trace, path: table.csv}",),
    ("population.memory_motion={kind: trace, path: gone.csv}",),
    ("population.link={downlink: {trace: gone.csv}, uplink: 3Mbps}",),
    ("population.hardware=gone.toml",),
    ("population.groups.0.device=no-such-board",),
    ("population.groups.0.individuals={path: gone.csv}",),
    ("population.available_memory={kind: explicit, values: [1MB]}",),
    ("population.available_memory={kind: uniform, low: 8GB, high: 8MB}",),
    ("backend=dry-run", "evaluation.diagnostics=[nhsic_plane]"),
    ("training.shrink_batch={minimum: 1}", "method={kind: fedavg, memory_limit: false}"),
    (
        "server.downlink=20Mbps",
        "churn.battery={capacity_watt_hours: 15, idle_watts: 1, working_watts: 3, charging_watts: 9}",
    ),
    ("server.downlink=20Mbps", "population.link={downlink: {trace: rates.csv}, uplink: 3Mbps}"),
    ("proxy.image_size=16", "data={kind: synthetic, shape: [1, 8, 8], classes: 3, samples: 60, test_samples: 20}"),
    ("protocol={kind: deadline, deadline: 3s}",),
)
# Told with --deep only: models have to be built, and some profiled.
BUILT = (
    ("training.norm=group",),
    ("evaluation.batch_norm=recalibrated",),
    ("proxy.width=0.5",),
    ("method=heterofl",),
    ("model=torchvision:resnet9",),
    ("data.partition=natural",),
    ("data.partition={kind: dirichlet, alpha: 0.1, min_samples: 30}",),
    ("population.available_memory={kind: uniform, low: 1kB, high: 2kB}",),
    ("backend=dry-run", "method=profl", "model=cnn"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a right scenario and files of several kinds, and the signal handlers given back."""
    taken = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump({**TINY, "backend": "inprocess"}))
    Path("empty").mkdir()
    Path("table.csv").write_text("timestamp,host,online\n0,a,1\n9,a,0\n")
    Path("rates.csv").write_text("trace,t_s,bits_per_second\na,0,1000000\na,9,\n")
    for name, files in (("half", cifar10.SOURCE.files[:3]), ("whole", cifar10.SOURCE.files)):
        for file in files:
            Path(name, cifar10.SOURCE.folder).mkdir(parents=True, exist_ok=True)
            Path(name, cifar10.SOURCE.folder, file).touch()
    yield tmp_path
    for name, handler in taken.items():
        signal.signal(name, handler)


def told(*arguments):
    """Return the exit code of a command, and what it says without the place that stands in front."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    lines = [
        line.removeprefix("error: ").removeprefix("base.yaml: ").removeprefix("--set: ")
        for line in found.stderr.splitlines()
    ]
    return found.exit_code, lines


@pytest.mark.parametrize(
    ("settings", "options"), [*((case, ()) for case in AT_ONCE), *((case, ("--deep",)) for case in BUILT)]
)
def test_validate_refuses_what_run_refuses_in_the_same_words(settings, options):
    sets = [part for setting in settings for part in ("--set", setting)]
    ran = told("run", "base.yaml", *sets, "--quiet", "--out", "out")
    checked = told("validate", "base.yaml", *sets, *options)
    assert ran[0] == 2, ran
    assert not Path("out").exists()
    if settings == ("data={kind: cifar10, root: half}",):
        # Of files that are there, only a run compares the sums.
        assert "data_batch_4 (missing)" in checked[1][0]
        assert "data_batch_4 (missing)" in ran[1][0]
        assert checked[0] == 2
    elif options:
        assert checked[0] == 2
        assert all(any(line.endswith(other) or other.endswith(line) for other in ran[1]) for line in checked[1]), (
            ran,
            checked,
        )
    else:
        assert checked == ran


def test_the_files_of_a_dataset_are_those_that_torchvision_reads():
    datasets = torchvision_module("datasets")
    for source in (cifar10.SOURCE, cifar100.SOURCE, fashion_mnist.SOURCE):
        loader = getattr(datasets, source.name)
        if hasattr(loader, "train_list"):
            expected = [name for name, _ in (*loader.train_list, *loader.test_list)] + [loader.meta["filename"]]
        else:
            expected = [name.removesuffix(".gz") for name, _ in loader.resources]
        assert set(source.files) == set(expected), source.kind


def test_a_dataset_that_will_be_downloaded_is_no_problem_but_said():
    found = CliRunner().invoke(
        app, ["validate", "base.yaml", "--set", "data={kind: cifar10, root: empty, download: true}"]
    )
    assert found.exit_code == 0
    assert "! cifar10 is not in " in found.stdout
    assert "will be downloaded (170 MB)" in found.stdout


@pytest.mark.slow
def test_validate_needs_no_torch_even_where_data_is_missing():
    code = (
        "import sys; from typer.testing import CliRunner; from neulite_sim.cli import app; "
        "sets = [part for text in sys.argv[1:] for part in ('--set', text)]; "
        "print(CliRunner().invoke(app, ['validate', 'base.yaml', *sets]).exit_code, 'torch' in sys.modules)"
    )
    for setting, exit_code in (("data={kind: cifar10, root: nowhere}", 2), ("data.partition=iid", 0)):
        done = subprocess.run([sys.executable, "-c", code, setting], capture_output=True, text=True, check=True)
        assert done.stdout == f"{exit_code} False\n"


# ---- settings that cannot act ----------------------------------------------------------------------------------------

REMARKS = [
    (("evaluation.every_rounds=100", "stop.rounds=30"),
     "evaluation.every_rounds is 100, more than the 30 rounds of the run: the model is tested once, at its end"),
    (("evaluation.every_rounds=100", "stop.target_accuracy=0.9"),
     "stop.target_accuracy never ends this run early: nothing is tested before its rounds are over"),
    (("checkpoint.every_rounds=100", "stop.rounds=30"),
     "checkpoint.every_rounds is 100, more than the 30 rounds of the run: none is written, and a run that is killed "
     "starts over"),
    (("backend=dry-run", "stop.target_accuracy=0.9"),
     "stop.target_accuracy never ends this run: backend dry-run tests nothing"),
    (("selection.devices_per_round=7",),
     "selection.devices_per_round is 7, more than the fleet of 6: no more than these take part in a round"),
    (("protocol={kind: fedasync, concurrency: 9}",),
     "protocol.concurrency is 9, more than the fleet of 6: never more are in flight"),
    (("protocol={kind: fedasync, concurrency: 2}", "selection.devices_per_round=4"),
     "selection.devices_per_round is 4, but protocol.concurrency is 2: the protocol goes by that alone"),
    (("protocol={kind: fedbuff, buffer_size: 30}",),
     "protocol.buffer_size is 30, more than the fleet of 6: an update of each device does not fill it"),
    (("selection={kind: tifl, tiers: 9}",),
     "selection.tiers is 9, more than the fleet of 6: there are never more tiers than devices"),
    (("population.devices=100",),
     "population.devices is 100, and there are 60 training samples: at least 40 devices own none and never train"),
    (("training.learning_rate_schedule={kind: step, milestones: [2, 50, 60]}",),
     "training.learning_rate_schedule.milestones: 50, 60 never act: the learning rate would be smaller after them, and "
     "the run has 4 rounds"),
    (("training.learning_rate_schedule={kind: step, milestones: [2, 4]}",),
     "training.learning_rate_schedule.milestones: 4 never acts: the learning rate would be smaller after it, and the run "
     "has 4 rounds"),
    (("training.learning_rate_schedule={kind: cosine, rounds: 400}",),
     "training.learning_rate_schedule.rounds is 400, and the run has 4: the learning rate hardly falls"),
    (("method={kind: depthfl, ramp_rounds: 50}", "model=cnn"),
     "method.ramp_rounds is 50, more than the 4 rounds of the run"),
    (("stop.virtual_time=1h", "protocol={kind: deadline, maximum_wait: 2h}"),
     "protocol.maximum_wait is 2h 00m, and the run ends at 1h 00m of virtual time: no deadline comes before"),
    (("stop.virtual_time=1h", "churn.timeout=2h"),
     "churn.timeout is 2h 00m, and the run ends at 1h 00m of virtual time: no flight is given up before"),
    (("population.available_memory={kind: uniform, low: 512, high: 1024}",),
     "population.available_memory.high is 1024 bytes: was the unit forgotten? Write 512MB, say"),
    (("population.link={downlink: 20, uplink: 5Mbps}",),
     "population.link.downlink is 20 bits per second: a rate without a unit; write 20Mbps, say"),
    (("population.availability={kind: trace, path: two.csv}", "selection.devices_per_round=5"),
     "selection.devices_per_round is 5, but only 2 of 6 devices are online ever: no more than these take part in a "
     "round"),
    (("population.availability={kind: trace, path: late.csv}", "stop.virtual_time=1h"),
     "population.availability: no device is online before stop.virtual_time, so nothing will be trained"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "remark"), REMARKS)
def test_what_cannot_act_is_said_by_validate_and_not_refused(settings, remark):
    lines = [f"{name},{times}" for name, times in (("a", "0,9"), ("b", "5,7"), *((name, ",") for name in "cdef"))]
    Path("two.csv").write_text("\n".join(["device,start_s,end_s", *lines]) + "\n")
    Path("late.csv").write_text("device,start_s,end_s\n" + "".join(f"{name},7200,7300\n" for name in "abcdef"))
    sets = [part for setting in settings for part in ("--set", setting)]
    found = CliRunner().invoke(app, ["validate", "base.yaml", *sets])
    assert found.exit_code == 0, found.stderr
    assert f"    ! {remark}\n" in found.stdout
    asked = CliRunner().invoke(app, ["validate", "base.yaml", *sets, "--json"])
    assert remark in json.loads(asked.stdout)["scenarios"][0]["notes"]


def test_more_workers_than_processors_are_said(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    found = CliRunner().invoke(
        app, ["validate", "base.yaml", "--set", "backend={kind: ray, workers: 64, threads_per_worker: 4}"]
    )
    assert "! backend.workers is 64, and this machine has 2 processors: so many take turns" in found.stdout
    assert "! backend.threads_per_worker is 4, and this machine has 2 processors" in found.stdout
    elsewhere = CliRunner().invoke(
        app, ["validate", "base.yaml", "--set", "backend={kind: ray, workers: 64, address: auto}"]
    )
    assert "backend.workers" not in elsewhere.stdout


def test_threads_that_take_turns_are_said(tmp_path):
    (tmp_path / "own.py").write_text("def mine(setting): ...\n")
    own = ["--set", f"method={{kind: python, path: {tmp_path / 'own.py'}, name: mine}}"]
    threads = ["--set", "backend={kind: inprocess, workers: 2}"]
    remark = (
        "! backend.workers is 2, and they take turns: code that is not this project's (method) may use what a process "
        "has once; --backend ray has a process for each"
    )
    assert remark in CliRunner().invoke(app, ["validate", "base.yaml", *threads, *own]).stdout
    assert "take turns" not in CliRunner().invoke(app, ["validate", "base.yaml", *threads]).stdout


def test_a_run_says_at_its_beginning_what_cannot_act():
    found = CliRunner().invoke(
        app, ["run", "base.yaml", "--backend", "dry-run", "--set", "checkpoint.every_rounds=99", "--out", "out"]
    )
    assert found.exit_code == 0, found.stderr
    assert "! checkpoint.every_rounds is 99, more than the 4 rounds of the run" in found.stdout


def test_defaults_are_nobodys_wish():
    found = CliRunner().invoke(app, ["validate", "base.yaml", "--set", "stop.rounds=1"])
    assert found.stdout == "ok  base.yaml  (tiny, fedavg, 6 devices)\n"


def test_a_missing_package_and_an_unwritable_folder_are_said(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ray" else find_spec(name))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = CliRunner().invoke(app, ["validate", "base.yaml", "--set", "backend=ray"])
    assert (
        "! backend ray needs the package ray, which is not installed: pip install ray, or --backend inpro"
        in found.stdout
    )
    assert f"! {Path('runs').absolute()} cannot be written: give run another folder with --out" in found.stdout
