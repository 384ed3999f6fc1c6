"""The folder of a Flower app and its fleet's file, read where Flower is not installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from neulite_sim import cli
from neulite_sim.errors import AppError, BackendUnavailableError, DataNotFoundError, NeuliteError, ScenarioError
from neulite_sim.flower import installed
from neulite_sim.flower.app import read_app
from neulite_sim.flower.fleet_file import load_fleet, not_used
from neulite_sim.flower.flying import Unseen

ROOT = Path(__file__).parents[3]
PYPROJECT = """\
[project]
name = "quick"
[tool.flwr.app.components]
serverapp = "quick.server_app:app"
clientapp = "quick.client_app:app"
[tool.flwr.app.config]
num-server-rounds = 3
lr = 0.1
train.batch = 8
"""
FLEET = """\
population:
  devices: 4
  groups: [{device: jetson-nano-4gb, share: 1}]
  available_memory: {kind: uniform, low: 100MB, high: 900MB}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "quick.py").write_text("x = 1\n")
    return tmp_path


def test_an_app_is_what_its_pyproject_says(folder: Path) -> None:
    app = read_app(folder)
    assert (app.name, app.server, app.client) == ("quick", "quick.server_app:app", "quick.client_app:app")
    assert app.config == {"num-server-rounds": 3, "lr": 0.1, "train.batch": 8}
    assert (app.overrides, app.num_files) == ({}, 2)


def test_settings_are_read_as_flower_reads_them(folder: Path) -> None:
    app = read_app(folder, ["num-server-rounds=5 lr=0.5", "train.batch=16"])
    assert app.config == {"num-server-rounds": 5, "lr": 0.5, "train.batch": 16}


def test_the_digest_is_that_of_names_and_contents(folder: Path) -> None:
    before = read_app(folder).sha256
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "quick.pyc").write_bytes(b"compiled")
    assert read_app(folder).sha256 == before
    (folder / "quick.py").write_text("x = 2\n")
    assert read_app(folder).sha256 != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "--run-config: 'lr' sets nothing that can be understood; write key=value"),
        ("lr=fast", "--run-config: lr=fast: fast is no value of TOML; quote a text: lr='\"fast\"'"),
        ("rate=1", "has no such key in [tool.flwr.app.config], but lr, num-server-rounds, train.batch"),
    ],
)
def test_a_setting_that_is_none_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(NeuliteError) as refused:
        read_app(folder, [text])
    assert message in str(refused.value)


def test_a_folder_without_a_pyproject_is_no_app(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"pyproject.toml: does not exist; name the folder of a Flower app"):
        read_app(tmp_path)
    with pytest.raises(DataNotFoundError, match="nowhere: is no folder; name the folder of a Flower app"):
        read_app(tmp_path / "nowhere")


def test_a_pyproject_that_is_no_toml_is_refused(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project\n")
    with pytest.raises(AppError, match=r"pyproject.toml: cannot be read as TOML: .*line 1"):
        read_app(folder)


@pytest.mark.parametrize(("key", "name"), [("serverapp", "ServerApp"), ("clientapp", "ClientApp")])
def test_an_app_without_one_of_its_parts_is_refused(folder: Path, key: str, name: str) -> None:
    lines = [line for line in PYPROJECT.splitlines() if not line.startswith(key)]
    (folder / "pyproject.toml").write_text("\n".join(lines))
    message = rf"tool.flwr.app.components.{key} is missing: the app has no {name} that could be found; write {key} = "
    with pytest.raises(AppError, match=message):
        read_app(folder)


def test_a_file_with_nothing_but_a_population_is_a_fleet(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    scenario, drawn = load_fleet(str(tmp_path / "fleet.yaml"), (), seed=3)
    assert (drawn.population.num_devices, scenario.seed) == (4, 3)
    assert not_used(scenario) == ""


def test_a_fleet_may_say_when_to_stop_without_a_number_of_rounds(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET + "stop: {virtual_time: 2h}\nprotocol: {kind: deadline}\n")
    scenario, _ = load_fleet(str(tmp_path / "fleet.yaml"), ["population.devices=7"], seed=None)
    assert (scenario.stop.virtual_time, scenario.population.devices) == (7200.0, 7)


def test_what_an_app_decides_is_said_in_one_sentence(tmp_path: Path) -> None:
    more = "data: digits\nmodel: lenet\nmethod: neulite\nstop: {rounds: 9}\nprotocol: fedasync\n"
    (tmp_path / "fleet.yaml").write_text(FLEET + more)
    scenario, _ = load_fleet(str(tmp_path / "fleet.yaml"), (), seed=None)
    assert not_used(scenario) == (
        "the app decides what is trained, how and how often: of the fleet's file data, model, method, protocol "
        "fedasync, stop.rounds do not act"
    )


def test_a_wrong_fleet_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET.replace("jetson-nano-4gb", "toaster"))
    with pytest.raises(ScenarioError, match=r"fleet.yaml:3: population.groups.0.device: 'toaster'"):
        load_fleet(str(tmp_path / "fleet.yaml"), (), seed=None)


def test_batteries_that_flights_drain_are_refused_of_an_app(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET + "energy:\n  battery: {capacity_watt_hours: 10, charging_watts: 5}\n")
    with pytest.raises(
        ScenarioError, match=r"fleet\.yaml:\d+: energy\.battery: batteries that .*; remove it, or use churn"
    ):
        load_fleet(str(tmp_path / "fleet.yaml"), (), seed=None)


def test_what_is_not_seen_is_said_in_units() -> None:
    assert Unseen.of(None, None) == Unseen(step_s=1.0, memory_bytes=None)
    assert Unseen.of("250ms", "2MB") == Unseen(step_s=0.25, memory_bytes=2_000_000)
    assert Unseen.of("measured", None).step_s is None
    with pytest.raises(NeuliteError, match="--step: 'soon' is no duration; write a duration such as 500ms"):
        Unseen.of("soon", None)
    with pytest.raises(NeuliteError, match="--memory: 'much' is no size; write one such as 200MB"):
        Unseen.of(None, "much")
    with pytest.raises(NeuliteError, match=r"--memory: '1e30GB' is no size; .* 200MB, at most 1000000 GB"):
        Unseen.of(None, "1e30GB")


def test_flower_that_is_missing_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "installed_version", lambda name: None)
    with pytest.raises(BackendUnavailableError) as refused:
        installed.require_flower()
    assert str(refused.value) == (
        "flower needs Flower, which is not installed; install it: python -m pip install 'neulite-sim[flower]'"
    )


def test_another_version_of_flower_is_named_beside_the_tested_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "installed_version", lambda name: "1.43.1")
    with pytest.raises(BackendUnavailableError) as refused:
        installed.require_flower()
    assert str(refused.value) == (
        "flower is made for Flower 1.42, and 1.43.1 is installed; install the one that was tested: python -m pip "
        "install 'flwr==1.42.*'"
    )
    monkeypatch.setattr(installed, "installed_version", lambda name: "1.42.7")
    assert installed.require_flower() == "1.42.7"


def test_the_projects_bounds_hold_what_flower_takes_and_what_is_newest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}
    for name, versions in (("rich", ("14.0.0", "15.0.0")), ("typer", ("0.20.1", "0.29.2")), ("pyyaml", ("6.0.2",))):
        for version in versions:
            assert found[name].contains(version), f"{name} {version}"
    assert project["optional-dependencies"]["flower"] == [f"flwr=={installed.TESTED}.*"]
    assert "flower" not in str(project["optional-dependencies"]["test"])


def test_the_command_without_flower_says_how_to_get_it_and_loads_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "installed_version", lambda name: None)
    done = CliRunner().invoke(cli.app, ["flower", str(folder), "--fleet", "none.yaml"], prog_name="neulite-sim")
    assert done.exit_code == 1
    assert done.stderr == (
        "error: flower needs Flower, which is not installed; install it: python -m pip install 'neulite-sim[flower]'\n"
    )
