"""Law 3 of the project: every field of a scenario acts or is refused.

Each case changes one field of a small scenario and looks for a difference: first in what is assembled (data, fleet,
charges), then in rows, summary and digest of a run. `CASES` must cover every field of the schema and every option of
every registered component, so that a new one is not forgotten.
"""

from __future__ import annotations

import functools
import pickle
import typing
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from slow_cases import some_slow
from tiny_scenarios import tiny, waves

from neulite_sim import registry
from neulite_sim.engine import assembly, parts, simulation
from neulite_sim.errors import ScenarioError
from neulite_sim.registry import Options
from neulite_sim.scenario.schema import Scenario

pytestmark = pytest.mark.usefixtures("shared_profiles")

BATCH_NORM = ("model=resnet18", "proxy.width=0.0625", "stop.rounds=1", "selection.devices_per_round=1",
              "population.available_memory={kind: uniform, low: 1GB, high: 1GB}")  # fmt: skip
UNEQUAL = "data.partition={kind: dirichlet, alpha: 0.4}"
MIXED = ("model=lenet", "data.image_size=8", UNEQUAL, "stop.rounds=2", "selection.devices_per_round=6",
         "population.available_memory={kind: explicit, values: [400kB, 2MB, 400kB, 2MB, 400kB, 2MB]}")  # fmt: skip
"""Devices that hold the full model and devices that hold half of it, each without some of the classes."""
PARTS_ONLY = "population.available_memory={kind: uniform, low: 1010kB, high: 1020kB}"
LAST_BLOCK = "population.available_memory={kind: explicit, values: [940kB, 2MB, 2MB, 2MB, 2MB, 2MB]}"
"""Of `mixed`, for `fedepth`: who holds two parts and not the full model, and who holds the last block alone."""
PARTLY = tuple(text.replace("400kB", "1010kB") for text in MIXED)
"""Devices that hold the full model and devices that train half of its variables."""
FLEET = ("data.train_samples=200", UNEQUAL, "population.devices=30", "stop.rounds=8",
         "population.groups=[{device: jetson-nano-4gb, share: 1}, {device: raspberry-pi-4-4gb, share: 1}]")  # fmt: skip
"""Devices enough for a selector to learn of, of two speeds and with unequal data."""
BASES = {
    "tiny": tiny,
    "unequal": lambda *more: tiny(UNEQUAL, *more),
    "images": lambda *more: tiny("model=lenet", "data.image_size=8", *more),
    "batch norm": lambda *more: tiny(*BATCH_NORM, *more),
    "one stage": lambda *more: tiny("method=neulite", *more),
    "stages": lambda *more: waves("population.availability=always", "stop.rounds=3", *more),
    "mixed": lambda *more: tiny(*MIXED, *more),
    "partly": lambda *more: tiny(*PARTLY, *more),
    "fleet": lambda *more: tiny(*FLEET, *more),
    "texts": lambda *more: tiny(*TEXTS, *more),
}
"""Where a case starts: the smallest scenario in which its field can matter."""


@dataclass(frozen=True)
class Case:
    """A change (`key=value`), the base it is made in, and what that base needs for the change to matter."""

    change: str
    base: str = "tiny"
    setup: tuple[str, ...] = ()


def case(change: str, *setup: str, base: str = "tiny") -> Case:
    return Case(change, base, setup)


TWO_GROUPS = "population.groups=[{device: jetson-nano-4gb, share: 1}, {device: raspberry-pi-4-4gb, share: 1}]"
CUT = ("data={kind: synthetic, shape: [3, 32, 32], samples: 60, test_samples: 30}", "method=neulite", "stop.rounds=1",
       "model={kind: 'torchvision:shufflenet_v2_x0_5'}", "backend=dry-run",
       "population.available_memory={kind: uniform, low: 1GB, high: 1GB}")  # fmt: skip
OWN_BOARDS = ("population.hardware=BOARDS", "population.groups.0.device=board")
LINK = "{downlink: 20Mbps, uplink: 5Mbps, latency: 10ms}"
TRACED_LINK = "{downlink: {trace: RATES}, uplink: {trace: RATES, scale: 0.5}}"
SEQUENTIAL = ("method={kind: neulite, schedule: sequential, convergence: {window: 2, evaluations: 2, slope_threshold: "
              "10, max_rounds: 50}}", "stop.rounds=8")  # fmt: skip
DISTILLED = ("method={kind: profl, shrinking_rounds: 1}",)
MOVING = ("method={kind: profl, shrinking: false, convergence: {window: 2, evaluations: 2, slope_threshold: 10, "
          "max_rounds: 50}}")  # fmt: skip
SHORT = "population.available_memory={kind: explicit, values: [10700, 10900, 11700, 20MB, 20MB, 20MB]}"
"""Bytes for the logistic model at batches of 1, 2 and 5, which take 10 624, 10 888 and 11 680."""
SHORT_IMAGES = "population.available_memory={kind: explicit, values: [940kB, 960kB, 1MB, 20MB, 20MB, 20MB]}"
"""Bytes for lenet: 1 023 416 as it is, 951 052 with micro-batches of 2 and checkpointing, 933 792 in bf16 with that."""
AWAY = "population.availability={kind: markov, mean_on: 200ms, mean_off: 100ms}"
OUTAGES = "{mean_between: 1h, mean_length: 1h}"
BATTERY = "{capacity_watt_hours: 10, idle_watts: 0.5, working_watts: 4, charging_watts: 3, minimum: 0.8}"
DRAINED = ("{capacity_watt_hours: 0.0004, level: 1, charging_watts: 3, plugged_in_at: 12h, plugged_in_spread: 0, "
           "minimum: 0.2}")  # fmt: skip
"""A battery that a flight of a tenth of a second nearly empties; plugged in at noon."""
EMPTYING = ("{capacity_watt_hours: 0.02, idle_watts: 0.0001, working_watts: 4, charging_watts: 3, plugged_in_at: 12h, "
            "plugged_in_spread: 0}")  # fmt: skip
CNN = ("model=cnn", "population.available_memory={kind: uniform, low: 1GB, high: 1GB}")
RESNET20 = ("model=resnet20", "data.image_size=8", "proxy.width=0.125", *CNN[1:])
STAIRCASE = ("model=cnn", "data.image_size=8", "method={kind: slt, configurations: [[0.25, 0.7]]}", "stop.rounds=2",
             "selection.devices_per_round=6",
             "population.available_memory={kind: explicit, values: [353kB, 1MB, 353kB, 1MB, 353kB, 1MB]}")  # fmt: skip
"""Devices that train the last two layers of full width beside devices that hold the first of these frozen."""
TEXTS = ("data={kind: synthetic-text, samples: 60, test_samples: 20, sequence_length: 8, authors: 6}", "stop.rounds=1",
         "model={kind: gpt, depth: 2, dim: 16, heads: 2, hidden: 32}",
         "population.available_memory={kind: uniform, low: 1GB, high: 1GB}")  # fmt: skip
"""Made-up texts, and a decoder small enough for a test."""
ENCODED = (*TEXTS, "data.targets=class", "model={kind: bert, depth: 2, dim: 16, heads: 2, hidden: 32}")
SCHEMA = {
    "name": case("name=other"),
    "seed": case("seed=4"),
    "data": case("data={kind: synthetic, shape: [1, 8, 8], samples: 60, test_samples: 30}"),
    "model": case("model=lenet"),
    "training.epochs": case("training.epochs=2"),
    "training.batch_size": case("training.batch_size=4"),
    "training.learning_rate": case("training.learning_rate=0.1"),
    "training.learning_rate_schedule": case("training.learning_rate_schedule=cosine"),
    "training.learning_rate_schedule.step.milestones": case(
        "training.learning_rate_schedule.milestones=[2]",
        "training.learning_rate_schedule={kind: step, milestones: [3]}",
    ),
    "training.learning_rate_schedule.step.factor": case(
        "training.learning_rate_schedule.factor=0.5", "training.learning_rate_schedule={kind: step, milestones: [1]}"
    ),
    "training.learning_rate_schedule.cosine.final": case(
        "training.learning_rate_schedule.final=0.01", "training.learning_rate_schedule=cosine"
    ),
    "training.learning_rate_schedule.cosine.rounds": case(
        "training.learning_rate_schedule.rounds=9", "training.learning_rate_schedule=cosine"
    ),
    "training.optimizer": case("training={epochs: 1, batch_size: 5, learning_rate: 0.05, optimizer: adam}"),
    "training.optimizer.adam.beta1": case("training.optimizer.beta1=0.5", "training={optimizer: adam}"),
    "training.optimizer.adam.beta2": case("training.optimizer.beta2=0.5", "training={optimizer: adam}"),
    "training.optimizer.adam.epsilon": case("training.optimizer.epsilon=0.1", "training={optimizer: adam}"),
    "training.momentum": case("training.momentum=0.5"),
    "training.weight_decay": case("training.weight_decay=0.1"),
    "training.clip_norm": case("training.clip_norm=0.01"),
    "training.precision": case("training.precision=bf16"),
    "training.micro_batch_size": case("training.micro_batch_size=2"),
    "training.prefix_cache": case(
        "training.prefix_cache=device", "training.epochs=2", "method={kind: neulite, tail: 0}", base="stages"
    ),
    "training.checkpointing": case("training.checkpointing=true", base="images"),
    "training.fit": case("training.fit=auto", SHORT_IMAGES, base="images"),
    "training.fit.auto.micro_batch_sizes": case(
        "training.fit.micro_batch_sizes=[3]", "training.fit=auto", SHORT_IMAGES, base="images"
    ),
    "training.fit.auto.checkpointing": case(
        "training.fit.checkpointing=never", "training.fit=auto", SHORT_IMAGES, base="images"
    ),
    "training.fit.auto.precisions": case(
        "training.fit.precisions=[fp32, bf16]", "training.fit=auto", SHORT_IMAGES, base="images"
    ),
    "training.norm": case("training.norm=group", base="batch norm"),
    "training.shrink_batch": case("training.shrink_batch={minimum: 1}", SHORT),
    "training.shrink_batch.minimum": case(
        "training.shrink_batch.minimum=1", "training.shrink_batch={minimum: 2}", SHORT
    ),
    "churn.offline": case("churn.offline=pause", AWAY),
    "churn.failures_per_hour": case("churn.failures_per_hour=3600", "workload.epochs=100"),
    "churn.timeout": case("churn.timeout=50ms"),
    "churn.outages": case(f"churn.outages={OUTAGES}"),
    "churn.outages.mean_between": case("churn.outages.mean_between=2h", f"churn.outages={OUTAGES}"),
    "churn.outages.mean_length": case("churn.outages.mean_length=2h", f"churn.outages={OUTAGES}"),
    "churn.outages.groups": case("churn.outages.groups=2", f"churn.outages={OUTAGES}"),
    "training.frozen_weights": case("training.frozen_weights=bf16", "method=head-only", base="texts"),
    "workload.sequence_length": case("workload.sequence_length=12", base="texts"),
    "workload.vocabulary": case("workload.vocabulary=50", base="texts"),
    "proxy.sequence_length": case("proxy.sequence_length=4", base="texts"),
    "energy": case("energy={}"),
    **{
        f"energy.power.{state}_watts": case(f"energy.power={{jetson-nano-4gb: {{{state}_watts: {watts}}}}}", *setup)
        for state, watts, *setup in (
            ("idle", 0.5, AWAY, "churn.offline=pause", "stop.rounds=20"),
            ("compute", 8),
            ("radio", 3),
            ("receive", 3),
            ("send", 3),
        )
    },
    "energy.power.battery_watt_hours": case(
        "energy.power={jetson-nano-4gb: {battery_watt_hours: 0.0001}}", f"energy.battery={DRAINED}"
    ),
    "energy.battery.charging_watts": case(
        "energy.battery.charging_watts=4", f"energy.battery={DRAINED.replace('level: 1', 'level: 0')}"
    ),
    "energy.battery": case(f"energy.battery={DRAINED}", "energy={}"),
    **{
        f"energy.battery.{name}": case(f"energy.battery.{name}={value}", f"energy.battery={DRAINED}")
        for name, value in (
            ("capacity_watt_hours", 1),
            ("level", 0.21),
            ("plugged_in_at", "13h"),
            ("plugged_in_spread", "10min"),
            ("plugged_in_for", "4h"),
            ("minimum", 0.9),
            ("requires_charging", "true"),
        )
    },
    "churn.battery": case(f"churn.battery={BATTERY}"),
    "churn.battery.capacity_watt_hours": case("churn.battery.capacity_watt_hours=12", f"churn.battery={BATTERY}"),
    "churn.battery.idle_watts": case("churn.battery.idle_watts=0.4", f"churn.battery={BATTERY}"),
    "churn.battery.working_watts": case(
        "churn.battery.working_watts=1000", f"churn.battery={EMPTYING}", "workload.epochs=100"
    ),
    "churn.battery.charging_watts": case("churn.battery.charging_watts=2", f"churn.battery={BATTERY}"),
    "churn.battery.plugged_in_at": case("churn.battery.plugged_in_at=20h", f"churn.battery={BATTERY}"),
    "churn.battery.plugged_in_spread": case("churn.battery.plugged_in_spread=1h", f"churn.battery={BATTERY}"),
    "churn.battery.plugged_in_for": case("churn.battery.plugged_in_for=4h", f"churn.battery={BATTERY}"),
    "churn.battery.minimum": case("churn.battery.minimum=0.9", f"churn.battery={BATTERY}"),
    "churn.battery.requires_charging": case("churn.battery.requires_charging=true", f"churn.battery={BATTERY}"),
    "population.devices": case("population.devices=5"),
    "population.hardware": case("population.hardware=OTHER_BOARDS", *OWN_BOARDS),
    "population.groups.device": case("population.groups.0.device=raspberry-pi-4-4gb"),
    "population.groups.share": case("population.groups.0.share=5", TWO_GROUPS),
    "population.groups.available_memory": case(
        "population.groups.0.available_memory={kind: uniform, low: 1MB, high: 2MB}"
    ),
    "population.groups.link": case(f"population.groups.0.link={LINK}"),
    "population.groups.link.downlink": case(
        "population.groups.0.link.downlink=1Mbps", f"population.groups.0.link={LINK}"
    ),
    "population.groups.link.uplink": case("population.groups.0.link.uplink=1Mbps", f"population.groups.0.link={LINK}"),
    "population.groups.link.latency": case("population.groups.0.link.latency=1s", f"population.groups.0.link={LINK}"),
    "population.available_memory": case("population.available_memory={kind: installed, share: 0.5}"),
    "population.memory_motion": case("population.memory_motion={kind: walk, step: 0.2}"),
    "population.availability": case("population.availability=diurnal"),
    "population.link": case(f"population.link={LINK}"),
    "population.link.downlink": case("population.link.downlink=1Mbps", f"population.link={LINK}"),
    "population.link.uplink": case("population.link.uplink=1Mbps", f"population.link={LINK}"),
    "population.link.latency": case("population.link.latency=1s", f"population.link={LINK}"),
    **{
        f"population.{place}link.{rate}.{option}": case(
            f"population.{at}link.{rate}.{option}={value}", f"population.{at}link={TRACED_LINK}"
        )
        for place, at in (("", ""), ("groups.", "groups.0."))
        for rate in ("downlink", "uplink")
        for option, value in (("trace", "OTHER_RATES"), ("scale", "2"), ("repeat", "false"), ("start", "beginning"))
    },
    "population.groups.individuals": case("population.groups.0.individuals={path: PHONES}"),
    "population.groups.individuals.path": case(
        "population.groups.0.individuals.path=OTHER_PHONES", "population.groups.0.individuals={path: PHONES}"
    ),
    "population.speed_jitter": case("population.speed_jitter=0.3"),
    "method": case("method=exclusivefl", "method={kind: fedavg, memory_limit: false}"),
    "selection": case("selection.devices_per_round=2"),
    "evaluation.every_rounds": case("evaluation.every_rounds=2"),
    "evaluation.batch_norm": case("evaluation.batch_norm=recalibrated", base="batch norm"),
    "evaluation.recalibration_samples": case(
        "evaluation.recalibration_samples=20", "evaluation.batch_norm=recalibrated", base="batch norm"
    ),
    "evaluation.targets": case("evaluation.targets=[0.42]"),
    "evaluation.diagnostics": case("evaluation.diagnostics=[nhsic_plane]"),
    "evaluation.diagnostic_samples": case(
        "evaluation.diagnostic_samples=20", "evaluation.diagnostics=[nhsic_plane]", base="images"
    ),
    "stop.rounds": case("stop.rounds=3"),
    "stop.target_accuracy": case("stop.target_accuracy=0.01"),
    "stop.virtual_time": case("stop.virtual_time=100ms"),
    "workload.model": case("workload.model=lenet"),
    "workload.input_shape": case("workload.input_shape=[3, 9, 7]"),
    "workload.classes": case("workload.classes=3"),
    "workload.samples_per_device": case("workload.samples_per_device=50"),
    "workload.batch_size": case("workload.batch_size=3"),
    "workload.epochs": case("workload.epochs=4"),
    "workload.precision": case("workload.precision=bf16"),
    "workload.micro_batch_size": case("workload.micro_batch_size=2"),
    "workload.checkpointing": case("workload.checkpointing=true", base="images"),
    "proxy.width": case("proxy.width=0.5", base="images"),
    "proxy.image_size": case("proxy.image_size=6"),
    "proxy.batch_size": case("proxy.batch_size=3"),
    "proxy.epochs": case("proxy.epochs=2"),
    "proxy.precision": case("proxy.precision=bf16"),
    "proxy.micro_batch_size": case("proxy.micro_batch_size=2"),
    "proxy.checkpointing": case("proxy.checkpointing=true", base="images"),
    "allocator": case("allocator=caching"),
    "allocator.caching.round_bytes": case("allocator.round_bytes=4096", "allocator=caching"),
    "allocator.glibc.base": case("allocator.base=200MB", "allocator=glibc"),
    "allocator.glibc.mmap_threshold": case(
        "allocator.mmap_threshold=64KiB", "allocator={kind: glibc, base: 1MB}", "model=cnn", "data.image_size=16"
    ),
    "allocator.caching.context": case("allocator.context=1MB", "allocator=caching"),
    "backend": case("backend=dry-run"),
}
DIGITS, SYNTHETIC = "data[digits]", "data[synthetic]"
SYNTHESIS = "data={kind: synthetic, shape: [1, 8, 8], samples: 60, test_samples: 30}"
LOGNORMAL = "population.available_memory={kind: lognormal, median: 1MB, sigma: 0.5}"
NIGHTS = "population.availability={kind: diurnal, start_spread: 1h, time_zone_span: 1h}"
TRACE = "population.availability={kind: trace, path: TRACE}"
REDRAWN = "population.memory_motion={kind: redrawn, every: round}"
WALK = "population.memory_motion={kind: walk, step: 0.2}"
MEMORY_TRACE = "population.memory_motion={kind: trace, path: MEMORY}"
VIT = "model={kind: vit, depth: 3, patch: 4, dim: 12, heads: 3}"
OORT = "selection={kind: oort, devices_per_round: 10}"
TIFL = "selection={kind: tifl, devices_per_round: 3, tiers: 3, interval: 1, waits_for_stall: false}"
OPTIONS = {
    "data[synthetic-text].authors": case(
        "data.authors=3", "data.partition=natural", "population.devices=3", base="texts"
    ),
    **{
        f"data[synthetic-text].{name}": case(f"data.{name}={value}", base="texts")
        for name, value in (
            ("partition", "{kind: dirichlet, alpha: 0.3}"),
            ("samples", 48),
            ("test_samples", 10),
            ("topics", 3),
            ("sequence_length", 6),
            ("targets", "class"),
            ("tokens", "words"),
            ("words_per_topic", 5),
        )
    },
    **{
        f"model[gpt].{name}": case(f"model.{name}={value}", base="texts")
        for name, value in (
            ("attention", "math"),
            ("depth", 1),
            ("dim", 32),
            ("heads", 4),
            ("hidden", 48),
            ("kv_heads", 1),
            ("mlp", "swiglu"),
            ("norm", "rms"),
            ("position", "rotary"),
            ("tied", "false"),
            ("vocabulary", 40),
        )
    },
    "model[gpt].preset": case("model={kind: gpt, preset: gpt-0.8m}", base="texts"),
    "model[gpt].blocks": case("model.blocks=2", "model.depth=3", "method=neulite", "backend=dry-run", base="texts"),
    **{
        f"model[bert].{name}": case(f"model.{name}={value}", *ENCODED[-2:], base="texts")
        for name, value in (
            ("attention", "math"),
            ("depth", 1),
            ("dim", 32),
            ("heads", 4),
            ("hidden", 48),
            ("vocabulary", 40),
        )
    },
    "model[bert].preset": case("model={kind: bert, preset: bert-tiny}", *ENCODED[-2:], "backend=dry-run", base="texts"),
    "model[bert].blocks": case(
        "model.blocks=2", *ENCODED[-2:], "model.depth=3", "method=neulite", "backend=dry-run", base="texts"
    ),
    f"{DIGITS}.partition": case("data.partition=shards"),
    f"{DIGITS}.image_size": case("data.image_size=6"),
    f"{DIGITS}.train_samples": case("data.train_samples=54"),
    f"{DIGITS}.test_samples": case("data.test_samples=20"),
    f"{DIGITS}.augmentation": case("data.augmentation=crop-flip"),
    f"{SYNTHETIC}.partition": case("data.partition=shards", SYNTHESIS),
    f"{SYNTHETIC}.shape": case("data.shape=[2, 8, 8]", SYNTHESIS),
    f"{SYNTHETIC}.classes": case("data.classes=4", SYNTHESIS),
    f"{SYNTHETIC}.samples": case("data.samples=50", SYNTHESIS),
    f"{SYNTHETIC}.test_samples": case("data.test_samples=20", SYNTHESIS),
    f"{SYNTHETIC}.noise": case("data.noise=0.5", SYNTHESIS),
    f"{DIGITS}.feature_skew": case("data.feature_skew={kind: brightness}"),
    f"{DIGITS}.feature_skew.strength": case("data.feature_skew.strength=2", "data.feature_skew={strength: 0.1}"),
    f"{DIGITS}.feature_skew.turns": case("data.feature_skew.turns=2", "data.feature_skew={kind: rotation}"),
    f"{DIGITS}.feature_skew.test": case("data.feature_skew.test=true", "data.feature_skew={strength: 2}"),
    f"{SYNTHETIC}.feature_skew": case("data.feature_skew={kind: contrast}", SYNTHESIS),
    f"{SYNTHETIC}.feature_skew.strength": case(
        "data.feature_skew.strength=2", SYNTHESIS, "data.feature_skew={strength: 0.1}"
    ),
    f"{SYNTHETIC}.feature_skew.turns": case(
        "data.feature_skew.turns=2", SYNTHESIS, "data.feature_skew={kind: rotation}"
    ),
    f"{SYNTHETIC}.feature_skew.test": case("data.feature_skew.test=true", SYNTHESIS, "data.feature_skew={strength: 2}"),
    "partition[quantity].law": case("data.partition.law=power", "data.partition=quantity"),
    "partition[quantity].alpha": case("data.partition.alpha=5", "data.partition=quantity"),
    "partition[quantity].exponent": case("data.partition.exponent=2", "data.partition={kind: quantity, law: power}"),
    "partition[quantity].min_samples": case("data.partition.min_samples=5", "data.partition=quantity"),
    "partition[table].path": case("data.partition.path=OTHER_OWNERS", "data.partition={kind: table, path: OWNERS}"),
    "partition[dirichlet].alpha": case("data.partition.alpha=0.1", base="unequal"),
    "partition[dirichlet].min_samples": case("data.partition.min_samples=6", base="unequal"),
    "partition[shards].shards_per_device": case("data.partition.shards_per_device=1", "data.partition=shards"),
    "method[fedavg].memory_limit": case(
        "method.memory_limit=false", "population.available_memory={kind: uniform, low: 10kB, high: 13kB}"
    ),
    "method[fedavg].weighting": case("method.weighting=uniform", base="unequal"),
    "method[exclusivefl].weighting": case("method.weighting=uniform", "method=exclusivefl", base="unequal"),
    "method[neulite].curriculum": case("method.curriculum=false", base="one stage"),
    "method[neulite].coadaptation": case("method.coadaptation=false", base="stages"),
    "method[neulite].schedule": case("method.schedule=sequential", base="stages"),
    "method[neulite].convergence.window": case("method.convergence.window=1", *SEQUENTIAL, base="stages"),
    "method[neulite].convergence.evaluations": case("method.convergence.evaluations=3", *SEQUENTIAL, base="stages"),
    "method[neulite].convergence.slope_threshold": case(
        "method.convergence.slope_threshold=1.0e-9", *SEQUENTIAL, base="stages"
    ),
    "method[neulite].convergence.max_rounds": case("method.convergence.max_rounds=2", *SEQUENTIAL, base="stages"),
    "method[neulite].convergence.scalars": case(
        "method.convergence.scalars=1", *SEQUENTIAL, "method.convergence.slope_threshold=0.5", base="stages"
    ),
    "method[neulite].lambda_x": case("method.lambda_x=[0.1, 0.05]", base="one stage"),
    "method[neulite].lambda_y": case("method.lambda_y=[0.1, 0.5]", base="one stage"),
    "method[neulite].nhsic": case("method.nhsic=nocco", base="one stage"),
    "method[neulite].sigma": case("method.sigma=2", base="one stage"),
    "method[neulite].epsilon": case("method.epsilon=0.01", "method.nhsic=nocco", base="one stage"),
    "method[neulite].z_source": case("method.z_source=module", base="stages"),
    "method[neulite].mlp_operand": case("method.mlp_operand=x", base="one stage"),
    "method[neulite].mlp_relu": case("method.mlp_relu=true", base="one stage"),
    "method[neulite].tail": case("method.tail=2", *CNN, base="stages"),
    "method[neulite].surrogate": case("method.surrogate=conv-bn-relu", base="stages"),
    "method[neulite].output_modules": case("method.output_modules=shared", base="stages"),
    "method[neulite].bn_frozen": case(
        "method.bn_frozen=train", "method={kind: neulite, curriculum: false}", "stop.rounds=2", base="batch norm"
    ),
    "method[neulite].weighting": case("method.weighting=uniform", "method=neulite", base="unequal"),
    "method[neulite].upload": case("method.upload=all", *CNN, base="stages"),
    "selection[uniform].devices_per_round": case("selection.devices_per_round=2"),
    "method[fedavg].proximal_mu": case("method.proximal_mu=0.1"),
    "method[allsmall].rates": case("method.rates=[1, 0.4]", "method=allsmall", base="mixed"),
    "method[allsmall].weighting": case("method.weighting=uniform", "method=allsmall", base="mixed"),
    "method[heterofl].rates": case("method.rates=[1, 0.4]", "method=heterofl", base="mixed"),
    "method[heterofl].scaler": case("method.scaler=false", "method=heterofl", base="mixed"),
    "method[heterofl].masked_cross_entropy": case("method.masked_cross_entropy=false", "method=heterofl", base="mixed"),
    "method[heterofl].classifier_rows": case("method.classifier_rows=false", "method=heterofl", base="mixed"),
    "method[heterofl].weighting": case("method.weighting=samples", "method=heterofl", base="mixed"),
    "method[federated-dropout].rates": case("method.rates=[1, 0.4]", "method=federated-dropout", base="mixed"),
    "method[federated-dropout].scaler": case("method.scaler=false", "method=federated-dropout", base="mixed"),
    "method[federated-dropout].masked_cross_entropy": case(
        "method.masked_cross_entropy=true", "method=federated-dropout", base="mixed"
    ),
    "method[federated-dropout].weighting": case("method.weighting=samples", "method=federated-dropout", base="mixed"),
    "method[partial-variables].shares": case("method.shares=[1, 0.4]", "method=partial-variables", base="partly"),
    "method[partial-variables].weighting": case("method.weighting=uniform", "method=partial-variables", base="partly"),
    "method[partial-variables].bn_frozen": case(
        "method.bn_frozen=train",
        "method=partial-variables",
        "population.available_memory={kind: uniform, low: 120MB, high: 120MB}",
        base="batch norm",
    ),
    "method[fedrolex].rates": case("method.rates=[1, 0.4]", "method=fedrolex", base="mixed"),
    "method[fedrolex].direction": case("method.direction=backward", "method=fedrolex", base="mixed"),
    "method[fedrolex].scaler": case("method.scaler=false", "method=fedrolex", base="mixed"),
    "method[fedrolex].masked_cross_entropy": case("method.masked_cross_entropy=false", "method=fedrolex", base="mixed"),
    "method[fedrolex].weighting": case("method.weighting=samples", "method=fedrolex", base="mixed"),
    "method[depthfl].classifier": case("method.classifier=linear", "method=depthfl", base="mixed"),
    "method[depthfl].extended": case("method.extended=false", "method=depthfl", base="mixed"),
    "method[depthfl].distillation": case("method.distillation=false", "method=depthfl", base="mixed"),
    "method[depthfl].ramp_rounds": case("method.ramp_rounds=1", "method=depthfl", base="mixed"),
    "method[depthfl].feddyn_alpha": case("method.feddyn_alpha=0.1", "method=depthfl", base="mixed"),
    "method[depthfl].ensemble": case(
        "method.ensemble=all",
        "method=depthfl",
        "population.available_memory={kind: uniform, low: 400kB, high: 400kB}",
        base="mixed",
    ),
    "method[depthfl].weighting": case("method.weighting=samples", "method=depthfl", base="mixed"),
    "method[cocofl].choice": case("method.choice=most", "method=cocofl", PARTS_ONLY, base="mixed"),
    "method[cocofl].weighting": case("method.weighting=samples", "method=cocofl", base="mixed"),
    "method[fedepth].link": case("method.link=conv", "method=fedepth", PARTS_ONLY, base="mixed"),
    "method[fedepth].partial": case("method.partial=false", "method=fedepth", LAST_BLOCK, base="mixed"),
    "method[fedepth].bn_frozen": case(
        "method.bn_frozen=train",
        "method=fedepth",
        "population.available_memory={kind: uniform, low: 140MB, high: 140MB}",
        base="batch norm",
    ),
    "method[fedepth].weighting": case("method.weighting=uniform", "method=fedepth", base="mixed"),
    "method[progfed].growth_rounds": case("method.growth_rounds=[2]", "method=progfed", base="images"),
    "method[progfed].warmup_rounds": case("method.warmup_rounds=1", "method=progfed", base="images"),
    "method[progfed].weighting": case("method.weighting=uniform", "method=progfed", base="mixed"),
    "method[slt].memory": case("method.memory=1MB", "method=slt", base="mixed"),
    "method[slt].subset": case("method.subset=0.5", "method=slt", base="mixed"),
    "method[slt].configurations": case("method.configurations=[[0.3, 0.5]]", "method=slt", base="mixed"),
    "method[slt].width_step": case("method.width_step=0.3", "method=slt", base="mixed"),
    "method[slt].training_depths": case("method.training_depths=[1, 2]", *STAIRCASE),
    "method[slt].averaged_over": case("method.averaged_over=trainers", *STAIRCASE, "method.training_depths=[1, 2]"),
    "method[slt].weighting": case("method.weighting=samples", *STAIRCASE, UNEQUAL),
    "method[slt].bn_frozen": case(
        "method.bn_frozen=eval", "method={kind: slt, configurations: [[0.5, 0.5]]}", base="batch norm"
    ),
    "model[resnet20].shortcut": case("model.shortcut=pointwise", *RESNET20),
    "model[resnet20].head_side": case("model.head_side=2", *RESNET20),
    "method[profl].shrinking": case("method.shrinking=false", "method=profl", base="images"),
    "method[profl].shrinking_rounds": case("method.shrinking_rounds=2", "method=profl", base="images"),
    "method[profl].growing_rounds": case(
        "method.growing_rounds=1", "method={kind: profl, shrinking: false}", base="images"
    ),
    "method[profl].distillation_rounds": case("method.distillation_rounds=2", *DISTILLED, base="images"),
    "method[profl].distillation_learning_rate": case(
        "method.distillation_learning_rate=0.01", *DISTILLED, base="images"
    ),
    "method[profl].distillation_epochs": case("method.distillation_epochs=2", *DISTILLED, base="images"),
    "method[profl].bn_frozen": case("method.bn_frozen=train", "method=profl", base="batch norm"),
    "method[profl].weighting": case("method.weighting=samples", "method=profl", base="mixed"),
    **{
        f"method[profl].convergence.{name}": case(
            f"method.convergence.{name}={value}", MOVING, "stop.rounds=8", *more, base="images"
        )
        for name, value, *more in (
            ("window", 1),
            ("evaluations", 3),
            ("slope_threshold", "1.0e-9"),
            ("max_rounds", 2),
            ("scalars", 1, "method.convergence.slope_threshold=0.5"),
        )
    },
    "method[lora].aggregation": case("method.aggregation=ffa", "method=lora", base="images"),
    "method[lora].ranks": case("method.ranks=[4]", "method=lora", base="images"),
    "method[lora].alpha": case("method.alpha=4", "method=lora", base="images"),
    "method[lora].adapters": case("method.adapters=convolutions", "method=lora", VIT),
    "method[lora].head": case("method.head=frozen", "method=lora", base="images"),
    "method[lora].base": case("method.base=sent", "method=lora", base="images"),
    "method[lora].weighting": case("method.weighting=uniform", "method=lora", UNEQUAL, base="images"),
    "method[head-only].base": case("method.base=sent", "method=head-only", base="images"),
    "method[head-only].weighting": case("method.weighting=uniform", "method=head-only", UNEQUAL, base="images"),
    "method[fedra].shares": case("method.shares=[1, 0.4]", "method=fedra", VIT),
    "method[fedra].rank": case("method.rank=2", "method=fedra", VIT),
    "method[fedra].alpha": case("method.alpha=2", "method=fedra", VIT),
    "method[fedra].head": case("method.head=frozen", "method=fedra", VIT),
    "method[fedra].base": case("method.base=sent", "method=fedra", VIT),
    "method[fedra].weighting": case("method.weighting=samples", "method=fedra", VIT, base="unequal"),
    **{
        f"method[zeroth-order].{name}": case(f"method.{name}={value}", "method=zeroth-order")
        for name, value in (
            ("mu", 0.1),
            ("perturbations", 2),
            ("steps", 2),
            ("differences", "forward"),
            ("noise", "rademacher"),
            ("pool", 8),
        )
    },
    "method[zeroth-order].weighting": case("method.weighting=samples", "method=zeroth-order", base="unequal"),
    "method[zo-warmup].warmup_rounds": case("method.warmup_rounds=1", "method=zo-warmup"),
    **{
        f"method[zo-warmup].{name}": case(f"method.{name}={value}", "method={kind: zo-warmup, warmup_rounds: 0}")
        for name, value in (
            ("capable", "first-order"),
            ("zeroth_learning_rate", 0.1),
            ("mu", 0.1),
            ("steps", 2),
            ("perturbations", 2),
            ("differences", "forward"),
            ("noise", "normal"),
        )
    },
    "method[zo-warmup].weighting": case(
        "method.weighting=uniform", "method={kind: zo-warmup, warmup_rounds: 0}", base="unequal"
    ),
    "model[vit].preset": case("model.preset=mini-imagenet", "model={kind: vit, depth: 3, patch: 4}"),
    "model[vit].patch": case("model.patch=2", VIT),
    "model[vit].dim": case("model.dim=6", VIT),
    "model[vit].heads": case("model.heads=2", VIT),
    "model[vit].depth": case("model.depth=6", VIT),
    "model[vit].mlp_ratio": case("model.mlp_ratio=2", VIT),
    "model[torchvision].blocks": case("model.blocks=2", *CUT),
    "selection[oort].devices_per_round": case("selection.devices_per_round=5", OORT, base="fleet"),
    "selection[oort].exploration": case("selection.exploration=0.5", OORT, base="fleet"),
    "selection[oort].exploration_decay": case("selection.exploration_decay=0.5", OORT, base="fleet"),
    "selection[oort].exploration_floor": case("selection.exploration_floor=0.9", OORT, base="fleet"),
    "selection[oort].speed_penalty": case("selection.speed_penalty=0", OORT, base="fleet"),
    "selection[oort].preferred_percentile": case("selection.preferred_percentile=90", OORT, base="fleet"),
    "selection[oort].pacer_rounds": case("selection.pacer_rounds=1", OORT, "stop.rounds=12", base="fleet"),
    "selection[oort].pacer_step": case(
        "selection.pacer_step=50", OORT, "selection.pacer_rounds=1", "stop.rounds=12", base="fleet"
    ),
    "selection[oort].pacer_utility": case(
        "selection.pacer_utility=sum",
        OORT,
        "selection.exploration_decay=0.8",
        "selection.pacer_rounds=1",
        "selection.preferred_percentile=10",
        "selection.pacer_step=40",
        "stop.rounds=16",
        base="fleet",
    ),
    "selection[oort].normalise_over": case("selection.normalise_over=explored", OORT, base="fleet"),
    "selection[oort].clip": case("selection.clip=0.3", OORT, base="fleet"),
    "selection[oort].cut_off": case("selection.cut_off=0", OORT, base="fleet"),
    "selection[oort].exploration_window": case("selection.exploration_window=1", OORT, base="fleet"),
    "selection[oort].over_commit": case("selection.over_commit=1.5", OORT, base="fleet"),
    "selection[oort].blacklist_after": case("selection.blacklist_after=1", OORT, base="fleet"),
    "selection[oort].blacklist_share": case(
        "selection.blacklist_share=0.05", OORT, "selection.blacklist_after=1", base="fleet"
    ),
    "selection[oort].fairness": case("selection.fairness=1", OORT, base="fleet"),
    "selection[tifl].devices_per_round": case("selection.devices_per_round=5", TIFL, base="fleet"),
    "selection[tifl].tiers": case("selection.tiers=2", TIFL, base="fleet"),
    "selection[tifl].policy": case("selection.policy=fast", "selection={kind: tifl}", base="fleet"),
    "selection[tifl].probabilities": case(
        "selection.probabilities=[0.1, 0.9]",
        "selection={kind: tifl, tiers: 2, policy: explicit, probabilities: [0.9, 0.1]}",
        base="fleet",
    ),
    "selection[tifl].interval": case("selection.interval=4", TIFL, base="fleet"),
    "selection[tifl].waits_for_stall": case("selection.waits_for_stall=true", TIFL, base="fleet"),
    "selection[tifl].credits": case("selection.credits=[8, 1, 1]", TIFL, base="fleet"),
    "selection[tifl].test_devices": case("selection.test_devices=1", TIFL, base="fleet"),
    "selection[tifl].profiling_rounds": case("selection.profiling_rounds=1", TIFL, base="fleet"),
    "selection[tifl].time_out": case("selection.time_out=30ms", TIFL, base="fleet"),
    "available_memory[uniform].low": case("population.available_memory.low=15MB"),
    "available_memory[uniform].high": case("population.available_memory.high=30MB"),
    "available_memory[lognormal].median": case("population.available_memory.median=2MB", LOGNORMAL),
    "available_memory[lognormal].sigma": case("population.available_memory.sigma=0.1", LOGNORMAL),
    "available_memory[lognormal].low": case("population.available_memory.low=1MB", LOGNORMAL),
    "available_memory[lognormal].high": case("population.available_memory.high=1MB", LOGNORMAL),
    "available_memory[choice].values": case(
        "population.available_memory.values=[1MB, 3MB]",
        "population.available_memory={kind: choice, values: [1MB, 2MB]}",
    ),
    "available_memory[choice].weights": case(
        "population.available_memory.weights=[1, 50]", "population.available_memory={kind: choice, values: [1MB, 2MB]}"
    ),
    "available_memory[explicit].values": case(
        "population.available_memory.values=[1MB, 1MB, 1MB, 1MB, 1MB, 2MB]",
        "population.available_memory={kind: explicit, values: [1MB, 1MB, 1MB, 1MB, 1MB, 1MB]}",
    ),
    "available_memory[installed].share": case(
        "population.available_memory.share=0.2", "population.available_memory={kind: installed, share: 0.1}"
    ),
    "availability[markov].mean_on": case(
        "population.availability.mean_on=3h", "population.availability={kind: markov, mean_on: 2h, mean_off: 1h}"
    ),
    "availability[markov].mean_off": case(
        "population.availability.mean_off=3h", "population.availability={kind: markov, mean_on: 2h, mean_off: 1h}"
    ),
    "availability[diurnal].start": case("population.availability.start=3h", NIGHTS),
    "availability[diurnal].start_spread": case("population.availability.start_spread=3h", NIGHTS),
    "availability[diurnal].length": case("population.availability.length=3h", NIGHTS),
    "availability[diurnal].length_spread": case("population.availability.length_spread=0", NIGHTS),
    "availability[diurnal].time_zone_span": case("population.availability.time_zone_span=12h", NIGHTS),
    "availability[diurnal].daily_probability": case("population.availability.daily_probability=0.5", NIGHTS),
    "availability[trace].path": case("population.availability.path=OTHER_TRACE", TRACE),
    "availability[trace].repeat": case("population.availability.repeat=false", TRACE),
    "availability[trace].span": case("population.availability.span=20h", TRACE),
    "availability[trace].origin": case(
        "population.availability.origin=first", "population.availability={kind: trace, path: LATE_TRACE}"
    ),
    "memory_motion[redrawn].every": case("population.memory_motion.every=60s", REDRAWN),
    "memory_motion[redrawn].spread": case("population.memory_motion.spread=0.3", REDRAWN),
    "memory_motion[walk].step": case("population.memory_motion.step=0.1", WALK),
    "memory_motion[walk].every": case("population.memory_motion.every=1s", WALK),
    "memory_motion[walk].reversion": case("population.memory_motion.reversion=0.9", WALK),
    "memory_motion[trace].path": case("population.memory_motion.path=OTHER_MEMORY", MEMORY_TRACE),
    "memory_motion[trace].repeat_every": case("population.memory_motion.repeat_every=150ms", MEMORY_TRACE),
    "memory_motion[trace].origin": case(
        "population.memory_motion.origin=first", "population.memory_motion={kind: trace, path: LATE_MEMORY}"
    ),
}
DEADLINE = "protocol={kind: deadline, over_selection: 2, maximum_wait: 60ms, minimum_updates: 2}"
FEDASYNC = "protocol={kind: fedasync, concurrency: 5}"
FEDBUFF = "protocol={kind: fedbuff, concurrency: 5, buffer_size: 2}"
PROTOCOLS = {
    "protocol": case("protocol=deadline", base="fleet"),
    "protocol[deadline].over_selection": case("protocol.over_selection=1.5", DEADLINE, base="fleet"),
    "protocol[deadline].minimum_wait": case("protocol.minimum_wait=50ms", DEADLINE, base="fleet"),
    "protocol[deadline].maximum_wait": case("protocol.maximum_wait=20ms", DEADLINE, base="fleet"),
    "protocol[deadline].minimum_updates": case(
        "protocol.minimum_updates=3", "protocol={kind: deadline, over_selection: 2, maximum_wait: 20ms}", base="fleet"
    ),
    "protocol[deadline].too_few": case(
        "protocol.too_few=abort",
        "protocol={kind: deadline, over_selection: 2, maximum_wait: 20ms, minimum_updates: 3}",
        base="fleet",
    ),
    **{
        f"protocol[{kind}].{name}": case(f"protocol.{name.split('.')[0]}={value}", setup, base="fleet")
        for kind, setup in (("fedasync", FEDASYNC), ("fedbuff", FEDBUFF))
        for name, value in (
            ("concurrency", 3),
            ("staleness", "constant"),
            ("staleness.polynomial.a", "{kind: polynomial, a: 2}"),
            ("maximum_staleness", 0),
        )
    },
    **{
        f"protocol[{kind}].staleness.hinge.{name}": case(
            f"protocol.staleness.{name}={value}",
            setup.replace("}", ", staleness: {kind: hinge, a: 1, b: 0}}"),
            base="fleet",
        )
        for kind, setup in (("fedasync", FEDASYNC), ("fedbuff", FEDBUFF))
        for name, value in (("a", 9), ("b", 1))
    },
    **{
        f"protocol[{kind}].other_stage": case("protocol.other_stage=discard", setup, "stop.rounds=6", base="stages")
        for kind, setup in (("fedasync", FEDASYNC), ("fedbuff", FEDBUFF))
    },
    "protocol[fedasync].mixing_rate": case("protocol.mixing_rate=0.1", FEDASYNC, base="fleet"),
    "protocol[fedbuff].buffer_size": case("protocol.buffer_size=3", FEDBUFF, base="fleet"),
    "protocol[fedbuff].server_rate": case("protocol.server_rate=0.1", FEDBUFF, base="fleet"),
    "protocol[fedbuff].normalise": case("protocol.normalise=true", FEDBUFF, base="fleet"),
    "server.downlink": case("server.downlink=1Mbps"),
    "server.uplink": case("server.uplink=1Mbps"),
}
CASES = SCHEMA | OPTIONS | PROTOCOLS

ELSEWHERE = {
    "checkpoint.every_rounds": "says when weights are kept, and must not act on results: test_integration_resume.py",
    "evaluation.batch_size": "splits the test without changing what it finds: memory of the driver only",
    "data[cifar10]": "needs files; its options are tested with fake ones in test_data_cifar10.py",
    "data[cifar100]": "likewise in test_data_torchvision_dataset.py",
    "data[fashion-mnist]": "likewise in test_data_torchvision_dataset.py",
    "data[cinic10]": "likewise in test_data_image_folder.py",
    "data[image-folder]": "likewise in test_data_image_folder.py",
    "data[mini-imagenet]": "likewise in test_data_image_folder.py",
    "data[femnist]": "likewise in test_data_femnist.py",
    "data[text]": "likewise in test_data_texts.py",
    "data[shakespeare]": "likewise in test_data_texts.py",
    "data[synthetic-text].feature_skew": "is for images, and refused of tokens (below)",
    "model[transformers]": "needs files of a configuration: test_models_transformers.py",
    **{
        f"{field}[python]": "runs a file: test_integration_own_code.py, test_user_code_files.py"
        for field in ("data", "partition", "model", "method", "selection", "protocol", "availability")
    },
    "model[timm]": "needs another package: test_models_timm.py",
    "data[array]": "likewise in test_data_array.py and test_data_given.py",
    "data[csv]": "likewise in test_data_csv.py and test_data_given.py",
    "data[huggingface]": "likewise in test_data_huggingface.py and test_data_given.py",
    "partition[flwr-datasets]": "needs another package: test_data_flwr_partitions.py",
    "backend[inprocess].threads_per_worker": "changes last bits only: test_training_inprocess.py",
    "backend[inprocess].workers": "changes how fast, never what: test_training_crew.py",
    "backend[inprocess].device": "needs a GPU; test_training_local.py",
    "backend[ray]": "changes where and how fast, never what: test_training_ray.py",
}
"""Fields whose effect cannot be seen here, and why."""

REFUSED = {
    "server.downlink=1Mbps": (
        "server: a shared link of the server does not go with churn.battery; leave out one of them",
        f"churn.battery={BATTERY}",
    ),
    "server.uplink=1Mbps": (
        "server: a shared link of the server does not go with links that follow a trace (population.link); leave out",
        "population.link={downlink: {trace: RATES}, uplink: {trace: RATES}}",
    ),
    "protocol=fedasync": (
        "protocol: fedasync merges updates of older versions, and with feddyn_alpha: 0.1 method depthfl needs those of",
        "method={kind: depthfl, feddyn_alpha: 0.1}",
        "model=lenet",
        "data.image_size=8",
    ),
    "protocol=fedbuff": (
        "protocol: fedbuff merges updates of older versions, and with seeds of each version method zeroth-order needs "
        "those of the latest; use synchronous or deadline",
        "method=zeroth-order",
    ),
    "protocol={kind: fedasync}": (
        "and with aggregation: flora method lora needs those of the latest; use synchronous or deadline, or another "
        "value of that option",
        "model=lenet",
        "data.image_size=8",
        "method={kind: lora, aggregation: flora}",
    ),
    "churn.offline=pause": ("churn.offline: pause acts only where devices go offline, and population.availability is",),
    "churn.outages={mean_between: 1h, mean_length: 1h, groups: 7}": (
        "churn.outages.groups: is 7, and there are 6 devices; use 1 to 6",
    ),
    "training.momentum=0.5": ("momentum: acts only with optimizer sgd, found 0.5", "training.optimizer=adam"),
    "evaluation.recalibration_samples=9": ("acts only with batch_norm recalibrated, found 9",),
    "evaluation.diagnostic_samples=9": (
        "evaluation.diagnostic_samples: acts only with evaluation.diagnostics, found 9; remove it",
    ),
    "evaluation.diagnostics=[nhsic_plane, nhsic_plane]": (
        "evaluation.diagnostics: names nhsic_plane twice; name each once",
    ),
    "evaluation.batch_norm=recalibrated": ("recalibrated acts on BatchNorm layers only, and logistic has none",),
    "training.micro_batch_size=6": ("training.micro_batch_size: is 6, above batch_size 5; use 1 to 5",),
    "workload.batch_size=3": (
        "workload.micro_batch_size: micro-batches of 4 are larger than the batch of 3 that workload comes to; set "
        "workload.micro_batch_size to 1 to 3",
        "training.micro_batch_size=4",
    ),
    "proxy.micro_batch_size=7": ("proxy.micro_batch_size: micro-batches of 7 are larger than the batch of 5",),
    "proxy.width=0.5": ("proxy.width: 0.5 leaves logistic as it is",),
    "proxy.image_size=6": ("proxy.image_size: synthetic has no image_size", SYNTHESIS),
    "method.sigma=2": (
        "method.sigma: acts only with curriculum true, found 2.0",
        "method={kind: neulite, curriculum: false}",
    ),
    "method.epsilon=1": ("method.epsilon: acts only with nhsic nocco, found 1.0", "method=neulite"),
    "method.z_source=module": (
        "z_source: acts only with mlp_operand x or y",
        "method={kind: neulite, mlp_operand: both}",
    ),
    "method.surrogate=conv-bn-relu": (
        "surrogate: acts only with coadaptation true",
        "method={kind: neulite, coadaptation: false}",
    ),
    "method.tail=true": (
        "method.tail: acts only with coadaptation true, found true; remove it, or coadaptation",
        "method={kind: neulite, coadaptation: false}",
    ),
    "method.coadaptation=true": (
        "method.coadaptation: is true, but tail is false and surrogate is none, which leaves nothing of it; remove one",
        "method={kind: neulite, tail: false, surrogate: none}",
    ),
    "method.output_modules=shared": (
        "output_modules is 'shared' but surrogate is none: the heads of the stages then differ in shape",
        "method={kind: neulite, surrogate: none}",
    ),
    "method.convergence.window=3": ("convergence: acts only with schedule sequential; remove", "method=neulite"),
    "method.distillation=false": (
        "method.distillation: acts only with extended true, found False; remove it",
        "method={kind: depthfl, extended: false}",
    ),
    "method.ramp_rounds=3": (
        "method.ramp_rounds: acts only with distillation true, found 3; remove it",
        "method={kind: depthfl, distillation: false}",
    ),
    "selection.exploration=0.1": (
        "selection.exploration: is 0.1, below exploration_floor 0.2; lower that as well",
        "selection=oort",
    ),
    "selection.pacer_rounds=3": (
        "selection.pacer_rounds: acts only with pacer_step above 0, found 3",
        "selection={kind: oort, pacer_step: 0}",
    ),
    "selection.pacer_step=3": (
        "selection.pacer_step: acts only with speed_penalty above 0, found 3",
        "selection={kind: oort, speed_penalty: 0}",
    ),
    "selection.blacklist_share=0.5": ("selection.blacklist_share: acts only with blacklist_after", "selection=oort"),
    "selection.interval=3": (
        "selection.interval: acts only with policy adaptive, found 3",
        "selection={kind: tifl, policy: uniform}",
    ),
    "selection.credits=[1, 2]": (
        "selection.credits: act only with policy adaptive, found uniform",
        "selection={kind: tifl, policy: uniform, tiers: 2}",
    ),
    "selection.probabilities=[0.5, 0.5]": (
        "selection.probabilities: go with policy explicit, and only with it",
        "selection={kind: tifl, tiers: 2}",
    ),
    "method.rates=[1, 0.3]": ("model: method allsmall trains logistic at several widths", "method=allsmall"),
    "training.micro_batch_size=2": (
        "training.micro_batch_size: is 2, but with fit auto each device has its own; remove it, or give "
        "fit.micro_batch_sizes",
        "training.fit=auto",
    ),
    "training.checkpointing=true": (
        "training.checkpointing: is true, but with fit auto each device decides; remove it, or set fit.checkpointing",
        "training.fit=auto",
    ),
    "training.precision=bf16": (
        "training.precision: is bf16, but fit.precisions says what to choose from; remove one of them",
        "training.fit={kind: auto, precisions: [fp32, bf16]}",
    ),
    "data.feature_skew={kind: brightness}": (
        "data.feature_skew: alters numbers; the samples of data are sequences of 8 out of 28 tokens",
        *TEXTS,
    ),
    "training.fit.micro_batch_sizes=[2, 6]": (
        "training.fit.micro_batch_sizes.1: is 6, but devices are charged for batches of 5; use 1 to 5",
        "training.fit=auto",
    ),
    "training.fit.micro_batch_sizes=[2, 2]": (
        "training.fit.micro_batch_sizes: 2 stands there twice; write each once",
        "training.fit=auto",
    ),
    "workload.micro_batch_size=2": (
        "workload.micro_batch_size: is 2, but with training.fit auto each device has its own; remove it, and give "
        "training.fit.micro_batch_sizes",
        "training.fit=auto",
    ),
    "workload.checkpointing=false": (
        "workload.checkpointing: is false, but with training.fit auto each device has its own; remove it, and set "
        "training.fit.checkpointing: always or never",
        "training.fit=auto",
    ),
    "workload.precision=bf16": (
        "workload.precision: is bf16, but with training.fit auto each device has its own; remove it, and leave it to",
        "training.fit={kind: auto, precisions: [fp32, fp16]}",
    ),
    "training.norm=group": ("training.norm: group stands in for BatchNorm layers, and logistic has none; remove it",),
    "training.shrink_batch={minimum: 3}": ("training.shrink_batch.minimum: is 3, but half of the batch of 5",),
    "training.shrink_batch={minimum: 2}": (
        "training.shrink_batch: acts only where memory limits who trains what",
        "method.memory_limit=false",
    ),
    "population.memory_motion=redrawn": (
        "population.memory_motion: redrawn draws from population.available_memory, and every draw from installed",
        "population.available_memory={kind: installed, share: 0.1}",
    ),
    "data.feature_skew.strength=2": (
        "data.feature_skew.strength: acts only with another kind, found 2.0; remove it",
        "data.feature_skew={kind: rotation}",
    ),
    "data.feature_skew.turns=2": (
        "data.feature_skew.turns: acts only with kind rotation, found 2; remove it",
        "data.feature_skew={kind: noise}",
    ),
    "data.partition.alpha=2": (
        "data.partition.alpha: acts only with law dirichlet, found 2.0; remove it",
        "data.partition={kind: quantity, law: power}",
    ),
    "data.partition.exponent=2": (
        "data.partition.exponent: acts only with law power, found 2.0; remove it",
        "data.partition=quantity",
    ),
    "model.preset=mini-imagenet": ("model.preset: acts only with patch, dim or heads left to it", VIT),
}
"""Changes that could not act, and in which words they are refused; then what the base needs for that."""


def fields_of(model: type[Options], path: str) -> Iterator[str]:
    """Yield the dotted names of a model's fields; those of a union's members carry the member's kind."""
    for name, info in model.model_fields.items():
        if name == "kind":
            continue
        key = f"{path}{name}"
        members = [found for found in _types(info.annotation) if isinstance(found, type) and issubclass(found, Options)]
        if not members or len(members) > 1 or not {type(None), float}.isdisjoint(_plain_types(info.annotation)):
            yield key
        for member in members:
            kind = f"{member.model_fields['kind'].default}." if len(members) > 1 else ""
            yield from fields_of(member, f"{key}.{kind}")


def _plain_types(annotation: typing.Any) -> set[type]:
    return {found for found in _types(annotation) if isinstance(found, type)}


def _types(annotation: typing.Any) -> list[typing.Any]:
    inner = typing.get_args(annotation)
    return [annotation] if not inner else [found for part in inner for found in _types(part)]


def every_field() -> set[str]:
    found = set(fields_of(Scenario, ""))
    for group in registry.GROUPS:
        for name in registry.kinds(group):
            found |= set(fields_of(registry.load(group, name).options, f"{group}[{name}]."))
    return found


def test_every_field_of_the_schema_and_of_every_component_has_a_case():
    wanted = {field for field in every_field() if not field.startswith(tuple(ELSEWHERE))}
    assert wanted - CASES.keys() == set()
    assert CASES.keys() - wanted == set()


def hardware_of(peak: float) -> str:
    """Return a file of hardware with one device, `board`."""
    numbers = {
        "installed_memory_bytes": 2**30,
        "usable_memory_bytes": 2**30,
        "peak_flops_per_second": peak,
        "memory_bytes_per_second": peak,
        "efficiency": 0.5,
        "operator_overhead_s": 1e-9,
        "downlink_bits_per_second": 1e6,
        "uplink_bits_per_second": 1e6,
    }
    lines = ["schema_version = 1", "[devices.board]", 'family = "computer"', 'compute_unit = "one core"']
    lines += [f'{key} = {{value = {value}, status = "assumed", source = "made up for a test"}}'
              for key, value in numbers.items()]  # fmt: skip
    return "\n".join(lines)


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    for name, end_s in (("TRACE", 30_000), ("OTHER_TRACE", 40_000)):
        (folder / name).write_text(f"device,start_s,end_s\na,0,{end_s}\nb,1000,50000\n")
    (folder / "LATE_TRACE").write_text("device,start_s,end_s\na,500,30000\nb,1000,50000\n")
    (folder / "LATE_MEMORY").write_text("device,t_s,available_bytes\na,0.05,12000000\na,0.1,15000000\n")
    for name, rate in (("RATES", 2_000_000), ("OTHER_RATES", 3_000_000)):
        (folder / name).write_text(f"trace,t_s,bits_per_second\na,0,{rate}\na,0.01,{rate / 2}\na,0.02,\n")
    for name, speed in (("PHONES", 2), ("OTHER_PHONES", 3)):
        (folder / name).write_text(f"model,speed_factor\na,{speed}\n")
    for name, peak in (("BOARDS", 1e9), ("OTHER_BOARDS", 2e9)):
        (folder / name).write_text(hardware_of(peak))
    for name, owner in (("OWNERS", 0), ("OTHER_OWNERS", 1)):
        (folder / name).write_text("sample,device\n" + "".join(f"{each},{(each + owner) % 6}\n" for each in range(30)))
    for name, late_bytes in (("MEMORY", 15_000_000), ("OTHER_MEMORY", 16_000_000)):
        (folder / name).write_text(f"device,t_s,available_bytes\na,0,12000000\na,0.1,{late_bytes}\n")
    return folder


@pytest.fixture(autouse=True)
def in_the_folder_of_traces(traces, monkeypatch):
    monkeypatch.chdir(traces)


@functools.cache
def assembled(base: str, overrides: tuple[str, ...]) -> parts.Costing:
    return assembly.assemble(BASES[base](*overrides))


def charges(costing: parts.Costing) -> bytes:
    """Return all that data, fleet and ledger come to: arrays and numbers, no words of the scenario."""
    fleet, ledger, data = costing.population, costing.ledger, costing.dataset
    devices = np.arange(fleet.num_devices)
    online = [fleet.availability.online(at_s) for at_s in np.linspace(0, 300_000, 200)]
    links = [fleet.throughput.of(device, way).bits(0, 0.007) if fleet.throughput else 0
             for device in devices for way in ("down", "up")] + [
             fleet.throughput.of(device, way).bits(1, 2) if fleet.throughput else 0
             for device in devices for way in ("down", "up")]  # fmt: skip
    charged = [(ledger.compute_s(name, devices), ledger.download_s(name, devices), ledger.upload_s(name, devices),
                ledger.peak_memory_bytes(name)) for name in costing.method.submodels]  # fmt: skip
    return pickle.dumps((
        data.train_inputs, data.train_labels, data.test_inputs, data.test_labels,
        costing.partition.samples, costing.partition.offsets,
        fleet.available_memory_bytes, [fleet.classes[index].name for index in fleet.class_index], online, links, charged,
    ))  # fmt: skip


@functools.cache
def outcome(base: str, overrides: tuple[str, ...]) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return rows and summary of a run, without wall-clock times."""
    costing = assembled(base, overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "prepare", lambda scenario, fleet: costing)
        patch.setattr(assembly, "charge", lambda parts: parts)
        result = simulation.simulate(costing.scenario)
    rows = [{**row, "wall_time_s": 0} for row in (*result.rounds, *result.flights, *result.denials)]
    return rows, {**result.summary, "wall_time_s": 0}


def is_slow(field: str) -> bool:
    """Whether a case is one of a network or a method, each of which has to be profiled, or of a selector that learns."""
    return field.startswith(("method[", "model[", "selection[")) and not field.startswith("method[fedavg]")


@pytest.mark.parametrize("field", some_slow(CASES, is_slow))
def test_a_field_acts(field):
    found = CASES[field]
    plain, changed = (found.base, found.setup), (found.base, (*found.setup, found.change))
    if charges(assembled(*plain)) == charges(assembled(*changed)):
        (rows, summary), (other_rows, other_summary) = outcome(*plain), outcome(*changed)
        # That a workload was named is said in the summary whether or not it acts.
        said = {"proxy"} if field.startswith("workload.") else set()
        kept, other_kept = (
            {key: value for key, value in each.items() if key not in said} for each in (summary, other_summary)
        )
        assert (rows, kept) != (other_rows, other_kept)


@pytest.mark.parametrize("change", REFUSED)
def test_a_field_that_could_not_act_is_refused(change):
    words, *setup = REFUSED[change]
    with pytest.raises(ScenarioError) as refused:
        assembly.prepare(tiny(*setup, change))
    assert words in str(refused.value)
