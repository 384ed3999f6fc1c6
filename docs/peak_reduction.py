"""Print the tables of docs/background/memory_model.md on rivals: what NeuLite, checkpointing and micro-batches save.

From a checkout: `python docs/peak_reduction.py`, some minutes. Every network trains on images of 3x32x32 in 10 classes
at batch 128 with SGD and momentum, as the paper's devices do.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from neulite_sim import registry
from neulite_sim.methods.contract import Method, Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.scenario.schema import Training

MODELS = ("resnet18", "resnet34", "vgg11_bn", "squeezenet", "vit")
SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 128
DEVICE = "jetson-tx2-8gb"
RIVALS: dict[str, dict[str, Any]] = {
    "checkpointing": {"checkpointing": True},
    "micro-batches of 32": {"micro_batch_size": 32},
    "micro-batches of 8": {"micro_batch_size": 8},
    "both, of 32": {"checkpointing": True, "micro_batch_size": 32},
}


@functools.cache
def blueprint(model: str) -> Blueprint:
    """Return the full-width network."""
    found = registry.component("model", model)
    return Blueprint(architecture=found.build(found.options()), input_shape=SHAPE, num_classes=CLASSES, name=model)


@functools.cache
def neulite(model: str, *, curriculum: bool) -> Method:
    """Return the method for a network, with its curriculum-aware loss or with cross-entropy alone."""
    found = registry.component("method", "neulite")
    num_blocks = blueprint(model).build_meta().num_blocks
    setting = Setting(num_blocks=num_blocks, num_devices=1, max_rounds=1, seed=0)
    method: Method = found.build(found.options(curriculum=curriculum), setting)
    return method


@functools.cache
def full(model: str, rival: str = "") -> Profile:
    """Return the profile of the full model, trained plainly or as a rival says."""
    return _profiled(lambda: FullModel(blueprint(model)), Training(batch_size=BATCH, **RIVALS.get(rival, {})))


@functools.cache
def stages(model: str, *, curriculum: bool = True) -> tuple[Profile, ...]:
    """Return the profiles of NeuLite's stages."""
    method = neulite(model, curriculum=curriculum)
    return tuple(
        _profiled(lambda name=name: method.trainee(name, blueprint(model)), Training(batch_size=BATCH))  # type: ignore[misc]
        for name in method.submodels
    )


def _profiled(build: Any, training: Training) -> Profile:
    def built() -> Trainee:
        trainee: Trainee = build()
        return trainee

    return profile("any", built, input_shape=SHAPE, batch_size=BATCH, training=training)


def reduction(found: Profile, whole: Profile) -> float:
    """Return by which share of the full model's peak a profile lies below it."""
    return 1 - found.peak_memory_bytes / whole.peak_memory_bytes


def seconds(found: Profile) -> float:
    """Return seconds of a step on the device."""
    return step_seconds(found, device_class(DEVICE))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _header(cells: Sequence[str]) -> Iterator[str]:
    yield _row(cells)
    yield _row(["---"] * len(cells))


def reductions(models: Sequence[str] = MODELS) -> Iterator[str]:
    """Yield the first table: peaks, their reduction and the speed-up of each stage."""
    yield from _header(["model", "full, MB", "stages, MB", "largest stage", "smallest stage", "FLOPs", DEVICE])
    for model in models:
        whole = full(model)
        for label, curriculum in (("", True), (", cross-entropy alone", False)):
            found = stages(model, curriculum=curriculum)
            cuts = sorted(reduction(item, whole) for item in found)
            yield _row([
                model + label,
                f"{whole.peak_memory_bytes / 1e6:.0f}",
                ", ".join(f"{item.peak_memory_bytes / 1e6:.0f}" for item in found),
                f"{-cuts[0]:+.1%}",
                f"{-cuts[-1]:+.1%}",
                ", ".join(f"{whole.flops_per_step / item.flops_per_step:.2f}x" for item in found),
                ", ".join(f"{seconds(whole) / seconds(item):.2f}x" for item in found),
            ])  # fmt: skip


def rivals(models: Sequence[str] = MODELS) -> Iterator[str]:
    """Yield the second table: peak, FLOPs and seconds of the full model under each rival, against the plain one."""
    yield from _header(["model", "NeuLite, every stage fits", *RIVALS])
    for model in models:
        whole = full(model)
        largest = max(stages(model), key=lambda item: item.peak_memory_bytes)
        cells = [f"{-reduction(largest, whole):+.0%}"]
        for rival in RIVALS:
            found = full(model, rival)
            work = f"{found.flops_per_step / whole.flops_per_step:.2f}x FLOPs"
            time = f"{seconds(found) / seconds(whole):.2f}x time"
            cells.append(f"{-reduction(found, whole):+.0%}; {work}, {time}")
        yield _row([model, *cells])


if __name__ == "__main__":
    for table in (reductions, rivals):
        for line in (*table(), ""):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
