"""Checks this project in an environment that has Flower, which takes an older rich, typer and protobuf.

    python verification/flower_environment.py [--oracle] [--json]

To be run by the Python of such an environment, from the root of a checkout:

    python -m venv flower-env && flower-env/bin/python -m pip install -e '.[flower,test]'
    flower-env/bin/python verification/flower_environment.py

Compares what Flower's own metadata asks for with the bounds of `pyproject.toml`, prints the versions that are there,
and runs the tests of the light commands and those of `neulite-sim flower`; `--oracle` adds those that compare final
weights with Flower's own simulation bit for bit (five minutes more). Two minutes without.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LIGHT = ("tests/cli/test_cli_light.py", "tests/unit/flower", "tests/integration/test_integration_flower.py")
ORACLE = "tests/integration/test_integration_flower_oracle.py"
SHARED = ("rich", "typer", "protobuf", "numpy", "pyyaml", "click", "ray")


def bounds() -> dict[str, Requirement]:
    """Return what the project itself asks of packages, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {found.name: found for found in map(Requirement, project["dependencies"])}


def of_flower() -> dict[str, Requirement]:
    """Return what the Flower that is here asks of packages, by name, extras aside."""
    found = map(Requirement, requires("flwr") or ())
    return {one.name: one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}


def disagreements() -> list[str]:
    """Return in words which versions are here that the project or Flower does not take."""
    return [
        f"{whose} asks for {asked[name]}, and {version(name)} is here"
        for whose, asked in (("neulite-sim", bounds()), ("flwr", of_flower()))
        for name in SHARED
        if name in asked and not asked[name].specifier.contains(Version(version(name)), prereleases=True)
    ]


def main() -> int:
    """Print what is here, and run the tests; return 0 where all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", action="store_true", help="compare with Flower's own simulation as well")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    try:
        versions = {name: version(name) for name in ("flwr", *SHARED)}
    except PackageNotFoundError as missing:
        print(f"{missing.name} is not installed here; see the first lines of this file", file=sys.stderr)
        return 2
    wrong = disagreements()
    # typer's older versions ask click for names that newer ones call deprecated.
    command = [sys.executable, "-m", "pytest", "-W", "ignore::DeprecationWarning", *LIGHT]
    if options.oracle:
        command.append(ORACLE)
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr if options.json else None)
    if options.json:
        print(json.dumps({"versions": versions, "disagreements": wrong, "tests_exit_code": done.returncode}))
    else:
        print("; ".join(f"{name} {found}" for name, found in versions.items()))
        print("\n".join(wrong) or "every version is within the bounds of both")
    return 1 if wrong or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
