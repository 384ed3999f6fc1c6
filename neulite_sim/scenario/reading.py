"""Which files a scenario is made from: its own, those that it extends, and those that its options name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from neulite_sim.scenario.files import text_of
from neulite_sim.scenario.inputs import mapped
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.yaml_text import read_yaml


def files_read(path: str, scenario: Scenario) -> list[Path]:
    """Return the files that a scenario is read from, and the files and folders that its options name.

    `path` is its file, and `scenario` what that came to; a file that cannot be read ends the chain of `extends`.
    """
    found = list(_chain(path))

    def note(_keys: object, named: str, _mark: object) -> str:
        found.append(os.path.expanduser(named))
        return named

    mapped(scenario, note)
    return [Path(each) for each in found]


def _chain(path: str) -> Iterator[str]:
    seen: set[str] = set()
    while os.path.isfile(path) and os.path.realpath(path) not in seen:
        seen.add(os.path.realpath(path))
        yield path
        node, _ = read_yaml(text_of(path, []) or "", path)
        base = node.content.get("extends") if node is not None and isinstance(node.content, dict) else None
        if base is None or not isinstance(base.content, str):
            return
        path = os.path.normpath(os.path.join(os.path.dirname(path), base.content))
