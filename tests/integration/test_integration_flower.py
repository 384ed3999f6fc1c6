"""Unmodified Flower apps on virtual fleets; needs Flower (see docs/guides/flower.md for an environment of its own)."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from neulite_sim import cli
from neulite_sim.engine.assembly import assemble
from neulite_sim.models.names import FULL
from neulite_sim.scenario.loading import parse_scenario

pytest.importorskip("flwr", reason="Flower is not installed: python -m pip install 'neulite-sim[flower]'")

APPS = Path(__file__).parent.parent / "flower_apps"
NAMES = ("pytorch-image", "sklearn-tabular", "custom-strategy", "fedprox", "message-api", "numpy-client")
IDEAL = """\
seed: 3
population:
  devices: {devices}
  groups: [{{device: jetson-nano-4gb, share: 1}}]
  available_memory: {{kind: uniform, low: 1GB, high: 2GB}}
  speed_jitter: 0
"""
ROUGH = """\
name: rough
seed: 5
population:
  devices: 8
  groups: [{device: jetson-nano-4gb, share: 0.5}, {device: raspberry-pi-4-4gb, share: 0.5}]
  available_memory: {kind: choice, values: [100B, 100MB], weights: [1, 3]}
  availability: {kind: markov, mean_on: 2min, mean_off: 30s}
  link: {downlink: 40kbps, uplink: 20kbps, latency: 50ms}
protocol: {kind: deadline, maximum_wait: 12s, too_few: abort}
churn: {failures_per_hour: 900}
"""


def ran(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, list(map(str, arguments)), prog_name="neulite-sim")


def fleet(folder: Path, text: str) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return path


def answered(app: Path, file: Path, out: Path, *more: object) -> dict[str, Any]:
    done = ran("flower", app, "--fleet", file, "--out", out, "--json", "--quiet", *more)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def changed(folder: Path, name: str, file: str, old: str, new: str) -> Path:
    """Return a copy of an app in which a text of one file is another."""
    app = folder / name
    shutil.copytree(APPS / name, app, ignore=shutil.ignore_patterns("__pycache__"))
    path = next(app.rglob(file))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return app


@pytest.mark.parametrize("name", NAMES)
def test_an_app_on_a_rough_fleet_gives_one_digest_and_a_report(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = fleet(tmp_path, ROUGH)
    first, second = (answered(APPS / name, file, tmp_path / which) for which in ("one", "two"))
    assert first["digest"] == second["digest"]
    out = tmp_path / "one"
    for row in rows(out, "flights"):
        assert int(row["peak_memory_bytes"]) <= int(row["available_memory_bytes"])
        assert float(row["ended_s"]) - float(row["dispatched_s"]) <= 12.0 + 1e-9
    short = [row for row in rows(out, "denials") if row["reason"] == "not enough memory"]
    assert short
    assert all(int(row["shortfall_bytes_min"]) > 0 for row in short)
    small = [row for row in rows(out, "devices") if int(row["available_memory_bytes"]) == 100]
    assert small
    names = {row["device"] for row in small}
    assert not [row for row in rows(out, "flights") if row["submodel"] == "train" and row["device"] in names]
    assert {row["reason"].partition(" during")[0] for row in rows(out, "flights")} - {""}
    report = ran("report", out)
    assert report.exit_code == 0, report.output
    assert ran("compare", out, tmp_path / "two").exit_code == 0


def test_what_ran_is_written_down(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = answered(
        APPS / "custom-strategy", fleet(tmp_path, IDEAL.format(devices=3)), out, "--run-config", "num-server-rounds=2"
    )
    assert found["method"] == "DecayingFedAvg"
    assert found["strategy_ended"] is True
    assert found["flower"]["result"]["train_metrics_clientapp"].keys() == {"1", "2"}
    kept = json.loads((out / "flower.json").read_text())
    assert kept["run_config"] == {"num-server-rounds": 2, "lr": 0.2}
    assert kept["result"] == found["flower"]["result"]
    made = json.loads((out / "provenance.json").read_text())["flower"]
    assert (made["app"], made["sha256"], made["run_config"]) == (
        "custom-strategy",
        kept["sha256"],
        {"num-server-rounds": 2},
    )
    again = answered(
        APPS / "custom-strategy", out / "scenario.yaml", tmp_path / "again", "--run-config", "num-server-rounds=2"
    )
    assert again["digest"] == found["digest"]
    assert len(rows(out, "rounds")) == 2
    assert rows(out, "rounds")[0]["test_accuracy"]


def test_an_older_server_asks_all_its_clients_at_one_moment(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = answered(APPS / "sklearn-tabular", fleet(tmp_path, IDEAL.format(devices=12)), out)
    first = [row for row in rows(out, "flights") if row["round"] == "1" and row["submodel"] == "train"]
    assert len(first) == 12
    assert {row["dispatched_s"] for row in first} == {"0.0"}
    assert len(found["flower"]["history"]["losses_distributed"]) == 3


def test_a_workflow_of_an_older_server_does_what_the_server_does(tmp_path: Path) -> None:
    file = fleet(tmp_path, IDEAL.format(devices=4))
    flights = []
    for mode in ("server_fn", "workflow"):
        found = answered(APPS / "numpy-client", file, tmp_path / mode, "--run-config", f'mode="{mode}"')
        assert len(found["flower"]["history"]["losses_distributed"]) == 2
        flights.append(rows(tmp_path / mode, "flights"))
    assert flights[0] == flights[1]


def test_steps_without_pytorch_take_what_is_said(tmp_path: Path) -> None:
    file = fleet(tmp_path, IDEAL.format(devices=3))
    for name, step, seconds in (("a", None, 1.0), ("b", "4s", 4.0)):
        answered(APPS / "message-api", file, tmp_path / name, *(("--step", step) if step else ()))
        computed = {float(row["compute_s"]) for row in rows(tmp_path / name, "flights")}
        assert computed == {seconds}


def test_memory_without_pytorch_is_what_is_said(tmp_path: Path) -> None:
    file = fleet(tmp_path, IDEAL.format(devices=3))
    answered(APPS / "message-api", file, tmp_path / "run", "--memory", "3GB")
    assert rows(tmp_path / "run", "flights") == []
    assert {row["reason"] for row in rows(tmp_path / "run", "denials")} == {"not enough memory"}


def test_every_call_may_be_tracked_and_gives_the_same(tmp_path: Path) -> None:
    file = fleet(tmp_path, IDEAL.format(devices=3))
    few = answered(APPS / "fedprox", file, tmp_path / "few")
    every = answered(APPS / "fedprox", file, tmp_path / "all", "--track-all")
    assert few["digest"] == every["digest"]


def test_a_node_keeps_its_state_between_rounds(tmp_path: Path) -> None:
    app = changed(tmp_path, "message-api", "server_app.py", 'print("estimate", estimate)', SAYS_TIMES)
    done = ran("flower", app, "--fleet", fleet(tmp_path, IDEAL.format(devices=2)), "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "times [1, 1]" in done.output
    assert "times [3, 3]" in done.output


SAYS_TIMES = 'print("times", [reply.content["metrics"]["times"] for reply in replies])'


def test_a_timeout_of_the_app_is_virtual(tmp_path: Path) -> None:
    app = changed(tmp_path, "custom-strategy", "server_app.py", "grid=grid,", "grid=grid, timeout=3.0,")
    slow = IDEAL.format(devices=4).replace("speed_jitter: 0", "link: {downlink: 1kbps, uplink: 1kbps}")
    out = tmp_path / "run"
    found = answered(app, fleet(tmp_path, slow), out, "--run-config", "num-server-rounds=1")
    assert found["flights_arrived"] == 0
    assert {row["outcome"] for row in rows(out, "flights")} == {"cut"}
    assert float(rows(out, "rounds")[-1]["virtual_time_s"]) <= 6.0


def test_the_end_of_virtual_time_ends_the_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = IDEAL.format(devices=3) + "stop: {virtual_time: 5s}\n"
    done = ran("flower", APPS / "message-api", "--fleet", fleet(tmp_path, text), "--out", out, "--quiet")
    assert done.exit_code == 1
    assert "the virtual time of 5s was over before the strategy ended" in done.stderr.replace("\n", " ")
    assert (out / "COMPLETE").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["strategy_ended"] is False
    assert summary["virtual_time_s"] == 5.0


def test_what_the_end_of_virtual_time_cuts_over_a_shared_link_has_come_as_far_as_that_let_it(tmp_path: Path) -> None:
    """Ten bits per second carry no download within five seconds, though each device's own link would."""
    out = tmp_path / "run"
    text = IDEAL.format(devices=3) + "server: {downlink: 10bps}\nenergy: {}\nstop: {virtual_time: 5s}\n"
    ran("flower", APPS / "message-api", "--fleet", fleet(tmp_path, text), "--out", out, "--quiet")
    flights = [row for row in rows(out, "flights") if row["outcome"] == "cut"]
    assert flights
    for row in flights:
        spent = [float(row[name]) for name in ("download_s", "compute_s", "upload_s", "waiting_s")]
        assert spent == [5.0 - float(row["dispatched_s"]), 0, 0, 0]


@pytest.mark.parametrize("name", ["custom-strategy", "sklearn-tabular"])
def test_a_strategy_that_waits_for_ever_ends(tmp_path: Path, name: str) -> None:
    key = "min_available_nodes=2" if name == "custom-strategy" else "min_available_clients=2"
    app = changed(tmp_path, name, "server_app.py", key, key.replace("2", "9"))
    done = ran("flower", app, "--fleet", fleet(tmp_path, ROUGH), "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 1
    assert "the app waits for 9 nodes" in done.stderr
    assert "of 8 devices at most" in done.stderr
    assert (tmp_path / "run" / "FAILED").exists()


def test_a_strategy_waits_in_virtual_time_until_enough_are_online(tmp_path: Path) -> None:
    app = changed(tmp_path, "custom-strategy", "server_app.py", "min_available_nodes=2", "min_available_nodes=3")
    text = IDEAL.format(devices=4).replace("speed_jitter: 0", "availability: {kind: markov, mean_on: 1h, mean_off: 5h}")
    out = tmp_path / "run"
    answered(app, fleet(tmp_path, text), out, "--run-config", "num-server-rounds=1")
    assert float(rows(out, "flights")[0]["dispatched_s"]) > 60


def test_a_client_that_raises_is_a_failed_flight_and_is_told_with_its_line(tmp_path: Path) -> None:
    app = changed(
        tmp_path,
        "custom-strategy",
        "client_app.py",
        "    model = make_model()\n",
        '    if context.node_config["partition-id"] == 1:\n        raise ValueError("no data here")\n'
        "    model = make_model()\n",
    )
    out = tmp_path / "run"
    done = ran("flower", app, "--fleet", fleet(tmp_path, IDEAL.format(devices=3)), "--out", out)
    assert done.exit_code == 0, done.output
    assert re.search(r"client_app.py:\d+: ValueError: no data here", done.output)
    failed = [row for row in rows(out, "flights") if row["device"] == "1" and row["submodel"] == "train"]
    assert {(row["outcome"], row["reason"]) for row in failed} == {
        ("dropped", "failed during compute: the ClientApp raised ValueError")
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "client_app.py",
            "import torch\n",
            "import torch\nimport nothing_of_this_name\n",
            "client_app.py:4: ModuleNot",
        ),
        ("client_app.py", "app = ClientApp()", "app = ClientApp(", "client_app.py:"),
        (
            "client_app.py",
            "app = ClientApp()",
            "app = 7; app.train = app.evaluate = lambda: (lambda f: f)",
            "client_app",
        ),
        ("server_app.py", "app = ServerApp()", "other = ServerApp()", "server_app.py:"),
    ],
)
def test_an_app_that_cannot_be_imported_is_refused_with_its_line(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    app = changed(tmp_path, "custom-strategy", file, old, new)
    done = ran("flower", app, "--fleet", fleet(tmp_path, IDEAL.format(devices=3)), "--out", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "cannot be imported" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_reference_to_something_else_is_refused(tmp_path: Path) -> None:
    app = changed(tmp_path, "custom-strategy", "pyproject.toml", "client_app:app", "client_app:train")
    done = ran("flower", app, "--fleet", fleet(tmp_path, IDEAL.format(devices=3)), "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "which is a function and no ClientApp; name the ClientApp" in done.stderr.replace("\n", " ")


def test_a_server_that_raises_is_told_with_its_line(tmp_path: Path) -> None:
    app = changed(tmp_path, "custom-strategy", "server_app.py", "    torch.manual_seed(3)\n", "    1 / 0\n")
    done = ran("flower", app, "--fleet", fleet(tmp_path, IDEAL.format(devices=3)), "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert "the ServerApp failed: " in done.stderr
    assert re.search(r"server_app.py:\d+: ZeroDivisionError: division by zero", done.stderr)


OUR_CNN = """
import torch
from neulite_sim.engine.assembly import assemble
from neulite_sim.scenario.loading import parse_scenario

COSTING = assemble(parse_scenario({scenario}))


def make_model():
    model = COSTING.charged.build_meta().to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        torch.nn.init.uniform_(tensor, 0.01, 0.02) if tensor.is_floating_point() else tensor.zero_()
    return model


def load_data(partition_id):
    return torch.rand(64, 1, 8, 8), torch.arange(64) % 10
"""


def test_a_client_that_trains_one_of_our_models_is_charged_what_our_ledger_charges(tmp_path: Path) -> None:
    given = {
        "name": "ours",
        "data": {"kind": "digits", "partition": "iid"},
        "model": "cnn",
        "training": {"batch_size": 8, "momentum": 0.0, "weight_decay": 0.0},
        "population": {
            "devices": 2,
            "groups": [{"device": "jetson-nano-4gb", "share": 1}],
            "available_memory": {"kind": "uniform", "low": "1GB", "high": "2GB"},
        },
        "method": "fedavg",
        "stop": {"rounds": 1},
    }
    app = tmp_path / "app"
    shutil.copytree(APPS / "custom-strategy", app, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "customstrategy" / "task.py").write_text(OUR_CNN.replace("{scenario}", repr(given)))
    file = fleet(tmp_path, IDEAL.format(devices=2))
    answered(app, file, tmp_path / "run", "--run-config", "num-server-rounds=1")
    tracked = {int(row["peak_memory_bytes"]) for row in rows(tmp_path / "run", "flights") if row["submodel"] == "train"}
    costing = assemble(parse_scenario(given))
    predicted = int(costing.ledger.profiles[FULL].memory_bytes(np.array([64]))[0])
    assert [peak / predicted for peak in sorted(tracked)] == pytest.approx([1.0] * len(tracked), abs=0.03)


def test_devices_that_share_the_servers_link_wait_for_each_other(tmp_path: Path) -> None:
    text = IDEAL.format(devices=4) + "server: {downlink: 8kbps, uplink: 8kbps}\n"
    out = tmp_path / "run"
    answered(APPS / "message-api", fleet(tmp_path, text), out)
    first = [row for row in rows(out, "flights") if row["submodel"] == "query"]
    assert len(first) == 4
    assert min(float(row["download_s"]) for row in first) > 1.0
