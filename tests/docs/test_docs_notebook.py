"""The notebook of the tutorial runs, shows what it holds, and holds nothing of the machine it ran on."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import pytest
from docs_pages import DOCS

NOTEBOOK = DOCS / "tutorial" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_profiles")
def test_the_notebook_runs_and_shows_what_it_holds() -> None:
    for package in ("nbclient", "ipykernel", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, str(DOCS / "run_notebook.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_notebook_is_small_and_holds_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 150_000
    notebook = json.loads(text)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert len(outputs) >= 6
    assert all(output["output_type"] != "error" for output in outputs)
    shown = [
        line
        for output in outputs
        for kind, lines in output.get("data", {}).items()
        if kind.startswith("text/")
        for line in lines
    ]
    assert not [line for line in shown if re.search(r"/(home|root|tmp|Users|usr|work)/|\x1b", line)]
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "name": "python3"}, "language_info": {"name": "python"},
    }  # fmt: skip
