"""Draw the README's picture: the live console in the middle of a real run of scenarios/jetson_mix.yaml.

python docs/picture.py            # writes docs/images/console.svg
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console

from neulite_sim import load_scenario, simulate
from neulite_sim.reports.board import Board
from neulite_sim.reports.dashboard import dashboard
from neulite_sim.results.rows import Event, Progress

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/images/console.svg"
WIDTH, HEIGHT = 118, 31
ROUND, RESULTS = 26, 4
SVG = "http://www.w3.org/2000/svg"
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
# A cell of Rich's SVG, and how far its top lies above the base line of its text.
CELL_WIDTH, CELL_HEIGHT, ASCENT = 12.2, 24.4, 18.5

Box = tuple[float, float, float, float]
# Left, top, width and height within a cell, as shares of it, of the characters that fill a part of one.
BLOCKS: dict[str, Box] = {
    **{character: (0, 0, eighths / 8, 1) for eighths, character in enumerate("▏▎▍▌▋▊▉█", start=1)},
    **{character: (0, 1 - eighths / 8, 1, eighths / 8) for eighths, character in enumerate("▁▂▃▄▅▆▇", start=1)},
    "■": (0.05, 0.28, 0.9, 0.45), "─": (0, 0.475, 1, 0.05), "┄": (0.15, 0.475, 0.7, 0.05), "│": (0.45, 0, 0.1, 1),
    "━": (0, 0.44, 1, 0.12), "╸": (0, 0.44, 0.5, 0.12), "╺": (0.5, 0.44, 0.5, 0.12),
}  # fmt: skip
# From where, along where and round which bend to where corners are drawn.
CORNERS = {
    "╭": ((0.5, 1), (0.5, 0.75), (0.5, 0.5), (1, 0.5)), "╮": ((0.5, 1), (0.5, 0.75), (0.5, 0.5), (0, 0.5)),
    "╰": ((0.5, 0), (0.5, 0.25), (0.5, 0.5), (1, 0.5)), "╯": ((0.5, 0), (0.5, 0.25), (0.5, 0.5), (0, 0.5)),
}  # fmt: skip


class TakenError(Exception):
    """The picture is drawn: the rest of the run is not needed."""


class Photographer:
    """Keeps a board of the run and draws it once: in round `ROUND`, when `RESULTS` devices have trained."""

    def __init__(self, target: Path) -> None:
        self._board = Board()
        self._target = target

    def notify(self, event: Event) -> None:
        """Take note of an event, and draw at the chosen moment."""
        self._board.notify(event)
        if isinstance(event, Progress) and (event.round, event.trained) == (ROUND, RESULTS):
            self._target.write_text(picture(self._board), encoding="utf-8")
            raise TakenError


def picture(board: Board) -> str:
    """Return the live view as an SVG that looks alike with any font: bars, lines and dots are shapes, not letters."""
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    console.print(dashboard(board, width=WIDTH, height=HEIGHT), height=HEIGHT)
    drawn = console.export_svg(title="neulite-sim run scenarios/jetson_mix.yaml", unique_id="neulite-sim")
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(drawn)
    style = root.find(f"{{{SVG}}}style")
    assert style is not None
    # An image in a page loads no fonts.
    style.text = re.sub(r"@font-face \{[^}]*\}\s*", "", style.text or "").replace("Fira Code, monospace", FONTS)
    style.text += "".join(
        f".{name}.line {{ fill: none; stroke: {colour} }}\n"
        for name, colour in re.findall(r"\.(\S+-r\d+) \{ fill: (#\w+)", style.text)
    )
    for clip in root.findall(f".//{{{SVG}}}clipPath/{{{SVG}}}rect"):
        # An underscore in the last line hangs out of its cell.
        clip.set("height", f"{float(clip.get('height', 0)) + 8:g}")
    for parent in list(root.iter()):
        for text in [child for child in parent if child.get("textLength")]:
            for shape in _shapes(text):
                parent.append(shape)
            text.text = "".join("\u00a0" if _is_shape(character) else character for character in text.text or "")
            if not text.text.strip():
                parent.remove(text)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _is_shape(character: str) -> bool:
    return character in BLOCKS or character in CORNERS or "\u2800" <= character <= "\u28ff"


def _shapes(text: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Yield what is drawn in place of the characters of a text that are shapes; equal neighbours are one shape."""
    start, top, kind = float(text.get("x", 0)), float(text.get("y", 0)) - ASCENT, text.get("class", "")
    for found in re.finditer("█+|─+|━+|.", text.text or ""):
        piece, left = found.group(), start + found.start() * CELL_WIDTH
        if piece[0] in BLOCKS:
            x, y, width, height = BLOCKS[piece[0]]
            box = {"x": left + x * CELL_WIDTH, "y": top + y * CELL_HEIGHT}
            box |= {"width": len(piece) * width * CELL_WIDTH, "height": height * CELL_HEIGHT}
            yield _element("rect", kind, {name: f"{value:.2f}" for name, value in box.items()})
        elif piece in CORNERS:
            points = [f"{left + x * CELL_WIDTH:.2f},{top + y * CELL_HEIGHT:.2f}" for x, y in CORNERS[piece]]
            yield _element("path", f"{kind} line", {"d": "M{} L{} Q{} {}".format(*points), "stroke-width": "1.2"})
        elif _is_shape(piece):
            for dot in range(8):
                if ord(piece) >> dot & 1:
                    # Unicode counts the dots of a cell down its two columns, and the two of the last row at the end.
                    column, row = (dot // 3, dot % 3) if dot < 6 else (dot - 6, 3)
                    x, y = left + (0.25 + 0.5 * column) * CELL_WIDTH, top + (row + 0.5) / 4 * CELL_HEIGHT
                    yield _element("circle", kind, {"cx": f"{x:.2f}", "cy": f"{y:.2f}", "r": "2.2"})


def _element(tag: str, kind: str, attributes: dict[str, str]) -> ElementTree.Element:
    return ElementTree.Element(f"{{{SVG}}}{tag}", {"class": kind, **attributes})


if __name__ == "__main__":
    scenario = load_scenario(ROOT / "scenarios/jetson_mix.yaml")
    # Run in a folder of its own, so that the results go where the picture says and then away.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.suppress(TakenError):
        simulate(scenario, keeps_folder=True, observers=[Photographer(TARGET)])
