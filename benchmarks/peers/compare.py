"""neulite-sim beside other simulators of federated learning: the job of benchmarks/throughput.py, in one table.

    python benchmarks/peers/compare.py [--environments DIR] [--repeats 3] [--threads 2] [--rounds 20] [--only NAME ...]
        [--json]

Each peer runs in a virtual environment of its own, made from its requirements file the first time, in `--environments`
(by default in the user's cache folder) and made anew when the file or the version of Python changes. What each is, and
what its rounds count, stands in README.md beside this file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent
sys.path.insert(0, str(BENCHMARKS))

import throughput  # noqa: E402

SCRIPTS = {"flower": HERE / "flower" / "simulate.py", "pfl": HERE / "pfl" / "train.py"}
COMPLETE = "COMPLETE"


def default_environments() -> Path:
    """Return the folder in the user's cache where environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neulite-sim-peers"


def environment_of(peer: str, folder: Path) -> Path:
    """Return the folder of a peer's environment, by what it is made of; it need not exist."""
    requirements = SCRIPTS[peer].with_name("requirements.txt").read_bytes()
    made_of = hashlib.sha256(requirements + sys.version.encode()).hexdigest()
    return folder / f"{peer}-{made_of[:12]}"


def python_of(peer: str, folder: Path) -> Path:
    """Return the Python of a peer's environment, which is made where it is not there or was never finished.

    Raises:
        subprocess.CalledProcessError: pip could not install what the requirements name.
    """
    environment = environment_of(peer, folder)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (environment / COMPLETE).exists():
        print(f"making the environment of {peer} in {environment}", file=sys.stderr, flush=True)
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)
        requirements = SCRIPTS[peer].with_name("requirements.txt")
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (environment / COMPLETE).touch()
    return python


def peer_times(peer: str, python: Path, job: throughput.Job) -> throughput.Times:
    """Run the job with a peer and return seconds of its rounds, and from the command to the end of the first.

    Raises:
        RuntimeError: it failed, or some of its rounds did not end.
    """
    command = [str(python), str(SCRIPTS[peer]), *throughput.job_options(job)]
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**kept, "PYTHONPATH": str(BENCHMARKS)},
            capture_output=True,
            text=True,
            check=False,
        )
    told = [line for line in done.stdout.splitlines() if line.startswith('{"ends_s"')]
    if done.returncode or not told:
        raise RuntimeError(f"{peer} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    said = json.loads(told[-1])
    if len(said["ends_s"]) != job.rounds:
        raise RuntimeError(f"{peer} ended {len(said['ends_s'])} of {job.rounds} rounds:\n{done.stderr}")
    return {**throughput.round_times(said["ends_s"]), "first_round_s": said["first_at"] - started}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what environments are missing, measure everything in turn, and print the table."""
    parser = throughput.job_parser(__doc__)
    parser.add_argument("--environments", type=Path, default=default_environments(), metavar="DIR")
    given = parser.parse_args(arguments)
    names = [*throughput.RUNNERS, *SCRIPTS]
    job = throughput.job_of(parser, given, names)
    peers = {name: python_of(name, given.environments) for name in SCRIPTS if given.only is None or name in given.only}
    runners = throughput.chosen(throughput.RUNNERS, given.only)
    runners |= {name: partial(peer_times, name, python) for name, python in peers.items()}
    found = throughput.measure(runners, job, given.repeats)
    throughput.report(found, job, as_json=given.json)


if __name__ == "__main__":
    main()
