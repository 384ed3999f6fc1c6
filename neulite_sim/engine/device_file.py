"""The file of a run with a row per device: who they are, and in the end what happened to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from neulite_sim.engine.device_columns import device_rows
from neulite_sim.engine.parts import Costing
from neulite_sim.engine.roll_call import RollCall
from neulite_sim.errors import OutputError
from neulite_sim.results.contract import Sink
from neulite_sim.results.device_rows import MOST_IN_CSV, has_pyarrow
from neulite_sim.training.allocator import give_back_freed_memory


class DeviceFile:
    """Writes the roll of the devices to a sink; `notice` tells observers what a user should know."""

    def __init__(self, costing: Costing, roll_call: RollCall, sink: Sink, notice: Callable[[str], None]) -> None:
        self._costing = costing
        self._roll_call = roll_call
        self._sink = sink
        self._notice = notice
        self._num_devices = costing.population.num_devices

    def introduce(self) -> None:
        """Write who the devices are and what fits them, before anything has happened; not of a very large fleet."""
        if self._num_devices <= MOST_IN_CSV:
            self._sink.write_devices(device_rows(self._costing))

    def write(self) -> None:
        """Write what has happened to the devices so far."""
        if self._num_devices > MOST_IN_CSV and not has_pyarrow():
            self._notice(
                f"devices.csv gets {self._num_devices:,} rows, which takes a while; with pyarrow installed (python -m "
                "pip install pyarrow) it would be devices.parquet, smaller and faster to read"
            )
        roll = self._roll_call.roll()
        # The run is over: of a million devices that is a tenth of the memory, and rows need some.
        if forget := getattr(self._costing.population.availability, "forget", None):
            forget()
            give_back_freed_memory()
        self._sink.write_devices(device_rows(self._costing, roll))

    def rescue(self) -> None:
        """Write the same where a run has failed, if that can be done; nobody is told where it cannot."""
        if self._roll_call.is_whole:
            with contextlib.suppress(OutputError):
                self._sink.write_devices(device_rows(self._costing, self._roll_call.roll()))
