"""Run the study of docs/background/methods_compared.md and print its two tables in Markdown.

    python docs/methods_compared.py [--out runs/methods_compared] [--jobs 2] [--tables-only]

Every method runs on the same fleet for the virtual time that NeuLite needs for its rounds, found by dry runs; hours
on a small machine. Runs that are complete are not run again, so it can be stopped and started. Table (b) needs
CIFAR-10 under data/ (`--set data.root=...` of the scenario, or a link).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STUDY = Path(__file__).parents[1] / "scenarios" / "study"
SEEDS = (42, 43, 44)
ROUNDS = {"digits": 150, "cifar10": 160}
TARGET = {"digits": "0.8", "cifar10": "0.4"}
RECALIBRATED = "evaluation.batch_norm=recalibrated"
METHODS: dict[str, tuple[str, ...]] = {
    "neulite": ("method=neulite",),
    "exclusivefl": ("method=exclusivefl",),
    "allsmall": ("method=allsmall",),
    "heterofl": ("method=heterofl",),
    "heterofl-recal": ("method=heterofl", RECALIBRATED),
    "fedrolex-recal": ("method=fedrolex", RECALIBRATED),
    "depthfl": ("method=depthfl",),
    "progfed": ("method=progfed",),
    "fedavg": ("method={kind: fedavg, memory_limit: false}",),
}
NAMES = {
    "neulite": "NeuLite",
    "exclusivefl": "ExclusiveFL",
    "allsmall": "AllSmall",
    "heterofl": "HeteroFL, running statistics",
    "heterofl-recal": "HeteroFL, recalibrated",
    "fedrolex-recal": "FedRolex, recalibrated",
    "depthfl": "DepthFL",
    "progfed": "ProgFed",
    "fedavg": "FedAvg without a memory wall",
}
MOST_ROUNDS = {"allsmall": 300}
"""AllSmall would do thousands of rounds in that time; it has levelled off long before."""
COLUMNS = ("method", "accuracy, %", "time to {target}, h", "participation, %", "data, %", "peak memory, MB",
           "down + up, GB", "rounds")  # fmt: skip


def simulate(table: str, seed: int, out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Run a scenario of the study in a process of its own, unless its folder is complete; return its summary."""
    if not (out / "COMPLETE").exists():
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "neulite_sim", "run", str(STUDY / f"{table}.yaml"), "--seed", str(seed)]
        command += ["--out", str(out), "--quiet", *(word for change in changes for word in ("--set", change))]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def rounds_in_the_same_time(table: str, name: str, seed: int, folder: Path) -> int:
    """Return how many rounds a method does in the virtual time of NeuLite's, to one percent or so."""
    if name == "neulite" or name in MOST_ROUNDS:
        return MOST_ROUNDS.get(name, ROUNDS[table])
    wanted_s = simulate(table, seed, folder / f"dry-neulite-{seed}", ["backend=dry-run"])["virtual_time_s"]
    rounds = 100
    # ProgFed grows with the number of rounds, so its time is not proportional to it: three steps come near enough.
    for step in range(3):
        changes = [*METHODS[name], "backend=dry-run", f"stop.rounds={rounds}"]
        taken_s = simulate(table, seed, folder / f"dry-{name}-{seed}-{step}", changes)["virtual_time_s"]
        rounds = int(rounds * wanted_s / taken_s)
    return rounds


def run(table: str, name: str, seed: int, out: Path) -> None:
    """Run one method with one seed."""
    folder = out / f"{table}-{name}-{seed}"
    if (folder / "COMPLETE").exists():
        return
    rounds = rounds_in_the_same_time(table, name, seed, out / f"{table}-dry")
    found = simulate(table, seed, folder, [*METHODS[name], f"stop.rounds={rounds}"])
    print(f"{folder.name}: {rounds} rounds, accuracy {found['tail_accuracy']:.3f}", file=sys.stderr, flush=True)


def spread(values: Sequence[float], form: str) -> str:
    """Return mean and sample standard deviation; the mean alone where all are equal."""
    if len(set(values)) == 1:
        return format(values[0], form)
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"


def row(table: str, name: str, runs: Sequence[dict[str, Any]]) -> str:
    """Return a method's line of the table."""
    times = [found["time_to_accuracy_s"][TARGET[table]] for found in runs]
    reached = [time_s / 3600 for time_s in times if time_s is not None]
    to_target = f"{statistics.mean(reached):.2f}" if reached else "never"
    if reached and len(reached) < len(times):
        to_target += f" ({len(reached)} of {len(times)} runs)"
    cells = [
        NAMES[name],
        spread([100 * found["tail_accuracy"] for found in runs], ".1f"),
        to_target,
        spread([100 * found["participation_rate"] for found in runs], ".0f"),
        spread([100 * found["data_share"] for found in runs], ".0f"),
        f"{max(found['peak_memory_bytes'] for found in runs) / 1e6:.0f}",
        spread([(found["bytes_down"] + found["bytes_up"]) / 1e9 for found in runs], ".1f"),
        spread([float(found["rounds"]) for found in runs], ".0f"),
    ]
    return f"| {' | '.join(cells)} |"


def print_table(table: str, out: Path) -> None:
    """Print the Markdown table of what is complete."""
    head = " | ".join(COLUMNS).format(target=f"{float(TARGET[table]):.0%}")
    print(f"\n| {head} |\n{'|---' * len(COLUMNS)}|")
    for name in METHODS:
        folders = [out / f"{table}-{name}-{seed}" for seed in SEEDS]
        runs = [json.loads((it / "summary.json").read_text()) for it in folders if (it / "COMPLETE").exists()]
        if runs:
            print(row(table, name, runs))
        if len(runs) < len(SEEDS):
            print(f"{table} {name}: {len(runs)} of {len(SEEDS)} runs are complete", file=sys.stderr)


def main() -> None:
    """Run what is not complete and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods_compared"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tables-only", action="store_true")
    arguments = parser.parse_args()
    jobs = [(table, name, seed) for table in ROUNDS for seed in SEEDS for name in METHODS]
    if not arguments.tables_only:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda job: run(*job, out=arguments.out), jobs))
    for table in ROUNDS:
        print_table(table, arguments.out)


if __name__ == "__main__":
    main()
