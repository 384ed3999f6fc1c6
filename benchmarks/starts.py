"""How long neulite-sim takes to start, as multiples of `python -c "import torch"` on the same machine.

    python benchmarks/starts.py [--repeats 3] [--only NAME ...] [--json]

Every start is a process of its own: a command of `scenarios/jetson_mix.yaml` as a user types it, with its output into a
pipe, up to its end; or that scenario given to `simulate`, up to when an observer is told of the first round that was
trained. Before and after each stands the import, so that a machine that slows down slows down both: a multiple is that
of their mean, and what is printed is the median. Cold means with an empty folder for what is kept on disk from run to
run, warm with the one that another such start has filled; the user's own is not touched. One import that is not counted
comes first, to have the files of PyTorch in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = ROOT / "scenarios" / "jetson_mix.yaml"
FOLDER_OF_CACHE = "NEULITE_SIM_CACHE"
BUDGETS = ",".join(f"{size}MB" for size in range(100, 1300, 100))
IMPORT = [sys.executable, "-c", "import torch"]
FIRST_ROUND = "the first round has ended"
TO_FIRST_ROUND = f"""
import sys
from neulite_sim import load_scenario, simulate

class Watch:
    has_seen_one = False

    def notify(self, event):
        if type(event).__name__ == "RoundRow" and not self.has_seen_one:
            self.has_seen_one = True
            print({FIRST_ROUND!r}, flush=True)

simulate(load_scenario(sys.argv[1], sys.argv[3:]), out=sys.argv[2], observers=[Watch()])
"""


class Start(NamedTuple):
    """What Python is told, `{out}` standing for a new folder and `{runs}` for two folders of finished runs.

    It counts up to its end, or to when it says that its first round has ended.
    """

    words: tuple[str, ...]
    is_cold: bool = False
    to_first_round: bool = False


def _command(*words: str, is_cold: bool = False) -> Start:
    return Start(("-m", "neulite_sim", *words), is_cold)


def _trained(backend: str, *, is_cold: bool = False) -> Start:
    settings = ("stop.rounds=2", f"backend={{kind: {backend}}}")
    return Start(("-c", TO_FIRST_ROUND, str(SCENARIO), "{out}", *settings), is_cold, to_first_round=True)


_DRY = ("run", str(SCENARIO), "--backend", "dry-run", "--set", "stop.rounds=3", "--out", "{out}")
_WHATIF = ("whatif", str(SCENARIO), "--memory", BUDGETS)
_PROFILE = ("profile", str(SCENARIO))
STARTS = {
    "help": _command("--help"),
    "components": _command("components"),
    "schema": _command("schema"),
    "validate": _command("validate", str(SCENARIO)),
    "compare": _command("compare", "{runs}"),
    "profile, cold": _command(*_PROFILE, is_cold=True),
    "profile, warm": _command(*_PROFILE),
    "dry run of 3 rounds, cold": _command(*_DRY, is_cold=True),
    "dry run of 3 rounds, warm": _command(*_DRY),
    "whatif of 12 budgets, cold": _command(*_WHATIF, is_cold=True),
    "whatif of 12 budgets, warm": _command(*_WHATIF),
    "first trained round, inprocess, cold": _trained("inprocess", is_cold=True),
    "first trained round, inprocess, warm": _trained("inprocess"),
    "first trained round, ray, cold": _trained("ray", is_cold=True),
    "first trained round, ray, warm": _trained("ray"),
}


def seconds_of_import() -> float:
    """Return the seconds of a process that does nothing but import PyTorch."""
    begun_s = time.perf_counter()
    subprocess.run(IMPORT, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begun_s


def seconds_of(start: Start, cache: Path, runs: Sequence[str] = ()) -> float:
    """Return the seconds of a start with `cache` as the folder of what is kept on disk.

    Raises:
        RuntimeError: it failed, or said nothing of a first round.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = {"{out}": [str(Path(folder) / "run")], "{runs}": list(runs)}
        words = [each for word in start.words for each in given.get(word, [word])]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, FOLDER_OF_CACHE: str(cache), "PYTHONPATH": os.pathsep.join(paths)}
        # What is installed has its bytecode; from a checkout it is written by the first start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        begun_s, seconds, said = time.perf_counter(), None, []
        with subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if start.to_first_round and seconds is None and line.strip() == FIRST_ROUND:
                    seconds = time.perf_counter() - begun_s
            code = process.wait()
        if not start.to_first_round:
            seconds = time.perf_counter() - begun_s
        if code or seconds is None:
            raise RuntimeError(f"{words} ended with exit code {code}:\n{''.join(said)}")
        return seconds


@contextlib.contextmanager
def _cold_or(warm: Path, start: Start) -> Any:
    if not start.is_cold:
        yield warm
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def measure(starts: Mapping[str, Start], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Return for each start and repeat its seconds, and those of the imports beside it."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
    with tempfile.TemporaryDirectory() as folder:
        warm, finished = Path(folder) / "cache", []
        warm.mkdir()
        if any("{runs}" in start.words for start in starts.values()):
            finished = [str(Path(folder) / f"run-{number}") for number in (1, 2)]
            for out in finished:
                seconds_of(_command(*(out if word == "{out}" else word for word in _DRY)), warm)
        for name, start in starts.items():
            if name.endswith(", warm"):
                print(f"warming up: {name}", file=sys.stderr, flush=True)
                seconds_of(start, warm, finished)
        seconds_of_import()
        before_s = seconds_of_import()
        for repeat in range(repeats):
            for name, start in starts.items():
                print(f"repeat {repeat + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
                with _cold_or(warm, start) as cache:
                    seconds = seconds_of(start, cache, finished)
                after_s = seconds_of_import()
                found[name].append({"seconds": seconds, "import_s": (before_s + after_s) / 2})
                before_s = after_s
    return found


def table_rows(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Return a row for each start: medians of seconds and of multiples of the import."""
    return [
        {
            "name": name,
            "imports": statistics.median(run["seconds"] / run["import_s"] for run in runs),
            "seconds": statistics.median(run["seconds"] for run in runs),
        }
        for name, runs in found.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    from throughput import machine_name

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these rows of the table alone")
    parser.add_argument("--json", action="store_true", help="print the table, and every start, as JSON")
    given = parser.parse_args(arguments)
    if given.repeats < 1:
        parser.error("--repeats must be at least 1")
    if unknown := set(given.only or ()) - set(STARTS):
        parser.error(f"--only: no {sorted(unknown)[0]!r}; there are {', '.join(map(repr, STARTS))}")
    starts = {name: start for name, start in STARTS.items() if given.only is None or name in given.only}
    found = measure(starts, given.repeats)
    import_s = statistics.median(run["import_s"] for runs in found.values() for run in runs)
    rows = table_rows(found)
    if given.json:
        told = {"machine": machine_name(), "repeats": given.repeats, "import_s": import_s, "rows": rows, "runs": found}
        print(json.dumps(told, indent=2))
        return
    print(f"{machine_name()}; {given.repeats} repeats; import torch takes {import_s:.2f} s")
    print(f"{'':<38}{'imports':>9}{'seconds':>10}")
    for row in rows:
        print(f"{row['name']:<38}{row['imports']:>9.2f}{row['seconds']:>10.2f}")


if __name__ == "__main__":
    main()
