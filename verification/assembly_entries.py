"""Count how often a run turns to the assembly of its parts before it dispatches its first device.

    python verification/assembly_entries.py [--scenario FILE] [--modules assembly,building] [--json]

Runs the command `run` for one round in this process under `sys.setprofile`. Up to the first dispatch, every call of a
function of the engine's assembly modules counts where the caller is in none of them; a function that the assembly
handed out and that is called back stands apart. Beside them stands how often the parts were built. The fewer entries,
the less there is to keep in order outside of the assembly. `--modules` names the modules of `neulite_sim.engine` that
count as assembly, by default those of the list in this script that exist: to count in an earlier version, run the
script with the root of its checkout as working directory and in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from neulite_sim import engine
from neulite_sim.cli import app

ENGINE = Path(next(iter(engine.__path__)))
ASSEMBLY = ("assembly", "building", "charging", "compatibility", "parts")
BUILT = ("build_population", "build_method", "build_selector", "build_protocol", "build_timing", "build_backend",
         "server_rates", "build_meta", "profile_submodel")  # fmt: skip
SCENARIO = Path(__file__).parents[1] / "scenarios" / "jetson_mix.yaml"


class Entries:
    """A profile function that counts calls into some files from other files, until a device is dispatched."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._files = frozenset(str(ENGINE / f"{name}.py") for name in modules)
        self.called: Counter[str] = Counter()
        self.called_back: Counter[str] = Counter()
        self.built: Counter[str] = Counter()
        self.has_dispatched = False

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Take note of one event of the interpreter."""
        del argument
        if event != "call":
            return
        code, caller = frame.f_code, frame.f_back
        if code.co_name == "dispatch" and Path(code.co_filename).parent == ENGINE:
            self.has_dispatched = True
            sys.setprofile(None)
            return
        if code.co_name in BUILT:
            self.built[code.co_name] += 1
        if code.co_filename not in self._files or code.co_name == "<module>":
            return
        if caller is None or caller.f_code.co_filename not in self._files:
            counter = self.called_back if "<locals>" in code.co_qualname else self.called
            counter[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += 1


def entries_of(scenario: Path, modules: tuple[str, ...]) -> Entries:
    """Return what was counted in a run of one round.

    Raises:
        SystemExit: the run ended before it dispatched a device.
    """
    found = Entries(modules)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--backend", "inprocess", "--out", str(Path(folder) / "run"), "--set", "stop.rounds=1"]
        sys.setprofile(found)
        try:
            app(["run", str(scenario), *options], standalone_mode=False)
        finally:
            sys.setprofile(None)
    if not found.has_dispatched:
        raise SystemExit("the run ended before it dispatched a device")
    return found


def main() -> None:
    """Print the entries by function, and how often each part was built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", type=Path, default=SCENARIO)
    parser.add_argument("--modules", default=",".join(ASSEMBLY), help="names below neulite_sim.engine, with commas")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    given = parser.parse_args()
    modules = tuple(name for name in given.modules.split(",") if (ENGINE / f"{name}.py").is_file())
    found = entries_of(given.scenario, modules)
    counts = {"called": found.called, "called_back": found.called_back, "built": found.built}
    if given.json:
        print(json.dumps({"modules": modules, "calls": found.called.total(), **counts}))
        return
    print(f"{found.called.total()} calls into {', '.join(modules)} before the first dispatch")
    for title, calls in counts.items():
        print(title.replace("_", " "))
        for name, number in calls.most_common():
            print(f"{number:6}  {name}")


if __name__ == "__main__":
    main()
