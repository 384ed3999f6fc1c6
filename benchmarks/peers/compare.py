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
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent
sys.path.insert(0, str(BENCHMARKS))

import throughput  # noqa: E402


class Peer(NamedTuple):
    """A way to run the job: a script, in the environment of its folder, on threads or in processes of one thread."""

    script: Path
    in_processes: bool = False

    @property
    def requirements(self) -> Path:
        """The file that says what the environment holds."""
        return self.script.with_name("requirements.txt")

    def words(self, job: throughput.Job) -> list[str]:
        """Return what Python is told."""
        if not self.in_processes:
            return [str(self.script), *throughput.job_options(job)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job.threads)]
        return [*launcher, str(self.script), *throughput.job_options(job._replace(threads=1))]


PEERS = {
    "flower": Peer(HERE / "flower" / "simulate.py"),
    "pfl, threads": Peer(HERE / "pfl" / "train.py"),
    "pfl, processes": Peer(HERE / "pfl" / "train.py", in_processes=True),
}
COMPLETE = "COMPLETE"
# No peer phones home, looks for a newer version of itself, or takes what is imported here for its own.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def default_environments() -> Path:
    """Return the folder in the user's cache where environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neulite-sim-peers"


def environment_of(peer: Peer, folder: Path) -> Path:
    """Return the folder of a peer's environment, by what it is made of; it need not exist."""
    made_of = hashlib.sha256(peer.requirements.read_bytes() + sys.version.encode()).hexdigest()
    return folder / f"{peer.script.parent.name}-{made_of[:12]}"


def python_of(peer: Peer, folder: Path) -> Path:
    """Return the Python of a peer's environment, which is made where it is not there or was never finished.

    Raises:
        subprocess.CalledProcessError: pip could not install what the requirements name.
    """
    environment = environment_of(peer, folder)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (environment / COMPLETE).exists():
        print(f"making {environment}", file=sys.stderr, flush=True)
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(peer.requirements)]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (environment / COMPLETE).touch()
    return python


def peer_times(name: str, python: Path, job: throughput.Job) -> throughput.Times:
    """Run the job with a peer and return seconds of its rounds, and from the command to the end of the first.

    Raises:
        RuntimeError: it failed, or some of its rounds did not end.
    """
    command = [str(python), *PEERS[name].words(job)]
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    with tempfile.TemporaryDirectory() as folder:
        own = {**kept, **QUIET, "FLWR_HOME": folder, "PYTHONPATH": str(BENCHMARKS)}
        started = time.time()
        done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith('{"ends_s"')]
    if done.returncode or not told:
        raise RuntimeError(f"{name} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    said = json.loads(told[-1])
    if len(said["ends_s"]) != job.rounds:
        raise RuntimeError(f"{name} ended {len(said['ends_s'])} of {job.rounds} rounds:\n{done.stderr}")
    return {**throughput.round_times(said["ends_s"]), "first_round_s": said["first_at"] - started}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what environments are missing, measure everything in turn, and print the table."""
    parser = throughput.job_parser(__doc__)
    parser.add_argument("--environments", type=Path, default=default_environments(), metavar="DIR")
    given = parser.parse_args(arguments)
    names = [*throughput.RUNNERS, *PEERS]
    job = throughput.job_of(parser, given, names)
    pythons = {name: python_of(peer, given.environments) for name, peer in throughput.chosen(PEERS, given.only).items()}
    runners = throughput.chosen(throughput.RUNNERS, given.only)
    runners |= {name: partial(peer_times, name, python) for name, python in pythons.items()}
    found = throughput.measure(runners, job, given.repeats)
    throughput.report(found, job, as_json=given.json)


if __name__ == "__main__":
    main()
