"""Run the notebook of the tutorial and keep what it shows.

    python docs/run_notebook.py            run it, and write its outputs into it
    python docs/run_notebook.py --check    write nothing; exit code 1 where it shows something else than what it holds

Outputs are kept without what differs from machine to machine. The check passes over numbers and pictures: another
processor gives other last digits. It needs nbclient and ipykernel.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "tutorial" / "notebook.ipynb"
ROOT = Path(__file__).parents[1]


def executed(path: Path) -> Any:
    """Return a notebook as it is after it has run in an empty folder; an error in a cell is raised."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=300, startup_timeout=120, resources=resources, record_timing=False)
        client.execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_empty(output)]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _is_empty(output: Any) -> bool:
    """Whether nothing is to be seen of an output: progress that was shown, and is over."""
    return output.output_type == "display_data" and not any(map(str.strip, output.data.values()))


def shown(notebook: Any) -> list[str]:
    """Return what each cell of a notebook shows, numbers, times and pictures aside."""
    return ["\n".join(map(_text, cell.get("outputs", ()))) for cell in notebook.cells]


def _text(output: Any) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    kept = "\n".join(f"{kind}: {text}" for kind, text in sorted(data.items()) if not kind.startswith("image/"))
    without_pictures = re.sub(r"<svg.*?</svg>", "<svg>", kept, flags=re.S)
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?([dhms]| min)?( \d+[hms])?", "0", without_pictures)


def main() -> int:
    """Write the notebook, or check it with `--check`; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where it is out of date")
    found = executed(NOTEBOOK)
    if not parser.parse_args().check:
        nbformat.write(found, NOTEBOOK)
        return 0
    held = nbformat.read(NOTEBOOK, as_version=4)
    wrong = [
        f"cell {place} holds\n{before}\nbut shows\n{now}\n"
        for place, (before, now) in enumerate(zip(shown(held), shown(found), strict=True), start=1)
        if before != now
    ]
    sys.stderr.write("\n".join([*wrong, *(["run: python docs/run_notebook.py\n"] if wrong else [])]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
