"""What each tool's own reader finds in an export are the rows of the run, under the names of one mapping."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import socket
from typing import Any

import numpy as np
import pytest
from stored_runs import flight_row, round_row, write_rows

import neulite_sim
from neulite_sim.exports.origin import parameters
from neulite_sim.exports.words import METRICS, outcomes_of, unit_of
from neulite_sim.results.cells import DEVICES_CSV, FILES, OPTIONAL_FILES, column_types, scan_rows
from neulite_sim.results.places import AUDIT
from neulite_sim.results.rows import DenialRow, DeviceRow, DiagnosticRow, RoundRow, columns
from neulite_sim.results.stored import StoredRun

ROOT = Path(neulite_sim.__file__).parents[1]
STARTED_S = 1_700_000_000
TABLES_OF_A_RUN = {**FILES, **OPTIONAL_FILES, DeviceRow: DEVICES_CSV}
LARGE = 2**53 + 1
"""A whole number that no float holds."""


def denial(number: int, reason: str, **changes: Any) -> DenialRow:
    cells = {"submodel": "", "shortfall_bytes_min": None, "shortfall_bytes_median": None, "shortfall_bytes_max": None}
    return DenialRow(round=number, reason=reason, devices=number + 1, **cells | changes)


ROWS = (
    flight_row(1, 10.25), denial(1, "offline"), round_row(1, 10.25, None),
    flight_row(2, 20.5, bytes_up=LARGE, loss=None, outcome="dropped", reason='lost, "somewhere"', staleness=None),
    denial(2, "not enough memory", submodel="full", shortfall_bytes_min=1, shortfall_bytes_median=2, shortfall_bytes_max=LARGE),
    denial(2, "offline"),
    round_row(2, 20.5, 0.1, bytes_up=LARGE, train_loss=-0.3),
    DiagnosticRow(round=2, virtual_time_s=20.5, name="nhsic_x", block=1, value=0.7),
    DiagnosticRow(round=2, virtual_time_s=20.5, name="nhsic_x", block=2, value=None),
    flight_row(3, 31.0), round_row(3, 31.0, 1 / 3, test_loss=0.123456789012345, staleness_mean=None),
)  # fmt: skip
AUDITED = [
    {"ledger": "trained", "submodel": "full", "predicted_bytes": 12, "measured_bytes": None, "relative_error": None},
    {"ledger": "charged", "submodel": "full", "predicted_bytes": 13, "measured_bytes": 14, "relative_error": 1 / 13},
]


def devices_csv() -> str:
    """Return a table of two devices, of which one has nothing where that may be."""
    usual: dict[type, Any] = {int: LARGE, float: 1 / 3, str: "a;b"}
    types = column_types(DeviceRow)
    full = [usual[cast] for cast, _ in types.values()]
    bare = ["" if optional else usual[cast] for cast, optional in types.values()]
    return "".join(",".join(map(str, cells)) + "\n" for cells in (types, full, bare))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    path = tmp_path_factory.mktemp("runs") / "läuft-3"
    return write_rows(
        path,
        ROWS,
        files={AUDIT: json.dumps({"submodels": AUDITED}), DEVICES_CSV: devices_csv()},
        started_at_utc="2023-11-14T22:13:20+00:00",
    )


@pytest.fixture(scope="module")
def listener() -> Iterator[socket]:
    """A proxy that nobody is to ask."""
    with socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def found(run: StoredRun, exports: Path, listener: socket) -> Mapping[str, Any]:
    """What one process exported, loaded, contacted and read back."""
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    home = {"HOME": str(exports), "XDG_CONFIG_HOME": str(exports), "XDG_CACHE_HOME": str(exports)}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests" / "read_exports.py"), str(run.path), str(exports)],
        env={**os.environ, **home, **proxies, "PYTHONPATH": str(ROOT), "NO_PROXY": ""}, cwd=exports,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


def rows_of(run: StoredRun, kind: Any) -> list[dict[str, Any]]:
    return list(scan_rows(run.path / TABLES_OF_A_RUN[kind], kind))


def curves(run: StoredRun) -> dict[str, list[tuple[int, float, float]]]:
    """Return step, second and value of every point, from the rows."""
    expected: dict[str, list[tuple[int, float, float]]] = {}
    times = {row["round"]: row["virtual_time_s"] for row in rows_of(run, RoundRow)}

    def add(name: str, step: int, value: float | None) -> None:
        if value is not None:
            expected.setdefault(name, []).append((step, times[step], value))

    for row in rows_of(run, RoundRow):
        for column, name in METRICS.items():
            add(name, row["round"], row.get(column))
    for row in rows_of(run, DenialRow):
        stem = f"denied/{row['reason'].replace(' ', '_')}"
        add(f"{stem}/devices", row["round"], row["devices"])
        for which in ("min", "median", "max"):
            add(f"{stem}/shortfall_{which}_bytes", row["round"], row[f"shortfall_bytes_{which}"])
    for row in rows_of(run, DiagnosticRow):
        add(f"diagnostics/{row['name']}/block-{row['block']}", row["round"], row["value"])
    return expected


@pytest.mark.slow
def test_no_export_loads_pytorch_or_contacts_anybody(found: Mapping[str, Any], listener: socket) -> None:
    assert found["loaded"] == []
    assert found["contacts"] == []
    listener.settimeout(0.05)
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.slow
def test_a_second_export_finds_the_first(found: Mapping[str, Any]) -> None:
    assert {tuple(each["status"] for each in twice) for twice in found["exported"].values()} == {
        ("written", "already there")
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(TABLES_OF_A_RUN))
def test_parquet_holds_the_rows_with_their_types_and_units(
    kind: Any, run: StoredRun, exports: Path, found: Mapping[str, Any]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    del found
    file = TABLES_OF_A_RUN[kind].replace(".csv", ".parquet")
    table = parquet.read_table(exports / "parquet" / file)
    assert table.to_pylist() == rows_of(run, kind)
    names = {int: "int64", float: "double", str: "string"}
    expected = {name: (names[cast], optional) for name, (cast, optional) in column_types(kind).items()}
    expected = {name: about for name, about in expected.items() if name in columns(kind)}
    assert {field.name: (str(field.type), field.nullable) for field in table.schema} == expected
    units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
    assert units == {name: unit_of(name) if cast != "string" else "" for name, (cast, _) in expected.items()}
    about = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
    assert about["neulite_sim.digest"] == run.summary["digest"]
    assert about["neulite_sim.run_folder"] == "läuft-3"


def test_parquet_holds_the_audit(exports: Path, found: Mapping[str, Any]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    del found
    assert parquet.read_table(exports / "parquet" / "audit.parquet").to_pylist() == AUDITED


def test_tensorboard_has_the_points_in_single_precision_and_virtual_time(
    run: StoredRun, exports: Path, found: Mapping[str, Any]
) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    del found
    read = accumulators.EventAccumulator(str(exports / "tensorboard"))
    read.Reload()
    points = {
        name: [(point.step, point.wall_time - STARTED_S, point.value) for point in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }
    for name, curve in curves(run).items():
        assert points.pop(name) == [(step, at_s, float(np.float32(value))) for step, at_s, value in curve]
    outcomes = outcomes_of(run.summary)
    assert points == {name: [(3, 31.0, float(np.float32(value)))] for name, value in outcomes.items()}


def test_tensorboard_has_the_scenario_as_hyperparameters(
    run: StoredRun, exports: Path, found: Mapping[str, Any]
) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    del found
    read = accumulators.EventAccumulator(str(exports / "tensorboard"))
    read.Reload()
    content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert values == parameters(run.scenario)
    assert start.start_time_secs == STARTED_S


def test_mlflow_has_the_points_the_scenario_where_it_comes_from_and_the_files(
    run: StoredRun, found: Mapping[str, Any]
) -> None:
    if "mlflow" not in found:
        pytest.skip("mlflow-skinny is not installed")
    read = found["mlflow"]
    assert (read["experiment"], read["name"], read["status"]) == ("tiny", "läuft-3", "FINISHED")
    outcomes = {name: [(3, 31.0, value)] for name, value in outcomes_of(run.summary).items()}
    expected = {
        name: [[step, round((STARTED_S + at_s) * 1000), float(value)] for step, at_s, value in points]
        for name, points in (curves(run) | outcomes).items()
    }
    assert read["metrics"] == expected
    assert read["params"] == {name: str(value) for name, value in parameters(run.scenario).items()}
    assert read["tags"]["neulite_sim.digest"] == run.summary["digest"]
    assert read["tags"]["neulite_sim.neulite_sim"] == neulite_sim.__version__
    assert sorted(read["artifacts"]) == sorted(path.name for path in run.path.iterdir() if path.is_file())


def test_wandb_has_the_points_the_scenario_and_the_summary(run: StoredRun, found: Mapping[str, Any]) -> None:
    if "wandb" not in found:
        pytest.skip("wandb is not installed")
    read = found["wandb"]
    assert (read["name"], read["project"]) == ("läuft-3", "tiny")
    expected: dict[str, dict[str, float]] = {}
    for name, points in curves(run).items():
        for step, at_s, value in points:
            expected.setdefault(str(step), {"_timestamp": STARTED_S + at_s, "_step": step})[name] = value
    history = {
        step: {name: value for name, value in cells.items() if name != "_runtime"}
        for step, cells in read["history"].items()
    }
    assert history == expected
    assert {name: read["config"][name] for name in parameters(run.scenario)} == parameters(run.scenario)
    outcomes = outcomes_of(run.summary)
    assert {name: read["summary"][name] for name in outcomes} == outcomes
