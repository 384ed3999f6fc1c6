"""Seconds and memory of a dry run of a million devices: what the simulator itself costs.

    python benchmarks/million_devices.py [--devices N] [--participations N]
        [--protocol deadline|fedasync|fedbuff|synchronous] [--method fedavg] [--selection uniform] [--json]
    python benchmarks/million_devices.py --table [--json]

Devices come and go as a Markov chain (two hours online, four offline, on average); each round asks 1.3 times 1000 of
them (`deadline`), 1000 (`synchronous`), or keeps 1000 in flight and aggregates every arrival (`fedasync`) or every ten
(`fedbuff`). Rows and timeline are written to a temporary folder. Every run has a process of its own; a second one, with
a tenth of the devices, gives the bytes per device as the difference of the two peaks. Nothing is asserted.

What a participation costs is also said in bare SimPy events, so that it can be compared between machines: how many
events SimPy makes in that time where a thousand processes do nothing but wait for random times, one after the other, as
a thousand devices in flight do. That is measured before and after each run and the median is taken.

`--table` runs what the documentation quotes: a million devices with a deadline (100,000 participations) and with
FedBuff (10,000), and 131,072 devices with FedAvg in rounds, FedAsync and FedBuff (10,000 each). `--scale 0.01` takes a
hundredth of all devices and participations, for a trial.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SCENARIO = """
name: million_devices
seed: 1
data: {{kind: synthetic, shape: [1, 4, 4], classes: 2, samples: {devices}, test_samples: 10, partition: iid}}
model: resnet18
proxy: {{width: 0.0625}}
training: {{epochs: 1, batch_size: 16}}
workload: {{model: resnet18, input_shape: [3, 32, 32], classes: 10, samples_per_device: 200, batch_size: 32}}
population:
  devices: {devices}
  groups: [{{device: jetson-nano-4gb, share: 0.5}}, {{device: jetson-tx2-8gb, share: 0.5}}]
  available_memory: {{kind: uniform, low: 100MB, high: 900MB}}
  availability: {{kind: markov, mean_on: 2h, mean_off: 4h}}
method: {method}
selection: {{kind: {selection}, devices_per_round: {in_flight}}}
protocol: {protocol}
stop: {{rounds: {rounds}}}
backend: dry-run
"""
OVER_SELECTION = 1.3
PROTOCOLS = {
    "deadline": f"{{kind: deadline, over_selection: {OVER_SELECTION}}}",
    "synchronous": "{kind: synchronous}",
    "fedasync": "{kind: fedasync, concurrency: IN_FLIGHT}",
    "fedbuff": "{kind: fedbuff, buffer_size: 10, concurrency: IN_FLIGHT}",
}
BARE_REPEATS = 5


class Fleet(NamedTuple):
    """What is run: a fleet, how much of it flies, and who decides."""

    devices: int = 1_000_000
    participations: int = 10_000
    protocol: str = "deadline"
    method: str = "fedavg"
    selection: str = "uniform"
    in_flight: int = 1000

    @property
    def rounds(self) -> int:
        """How many aggregations that many participations make."""
        asked = int(OVER_SELECTION * self.in_flight)
        per_round = {"deadline": asked, "synchronous": self.in_flight, "fedasync": 1, "fedbuff": 10}
        return max(1, self.participations // per_round[self.protocol])

    def scaled(self, scale: float) -> Fleet:
        """Return a fleet of that share of the devices, participations and devices in flight."""
        devices, participations, in_flight = (
            max(1, round(scale * size)) for size in (self.devices, self.participations, self.in_flight)
        )
        return self._replace(devices=devices, participations=participations, in_flight=in_flight)


TABLE = (
    Fleet(participations=100_000),
    Fleet(protocol="fedbuff"),
    Fleet(devices=131_072, protocol="synchronous"),
    Fleet(devices=131_072, protocol="fedasync"),
    Fleet(devices=131_072, protocol="fedbuff"),
)


def bare_events_per_s(num_events: int = 100_000, in_flight: int = 1000) -> float:
    """Return how many events SimPy makes per second where nothing else is to be done."""
    import simpy

    numbers = random.Random(1)
    delays = [numbers.random() for _ in range(num_events)]
    environment = simpy.Environment()

    def waits(mine: list[float]) -> Any:
        for delay in mine:
            yield environment.timeout(delay)

    for number in range(in_flight):
        environment.process(waits(delays[number::in_flight]))
    begun_s = time.perf_counter()
    environment.run()
    # Each process is one event more when it begins, and one when it ends.
    return (num_events + 2 * in_flight) / (time.perf_counter() - begun_s)


def measured(fleet: Fleet) -> dict[str, float]:
    """Return what one run took: seconds of preparation and of the run, and the peak memory of this process."""
    from neulite_sim.engine import assembly, building, simulation
    from neulite_sim.results.folder import RunFolder
    from neulite_sim.scenario.loading import load_scenario

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.yaml"
        protocol = PROTOCOLS[fleet.protocol].replace("IN_FLIGHT", str(fleet.in_flight))
        values = {**fleet._asdict(), "protocol": protocol, "rounds": fleet.rounds}
        path.write_text(SCENARIO.format(**values), encoding="utf-8")
        scenario = load_scenario(path)
        begun_s = time.perf_counter()
        backend = building.build_backend(scenario)
        costing = assembly.ready(scenario, backend)
        prepared_s, prepared_cpu_s = time.perf_counter(), time.process_time()
        with RunFolder.create(Path(folder) / "run", name="run", seed=1, scenario_yaml="", provenance={}) as run:
            keeper = simulation.keeper_of(costing, run.path)
            summary = simulation.drive(costing, backend, run, (), run_dir=run.path, keeper=keeper)
        ended_s, ended_cpu_s = time.perf_counter(), time.process_time()
    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "preparation_s": prepared_s - begun_s,
        "run_s": ended_s - prepared_s,
        "run_cpu_s": ended_cpu_s - prepared_cpu_s,
        "participations": summary["flights_arrived"] + summary["flights_dropped"],
        "peak_memory_bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def in_own_process(fleet: Fleet) -> dict[str, float]:
    """Return `measured` of a fresh process."""
    command = [sys.executable, __file__, "--child", json.dumps(fleet)]
    # With a profile kept from a run before, preparation and peak would be those of another run.
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {**os.environ, "NEULITE_SIM_CACHE": "off", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=own)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def weighed(fleet: Fleet) -> dict[str, float]:
    """Return `measured` of a fresh process, and what it comes to in bare SimPy events made just before and after."""
    bare = [bare_events_per_s() for _ in range(BARE_REPEATS)]
    found = in_own_process(fleet)
    events_per_s = statistics.median([*bare, *(bare_events_per_s() for _ in range(BARE_REPEATS))])
    number = found["participations"]
    return {
        **found,
        "participations_per_s": number / found["run_s"],
        "bare_events_per_s": events_per_s,
        "events_per_participation": events_per_s * found["run_s"] / number,
    }


def table_rows(scale: float = 1.0) -> list[dict[str, Any]]:
    """Return a row for each fleet of the table: what it was and what `weighed` says of it."""
    rows = []
    for fleet in (each.scaled(scale) for each in TABLE):
        print(f"{fleet.devices:,} devices, {fleet.protocol}", file=sys.stderr, flush=True)
        asked = {"asked_participations": fleet.participations, "rounds": fleet.rounds}
        rows.append({**fleet._asdict(), **asked, **weighed(fleet)})
    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print seconds, speeds and peaks of the table's fleets."""
    print(f"{'devices':>10}  {'protocol':<12}{'participations':>15}{'run':>10}{'per second':>12}", end="")
    print(f"{'SimPy events each':>19}{'peak memory':>13}")
    for row in rows:
        print(f"{row['devices']:>10,}  {row['protocol']:<12}{row['participations']:>15,.0f}", end="")
        print(f"{row['run_s']:>8.1f} s{row['participations_per_s']:>12,.0f}", end="")
        print(f"{row['events_per_participation']:>19.1f}{row['peak_memory_bytes'] / 1e6:>10,.0f} MB")


def print_one(fleet: Fleet, whole: dict[str, float]) -> None:
    """Print what one run took."""
    number = whole["participations"]
    print(
        f"{fleet.method}, {fleet.selection}, {fleet.protocol}, {fleet.devices:,} devices, {number:,.0f} participations"
    )
    print(f"preparation          {whole['preparation_s']:10.2f} s")
    print(f"run                  {whole['run_s']:10.2f} s wall, {whole['run_cpu_s']:.2f} s CPU")
    print(f"participations       {whole['participations_per_s']:10,.0f} per second wall")
    print(f"                     {number / whole['run_cpu_s']:10,.0f} per second CPU")
    print(f"one costs            {whole['events_per_participation']:10,.1f} bare SimPy events", end="")
    print(f" ({whole['bare_events_per_s']:,.0f} per second)")
    print(f"peak memory          {whole['peak_memory_bytes'] / 1e6:10,.0f} MB")
    print(f"of which per device  {whole['bytes_per_device']:10,.0f} bytes (against {fleet.devices // 10:,} devices)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what a run of the wanted size took, or the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--participations", type=int, default=10_000)
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="deadline")
    parser.add_argument("--method", default="fedavg", help="fedavg, neulite, heterofl, ...")
    parser.add_argument("--selection", default="uniform", help="uniform, tifl or oort")
    parser.add_argument("--table", action="store_true", help="run the five fleets of the documentation")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the table's fleets that is run")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        print(json.dumps(measured(Fleet(*json.loads(given.child)))))
        return
    from throughput import machine_name

    if given.table:
        rows = table_rows(given.scale)
        if given.json:
            print(json.dumps({"machine": machine_name(), "rows": rows}, indent=2))
        else:
            print(machine_name())
            print_table(rows)
        return
    fleet = Fleet(given.devices, given.participations, given.protocol, given.method, given.selection)
    fewer = fleet.devices // 10
    whole = weighed(fleet)
    small = in_own_process(fleet._replace(devices=fewer, participations=min(fleet.participations, fewer // 10)))
    per_device = (whole["peak_memory_bytes"] - small["peak_memory_bytes"]) / (fleet.devices - fewer)
    whole["bytes_per_device"] = per_device
    if given.json:
        print(json.dumps({"machine": machine_name(), **fleet._asdict(), **whole}, indent=2))
    else:
        print_one(fleet, whole)


if __name__ == "__main__":
    main()
