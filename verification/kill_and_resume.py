"""Kill runs at random moments, resume them, and compare their digests with those of runs that were left alone.

    python verification/kill_and_resume.py [--drivers 20] [--actors 10] [--rounds 16] [--seed 1]

`--drivers` runs are killed with SIGKILL at random moments, as they start or within a random round, up to three times
each, and resumed: synchronous, deadline and FedBuff, NeuLite and HeteroFL in turn, every third one on Ray. In
`--actors` further runs a random training actor is killed. The exit code is 0 where every digest is that of the unbroken
run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROTOCOLS = {
    "synchronous": "synchronous",
    "deadline": "{kind: deadline, over_selection: 1.5}",
    "fedbuff": "{kind: fedbuff, concurrency: 8, buffer_size: 4}",
}
METHODS = {"neulite": "neulite", "heterofl": "heterofl"}
KILLS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario of the study, and where it runs."""

    method: str
    protocol: str
    backend: str
    rounds: int

    def command(self, out: Path) -> list[str]:
        """Return the command line of an unbroken run into `out`."""
        sets = {
            "method": METHODS[self.method],
            "protocol": PROTOCOLS[self.protocol],
            "stop.rounds": self.rounds,
            "checkpoint.every_rounds": 3,
            "selection.devices_per_round": 6,
            "evaluation.every_rounds": 2,
            "evaluation.batch_norm": "running",
            "population.availability": "{kind: markov, mean_on: 20min, mean_off: 10min}",
        }
        options = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
        scenario = str(ROOT / "scenarios" / "jetson_mix.yaml")
        return [*_program("run", scenario), *options, *self.where(), "--out", str(out)]

    def where(self) -> list[str]:
        """Return the options that say where it runs."""
        return ["--backend", self.backend, *(["--workers", "2"] if self.backend == "ray" else [])]


def _program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "neulite_sim", *arguments, "--quiet", "--json"]


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _digest(process: subprocess.Popen[str]) -> str:
    """Return the digest of a run that has to end well."""
    output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run failed with exit code {process.returncode}:\n{errors[-3000:]}")
    return str(json.loads(output.splitlines()[-1])["digest"])


def _kill_driver(case: Case, out: Path, seconds: float, rng: random.Random) -> tuple[str, list[str]]:
    """Run, kill and resume until the run is complete; return its digest, and how far it was at each kill."""
    found: list[str] = []
    process = _start(case.command(out))
    while len(found) < KILLS and _is_caught(process, case, out, seconds, rng):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found.append(_progress(out))
        if (out / "COMPLETE").exists():
            return str(json.loads((out / "summary.json").read_text())["digest"]), found
        is_begun = (out / "provenance.json").exists()
        if not is_begun:
            shutil.rmtree(out, ignore_errors=True)
        command = [*_program("resume", str(out)), *case.where()] if is_begun else case.command(out)
        process = _start(command)
    return _digest(process), found


def _is_caught(process: subprocess.Popen[str], case: Case, out: Path, seconds: float, rng: random.Random) -> bool:
    """Wait for a random moment of a run: as it starts, or within a random round; return whether it is still alive."""
    if rng.random() < 0.2:
        pause_s = rng.uniform(0.0, 0.5) * seconds
    else:
        begun, after = time.time(), rng.randrange(case.rounds)
        while process.poll() is None and (_written_at(out) < begun or _num_rounds(out) < after):
            time.sleep(0.02)
        pause_s = rng.uniform(0.0, 2.0) * seconds / case.rounds
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=pause_s)
    return process.poll() is None


def _written_at(out: Path) -> float:
    """Return when the rows were last written; a resumed run writes them anew."""
    rounds = out / "rounds.csv"
    try:
        return rounds.stat().st_mtime
    except OSError:
        return 0.0


def _progress(out: Path) -> str:
    """Return how many rounds a run has written, and at which it has its checkpoint."""
    rounds = out / "rounds.csv"
    written = max(0, len(rounds.read_text().splitlines()) - 1) if rounds.exists() else 0
    kept = sorted(path.name for path in (out / "checkpoint").glob("round-*")) if out.exists() else []
    return f"{written} rounds, checkpoint {int(kept[-1][6:]) if kept else 0}"


def _kill_actor(case: Case, out: Path, rng: random.Random) -> tuple[str, int]:
    """Run, kill a random actor once after a random number of rounds; return the digest and the actors replaced."""
    process = _start(case.command(out))
    after = rng.randrange(1, case.rounds - 2)
    while process.poll() is None and _num_rounds(out) < after:
        time.sleep(0.05)
    actors = [pid for pid, command in _descendants(process.pid) if command.startswith("ray::DeviceActor")]
    if not actors:
        raise SystemExit("found no actor to kill: is the run over already?")
    os.kill(rng.choice(actors), signal.SIGKILL)
    digest = _digest(process)
    header, *rows = [line.split(",") for line in (out / "rounds.csv").read_text().splitlines()]
    return digest, sum(int(row[header.index("workers_replaced")]) for row in rows)


def _descendants(root: int) -> list[tuple[int, str]]:
    """Return process number and command line of everything that a process started, directly or not."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in table.splitlines()]
    found, parents = [], {root}
    while parents:
        children = [(int(pid), command[0]) for pid, parent, *command in lines if int(parent) in parents and command]
        found += children
        parents = {pid for pid, _ in children}
    return found


def _num_rounds(out: Path) -> int:
    rounds = out / "rounds.csv"
    try:
        return rounds.read_bytes().count(b"\n") - 1
    except OSError:
        return -1


def main() -> int:
    """Run the study and print a line per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drivers", type=int, default=20)
    parser.add_argument("--actors", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    pairs = list(itertools.product(METHODS, PROTOCOLS))
    folder = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    whole: dict[tuple[str, str], tuple[str, float]] = {}
    for method, protocol in pairs:
        began = time.perf_counter()
        digest = _digest(
            _start(Case(method, protocol, "inprocess", given.rounds).command(folder / f"{method}-{protocol}"))
        )
        whole[method, protocol] = digest, time.perf_counter() - began
        print(f"unbroken  {method:9} {protocol:12} {digest[:12]}  {whole[method, protocol][1]:.1f} s", flush=True)
    equal = 0
    for number in range(given.drivers):
        method, protocol = pairs[number % len(pairs)]
        # Shifted with each turn, so that every protocol comes to Ray.
        backend = "ray" if (number + number // len(pairs)) % 3 == 2 else "inprocess"
        expected, seconds = whole[method, protocol]
        out = folder / f"driver-{number}"
        digest, killed = _kill_driver(Case(method, protocol, backend, given.rounds), out, seconds, rng)
        equal += digest == expected
        told = "; ".join(killed) or "never killed: it was faster"
        print(f"driver {number:3} {method:9} {protocol:12} {backend:9} {'equal' if digest == expected else 'DIFFERENT'}"
              f"  ({told})", flush=True)  # fmt: skip
    equal_actors = 0
    for number in range(given.actors):
        method, protocol = pairs[number % len(pairs)]
        out = folder / f"actor-{number}"
        digest, replaced = _kill_actor(Case(method, protocol, "ray", given.rounds), out, rng)
        is_equal = digest == whole[method, protocol][0]
        equal_actors += is_equal
        print(f"actor  {number:3} {method:9} {protocol:12} ray       {'equal' if is_equal else 'DIFFERENT'}"
              f"  ({replaced} replaced)", flush=True)  # fmt: skip
    print(
        f"{equal} of {given.drivers} killed drivers and {equal_actors} of {given.actors} killed actors: equal digests"
    )
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if (equal, equal_actors) == (given.drivers, given.actors) else 1


if __name__ == "__main__":
    sys.exit(main())
