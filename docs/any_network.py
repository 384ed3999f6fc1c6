"""Print the tables of docs/background/any_network.md: NeuLite's stages on networks of torchvision, and what they save.

Every number is one of `neulite-sim profile scenarios/paper/base.yaml --set data=synthetic --set model=torchvision:NAME
--set method=neulite --set 'workload={input_shape: [3, 224, 224], batch_size: 32}' --json`. From a checkout:
`python docs/any_network.py`, a quarter of an hour.

`python docs/any_network.py DIR` prints the table of real training in its place: it writes the digits as pictures to
`DIR/digits` and runs `scenarios/study/published_pool.yaml` on them, an hour of one core or more. What is complete in
DIR is not run again.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.engine.assembly import assemble
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.studies.costs import cost_report

SCENARIOS = Path(__file__).parent.parent / "scenarios"
BASE, STUDY = SCENARIOS / "paper" / "base.yaml", SCENARIOS / "study" / "published_pool.yaml"
NETWORKS = (
    "alexnet", "vgg11_bn", "squeezenet1_1", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5",
    "shufflenet_v2_x0_5", "googlenet", "convnext_tiny", "swin_t", "vit_b_16",
)  # fmt: skip
NEULITE = "neulite"
WISHED = {"resnet18": 4, "mobilenet_v2": 4, "efficientnet_b0": 4}
"""Networks that are also cut where their stages balance, and into how many blocks."""
LARGE, SMALL = 224, 64
"""Pixels along a side of the images of the first and of the second table."""


@functools.cache
def peaks_mb(network: str, method: str, side: int = LARGE, blocks: int | None = None) -> dict[str, float]:
    """Return the peak of each stage and of the full model in MB, by name, for steps of 32 images in 10 classes."""
    model = f"{{kind: 'torchvision:{network}'{f', blocks: {blocks}' if blocks else ''}}}"
    data = "{kind: synthetic, shape: [3, 64, 64], samples: 100, test_samples: 10}"
    workload = f"{{input_shape: [3, {side}, {side}], batch_size: 32}}"
    settings = [f"data={data}", f"model={model}", f"method={method}", f"workload={workload}"]
    report: dict[str, Any] = cost_report(assemble(load_scenario(BASE, settings)))
    return {entry["submodel"]: entry["peak_memory_bytes"] / 1e6 for entry in report["submodels"]}


def saved(peaks: dict[str, float]) -> float:
    """Return the share of the full model's peak that the largest stage does without; below zero where it needs more."""
    return 1 - max(value for name, value in peaks.items() if name != "full") / peaks["full"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _header(cells: Sequence[str]) -> Iterator[str]:
    yield _row(cells)
    yield _row(["---"] * len(cells))


def _stages(peaks: dict[str, float]) -> str:
    return " / ".join(f"{value:.0f}" for name, value in peaks.items() if name != "full")


def own_stages(networks: Sequence[str] = NETWORKS) -> Iterator[str]:
    """Yield the lines of the first table: the stages of each network."""
    yield from _header(["network", "full model", "stages", "saved"])
    for name in networks:
        found = peaks_mb(name, NEULITE)
        yield _row([name, f"{found['full']:.0f}", _stages(found), f"{saved(found):.0%}"])


def wished_blocks(networks: Sequence[str] = tuple(WISHED)) -> Iterator[str]:
    """Yield the lines of the second table: own stages beside as many balanced blocks as `WISHED` says."""
    yield from _header(["network", "full model", "own stages", "saved", "balanced blocks", "saved"])
    for name in networks:
        own, cut = peaks_mb(name, NEULITE, SMALL), peaks_mb(name, NEULITE, SMALL, WISHED[name])
        cells = [_stages(own), f"{saved(own):.0%}", _stages(cut), f"{saved(cut):.0%}"]
        yield _row([name, f"{own['full']:.0f}", *cells])


TRAINED = ("shufflenet_v2_x0_5", "mobilenet_v3_small")
TRAINED_METHODS = {"neulite": "neulite", "fedavg": "{kind: fedavg, memory_limit: false}"}
TRAINING = "{epochs: 5, batch_size: 16, learning_rate: 0.05, learning_rate_schedule: cosine}"


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits as grey pictures of 8 pixels: `train/CLASS/N.png` and `test/CLASS/N.png`."""
    from PIL import Image

    from neulite_sim.data.contract import ImageDatasetOptions
    from neulite_sim.data.digits import build

    found = build(ImageDatasetOptions(), 0)
    parts = {"train": (found.train_images, found.train_labels), "test": (found.test_images, found.test_labels)}
    for part, (images, labels) in parts.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / part / str(label) / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image[0] * 255 / 16).astype("uint8")).save(place)


def trained(network: str, method: str, folder: Path) -> dict[str, Any]:
    """Return the summary of a run on the published pool: charged for 32 images of 3x224x224, trained on 32 pixels."""
    out = folder / f"{network}-{method}"
    if not (out / "COMPLETE").exists():
        partition = "{kind: dirichlet, alpha: 1}"
        data = f"{{kind: image-folder, root: {folder / 'digits'}, image_size: 32, partition: {partition}}}"
        workload = "{input_shape: [3, 224, 224], samples_per_device: 500, batch_size: 32}"
        changes = [f"data={data}", f"model=torchvision:{network}", f"method={TRAINED_METHODS[method]}",
                   f"training={TRAINING}", f"workload={workload}", "proxy={}", "stop={rounds: 120}",
                   "evaluation={every_rounds: 12, batch_norm: recalibrated}"]  # fmt: skip
        command = [sys.executable, "-m", "neulite_sim", "run", str(STUDY), "--out", str(out), "--quiet"]
        command += [word for change in changes for word in ("--set", change)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def trainings(folder: Path) -> Iterator[str]:
    """Yield the lines of the third table."""
    if not (folder / "digits").exists():
        write_digits(folder / "digits")
    yield from _header(["network", "method", "accuracy, %", "participation, %", "peak memory, MB", "rounds"])
    for network in TRAINED:
        for method in TRAINED_METHODS:
            found = trained(network, method, folder)
            cells = [f"{100 * found['tail_accuracy']:.1f}", f"{100 * found['participation_rate']:.0f}"]
            yield _row([network, method, *cells, f"{found['peak_memory_bytes'] / 1e6:.0f}", f"{found['rounds']}"])


def main(*given: str) -> None:
    """Print the tables as Markdown, a line as soon as it is known."""
    tables = (functools.partial(trainings, Path(given[0]).absolute()),) if given else (own_stages, wished_blocks)
    for table in tables:
        for line in table():
            print(line, flush=True)
        print(flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
