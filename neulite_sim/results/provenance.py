"""Where a run comes from: versions, machine, seed, scenario and command."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neulite_sim import __version__
from neulite_sim.errors import OutputError

SCHEMA_VERSION = 1
BITS_OF = ("torch", "numpy")
"""Libraries of which another version may give other last bits."""
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


def provenance(
    scenario_hash: str, seed: int, command: Sequence[str], *, left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what `provenance.json` holds. `command` is the command line, program first; it may be empty.

    `left_out` says what of its scenario and files the run leaves out, or takes otherwise than it stands there.
    """
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
        "left_out": list(left_out),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
    }


def check_resumable(run_dir: Path, *, scenario_hash: str) -> None:
    """Refuse to go on with a run that is complete, or whose bits this installation could not repeat.

    Raises:
        OutputError: says which, and what to do.
    """
    if (run_dir / "COMPLETE").exists():
        raise OutputError(f"{run_dir}: the run is complete; nothing is left to resume")
    path = run_dir / "provenance.json"
    try:
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise OutputError(f"{path}: cannot be read: {reason}; name the folder of a run") from None
    libraries = made.get("libraries") or {}
    found = {"schema version": made.get("schema_version"), "neulite-sim": made.get("neulite_sim")}
    own: dict[str, Any] = {"schema version": SCHEMA_VERSION, "neulite-sim": __version__}
    for name in BITS_OF:
        found[name], own[name] = libraries.get(name), installed_version(name)
    differing = [f"{name} {found[name]} (here {own[name]})" for name in own if found[name] != own[name]]
    if differing:
        raise OutputError(
            f"{run_dir}: was made with {', '.join(differing)}, whose bits this installation cannot repeat; resume it "
            "with those versions, or run its scenario.yaml again"
        )
    if made.get("scenario_hash") != scenario_hash:
        raise OutputError(
            f"{run_dir / 'scenario.yaml'}: was changed since the run began; undo that, or run it as a new one"
        )
