"""Where a run comes from: versions, machine, seed, scenario and command."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neulite_sim import __version__

SCHEMA_VERSION = 1
LIBRARIES = ("torch", "numpy", "ray", "simpy", "pydantic")


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution without importing it; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def git_commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, with `-dirty` where tracked files were changed; None where there is none."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def provenance(scenario_hash: str, seed: int, command: Sequence[str]) -> dict[str, Any]:
    """Return what `provenance.json` holds. `command` is the command line, program first; it may be empty."""
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario_hash": scenario_hash,
        "seed": seed,
        "command": shlex.join(command),
        "started_at_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "neulite_sim": __version__,
        "git_commit": git_commit(Path(__file__).parents[2]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
    }
