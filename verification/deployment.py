"""Run a real federation beside the simulated one: processes that talk over TCP, and the same scenario on the clock.

    python verification/deployment.py [--scenarios equal,mixed,churn] [--small] [--pace stated] [--method fedavg]

A server and six devices are processes of this machine. Messages pass the loopback through throttled links with the
scenario's rates and latency. Each device trains for real, by the function that an actor calls, on one thread, pinned
to a core, and slowed down by a factor. The processes' clocks and sockets alone decide who arrives when. What the server
shares with the simulator is the method, the selector and the streams of random numbers.

Before the rounds, the slowed devices train with batches of other sizes than the scenario's. Two constants of the time
model are fitted to what that took, seconds per operation and per operator, and the scenario is simulated with them.
Compared are the seconds of every round, the order of arrivals, the bytes, and the accuracy after each round; the
weights at the end are the same to the bit where the same devices arrived in each round.

What it shows: that downloads, steps, uploads, shared links, departures, rounds and aggregation add up in the simulator
as they do between processes. With `--pace stated`, the default, a step takes the time that the device is said to take,
whatever else this machine is doing: it does not show that a board's steps last as long as predicted, for which there is
verification/time_model.py. With `--pace measured` a step takes a multiple of the processor time that it really took;
on a busy machine that wanders by a tenth and more, and so does the error. Neither shows a radio, a kernel's network
stack under load, or thousands of connections.

The exit code is 0 where bytes are equal, the mean round time is within 5 %, and, where the same devices arrived, the
weights are equal.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployed.comparison import GOAL, compare, is_right, shown
from deployed.constants import GUESSED
from deployed.fleets import FLEETS, SMALL, Fleet, scenario_of
from deployed.presence import write_trace
from deployed.processes import real_run
from loopback.client import Pace
from safetensors.torch import load_file

from neulite_sim.engine.simulation import simulate


def run(name: str, fleet: Fleet, *, rounds: int, method: str, pace: Pace, pins: bool) -> dict[str, Any]:
    """Return the comparison of one scenario."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        GUESSED.write(folder, fleet.factors)
        scenario = scenario_of(fleet, rounds=rounds, method=method, folder=folder)
        real, accuracy = real_run(fleet, scenario, folder, pace=pace, pins=pins)
        real.constants.write(folder, fleet.factors)
        trace = None
        if fleet.leaves:
            trace = folder / "presence.csv"
            write_trace(trace, real.presence)
        again = scenario_of(fleet, rounds=rounds, method=method, folder=folder, trace=trace)
        simulated = simulate(again, out=folder / "run")
        weights = load_file(folder / "run" / "model.safetensors")
        return compare(name, real, accuracy, simulated, weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparisons; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(FLEETS), help=", ".join(FLEETS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--method", default="fedavg")
    parser.add_argument("--pace", default="stated", choices=("stated", "measured"))
    parser.add_argument("--no-pinning", action="store_true", help="let the system choose the cores of devices")
    parser.add_argument("--small", action="store_true", help="a few rounds on three devices, in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found")
    given = parser.parse_args(arguments)
    fleets, rounds = (SMALL, min(given.rounds, 4)) if given.small else (FLEETS, given.rounds)
    wrong, found = 0, []
    for name in given.scenarios.split(","):
        how = {"rounds": rounds, "method": given.method, "pace": given.pace, "pins": not given.no_pinning}
        found.append(run(name, fleets[name], **how))
        print(shown(found[-1]), flush=True)
        wrong += not is_right(found[-1])
    if given.json is not None:
        given.json.write_text(json.dumps({"pace": given.pace, "scenarios": found}, indent=1), encoding="utf-8")
    print(f"{wrong} of {len(found)} scenarios are off by more than {GOAL:.0%}, or differ where they should not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
