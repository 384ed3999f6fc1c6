"""A run in a file store of MLflow: metrics by round, the scenario as parameters, the folder's files as artifacts.

The time of a point is the start of the run plus the virtual time, as in the other trackers. MLflow keeps file stores
in maintenance and wants to be told that one is meant; stores in a database need more than `mlflow-skinny`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.tracking import MlflowClient

from neulite_sim.exports.origin import Origin, parameters
from neulite_sim.exports.places import Status
from neulite_sim.exports.words import outcomes_of

ARTIFACTS = "run"
"""Where among a run's artifacts the files of the run folder are."""
_TAG = "neulite_sim.{}"
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100


def write_mlflow(origin: Origin, store: Path) -> Status:
    """Put a run into a store, under the experiment of its scenario's name, and return whether it was there before.

    Raises:
        DataNotFoundError: a table is damaged.
    """
    client = MlflowClient(tracking_uri=store.resolve().as_uri())
    experiment = _experiment(client, str(origin.run.summary.get("name") or origin.name))
    earlier = client.search_runs([experiment], f"tags.`{_TAG.format('identity')}` = '{origin.identity}'")
    states = [run.data.tags.get(_TAG.format("state")) for run in earlier]
    if origin.state in states:
        return "already there"
    run_id = client.create_run(experiment, start_time=origin.started_s * 1000, run_name=origin.name).info.run_id
    try:
        _fill(client, run_id, origin)
    except BaseException:
        client.delete_run(run_id)
        raise
    for run in earlier:
        client.delete_run(run.info.run_id)
    return "renewed" if any(states) else "written"


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _fill(client: Any, run_id: str, origin: Origin) -> None:
    given = [Param(key, str(value)) for key, value in parameters(origin.run.scenario).items()]
    for batch in _batches(given, _MOST_PARAMETERS):
        client.log_batch(run_id, params=batch)
    for batch in _batches(_metrics(origin), _MOST_METRICS):
        client.log_batch(run_id, metrics=batch)
    for path in origin.files:
        client.log_artifact(run_id, str(path), ARTIFACTS)
    tags = origin.tags
    # The state comes last: a run without it is no whole export.
    ordered = [*(key for key in tags if key != "state"), "state"]
    client.log_batch(run_id, tags=[RunTag(_TAG.format(key), tags[key]) for key in ordered])
    status = RunStatus.FINISHED if origin.run.is_complete else RunStatus.KILLED
    client.set_terminated(run_id, RunStatus.to_string(status), end_time=_milliseconds(_ended_s(origin)))


def _metrics(origin: Origin) -> Iterator[Any]:
    for step, at_s, values in origin.points():
        yield from (Metric(name, value, _milliseconds(at_s), step) for name, value in values.items())
    summary = origin.run.summary
    for name, value in outcomes_of(summary).items():
        yield Metric(name, value, _milliseconds(_ended_s(origin)), summary.get("rounds") or 0)


def _ended_s(origin: Origin) -> float:
    return origin.started_s + (origin.run.summary.get("virtual_time_s") or 0.0)


def _milliseconds(at_s: float) -> int:
    return round(at_s * 1000)


def _batches(items: Any, size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
