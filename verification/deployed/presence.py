"""Who is there when: chosen by what is predicted, told to the processes, and written as a trace for the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployed.constants import Constants
from deployed.fleets import Fleet
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.schema import Scenario

FOR_EVER_S = 1e6


def presences(
    fleet: Fleet, scenario: Scenario, constants: Constants, folder: Path
) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return when each device is there. Where some leave, they do so in the middle of flights as these are predicted.

    The slowest leaves for good, one is away for a round, one comes late, and one more leaves where there are enough. A
    moment close to the end of a round would make the comparison one of milliseconds.
    """
    found: list[tuple[tuple[float, float], ...]] = [((0.0, FOR_EVER_S),) for _ in fleet.factors]
    if not fleet.leaves:
        return tuple(found)
    constants.write(folder, fleet.factors)
    flights = list(simulate(scenario).flights)

    def within(number: int, device: int, share: float) -> float:
        (row,) = [row for row in flights if (row["round"], row["device"]) == (number, device)]
        return float(row["dispatched_s"] + share * (row["ended_s"] - row["dispatched_s"]))

    first = [row for row in flights if row["round"] == 1]
    *others, slow = [row["device"] for row in sorted(first, key=lambda row: row["ended_s"])]
    found[slow] = ((0.0, within(4, slow, 0.6)),)
    found[others[0]] = ((0.0, within(2, others[0], 0.6)), (within(3, others[0], 0.5), FOR_EVER_S))
    found[others[1]] = ((within(2, others[1], 0.4), FOR_EVER_S),)
    for device in others[3:4]:
        found[device] = ((0.0, within(3, device, 0.5)),)
    return tuple(found)


def write_trace(path: Path, presence: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Write who is there when, as a trace of availability."""
    lines = ["device,start_s,end_s"]
    for device, intervals in enumerate(presence):
        lines += [f"device-{device},{start},{end}" for start, end in intervals]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
