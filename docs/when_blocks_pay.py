"""Print the tables of docs/background/when_blocks_pay.md: the least memory of the full model, and of NeuLite's stages.

From a checkout: `python docs/when_blocks_pay.py [--only NAME | --write]`, about a minute of one core per workload.
Nothing is trained. Every submodel is profiled under each *plan*: micro-batches of 2 and 16 samples or none, with and
without checkpointing. The optimizer step is the same under all of them.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paired_cells import placed
from paired_runs import CHECKOUT

from neulite_sim import registry
from neulite_sim.methods.contract import Method, Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.scenario.schema import Training

PAGE = CHECKOUT / "docs" / "background" / "when_blocks_pay.md"
DEVICE = "jetson-nano-4gb"
DOWNLINK, UPLINK = 50e6, 20e6
SLOW_LINK = 10
"""Bits per second of the fleet of docs/background/methods_compared.md, and how many times slower the slow ones are."""
SAMPLES, EPOCHS, CLASSES = 500, 5, 10
MICRO_BATCHES = (2, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What devices are charged for: a network, its images, the batch and the optimizer."""

    model: str
    side: int = 32
    batch_size: int = 128
    optimizer: str = "sgd"
    options: tuple[tuple[str, Any], ...] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """Its name in the tables."""
        return f"{self.name or self.model}, {self.side} px, batch {self.batch_size}, {self.optimizer}"


VIT_B = {"name": "ViT-B/16", "side": 224, "options": (("patch", 16), ("dim", 768), ("heads", 12))}
WIDE = (("patch", 4), ("dim", 768), ("heads", 12))
WORKLOADS = (
    *(Workload(model=model) for model in ("resnet18", "resnet34", "vgg11_bn", "squeezenet", "vit")),
    Workload(model="resnet18", batch_size=16),
    Workload(model="resnet18", optimizer="adam"),
    Workload(model="resnet18", side=224, batch_size=32),
    Workload(model="resnet34", optimizer="adam"),
    Workload(model="vgg11_bn", optimizer="adam"),
    Workload(model="vit", optimizer="adam"),
    Workload(model="vit", side=84, batch_size=32, optimizer="adam", options=(("preset", "mini-imagenet"),)),
    Workload(model="vit", batch_size=32, optimizer="sgd", **VIT_B),
    Workload(model="vit", batch_size=32, optimizer="adam", **VIT_B),
    Workload(model="vit", batch_size=32, optimizer="adam", **{**VIT_B, "name": "ViT-B/4", "side": 32, "options": WIDE}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A way to take the step: the peak and the seconds of a flight's local training on `DEVICE`."""

    micro_batch_size: int | None
    checkpointing: bool
    peak_bytes: int
    compute_s: float
    bytes_down: int
    bytes_up: int

    @property
    def label(self) -> str:
        """What is done to the step."""
        parts = [] if self.micro_batch_size is None else [f"micro {self.micro_batch_size}"]
        return " + ".join([*parts, *(["ckpt"] if self.checkpointing else [])]) or "plain"

    def flight_s(self, slowness: float = 1) -> float:
        """Return seconds of a flight on a link so many times slower than that of the fleet, latency left out."""
        return self.compute_s + 8 * slowness * (self.bytes_down / DOWNLINK + self.bytes_up / UPLINK)


@functools.cache
def blueprint(workload: Workload) -> Blueprint:
    """Return the full-width network."""
    found = registry.component("model", workload.model)
    options = found.options(**dict(workload.options))
    shape = (3, workload.side, workload.side)
    return Blueprint(architecture=found.build(options), input_shape=shape, num_classes=CLASSES, name=workload.model)


@functools.cache
def neulite(workload: Workload) -> Method:
    """Return the method with its defaults."""
    found = registry.component("method", "neulite")
    setting = Setting(num_blocks=blueprint(workload).build_meta().num_blocks, num_devices=1, max_rounds=1, seed=0)
    method: Method = found.build(found.options(), setting)
    return method


@functools.cache
def submodels(workload: Workload) -> tuple[str, ...]:
    """Return `full` and the names of the stages."""
    return ("full", *neulite(workload).submodels)


def _trainee(workload: Workload, submodel: str) -> Trainee:
    if submodel == "full":
        return FullModel(blueprint(workload))
    return neulite(workload).trainee(submodel, blueprint(workload))


@functools.cache
def plans(workload: Workload, submodel: str) -> tuple[Plan, ...]:
    """Return the submodel under every plan."""
    micros = (None, *(micro for micro in MICRO_BATCHES if micro < workload.batch_size))
    return tuple(
        plan_of(workload, submodel, micro, checkpointing=checkpointing)
        for micro, checkpointing in itertools.product(micros, (False, True))
    )


def plan_of(workload: Workload, submodel: str, micro: int | None, *, checkpointing: bool) -> Plan:
    """Return the submodel under one plan."""
    training = Training(
        batch_size=workload.batch_size,
        micro_batch_size=micro,
        checkpointing=checkpointing,
        optimizer=workload.optimizer,  # type: ignore[arg-type]
    )
    found = profile(
        submodel,
        lambda: _trainee(workload, submodel),
        input_shape=(3, workload.side, workload.side),
        batch_size=workload.batch_size,
        training=training,
    )
    return Plan(
        micro_batch_size=micro,
        checkpointing=checkpointing,
        peak_bytes=found.peak_memory_bytes,
        compute_s=EPOCHS * SAMPLES / workload.batch_size * _step_s(found),
        bytes_down=found.bytes_down,
        bytes_up=found.bytes_up,
    )


def _step_s(found: Profile) -> float:
    return step_seconds(found, device_class(DEVICE))


def least(found: Sequence[Plan]) -> Plan:
    """Return the plan of the smallest peak."""
    return min(found, key=lambda plan: plan.peak_bytes)


def fastest(found: Sequence[Plan], budget_bytes: float) -> Plan | None:
    """Return the fastest plan that fits a budget."""
    return min(
        (plan for plan in found if plan.peak_bytes <= budget_bytes), key=lambda plan: plan.compute_s, default=None
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _header(cells: Sequence[str]) -> str:
    return f"{_row(cells)}\n{_row(['---'] * len(cells))}"


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.0f}"


def peaks_row(workload: Workload) -> str:
    """Return a workload's line of the first table: peaks with and without plans, and who is below whom."""
    full, *stages = (plans(workload, name) for name in submodels(workload))
    plain = [found[0].peak_bytes for found in (full, *stages)]
    floors = [least(found).peak_bytes for found in (full, *stages)]
    return _row([
        workload.label,
        f"{full[0].bytes_down / 4e6:.1f}",
        _mb(plain[0]),
        ", ".join(map(_mb, plain[1:])),
        f"{_mb(floors[0])} ({least(full).label})",
        ", ".join(map(_mb, floors[1:])),
        f"{max(plain[1:]) / floors[0]:.2f}",
        f"{max(floors[1:]) / floors[0]:.2f}",
        f"{min(floors[1:]) / floors[0]:.2f}",
    ])  # fmt: skip


def flights_row(workload: Workload) -> str:
    """Return a workload's line of the second table: flights at the budget of NeuLite's largest plain stage."""
    full, *stages = (plans(workload, name) for name in submodels(workload))
    budget = max(found[0].peak_bytes for found in stages)
    whole = fastest(full, budget)
    cycle = [plan for found in stages if (plan := fastest(found, budget))]
    cells = [workload.label, _mb(budget), "none" if whole is None else whole.label]
    for slowness in (1, SLOW_LINK):
        mean_s = sum(plan.flight_s(slowness) for plan in cycle) / len(cycle)
        full_s = None if whole is None else whole.flight_s(slowness)
        cells += [
            "-" if full_s is None else f"{full_s:.0f}",
            f"{mean_s:.0f}",
            "-" if full_s is None else f"{mean_s / full_s:.2f}",
        ]
    sent = sum(plan.bytes_down + plan.bytes_up for plan in cycle) / len(cycle)
    cells.append(f"{sent / (full[0].bytes_down + full[0].bytes_up):.2f}")
    return _row(cells)


PEAKS = ("workload", "M parameters", "full, plain", "stages, plain", "full, least (plan)", "stages, least",
         "largest stage plain / full least", "largest / full, least", "smallest / full, least")  # fmt: skip
FLIGHTS = ("workload", "budget, MB", "full model's plan", "full, s", "stages, s", "ratio",
           "slow link: full, s", "stages, s", "ratio", "bytes, ratio")  # fmt: skip


TABLES = {"peaks": (PEAKS, peaks_row), "flights": (FLIGHTS, flights_row)}


def table(name: str, workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the lines of a table."""
    head, row = TABLES[name]
    yield _header(head)
    yield from map(row, workloads)


def main() -> None:
    """Print both tables, and write them into their page where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="workloads whose label holds this text")
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    given = parser.parse_args()
    workloads = [workload for workload in WORKLOADS if given.only in workload.label]
    for name in TABLES:
        lines = []
        for line in table(name, workloads):
            print(line, flush=True)
            lines.append(line)
        print(flush=True)
        if given.write:
            PAGE.write_text(placed(PAGE.read_text(), name, "\n".join(lines)))


if __name__ == "__main__":
    main()
