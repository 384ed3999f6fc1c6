"""Draw Figure 2 of the NeuLite paper, the nHSIC plane, from real runs: where each block goes during a training.

Wu, Li, Tian, Chang and Xu, "NeuLite", AAAI 2025, https://arxiv.org/abs/2408.10826, Fig. 2: nHSIC(X; Z) against
nHSIC(Y; Z) of every block, end-to-end against progressive training. From a checkout, a few minutes:
`python docs/paper_nhsic.py` trains all of `RUNS`, writes docs/images/paper_nhsic.svg and prints the tables of
docs/background/paper_figures.md. `python docs/paper_nhsic.py FOLDER...` draws run folders with diagnostics instead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neulite_sim.engine.simulation import simulate
from neulite_sim.reports.drawing import COLOURS
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.training.diagnostics import NHSIC_X, NHSIC_Y

IMAGE = Path(__file__).parent / "images" / "paper_nhsic.svg"
STAGES, ROUNDS_PER_STAGE = 4, 10
ROUNDS = STAGES * ROUNDS_PER_STAGE
BASE: Mapping[str, Any] = {
    "name": "nhsic",
    "seed": 1,
    "data": {"kind": "digits", "image_size": 16, "partition": "iid"},
    "model": "resnet18",
    "training": {"epochs": 1, "batch_size": 16, "learning_rate": 0.01, "momentum": 0.9},
    "population": {
        "devices": 10,
        "groups": [{"device": "jetson-tx2-8gb", "share": 1}],
        "available_memory": {"kind": "installed", "share": 0.5},
    },
    "selection": {"kind": "uniform", "devices_per_round": 5},
    "evaluation": {"diagnostics": ["nhsic_plane"]},
    "stop": {"rounds": ROUNDS},
    "proxy": {"width": 0.125},
    "backend": "inprocess",
}
"""ResNet18 at an eighth of its width, on devices that all have memory for all of it."""
RUNS: Mapping[str, Any] = {
    "end to end": {"kind": "fedavg", "memory_limit": False},
    "progressive": {
        "kind": "neulite",
        "curriculum": False,
        "coadaptation": False,
        "schedule": "sequential",
        "convergence": {"max_rounds": ROUNDS_PER_STAGE},
    },
    "NeuLite": {"kind": "neulite"},
}
"""Methods by what they are called in the figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one block of one run moves: its rounds, and nHSIC with the images and with the labels after each."""

    rounds: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One run: its blocks' ways by block, and its accuracy at the end."""

    blocks: Mapping[int, Way]
    final_accuracy: float


def paths(diagnostics: Sequence[Mapping[str, Any]]) -> dict[int, Way]:
    """Return how each block moves, by block; tests at which a value is undefined are left out."""
    found = {(row["block"], row["round"], row["name"]): row["value"] for row in diagnostics}
    ways: dict[int, Way] = {}
    for block in sorted({block for block, _, _ in found}):
        points = [
            (number, found[block, number, NHSIC_X], found[block, number, NHSIC_Y])
            for number in sorted({number for each, number, _ in found if each == block})
        ]
        defined = [point for point in points if None not in point]
        if defined:
            rounds, x, y = zip(*defined, strict=True)
            ways[block] = Way(rounds=rounds, x=x, y=y)
    return ways


def trained(method: Mapping[str, Any]) -> Drawn:
    """Return a run of `BASE` with a method."""
    result = simulate(parse_scenario({**BASE, "method": method}))
    return Drawn(blocks=paths(result.diagnostics), final_accuracy=result.summary["final_accuracy"])


def stored(folder: Path) -> Drawn:
    """Return the run of a folder.

    Raises:
        SystemExit: it was run without diagnostics.
    """
    run = read_run(folder)
    ways = paths(run.diagnostics())
    if not ways:
        raise SystemExit(f"{folder}: holds no diagnostics; run it with --set evaluation.diagnostics=[nhsic_plane]")
    return Drawn(blocks=ways, final_accuracy=run.summary["final_accuracy"])


def draw(found: Mapping[str, Drawn], path: Path) -> None:
    """Draw the plane, a panel per block, a line per run from its first test (ring) to its last (dot)."""
    blocks = sorted({block for drawn in found.values() for block in drawn.blocks})
    figure = Figure(figsize=(2.7 * len(blocks), 3.1), layout="constrained")
    panels = figure.subplots(1, len(blocks), squeeze=False)[0]
    for axes, block in zip(panels, blocks, strict=True):
        for place, (name, drawn) in enumerate(found.items()):
            if block in drawn.blocks:
                _way(axes, drawn.blocks[block], COLOURS[place], name)
        axes.set_title(f"block {block}", loc="left", fontsize="medium")
        axes.set_xlabel("nHSIC(X; Z)")
        axes.margins(0.1)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("nHSIC(Y; Z)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(found), frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "neulite-sim", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def _way(axes: Axes, way: Way, colour: str, name: str) -> None:
    axes.plot(way.x, way.y, color=colour, linewidth=1.0, alpha=0.8, label=name)
    axes.plot(way.x[:1], way.y[:1], "o", markersize=6, markerfacecolor="white", color=colour)
    axes.plot(way.x[-1:], way.y[-1:], "o", markersize=6, color=colour)


def table(found: Mapping[str, Drawn]) -> Iterator[str]:
    """Yield the lines of the table: a row per run, the plane's coordinates of each block after the last test."""
    blocks = sorted({block for drawn in found.values() for block in drawn.blocks})
    yield "| run | " + " | ".join(f"block {block}" for block in blocks) + " | accuracy |"
    yield "| --- |" + " --- |" * (len(blocks) + 1)
    for name, drawn in found.items():
        cells = [
            f"{drawn.blocks[b].x[-1]:.3f}, {drawn.blocks[b].y[-1]:.3f}" if b in drawn.blocks else "" for b in blocks
        ]
        yield f"| {name} | " + " | ".join(cells) + f" | {drawn.final_accuracy:.1%} |"


def main() -> None:
    """Write the figure and print the table."""
    folders = [Path(argument) for argument in sys.argv[1:]]
    found = {folder.name: stored(folder) for folder in folders} or {n: trained(m) for n, m in RUNS.items()}
    draw(found, IMAGE)
    sys.stdout.writelines(f"{line}\n" for line in table(found))


if __name__ == "__main__":
    main()
