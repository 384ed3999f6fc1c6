"""The documentation as the tests see it: pages, their blocks of code, and what running a block prints.

A page's ```python blocks and the lines of its ```bash blocks that start with `neulite-sim` run from top to bottom.
A ```text block below one is what it must print, `...` standing for anything and any space for any other. A comment
`<!-- file: NAME -->` before a block makes it a file, `<!-- long -->` says that it is not run here. A `pyproject.toml`
is installed: its entry points are there from then on.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
import shlex
import tomllib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neulite_sim import registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

_BLOCK = re.compile(r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>[a-z]+)\n(?P<code>.*?)^```$", re.M | re.S)
_EXIT_CODE = re.compile(r"# exit code (\d+)")
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

Command = Callable[[list[str]], tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: `note` is the comment before it, `line` that of its first line in the page."""

    language: str
    code: str
    note: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(language=found["language"], code=found["code"], note=found["note"] or "", line=line)


def runs(block: Block) -> bool:
    """Whether something of a block is run."""
    if block.note:
        return False
    return block.language == "python" or any(_commands(block))


def _commands(block: Block) -> Iterator[str]:
    if block.language in ("bash", "console"):
        lines = block.code.replace("\\\n", " ").splitlines()
        yield from (line for line in (each.removeprefix("$ ") for each in lines) if line.startswith("neulite-sim "))


def run_page(page: Path, command: Command) -> list[str]:
    """Run a page in the current directory and return what went otherwise than it says."""
    wrong: list[str] = []
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}:{block.line}"
        if block.note.startswith("file: "):
            file = Path(block.note.removeprefix("file: "))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code, encoding="utf-8")
            if file.name == "pyproject.toml":
                _install(file)
        elif block.language == "text" and not block.note:
            if printed and not doctest.OutputChecker().check_output(block.code, printed, _SAME):
                wrong.append(f"{where}: says\n{block.code}but this was printed:\n{printed}")
            printed = ""
        elif runs(block):
            printed, failures = _run(block, names, command)
            wrong += [f"{where}: {failure}" for failure in failures]
    return wrong


def _install(pyproject: Path) -> None:
    """Do what `pip install -e .` does, in the folder of a `pyproject.toml` that is on the path for imports."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    folder = pyproject.parent / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    importlib.invalidate_caches()
    registry.forget_installed()


def _run(block: Block, names: dict[str, object], command: Command) -> tuple[str, list[str]]:
    if block.language == "python":
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                exec(compile(block.code, f"<line {block.line}>", "exec"), names)
        except Exception:
            return output.getvalue(), [traceback.format_exc()]
        return output.getvalue(), []
    printed, failures = [], []
    for line in _commands(block):
        expected = _EXIT_CODE.search(line)
        code, output = command(shlex.split(line, comments=True)[1:])
        printed.append(output)
        if code != int(expected[1] if expected else 0):
            failures.append(f"{line!r} ended with exit code {code}:\n{output}")
    return "".join(printed), failures
