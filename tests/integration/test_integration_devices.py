"""Every device has an answer: what `devices.csv` and `device` say is what a count of the test's own comes to."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_scenarios import WAVES
from typer.testing import CliRunner

from neulite_sim import cli
from neulite_sim.engine import device_file
from neulite_sim.engine.roll_call import RollCall
from neulite_sim.engine.simulation import simulate
from neulite_sim.results import device_rows
from neulite_sim.results.memory import read_devices
from neulite_sim.results.rows import Notice
from neulite_sim.scenario.loading import parse_scenario

FLEET: dict[str, Any] = {
    **WAVES,
    "name": "sixty",
    "data": {**WAVES["data"], "train_samples": 300},
    "population": {**WAVES["population"], "devices": 60},
    "selection": {"kind": "uniform", "devices_per_round": 12},
    "protocol": {"kind": "deadline", "maximum_wait": "1200ms", "over_selection": 1.5},
    "stop": {"rounds": 25},
    "backend": "dry-run",
}
REASONS = {"not enough memory": "denied_not_enough_memory", "offline": "denied_offline", "in flight": "denied_in_flight", "no data": "denied_no_data"}  # fmt: skip
RUNS: dict[str, dict[str, Any]] = {
    "deadline": {},
    "fedasync": {"protocol": {"kind": "fedasync", "concurrency": 15}, "stop": {"rounds": 150}},
    "fedbuff": {
        "protocol": {"kind": "fedbuff", "buffer_size": 4, "concurrency": 15, "maximum_staleness": 2},
        "method": "heterofl",
        "churn": {"offline": "pause"},
        "stop": {"virtual_time": "20s", "rounds": 500},
    },
    "moving": {
        "population": {**FLEET["population"], "memory_motion": {"kind": "redrawn", "every": "1s", "spread": 0.05}},
        "churn": {"failures_per_hour": 300},
    },
    "battery": {
        "protocol": "synchronous",
        "churn": {"outages": {"mean_between": "10s", "mean_length": "2s", "groups": 3}},
    },
    "plans": {"training": {**WAVES["training"], "fit": "auto"}, "protocol": "synchronous"},
}
ASYNCHRONOUS = ("fedasync", "fedbuff")


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    """A run, and per round and reason the devices that the server listed as denied then."""
    listed: list[dict[str, list[int]]] = []

    def count_round(self, look, denials, counted=RollCall.count_round):
        listed.append({item.reason: item.devices.tolist() for item in denials})
        counted(self, look, denials)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RollCall, "count_round", count_round)
        result = simulate(
            parse_scenario({**FLEET, **RUNS[request.param]}), out=tmp_path_factory.mktemp("sixty") / "run"
        )
    return SimpleNamespace(kind=request.param, folder=result.run_dir, result=result, listed=listed)


def table(folder, name):
    with (folder / f"{name}.csv").open() as lines:
        return list(csv.DictReader(lines))


def told(folder, device):
    done = CliRunner().invoke(cli.app, ["device", str(folder), str(device), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.slow
def test_rounds_denied_by_reason_add_up_to_what_denials_say(run):
    wanted = Counter()
    for row in table(run.folder, "denials"):
        wanted[row["reason"]] += int(row["devices"])
    found = {reason: sum(row[column] for row in run.result.devices) for reason, column in REASONS.items()}
    assert {reason: count for reason, count in found.items() if count} == wanted
    by_round = {(number, reason): len(devices) for number, reasons in enumerate(run.listed, start=1) for reason, devices in reasons.items()}  # fmt: skip
    assert by_round == {(int(row["round"]), row["reason"]): int(row["devices"]) for row in table(run.folder, "denials")}


@pytest.mark.slow
def test_ten_devices_tell_what_a_count_over_flights_and_denials_says(run):
    flights = table(run.folder, "flights")
    rows = {row["device"]: row for row in read_devices(run.folder)}
    for device in random.Random(run.kind).sample(range(60), 10):
        story, row = told(run.folder, device), rows[device]
        mine = [flight for flight in flights if int(flight["device"]) == device]
        assert [item["flight"] for item in story["flights"]] == sorted(int(flight["flight"]) for flight in mine)
        assert story["row"] == row
        assert row["flights"] == len(mine)
        assert row["arrived"] == sum(flight["outcome"] == "arrived" for flight in mine)
        assert row["dropped"] == row["flights"] - row["arrived"] == sum(row[name] for name in row if name.startswith("dropped_"))  # fmt: skip
        for cause, words in {"went_offline": "went offline", "missed_deadline": "missed", "failed": "failed", "discarded": "discarded", "out_of_memory": "out of memory"}.items():  # fmt: skip
            assert row[f"dropped_{cause}"] == sum(flight["reason"].startswith(words) for flight in mine)
        assert row["dropped_run_over"] == sum(flight["outcome"] == "cut" for flight in mine)
        assert row["last_flight_s"] == max((float(flight["ended_s"]) for flight in mine), default=None)
        for reason, column in REASONS.items():
            assert row[column] == sum(device in reasons.get(reason, ()) for reasons in run.listed)
        assert row["offered_rounds"] + row["denied_rounds"] == len(run.listed)
        if run.kind != "moving":
            wanted = {(number, reason) for number, reasons in enumerate(run.listed, start=1) for reason, devices in reasons.items() if device in devices}  # fmt: skip
            assert story["denials"] is not None
            assert {(item["round"], item["reason"]) for item in story["denials"]} == wanted


@pytest.mark.slow
def test_runs_cover_what_can_happen(run):
    rows = run.result.devices
    totals = {name: sum(row[name] for row in rows) for name in rows[0] if name.startswith(("denied", "dropped", "arr"))}
    expected = {
        "deadline": {"denied_not_enough_memory", "denied_offline", "dropped_went_offline", "dropped_too_slow"},
        "fedasync": {"denied_in_flight", "denied_offline", "dropped_went_offline", "dropped_run_over"},
        "fedbuff": {"denied_in_flight", "denied_offline", "dropped_discarded", "dropped_run_over"},
        "moving": {"denied_not_enough_memory", "dropped_out_of_memory", "dropped_failed"},
        "battery": {"denied_offline", "denied_not_enough_memory"},
        "plans": {"denied_offline"},
    }[run.kind]
    assert {name for name in expected if totals[name]} == expected
    assert all((row["lowest_memory_bytes"] is None) == (run.kind != "moving") for row in rows)
    assert all(0 <= row["online_share"] <= 1 for row in rows)


@pytest.mark.slow
def test_what_fits_is_what_flights_were_charged(run):
    if run.kind == "moving":
        return
    rows = {row["device"]: row for row in read_devices(run.folder)}
    for flight in table(run.folder, "flights"):
        row = rows[int(flight["device"])]
        needed = dict(pair.split("=") for pair in row["needed_memory_bytes"].split(";"))
        assert needed[flight["submodel"]] == flight["peak_memory_bytes"]
        assert flight["submodel"] in row["fits"].split(";")
        assert (row["hardware"], str(row["samples"]), str(row["available_memory_bytes"])) == (flight["device_class"], flight["samples"], flight["available_memory_bytes"])  # fmt: skip
        if flight["plan"]:
            assert dict(zip(row["fits"].split(";"), row["plans"].split(";"), strict=True))[flight["submodel"]] == flight["plan"]  # fmt: skip
    for row in rows.values():
        least = min(int(pair.split("=")[1]) for pair in row["needed_memory_bytes"].split(";"))
        assert row["shortfall_bytes"] == max(0, least - row["available_memory_bytes"])
        assert (row["shortfall_bytes"] == 0) == bool(row["fits"])


# Fleets too large for a CSV file, made by lowering what is large.


@pytest.fixture
def large(monkeypatch):
    for place in (device_rows, device_file):
        monkeypatch.setattr(place, "MOST_IN_CSV", 59)


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_a_large_fleet_has_the_same_rows_in_parquet(large, tmp_path):
    found = simulate(parse_scenario(FLEET), out=tmp_path / "run")
    assert not (tmp_path / "run" / "devices.csv").exists()
    assert "devices.parquet" in (tmp_path / "run" / "SHA256SUMS").read_text()
    assert found.devices == simulate(parse_scenario(FLEET)).devices
    assert told(tmp_path / "run", 59)["row"] == found.devices[59]


def test_a_large_fleet_without_pyarrow_is_written_as_csv_with_a_remark(large, tmp_path, monkeypatch):
    for place in (device_rows, device_file):
        monkeypatch.setattr(place, "has_pyarrow", lambda: False)
    heard = []
    simulate(parse_scenario(FLEET), out=tmp_path / "run", observers=[SimpleNamespace(notify=heard.append)])
    assert (tmp_path / "run" / "devices.csv").exists()
    remarks = [event.message for event in heard if isinstance(event, Notice)]
    assert any("devices.csv gets 60 rows" in text and "python -m pip install pyarrow" in text for text in remarks)
