"""`check_importer` passes for every built-in format and names the law that is broken."""

import json
import pickle
from dataclasses import replace

import pytest

from neulite_sim.registry import TRACE_FORMAT, load, names
from neulite_sim.traces.importers.conformance import check_importer
from neulite_sim.traces.importers.contract import Imported, only, read_csv, refused

MESSAGES = "\n".join(f"2020-01-02 00:0{minute}:00\t{event}" for minute, event in enumerate(
    ("screen_off", "screen_lock", "wifi", "battery_charged_on", "77.0%", "4G", "50%")))  # fmt: skip
CONTENTS = {
    "ai-benchmark": b"model,ram_bytes,CPU_F_AI_Score\nA,1e9,100\nB,2e9,200\n",
    "fedscale-availability": pickle.dumps({"a": {"active": [0, 50], "inactive": [10], "finish_time": 60}}),
    "fedscale-capacity": pickle.dumps({1: {"computation": 10.0, "communication": 1000.0}}),
    "flash-matrix": b"device,slots\na," + b"01" * 48 + b"\n",
    "flash-states": json.dumps({"a": {"guid": "x", "model": "m", "messages": MESSAGES}}).encode(),
    "mahimahi": b"1\n1\n7\n20\n",
    "table": b"timestamp,host,online\n0,a,1\n5,b,0\n9,a,0\n",
    "throughput-csv": b"trace,t_s,kbps\na,0,100\na,5,200\na,9,100\n",
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "speeds.csv"
    path.write_text("model,speed\nA,2\nB,1\n")
    return path


@pytest.mark.parametrize("kind", names(TRACE_FORMAT))
def test_every_registered_importer_keeps_the_contract(kind, tmp_path):
    found = load(TRACE_FORMAT, kind)
    path = tmp_path / "small"
    path.write_bytes(CONTENTS[kind])
    check_importer(found.build(found.options()), [path])


def speeds(paths):
    """Read two columns: model and speed."""
    path = only(paths, "a table of speeds")
    lines = read_csv(path)
    if not lines or lines[0][1] != ["model", "speed"]:
        raise refused(path, "has no columns model and speed", 1)
    return Imported(kind="devices", header=("model", "speed_factor"), rows=[cells for _, cells in lines[1:]])


def changed(**changes):
    return lambda paths: replace(speeds(paths), **changes)


calls = iter(range(100))


def renames(paths):
    return replace(speeds(paths), rows=[(f"call {next(calls)}", 1)])


def believes_all(paths):
    return Imported(kind="devices", header=("model", "speed_factor"), rows=[("A", 2), ("B", 1)])


def stumbles(paths):
    return speeds(paths) if paths[0].read_text().count("A") else 1 / 0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (changed(kind="phones"), "kind: 'phones' is none of availability, throughput, devices"),
        (changed(rows=[]), "rows: there are none"),
        (changed(rows=[("A", 1), ("B",)]), r"rows\[1\]: has 1 cells under 2 headings"),
        (changed(notes=("",)), "notes: must be sentences, found ''"),
        (changed(facts={"share": float("nan")}), "facts: cannot be written as JSON"),
        (changed(rows=[("A", -1)]), "rows: are no table of devices"),
        (renames, "rows: the same files gave others"),
        (believes_all, "there is no such file, and is read as 2 rows of devices"),
        (stumbles, "there is no such file, which raises FileNotFoundError"),
    ],
)
def test_a_broken_importer_is_found(broken, message, file):
    check_importer(speeds, [file])
    with pytest.raises(AssertionError, match=message):
        check_importer(broken, [file])


def test_an_importer_that_changes_its_file_is_found(file):
    kept = file.read_text()

    def restores(paths):
        found = speeds([file])
        file.write_text(kept + "\n")
        return found

    with pytest.raises(AssertionError, match="changed a file that it was given"):
        check_importer(restores, [file])
