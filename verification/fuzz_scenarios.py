"""Scenarios mutated at random: each is answered in words, soon, and within the memory of a small machine.

    python verification/fuzz_scenarios.py [--mutants 500] [--seed 1] [--only NUMBER]

The mutants are those of `fuzzing/mutants.py`. Each goes through `validate` and, where it is valid and small, through a
dry run of two rounds, in a process forked from one that has everything imported. The machine is taken to have 2 GiB
free. Counted as wrong: a traceback, the sentence for what nobody foresaw, more than 10 s of processor time or 90 s in
all without an answer, and a peak above 2 GiB.

Exit code 1 where anything is wrong; the mutants that were are kept in a folder that is named.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing.mutants import ROOT, bases, mutant

from neulite_sim.scenario.loading import load_scenario

MOST_CPU_S, MOST_WALL_S, MOST_BYTES = 10, 90, 2 * 2**30
UNFORESEEN = "mistake of neulite-sim"


def furnish(folder: Path) -> None:
    """Make what the texts name: a pipe that nobody writes to, a link to itself, a folder."""
    os.mkfifo(folder / "FIFO")
    (folder / "LOOP").symlink_to("LOOP")
    (folder / "FOLDER").mkdir()


def warm_up(folder: Path) -> str:
    """Load everything that a run imports, once, before the forks."""
    from neulite_sim.scenario.schema import scenario_json_schema

    scenario_json_schema()
    path = folder / "warm.yaml"
    path.write_text((ROOT / "scenarios" / "jetson_mix.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return _answer(str(path))[0]


def _is_small(path: str) -> bool:
    scenario = load_scenario(path)
    options = scenario.data.options
    shape = getattr(options, "shape", (1, 1, 1))
    samples = getattr(options, "samples", 0) + getattr(options, "test_samples", 0) if hasattr(options, "shape") else 0
    return scenario.population.devices <= 10_000 and math.prod(shape) * samples <= 10**8


def _lighter(path: str) -> list[str]:
    """Return what makes a shipped model's profile quick; one that a mutation put there stays."""
    scenario = load_scenario(path)
    shipped = {"resnet18", "resnet34", "vit", "vgg11_bn", "cnn"}
    changes = ["model=lenet"] if scenario.model.kind in shipped and not scenario.model.options.model_fields_set else []
    return [*changes, "workload.model=null"] if scenario.workload.model else changes


def _answer(path: str) -> tuple[str, str]:
    """Return what became of a scenario, and what was said."""
    from typer.testing import CliRunner

    from neulite_sim import cli

    said = CliRunner().invoke(cli.app, ["validate", path])
    if said.exit_code == 0 and _is_small(path):
        changes = ["backend=dry-run", "stop.rounds=2", "evaluation.diagnostics=[]", *_lighter(path)]
        options = [word for change in changes for word in ("--set", change)]
        said = CliRunner().invoke(cli.app, ["run", path, "--quiet", "--out", path + ".run", *options])
        outcome = {0: "ran", 1: "failed in words", 2: "refused by the run"}.get(said.exit_code, "?")
    else:
        outcome = {0: "valid, too large to run", 2: "refused"}.get(said.exit_code, "?")
    text = said.output
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        return "TRACEBACK", repr(said.exception)
    if outcome == "?" or UNFORESEEN in text or "Traceback" in text or (said.exit_code and not text.strip()):
        return "UNFORESEEN", text
    return outcome, text


def _child(path: str, answer: Path) -> None:
    from neulite_sim import room

    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 1))
    room.free_memory_bytes = lambda: MOST_BYTES  # type: ignore[attr-defined]
    sys.stdin = io.StringIO()
    outcome, text = _answer(path)
    answer.write_text(json.dumps([outcome, text[-2000:]]), encoding="utf-8")


def tried(path: Path) -> tuple[str, str, float, int]:
    """Return a mutant's outcome, what was said, its seconds of processor time and its peak memory above the start's."""
    answer = path.with_suffix(".answer")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            _child(path.name, answer)
        except BaseException as error:
            answer.write_text(json.dumps(["TRACEBACK", repr(error)[:2000]]), encoding="utf-8")
        finally:
            os._exit(0)
    started = time.monotonic()
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > MOST_WALL_S:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    cpu_s, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    if not answer.exists():
        return "HANG", f"ended by signal {os.WTERMSIG(status)}", cpu_s, peak
    outcome, text = json.loads(answer.read_text(encoding="utf-8"))
    return ("TOO MUCH MEMORY" if peak > MOST_BYTES else outcome), text, cpu_s, peak


def main() -> int:
    """Try the mutants; return the exit code."""
    parser = argparse.ArgumentParser(description="Mutated scenarios are answered in words.")
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="try this one and say what was answered")
    asked = parser.parse_args()
    starts = bases()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.chdir(folder)
    furnish(folder)
    print(f"warmed up: {warm_up(folder)}", flush=True)
    counts: Counter[tuple[str, str]] = Counter()
    wrong, slowest, largest = [], 0.0, 0
    numbers = range(asked.mutants) if asked.only is None else [asked.only]
    for number in numbers:
        kind, content = mutant(number, asked.seed, starts)
        path = folder / f"{number}.yaml"
        path.write_bytes(content)
        outcome, text, cpu_s, peak = tried(path)
        counts[kind, outcome] += 1
        slowest, largest = max(slowest, cpu_s), max(largest, peak)
        if outcome.isupper():
            wrong.append(number)
            print(f"{number} ({kind}): {outcome}: {' '.join(text.split())[-600:]}", flush=True)
        else:
            shutil.rmtree(f"{path}.run", ignore_errors=True)
            if asked.only is None:
                path.unlink()
            else:
                print(outcome, text, f"{cpu_s:.1f} s", sep="\n")
        if number % 50 == 49:
            print(f"... {number + 1} of {asked.mutants}", flush=True)
    for kind in dict.fromkeys(kind for kind, _ in counts):
        row = {outcome: count for (of, outcome), count in sorted(counts.items()) if of == kind}
        print(f"{kind:>14}: " + ", ".join(f"{count} {outcome}" for outcome, count in row.items()))
    print(
        f"{len(wrong)} wrong of {len(numbers)}; most processor time {slowest:.1f} s, "
        f"largest peak {largest / 1e6:.0f} MB"
    )
    if wrong:
        print(f"kept in {folder}: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
