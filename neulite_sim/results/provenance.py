"""Where a run comes from: versions, machine, seed, scenario, the files that it read, and command."""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neulite_sim.errors import OutputError
from neulite_sim.machine import processor_name
from neulite_sim.outside import TEXT_BYTES, read_regular
from neulite_sim.results.places import COMPLETE, PROVENANCE, SCENARIO, require_own
from neulite_sim.results.seals import SEAL, is_sealed
from neulite_sim.scenario.inputs import Record, differences, input_records, without_places
from neulite_sim.scenario.loading import scenario_hash
from neulite_sim.scenario.schema import Scenario
from neulite_sim.user_code.records import differing, read_records, registered_records
from neulite_sim.version import __version__

SCHEMA_VERSION = 2
BITS_OF = ("torch", "numpy")
"""Libraries of which another version may give other last bits."""
LIBRARIES = ("torch", "numpy", "ray", "simpy", "pydantic")


@functools.cache
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


def read_now(scenario: Scenario, *, data_sha256: str | None = None) -> dict[str, Any]:
    """Return what the provenance says of files and own code that a scenario reads, hashed as they are now.

    `data_sha256` is over data of which no file is known.
    """
    return {
        "inputs": read_records(scenario),
        **({"data_sha256": data_sha256} if data_sha256 else {}),
        **({"registered": registered} if (registered := registered_records(scenario)) else {}),
    }


def provenance(
    scenario: Scenario, command: Sequence[str], *, left_out: Sequence[str] = (), read: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what `provenance.json` holds. `command` is the command line, program first; it may be empty.

    `read` is what `read_now` returned when the run began, that of now without it. `left_out` says what of its scenario
    and files the run leaves out, or takes otherwise than it stands there.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario_hash": scenario_hash(scenario),
        "scenario_hash_without_places": scenario_hash(without_places(scenario)),
        "seed": scenario.seed,
        "command": shlex.join(command),
        "started_at_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "neulite_sim": __version__,
        "git_commit": git_commit(Path(__file__).parents[2]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor_name(),
        "cpu_count": os.cpu_count(),
        "left_out": list(left_out),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
        **(read_now(scenario) if read is None else read),
    }


def read_provenance(run_dir: Path, *, takes_older: bool = False) -> dict[str, Any]:
    """Return what `provenance.json` of a run folder holds, as it was written.

    With `takes_older` also that of an older version, of which nothing shows whether it was changed.

    Raises:
        OutputError: it cannot be read, was changed, or is of an older version, which wrote no checksums.
    """
    path = run_dir / PROVENANCE
    try:
        made = json.loads(read_regular(path, most_bytes=TEXT_BYTES, follows_links=False))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise OutputError(f"{path}: cannot be read: {reason}", hint="name the folder of a run") from None
    if not isinstance(made, dict):
        raise OutputError(f"{path}: cannot be read: it is no JSON object", hint="name the folder of a run")
    if SEAL not in made and made.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        if takes_older:
            return made
        raise OutputError(
            f"{run_dir}: was made by an older version of neulite-sim ({made.get('neulite_sim')}), which kept no "
            "checksums, so that nothing shows whether it was changed",
            hint="run its scenario.yaml again",
        )
    if not is_sealed(made):
        raise OutputError(f"{path}: is not as it was written", hint="it was changed, so run its scenario.yaml again")
    return made


def is_of(scenario: Scenario, made: Mapping[str, Any]) -> bool:
    """Return whether a run with this provenance is one of a scenario; where its files lie does not count."""
    if made.get("scenario_hash") == scenario_hash(scenario):
        return True
    return made.get("scenario_hash_without_places") == scenario_hash(without_places(scenario))


def changed_inputs(scenario: Scenario, made: Mapping[str, Any]) -> str:
    """Return in words which files are not what a run with this provenance read; empty where all are."""
    recorded: Mapping[str, Record] = made.get("inputs") or {}
    registered = made.get("registered")
    others = differing(scenario, registered if isinstance(registered, Mapping) else {})
    return "; ".join([*differences(recorded, input_records(scenario)), *others])


def other_versions(made: Mapping[str, Any]) -> list[str]:
    """Return what a run was made with and is not here, of all that its last bits depend on, in words."""
    libraries = made.get("libraries")
    libraries = libraries if isinstance(libraries, Mapping) else {}
    found = {"schema version": made.get("schema_version"), "neulite-sim": made.get("neulite_sim")}
    own: dict[str, Any] = {"schema version": SCHEMA_VERSION, "neulite-sim": __version__}
    for name in BITS_OF:
        found[name], own[name] = libraries.get(name), installed_version(name)
    return [f"{name} {found[name]} (here {own[name]})" for name in own if found[name] != own[name]]


def require_incomplete(run_dir: Path) -> None:
    """Refuse to go on with a run that is complete.

    Raises:
        OutputError: it is.
    """
    if (run_dir / COMPLETE).exists():
        raise OutputError(f"{run_dir}: the run is complete; nothing is left to resume")


def check_resumable(run_dir: Path, scenario: Scenario) -> None:
    """Refuse to go on with a run that is complete, or whose bits this installation could not repeat.

    Raises:
        OutputError: says which, and what to do.
        DataNotFoundError: something else stands in the place of one of its files.
    """
    require_own(run_dir)
    require_incomplete(run_dir)
    made = read_provenance(run_dir)
    if "flower" in made:
        raise OutputError(f"{run_dir}: is the run of a Flower app, which cannot be resumed", hint="run the app again")
    differing = other_versions(made)
    if differing:
        raise OutputError(
            f"{run_dir}: was made with {', '.join(differing)}, whose bits this installation cannot repeat",
            hint="resume it with those versions, or run its scenario.yaml again",
        )
    if not is_of(scenario, made):
        raise OutputError(
            f"{run_dir / SCENARIO}: was changed since the run began", hint="undo that, or run it as a new one"
        )
    check_inputs(run_dir, scenario, made)


def check_inputs(run_dir: Path, scenario: Scenario, made: Mapping[str, Any], *, data_sha256: str | None = None) -> None:
    """Refuse to go on with a run where a file that it read has changed since, or data that a user's own code made.

    Raises:
        OutputError: names the file.
    """
    changed = changed_inputs(scenario, made)
    if data_sha256 is not None and made.get("data_sha256") != data_sha256:
        changed = "; ".join(filter(None, (changed, f"data: {scenario.data.label} gives other samples now")))
    if changed:
        raise OutputError(
            f"{run_dir}: what the run read has changed since it began: {changed}",
            hint="put it back, or run its scenario.yaml as a new one",
        )
