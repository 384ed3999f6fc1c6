"""Draw Figures 6 and 7 of the NeuLite paper from real runs of the ledger, and print their numbers.

Wu, Li, Tian, Chang and Xu, "NeuLite", AAAI 2025, https://arxiv.org/abs/2408.10826, section "Hardware Evaluation":
memory over a local training (Fig. 6) and time of a round (Fig. 7), per block and for the full model, on a Jetson TX2.
From a checkout, a minute: `python docs/paper_figures.py` writes docs/images/paper_*.svg and prints the tables of
docs/background/paper_figures.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.charging import build_trainee
from neulite_sim.engine.parts import Parts
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.profiling.profile import profile, ready
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.profiling.tracer import OperatorCost, trace
from neulite_sim.reports.drawing import COLOURS
from neulite_sim.scenario.loading import load_scenario

ROOT = Path(__file__).parent.parent
BASE = ROOT / "scenarios" / "paper" / "base.yaml"
IMAGES = ROOT / "docs" / "images"
DEVICE = "jetson-tx2-8gb"
FULL = "full"
METHODS = {"neulite": "neulite", "without curriculum": "{kind: neulite, curriculum: false}"}
SAMPLES, EPOCHS = 500, 5
MEMORY_MODELS = ("resnet18", "resnet34")
CIFAR10 = {"shape": "[3, 32, 32]", "classes": 10}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "resnet18": CIFAR10,
    "resnet34": CIFAR10,
    "vgg11_bn": CIFAR10,
    "squeezenet": CIFAR10,
    "{kind: vit, preset: mini-imagenet}": {"shape": "[3, 84, 84]", "classes": 100},
}
"""Models by how a scenario names them, with the images that the paper trains each on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The local training of one submodel: live bytes after each operator of a step, and seconds of a round."""

    submodel: str
    live_bytes: tuple[int, ...]
    round_s: float

    @property
    def peak_bytes(self) -> int:
        """The most that is live after any operator."""
        return max(self.live_bytes)


def label(model: str) -> str:
    """Return what a model is called in tables."""
    return "vit (mini-imagenet)" if "vit" in model else model


def parts_of(model: str, method: str) -> Parts:
    """Return a scenario of the paper on images of the right shape; no dataset is needed for what a step costs."""
    images = MODELS[model]
    shape = [f"data.shape={images['shape']}", f"data.classes={images['classes']}"]
    data = ["data=synthetic", "data.samples=200", "data.test_samples=100", *shape]
    return prepare(load_scenario(BASE, [*data, f"model={model}", f"method={METHODS[method]}"]))


def local_trainings(model: str, method: str) -> list[Local]:
    """Return the local training of every stage, and of the full model last."""
    parts = parts_of(model, method)
    return [local_training(parts, submodel) for submodel in (*parts.method.submodels, FULL)]


def local_training(parts: Parts, submodel: str) -> Local:
    """Return one submodel's local training at the charged batch size: a step traced on fake tensors."""
    training = parts.charged_training
    found = profile(
        submodel,
        lambda: build_trainee(parts.method, submodel, parts.charged),
        spec=parts.charged.spec,
        batch_size=training.batch_size,
        training=training,
    )
    device = device_class(DEVICE)
    whole, rest = divmod(SAMPLES, training.batch_size)
    epoch_s = whole * step_seconds(found, device)
    epoch_s += step_seconds(found, device, rest / training.batch_size) if rest else 0.0
    operators = traced(parts, submodel)
    local = Local(
        submodel=submodel,
        live_bytes=tuple(operator.live_bytes for operator in operators),
        round_s=EPOCHS * epoch_s,
    )
    assert local.peak_bytes <= found.peak_memory_bytes
    return local


def traced(parts: Parts, submodel: str) -> list[OperatorCost]:
    """Return the operators of one training step of a submodel, in their order."""
    with FakeTensorMode():
        trainee = build_trainee(parts.method, submodel, parts.charged)
        stepper, batch = ready(trainee, parts.charged.spec, parts.charged_training.batch_size, parts.charged_training)
        return trace(trainee, stepper.optimizer, stepper.step, batch).operators


def draw_memory(found: Mapping[str, Sequence[Local]], path: Path) -> None:
    """Draw live memory over a training step, a panel per model: the paper's Fig. 6."""
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=False)
    for axes, (model, trainings) in zip(panels, found.items(), strict=True):
        for place, local in enumerate(trainings):
            _memory_line(axes, local, COLOURS[place] if local.submodel != FULL else "#000000")
        axes.set(xlabel="progress of a training step (% of its operators)", xlim=(0, 100), ylim=(0, None))
        axes.set_title(f"{model}, 3x32x32, batch 128", loc="left", fontsize="medium")
    panels[0].set_ylabel("live tensor memory (MB)")
    _save(figure, path)


def _memory_line(axes: Axes, local: Local, colour: str) -> None:
    megabytes = np.array(local.live_bytes) / 1e6
    progress = np.linspace(0, 100, len(megabytes))
    axes.plot(progress, megabytes, color=colour, linewidth=1.3)
    top = int(np.argmax(megabytes))
    axes.annotate(
        f"{local.submodel} {megabytes[top]:.0f}", (np.clip(progress[top], 9, 91), megabytes[top]), xytext=(0, 4),
        textcoords="offset points", ha="center", va="bottom", color=colour, fontsize="small",
    )  # fmt: skip


def draw_times(found: Mapping[str, Sequence[Local]], path: Path) -> None:
    """Draw seconds of a round per block and full, a group per model, the speed-up above: the paper's Fig. 7."""
    figure = Figure(figsize=(10.0, 3.8), layout="constrained")
    panels = figure.subplots(1, len(found))
    for axes, (model, trainings) in zip(panels, found.items(), strict=True):
        full_s = trainings[-1].round_s
        for place, local in enumerate(trainings):
            colour = "#000000" if local.submodel == FULL else COLOURS[place]
            axes.bar(place, local.round_s, color=colour, width=0.7)
            text = "" if local.submodel == FULL else f"{full_s / local.round_s:.2f}x"
            axes.annotate(text, (place, local.round_s), xytext=(0, 2), textcoords="offset points", ha="center",
                          fontsize="x-small")  # fmt: skip
        names = [local.submodel.removeprefix("stage-") for local in trainings]
        axes.set_xticks(range(len(trainings)), names, fontsize="small")
        axes.set_title(label(model), loc="left", fontsize="medium")
    panels[0].set_ylabel(f"modelled seconds of a round on {DEVICE}", fontsize="small")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": "neulite-sim", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def memory_table(found: Mapping[str, Mapping[str, Sequence[Local]]]) -> Iterator[str]:
    """Yield the lines of the table of peaks: MB per stage and full, and how much of the full peak is saved."""
    yield "| model | stages | full | saved by the largest stage | by the smallest |"
    yield "| --- | --- | --- | --- | --- |"
    for model, by_method in found.items():
        for method, trainings in by_method.items():
            peaks = [local.peak_bytes / 1e6 for local in trainings]
            saved = [1 - limit / peaks[-1] for limit in (max(peaks[:-1]), min(peaks[:-1]))]
            name = label(model) + ("" if method == "neulite" else f", {method}")
            stages = ", ".join(f"{peak:.0f}" for peak in peaks[:-1])
            yield f"| {name} | {stages} | {peaks[-1]:.0f} | {saved[0]:.1%} | {saved[1]:.1%} |"


def time_table(found: Mapping[str, Mapping[str, Sequence[Local]]]) -> Iterator[str]:
    """Yield the lines of the table of times: seconds per stage and full, speed-ups, and that of a whole cycle."""
    yield "| model | stages (s) | full (s) | speed-up per stage | mean round |"
    yield "| --- | --- | --- | --- | --- |"
    for model, by_method in found.items():
        for method, trainings in by_method.items():
            seconds = [local.round_s for local in trainings]
            name = label(model) + ("" if method == "neulite" else f", {method}")
            stages = ", ".join(f"{each:.1f}" for each in seconds[:-1])
            faster = ", ".join(f"{seconds[-1] / each:.2f}" for each in seconds[:-1])
            mean = seconds[-1] / float(np.mean(seconds[:-1]))
            yield f"| {name} | {stages} | {seconds[-1]:.1f} | {faster} | {mean:.2f} |"


def main() -> None:
    """Write the figures and print the tables."""
    found = {model: {method: local_trainings(model, method) for method in METHODS} for model in MODELS}
    usual = {model: by_method["neulite"] for model, by_method in found.items()}
    draw_memory({model: usual[model] for model in MEMORY_MODELS}, IMAGES / "paper_memory.svg")
    draw_times(usual, IMAGES / "paper_time.svg")
    for table in (memory_table(found), time_table(found)):
        sys.stdout.writelines(f"{line}\n" for line in (*table, ""))


if __name__ == "__main__":
    main()
