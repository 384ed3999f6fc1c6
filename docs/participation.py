"""Print the tables of docs/background/participation.md: who can take part on the published pool, and at what peak.

Every number is one of `neulite-sim profile scenarios/paper/base.yaml --set data=synthetic --set model=... --json`. From
a checkout: `python docs/participation.py`, some minutes.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.engine.assembly import assemble
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.studies.costs import cost_report

BASE = Path(__file__).parent.parent / "scenarios" / "paper" / "base.yaml"
MODELS = ("resnet18", "vgg11_bn", "squeezenet", "resnet34", "vit")
METHODS = {
    "exclusivefl, tifl, oort": "exclusivefl",
    "allsmall": "allsmall",
    "heterofl": "heterofl",
    "fedrolex": "fedrolex",
    "depthfl": "depthfl",
    "depthfl, linear": "{kind: depthfl, classifier: linear}",
    "progfed": "progfed",
    "neulite": "neulite",
}
PLAIN = "{kind: neulite, curriculum: false}"
PUBLISHED = {
    "exclusivefl, tifl, oort": {"resnet18": 18, "vgg11_bn": 22, "squeezenet": 11, "resnet34": 0},
    "depthfl": {"resnet18": 43, "vgg11_bn": 43, "squeezenet": 39, "resnet34": 36},
    **{name: dict.fromkeys(MODELS[:4], 100) for name in ("allsmall", "heterofl", "fedrolex", "neulite")},
}
"""Percent, from the PR columns of the paper's Tables 1 and 2."""
BATCHES = (128, 64, 32, 16, 8)


@functools.cache
def report(model: str, method: str, batch_size: int = 128) -> dict[str, Any]:
    """Return the content of `profile --json` on the published pool, for images of 3x32x32 in 10 classes."""
    settings = ["data=synthetic", "data.samples=100", "data.test_samples=10", f"model={model}", f"method={method}"]
    return cost_report(assemble(load_scenario(BASE, [*settings, f"workload.batch_size={batch_size}"])))


def peaks_mb(model: str, method: str, batch_size: int = 128) -> dict[str, float]:
    """Return the peak of each submodel in MB, by name, the full model included."""
    submodels = report(model, method, batch_size)["submodels"]
    return {entry["submodel"]: entry["peak_memory_bytes"] / 1e6 for entry in submodels}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _header(cells: Sequence[str]) -> Iterator[str]:
    yield _row(cells)
    yield _row(["---"] * len(cells))


def rates(models: Sequence[str] = MODELS) -> Iterator[str]:
    """Yield the lines of the first table: participation rates, the paper's in brackets."""
    yield from _header(["model", *METHODS])
    for model in models:
        yield _row([model, *(_rate(model, name) for name in METHODS)])


def _rate(model: str, name: str) -> str:
    published = PUBLISHED.get(name, {}).get(model)
    return f"{report(model, METHODS[name])['participation_rate']:.0%}" + (
        f" ({published}%)" if published is not None else ""
    )


def peaks(models: Sequence[str] = MODELS) -> Iterator[str]:
    """Yield the lines of the second table: the peak of every submodel in MB."""
    families = ("heterofl", "depthfl", METHODS["depthfl, linear"], "progfed", "neulite")
    yield from _header(
        ["model", "full", "width 0.5 to 0.0625", "depth 1 on", "the same, linear", "grow 1 on", "stage 1 on"]
    )
    for model in models:
        yield _row(
            [model, f"{peaks_mb(model, 'exclusivefl')['full']:.0f}", *(_family(model, item) for item in families)]
        )


def _family(model: str, method: str) -> str:
    parts = {name: peak for name, peak in peaks_mb(model, method).items() if name != "full"}
    names = reversed(parts) if next(iter(parts)).startswith("depth") else parts
    return ", ".join(f"{parts[name]:.0f}" for name in names)


def batches(models: Sequence[str] = MODELS) -> Iterator[str]:
    """Yield the lines of the third table: NeuLite's rate by the charged batch size, second without the curriculum."""
    yield from _header(["model", *(f"batch {batch}" for batch in BATCHES)])
    for model in models:
        cells = (
            [report(model, method, batch)["participation_rate"] for method in ("neulite", PLAIN)] for batch in BATCHES
        )
        yield _row([model, *(" / ".join(f"{rate:.0%}" for rate in pair) for pair in cells)])


if __name__ == "__main__":
    for table in (rates, peaks, batches):
        sys.stdout.writelines(f"{line}\n" for line in (*table(), ""))
        sys.stdout.flush()
