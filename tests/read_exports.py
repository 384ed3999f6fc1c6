"""A process that exports a run to every tool that is installed, and prints what each tool's own reader then finds.

    python tests/read_exports.py RUN_DIR OUT

A process of its own, because it has to show what an export loads and whom it contacts.
"""

from __future__ import annotations

import glob
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neulite_sim.exports.tools import TOOLS, export_run, is_installed, prepared

CONTACTS: list[str] = []


def note_contacts(event: str, details: tuple[Any, ...]) -> None:
    """Note every address beyond this machine that is looked up or connected to."""
    if event == "socket.getaddrinfo" and details[0] not in (None, "localhost", "127.0.0.1", "::1", ""):
        CONTACTS.append(str(details[0]))
    if event == "socket.connect" and isinstance(details[1], tuple) and details[1][0] not in ("127.0.0.1", "::1"):
        CONTACTS.append(str(details[1]))


def read_mlflow(store: Path) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store.as_uri())
    experiments = [each for each in client.search_experiments() if each.name != "Default"]
    (run,) = client.search_runs([each.experiment_id for each in experiments])
    run_id = run.info.run_id
    metrics = {
        name: [[point.step, point.timestamp, point.value] for point in client.get_metric_history(run_id, name)]
        for name in run.data.metrics
    }
    return {
        "experiment": experiments[0].name, "name": run.info.run_name, "status": run.info.status, "metrics": metrics,
        "params": run.data.params, "tags": run.data.tags,
        "artifacts": [Path(each.path).name for each in client.list_artifacts(run_id, "run")],
    }  # fmt: skip


def records(path: str) -> Iterator[bytes]:
    """Yield the records of a transaction log of wandb: LevelDB's log format behind a header of seven bytes."""
    content, at, held = Path(path).read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        held += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield held
            held = b""


def read_wandb(store: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {"history": {}, "config": {}, "summary": {}}
    (path,) = glob.glob(str(store / "wandb" / "offline-run-*" / "*.wandb"))
    for each in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(each)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            cells = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            found["history"][record.history.step.num] = cells
        elif kind == "run":
            found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            found["name"], found["project"] = record.run.display_name, record.run.project
        elif kind == "summary":
            found["summary"] |= {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update
            }
    return found


def main() -> None:
    sys.addaudithook(note_contacts)
    run_dir, out = Path(sys.argv[1]), Path(sys.argv[2])
    found: dict[str, Any] = {"exported": {}}
    for name, tool in TOOLS.items():
        if is_installed(tool.module):
            found["exported"][name] = [export_run(run_dir, tool, out / name).to_json() for _ in range(2)]
    found["loaded"] = sorted({"torch", "tensorflow", "ray", "matplotlib"} & set(sys.modules))
    for name, read in (("mlflow", read_mlflow), ("wandb", read_wandb)):
        if name in found["exported"]:
            with prepared(TOOLS[name]):
                found[name] = read(out / name)
    found["contacts"] = CONTACTS
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
