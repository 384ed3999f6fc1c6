"""Samples per second of real local training: neulite-sim beside a plain PyTorch loop, same job, same machine.

    python benchmarks/throughput.py [--repeats 3] [--threads 2] [--rounds 20]

The job: the `cnn` on 1000 devices x 50 samples of 3x32x32, 50 devices per round, batch 10, one epoch, 20 rounds
(`federated_cnn.yaml`). The plain loop is what people write by hand: one process, one model, a loop over devices, a
running mean; PyTorch uses `--threads` threads. neulite-sim runs with as many actors of one thread each (`ray`), or
in one process of as many threads (`inprocess`). Runs alternate, so that a machine that slows down slows down all of
them; what is printed is the median and the ratio to the plain loop of the same repeat. `to training` runs from the
command to the moment when the first task could be dealt out, `to first round` to the end of the first round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SCENARIO = Path(__file__).with_name("federated_cnn.yaml")
DEVICES_PER_ROUND, SAMPLES, BATCH, CHANNELS = 50, 50, 10, 3


def plain_loop(rounds: int, threads: int) -> dict[str, float]:
    """Train the job with nothing but PyTorch and return seconds of the rounds and to the end of the first."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    images = torch.randn(1000 * SAMPLES, CHANNELS, 32, 32)
    labels = torch.randint(10, (1000 * SAMPLES,))
    layers: list[nn.Module] = []
    for inner, outer in ((CHANNELS, 32), (32, 64)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.Conv2d(outer, outer, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(), nn.Linear(128, 10))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    started, first_s = time.perf_counter(), 0.0
    for round_number in range(rounds):
        total = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        for device in torch.randperm(1000)[:DEVICES_PER_ROUND].tolist():
            model.load_state_dict(state)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
            for batch in (device * SAMPLES + torch.randperm(SAMPLES)).split(BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
            for name, tensor in model.state_dict().items():
                total[name] += tensor / DEVICES_PER_ROUND
        state = total
        if round_number == 0:
            first_s = time.perf_counter() - started
    seconds = time.perf_counter() - started
    return {"rounds_s": seconds, "steady_s": (seconds - first_s) * rounds / (rounds - 1)}


def simulated(backend: str, rounds: int, threads: int) -> dict[str, float]:
    """Run the scenario in a fresh process and return seconds of its rounds and from the command to the first."""
    script = (
        "import json, sys, time\n"
        "from neulite_sim import load_scenario, simulate\n"
        "times = {}\n"
        "class Watch:\n"
        "    def notify(self, event):\n"
        "        times.setdefault(type(event).__name__, time.time())\n"
        "scenario = load_scenario(sys.argv[1], sys.argv[2:])\n"
        "result = simulate(scenario, observers=[Watch()])\n"
        "rows = result.rounds\n"
        "print(json.dumps({'started_at': times['RunStarted'], 'first_at': times['RoundRow'],\n"
        "                  'walls': [row['wall_time_s'] for row in rows]}))\n"
    )
    many = "workers" if backend == "ray" else "threads_per_worker"
    chosen = f"{{kind: {backend}, {many}: {threads}}}"
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", script, str(SCENARIO), f"stop.rounds={rounds}", f"backend={chosen}"],
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    walls = told["walls"]
    return {
        "rounds_s": walls[-1],
        "steady_s": (walls[-1] - walls[0]) * rounds / (rounds - 1),
        "training_s": told["started_at"] - started,
        "first_round_s": told["first_at"] - started,
    }


def plain_in_fresh_process(rounds: int, threads: int) -> dict[str, float]:
    """Return what `plain_loop` measures in a process of its own."""
    command = [sys.executable, __file__, "--plain-only", "--rounds", str(rounds), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Measure, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain_only:
        print(json.dumps(plain_loop(arguments.rounds, arguments.threads)))
        return
    samples = arguments.rounds * DEVICES_PER_ROUND * SAMPLES
    found: dict[str, list[dict[str, float]]] = {"plain loop": [], "ray": [], "inprocess": []}
    for _ in range(arguments.repeats):
        found["plain loop"].append(plain_in_fresh_process(arguments.rounds, arguments.threads))
        found["ray"].append(simulated("ray", arguments.rounds, arguments.threads))
        found["inprocess"].append(simulated("inprocess", arguments.rounds, arguments.threads))
    print(f"{os.cpu_count()} processors, {arguments.threads} threads, {samples:,} samples, {arguments.repeats} repeats")
    print(f"{'':<12}{'samples/s':>11}{'ratio':>8}{'steady ratio':>14}{'to training':>14}{'to first round':>17}")
    for name, runs in found.items():
        speed = statistics.median(samples / run["rounds_s"] for run in runs)
        pairs = list(zip(found["plain loop"], runs, strict=True))
        ratio = statistics.median(plain["rounds_s"] / run["rounds_s"] for plain, run in pairs)
        steady = statistics.median(plain["steady_s"] / run["steady_s"] for plain, run in pairs)
        waits = "".join(
            f"{statistics.median(run[key] for run in runs):>{width}.1f} s"
            for key, width in (("training_s", 12), ("first_round_s", 15))
            if key in runs[0]
        )
        print(f"{name:<12}{speed:>11.0f}{ratio:>8.2f}{steady:>14.2f}{waits}")


if __name__ == "__main__":
    main()
