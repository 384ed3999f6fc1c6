"""Seconds and memory of a dry run of a million devices: what the simulator itself costs.

    python benchmarks/million_devices.py [--devices N] [--participations N] [--protocol deadline|fedbuff|synchronous]
        [--method fedavg] [--selection uniform]

Devices come and go as a Markov chain (two hours online, four offline, on average); each round asks 1.3 times 1000 of
them (`deadline`), 1000 (`synchronous`), or keeps 1000 in flight and aggregates every ten arrivals (`fedbuff`). Rows
and timeline are written to a temporary folder. Every run has a process of its own; a second one, with a tenth of the
devices, gives the bytes per device as the difference of the two peaks. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from neulite_sim.engine import assembly, building, simulation
from neulite_sim.results.folder import RunFolder
from neulite_sim.scenario.loading import load_scenario

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
selection: {{kind: {selection}, devices_per_round: 1000}}
protocol: {protocol}
stop: {{rounds: {rounds}}}
backend: dry-run
"""
PROTOCOLS = {
    "deadline": ("{kind: deadline, over_selection: 1.3}", 1300),
    "synchronous": ("{kind: synchronous}", 1000),
    "fedbuff": ("{kind: fedbuff, buffer_size: 10, concurrency: 1000}", 10),
}


def measured(
    devices: int, participations: int, protocol: str, *, method: str = "fedavg", selection: str = "uniform"
) -> dict[str, float]:
    """Return what one run took: seconds of preparation and of the run, and the peak memory of this process."""
    options, per_round = PROTOCOLS[protocol]
    rounds = max(1, participations // per_round)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.yaml"
        content = SCENARIO.format(devices=devices, protocol=options, rounds=rounds, method=method, selection=selection)
        path.write_text(content, encoding="utf-8")
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


def in_own_process(devices: int, participations: int, given: argparse.Namespace) -> dict[str, float]:
    """Return `measured` of a fresh process."""
    sizes = ["--devices", str(devices), "--participations", str(participations)]
    kinds = ["--protocol", given.protocol, "--method", given.method, "--selection", given.selection]
    done = subprocess.run([sys.executable, __file__, "--child", *sizes, *kinds], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print what a run of the wanted size took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--participations", type=int, default=10_000)
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="deadline")
    parser.add_argument("--method", default="fedavg", help="fedavg, neulite, heterofl, ...")
    parser.add_argument("--selection", default="uniform", help="uniform, tifl or oort")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kinds = {"method": given.method, "selection": given.selection}
        print(json.dumps(measured(given.devices, given.participations, given.protocol, **kinds)))
        return
    whole = in_own_process(given.devices, given.participations, given)
    fewer = given.devices // 10
    small = in_own_process(fewer, min(given.participations, fewer // 10), given)
    number = whole["participations"]
    per_device = (whole["peak_memory_bytes"] - small["peak_memory_bytes"]) / (given.devices - fewer)
    print(
        f"{given.method}, {given.selection}, {given.protocol}, {given.devices:,} devices, {number:,.0f} participations"
    )
    print(f"preparation          {whole['preparation_s']:10.2f} s")
    print(f"run                  {whole['run_s']:10.2f} s wall, {whole['run_cpu_s']:.2f} s CPU")
    print(f"participations       {number / whole['run_s']:10,.0f} per second wall")
    print(f"                     {number / whole['run_cpu_s']:10,.0f} per second CPU")
    print(f"peak memory          {whole['peak_memory_bytes'] / 1e6:10,.0f} MB")
    print(f"of which per device  {per_device:10,.0f} bytes (against {fewer:,} devices)")


if __name__ == "__main__":
    main()
