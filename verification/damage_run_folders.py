"""Damage run folders at random and see that every resume ends in the unbroken digest or in a refusal in words.

    python verification/damage_run_folders.py [--damages 500] [--seed 1] [--keep]

Runs of four pairs of method and protocol, each broken off and complete, are copied and damaged: a bit flipped, bytes
overwritten, the end cut off, all of it cut off, a line doubled, bytes added, the file or folder removed, two files
swapped, a link, a folder, a file or a pipe put in its place, and the trace of availability that the run read changed.
Then `resume`, `compare` and `timeline` are run on it, in this process. It counts as good where

* `resume` comes to the digest of the run that was left alone, or refuses with exit code 1 or 2 and one message, and
  then has left every byte of the folder as it found it;
* of a complete run, `compare` and `timeline` print what they print of the undamaged one, or refuse; of a run that was
  broken off they print or refuse (its rows have no sums yet; a resume writes them anew);
* what a link in the place of a file leads to is as it was, nothing ends in a traceback, and nothing hangs.

The exit code is 0 where all are good.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from neulite_sim import cli
from neulite_sim.engine.simulation import simulate
from neulite_sim.results.rows import RoundRow
from neulite_sim.scenario.loading import parse_scenario

PAIRS = (("neulite", "synchronous"), ("heterofl", "fedbuff"), ("fedavg", "deadline"), ("depthfl", "fedasync"))
PROTOCOLS: Mapping[str, Any] = {
    "synchronous": "synchronous",
    "deadline": {"kind": "deadline", "over_selection": 1.5},
    "fedasync": {"kind": "fedasync", "concurrency": 3},
    "fedbuff": {"kind": "fedbuff", "concurrency": 4, "buffer_size": 2},
}
ROUNDS, EVERY_ROUNDS, BROKEN_AFTER = 6, 2, 5
TARGET = "keep me\n"
DIGEST = '"digest": "'


class Broken(BaseException):
    """The end of a process, as far as there can be one in this process."""


class BreakAfter:
    """An observer that ends a run once a round's row has been written."""

    def notify(self, event: object) -> None:
        """End the run."""
        if isinstance(event, RoundRow) and event.round >= BROKEN_AFTER:
            raise Broken


@dataclass(frozen=True, slots=True)
class Original:
    """A run to damage copies of: its folder, what it read, and what the commands say of it undamaged."""

    name: str
    folder: Path
    trace: Path
    digest: str
    is_complete: bool
    said: Mapping[str, str]


def scenario(method: str, protocol: str, trace: Path) -> dict[str, Any]:
    """Return a scenario of seconds: eight devices that come and go after a trace of availability."""
    return {
        "name": "damaged",
        "seed": 5,
        "data": {"kind": "digits", "image_size": 8, "train_samples": 64, "test_samples": 20, "partition": "iid"},
        "model": "lenet",
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.05},
        "population": {
            "devices": 8,
            "groups": [{"device": "jetson-nano-4gb", "share": 1}],
            "available_memory": {"kind": "uniform", "low": "3MB", "high": "4MB"},
            "availability": {"kind": "trace", "path": str(trace)},
            "speed_jitter": 0.3,
        },
        "method": method,
        "protocol": PROTOCOLS[protocol],
        "selection": {"kind": "uniform", "devices_per_round": 3},
        "evaluation": {"every_rounds": 2},
        "checkpoint": {"every_rounds": EVERY_ROUNDS},
        "stop": {"rounds": ROUNDS},
        "proxy": {"width": 0.5},
        "backend": "inprocess",
    }


def originals(place: Path, pairs: tuple[tuple[str, str], ...] = PAIRS) -> list[Original]:
    """Run every pair once to its end and once until it is broken off."""
    found = []
    for method, protocol in pairs:
        home = place / f"{method}-{protocol}"
        home.mkdir(parents=True)
        trace = home / "trace.csv"
        lines = [f"{device},{start + device / 8},{start + 9}" for device in range(8) for start in range(0, 90, 10)]
        trace.write_text("device,start_s,end_s\n" + "\n".join(lines) + "\n")
        given = parse_scenario(scenario(method, protocol, trace))
        whole = simulate(given, out=home / "complete")
        with contextlib.suppress(Broken):
            simulate(given, out=home / "broken", observers=[BreakAfter()])
        for name, is_complete in (("complete", True), ("broken", False)):
            said = {command: ran(command, str(home / name))[1] for command in ("compare", "timeline")}
            digest = str(whole.summary["digest"])
            found.append(Original(f"{home.name} {name}", home / name, trace, digest, is_complete, said))
    return found


def ran(command: str, folder: str) -> tuple[int | None, str, str]:
    """Return exit code (None for a traceback), standard output and standard error of a command."""
    options = {"resume": ["--json", "--quiet"], "timeline": ["--json"], "compare": ["--json"]}[command]
    result = CliRunner().invoke(cli.app, [command, folder, *options], prog_name="neulite-sim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return None, result.stdout, repr(result.exception)
    return result.exit_code, result.stdout, result.stderr


# ---- damages: each changes one file or folder and returns what it was, or None where it does not apply --------------

Damage = Callable[[Path, random.Random, Path], bool]


def _flip(path: Path, rng: random.Random, _target: Path) -> bool:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return True


def _overwrite(path: Path, rng: random.Random, _target: Path) -> bool:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    length = min(rng.randrange(1, 40), len(content) - at)
    new = bytes(rng.randrange(256) for _ in range(length)) if rng.random() < 0.5 else bytes(length)
    content[at : at + length] = new
    path.write_bytes(content)
    return True


def _cut(path: Path, rng: random.Random, _target: Path) -> bool:
    os.truncate(path, rng.randrange(path.stat().st_size))
    return True


def _empty(path: Path, _rng: random.Random, _target: Path) -> bool:
    os.truncate(path, 0)
    return True


def _double(path: Path, rng: random.Random, _target: Path) -> bool:
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    path.write_bytes(b"".join([*lines[: at + 1], *lines[at:]]))
    return True


def _add(path: Path, rng: random.Random, _target: Path) -> bool:
    with path.open("ab") as file:
        file.write(rng.choice([b"\n", b"{}\n", b"garbage", bytes(100)]))
    return True


def _remove(path: Path, _rng: random.Random, _target: Path) -> bool:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return True


def _swap(path: Path, rng: random.Random, _target: Path) -> bool:
    others = [item for item in sorted(path.parent.iterdir()) if item.is_file() and item != path]
    if not others:
        return False
    other = rng.choice(others)
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)
    return True


def _link(path: Path, rng: random.Random, target: Path) -> bool:
    is_folder, content = path.is_dir(), None if path.is_dir() else path.read_bytes()
    place = target / ("folder" if is_folder else "file")
    if is_folder:
        shutil.copytree(path, place)
    elif rng.random() < 0.5:
        place.write_bytes(content or b"")
    _remove(path, rng, target)
    path.symlink_to(place)
    return True


def _other_kind(path: Path, rng: random.Random, target: Path) -> bool:
    was_folder = path.is_dir()
    _remove(path, rng, target)
    path.write_text(TARGET) if was_folder else path.mkdir()
    return True


def _pipe(path: Path, rng: random.Random, target: Path) -> bool:
    _remove(path, rng, target)
    os.mkfifo(path)
    return True


OF_CONTENT: Mapping[str, Damage] = {
    "bit flipped": _flip,
    "bytes overwritten": _overwrite,
    "end cut off": _cut,
    "all cut off": _empty,
    "line doubled": _double,
    "bytes added": _add,
    "files swapped": _swap,
}
OF_ANY: Mapping[str, Damage] = {
    "removed": _remove,
    "link in its place": _link,
    "other kind in its place": _other_kind,
    "pipe in its place": _pipe,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one damage led to; `fault` says what was wrong with that, and is empty where nothing was."""

    kind: str
    where: str
    ended: str
    fault: str


def one(original: Original, rng: random.Random, place: Path) -> Outcome:
    """Damage a copy of a run in a new folder `place` and return how the commands end on it."""
    run, target, trace = place / original.folder.name, place / "precious", original.trace
    target.mkdir(parents=True)
    shutil.copytree(original.folder, run)
    kind, where = _damage(run, rng, target)
    kept = trace.read_bytes()
    if rng.random() < 0.05:
        kind, where = "trace changed", trace.name
        lines = kept.decode().splitlines()
        trace.write_text("\n".join([*lines[:-1], lines[-1] + "5"]) + "\n")
    try:
        before, precious = content_of(run), content_of(target)
        ended, fault = _judged(original, run, before)
        if not fault and content_of(target) != precious:
            fault = "what a link led to was changed"
        return Outcome(kind, where, ended, fault)
    finally:
        trace.write_bytes(kept)


def _damage(run: Path, rng: random.Random, target: Path) -> tuple[str, str]:
    while True:
        path = rng.choice(sorted(run.rglob("*")))
        has_content = path.is_file() and path.stat().st_size > 0
        kinds = {**OF_ANY, **(OF_CONTENT if has_content else {})}
        # Half of all are flips, where there is something to flip.
        kind = "bit flipped" if has_content and rng.random() < 0.4 else rng.choice(sorted(kinds))
        if kinds[kind](path, rng, target):
            return kind, str(path.relative_to(run))


def content_of(folder: Path) -> dict[str, Any]:
    """Return what stands in a folder by name: bytes of files, where links lead to, the kind of anything else."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        else:
            found[name] = path.read_bytes() if path.is_file() else ("folder" if path.is_dir() else "other")
    return found


def _judged(original: Original, run: Path, before: Mapping[str, Any]) -> tuple[str, str]:
    for command in ("compare", "timeline"):
        code, said, errors = ran(command, str(run))
        if code is None:
            return "", f"{command}: traceback: {errors}"
        if (
            code == 0
            and original.is_complete
            and _without_places(said, run) != _without_places(original.said[command], original.folder)
            and (run / "COMPLETE").exists()
        ):
            return "", f"{command} said something else"
        if code not in (0, 2) or (code and not errors.strip()):
            return "", f"{command}: exit code {code}: {errors!r}"
    code, said, errors = ran("resume", str(run))
    if code is None:
        return "", f"resume: traceback: {errors}"
    if code == 0:
        digest = said.partition(DIGEST)[2][:64]
        return "unbroken digest", "" if digest == original.digest else f"another digest: {digest[:12]}"
    if code not in (1, 2) or not errors.startswith(("error: ", str(run))):
        return "", f"resume: exit code {code}: {errors!r}"
    after = content_of(run)
    changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    return "refused: " + _in_short(errors), f"the refusal changed {changed}" if changed else ""


def _without_places(said: str, folder: Path) -> str:
    return said.replace(str(folder), "")


def _in_short(errors: str) -> str:
    words = errors.strip().splitlines()[0].removeprefix("error: ")
    return words.partition(": ")[2].partition(";")[0][:60]


def main() -> int:
    """Run the study and print a line per kind of damage and end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--damages", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folders of damages that ended badly")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="damage-run-folders-"))
    runs = originals(place / "originals")
    for run in runs:
        print(f"{run.name:32} {run.digest[:12]}", flush=True)
    outcomes: list[Outcome] = []
    for number in range(given.damages):
        rng = random.Random(given.seed * 1_000_003 + number)
        outcome = one(runs[number % len(runs)], rng, place / str(number))
        outcomes.append(outcome)
        if outcome.fault:
            print(f"BAD {number:4} {runs[number % len(runs)].name}: {outcome.kind} ({outcome.where}): {outcome.fault}",
                  flush=True)  # fmt: skip
        if not (outcome.fault and given.keep):
            shutil.rmtree(place / str(number))
    _print_kinds(outcomes)
    good = sum(not outcome.fault for outcome in outcomes)
    print(f"{good} of {len(outcomes)} damages ended in the unbroken digest or in a refusal in words")
    if not given.keep:
        shutil.rmtree(place)
    return 0 if good == len(outcomes) else 1


def _print_kinds(outcomes: list[Outcome]) -> None:
    ends = collections.Counter(
        (item.kind, "BAD" if item.fault else item.ended.partition(":")[0], item.where) for item in outcomes
    )
    by_kind = collections.Counter((kind, end) for kind, end, _ in ends.elements())
    for (kind, end), count in sorted(by_kind.items()):
        print(f"{kind:26} {end:16} {count:4}")
    for reason, count in collections.Counter(item.ended for item in outcomes if item.ended).most_common():
        print(f"{count:5}  {reason}")


if __name__ == "__main__":
    sys.exit(main())
