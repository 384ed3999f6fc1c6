"""A run that was kept in memory, written into a run folder afterwards: for what reads run folders."""

from __future__ import annotations

from pathlib import Path

from neulite_sim.engine.run_result import RunResult
from neulite_sim.results.flight_rows import FlightRows
from neulite_sim.results.folder import RunFolder
from neulite_sim.results.memory import MemorySink
from neulite_sim.results.provenance import provenance
from neulite_sim.results.rows import DenialRow, DiagnosticRow, RoundRow
from neulite_sim.scenario.loading import dump_scenario


def keep_run(result: RunResult, path: Path) -> None:
    """Write the run folder of a run in memory; what only a run on disk has (journal, checkpoints) is not in it.

    Raises:
        OutputError: the folder holds something, or cannot be written.
    """
    memory, scenario = result.memory, result.scenario
    assert memory is not None, "a run in memory"
    assert scenario is not None, "a run that knows its scenario"
    folder = RunFolder.create(
        path,
        name=scenario.name,
        seed=scenario.seed,
        scenario_yaml=dump_scenario(scenario),
        provenance=provenance(scenario, (), left_out=result.left_out, read=result.read),
        asked=memory.asked,
    )
    with folder:
        _write_rows(memory, folder)
        folder.finish(result.summary, memory.weights)


def _write_rows(memory: MemorySink, folder: RunFolder) -> None:
    if memory.flights:
        names = memory.flights.columns
        folder.write_flights(FlightRows({name: [row[name] for row in memory.flights] for name in names}))
    for denial in memory.denials:
        folder.write(DenialRow(**denial))
    for test in memory.diagnostics:
        folder.write(DiagnosticRow(**test))
    for row in memory.rounds:
        folder.write(RoundRow(**row))
    if (devices := memory.device_rows) is not None:
        folder.write_devices(devices)
