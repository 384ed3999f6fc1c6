"""A run as an event file of TensorBoard: scalars by round, and the scenario as hyperparameters.

Written with TensorBoard's own records and protocol buffers; neither TensorFlow nor PyTorch is imported. The step of a
point is its round. Its wall time is the start of the run plus the virtual time, so that the axis "relative" of
TensorBoard is virtual time. TensorBoard keeps scalars in single precision: about seven digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from neulite_sim.exports.origin import Origin, parameters
from neulite_sim.exports.words import outcomes_of

_VERSION = "brain.Event:2"


def write_events(origin: Origin, folder: Path) -> None:
    """Write one event file into a folder; equal runs give equal files.

    Raises:
        DataNotFoundError: a table is damaged.
    """
    began_s = origin.started_s
    with (folder / f"events.out.tfevents.{began_s:010d}.neulite-sim").open("wb") as file:
        records = RecordWriter(file)

        def add(at_s: float, step: int = 0, **content: Any) -> None:
            records.write(event_pb2.Event(wall_time=at_s, step=step, **content).SerializeToString())

        add(began_s, file_version=_VERSION)
        add(began_s, summary=_hyperparameters(origin))
        for step, at_s, values in origin.points():
            add(at_s, step, summary=_scalars(values))
        summary = origin.run.summary
        ended_s = began_s + (summary.get("virtual_time_s") or 0.0)
        add(ended_s, summary.get("rounds") or 0, summary=_scalars(outcomes_of(summary)))
        add(ended_s, summary=_end(origin, ended_s))


def _scalars(values: Mapping[str, float]) -> Any:
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    )


def _hyperparameters(origin: Origin) -> Any:
    # One group per run: TensorBoard would average runs of a group.
    return summary_v2.hparams_pb(
        parameters(origin.run.scenario), trial_id=origin.identity, start_time_secs=origin.started_s
    )


def _end(origin: Origin, ended_s: float) -> Any:
    status = api_pb2.STATUS_SUCCESS if origin.run.is_complete else api_pb2.STATUS_UNKNOWN
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=ended_s)
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    return summary_pb2.Summary(
        value=[
            summary_pb2.Summary.Value(
                tag=metadata.SESSION_END_INFO_TAG,
                metadata=metadata.create_summary_metadata(content),
                tensor=metadata.NULL_TENSOR,
            )
        ]
    )
