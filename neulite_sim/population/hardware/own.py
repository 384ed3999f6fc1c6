"""Hardware of a user's own: a file in the format of the catalogue, as `neulite-sim calibrate` prints it.

Its devices are named in `population.groups` as those of the catalogue are. A name of the catalogue keeps its meaning:
a file that takes one is refused, so that a scenario never means other hardware than it says.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.outside import read_regular
from neulite_sim.population.hardware.catalogue import Catalogue, load_catalogue, parse_catalogue
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.scenario.problems import in_words

KEY = "population.hardware"
MOST_BYTES = 10**6
_FORM = "it is a TOML file as `neulite-sim calibrate` prints it"


def read_hardware(path: Path) -> Mapping[str, DeviceClass]:
    """Return the device classes in a file, by name, in the order of the file.

    Raises:
        DataNotFoundError: there is no such file, or it cannot be read.
        ScenarioError: not such a file, no device in it, or a name of the catalogue; the problems name keys and lines.
    """
    try:
        text = read_regular(path, most_bytes=MOST_BYTES).decode("utf-8")
    except OSError as failure:
        raise DataNotFoundError(f"{KEY}: {path} cannot be read ({failure.strerror})", hint=_FORM) from None
    except UnicodeDecodeError:
        raise ScenarioError(
            [Problem.advising(key="", found="is not text in UTF-8", hint=_FORM, file=str(path))]
        ) from None
    try:
        entries = parse_catalogue(text)
    except ValidationError as wrong:
        found = in_words(wrong, tomllib.loads(text), Catalogue)
        raise ScenarioError(
            [_problem(".".join(map(str, keys)), message, path, text) for keys, message in found]
        ) from None
    except tomllib.TOMLDecodeError as wrong:
        at = re.search(r"at line (\d+)", str(wrong))
        place = int(at[1]) if at else None
        raise ScenarioError([Problem(key="", message=f"not valid TOML: {wrong}", file=str(path), line=place)]) from None
    except (ValueError, RecursionError) as wrong:
        # A number of thousands of digits, or lists nested thousands deep.
        reason = "nested too deeply" if isinstance(wrong, RecursionError) else "a number has too many digits"
        raise ScenarioError([Problem(key="", message=f"not valid as hardware: {reason}", file=str(path))]) from None
    taken = [
        _problem(f"devices.{name}", "is in the catalogue already; give it another name", path, text)
        for name in entries
        if name in load_catalogue()
    ]
    if not entries:
        taken = [_problem("devices", "holds no device; add [devices.NAME]", path, text)]
    if taken:
        raise ScenarioError(taken)
    return {name: entry.device_class for name, entry in entries.items()}


def _problem(key: str, message: str, path: Path, text: str) -> Problem:
    """Return a problem at the line of its key: that of the key itself, or of the table it is missing from."""
    table, line = "", None
    for number, content in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^]]+)\]", content):
            table = header[1].strip()
            here = table
        elif assigned := re.match(r"\s*([\w-]+)\s*=", content):
            here = f"{table}.{assigned[1]}".lstrip(".")
        else:
            continue
        if key == here or key.startswith(here + "."):
            line = number
    return Problem(key=key, message=message, file=str(path), line=line)
