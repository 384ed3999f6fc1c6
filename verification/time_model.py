"""Fits the time model to public measurements and prints how well it predicts networks that were left out of the fit.

    python verification/time_model.py [--data ../shared/data/hardware] [--json]

Raspberry Pi 4: seconds of a training step, full and head only, of the networks that torchvision has. Jetson AGX Orin:
seconds of a forward pass. Each network is profiled as scenarios are, on fake tensors; constants are fitted without it
and then asked for its seconds. The constants of all networks together are those of the catalogue
(`neulite_sim/population/hardware/catalogue.toml`). One to two minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neulite_sim.models.trainee import Trainee, lay_out
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.profiling.fitting import (
    Constants,
    Machine,
    Measurement,
    Predictor,
    bytes_only,
    fit,
    flops_only,
    left_out,
    plain_roofline,
    quality,
    roofline,
    share_of,
)
from neulite_sim.profiling.ledger import step_seconds
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.profiling.tracer import StepTracer
from neulite_sim.scenario.schema import Training
from neulite_sim.torchvision_compat import torchvision_module

DATA = Path(__file__).parents[2] / "shared" / "data" / "hardware"
SHAPE = (3, 224, 224)
IMAGENET, IMAGENET_22K = 1000, 21841
# As the measurements say: SGD without momentum; they say nothing of weight decay.
TRAINING = Training(batch_size=16, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
MODELS: Mapping[str, Predictor] = {
    "roofline by kind": roofline,
    "one roofline for all": plain_roofline,
    "FLOPs only": flops_only,
    "bytes only": bytes_only,
}
WEAK = {
    "batch INFERRED": "the batch size is inferred, not stated",
    "batch unknown": "the batch size is not stated",
    "device_not_stated": "the device is not stated",
    "anecdotal": "anecdotal",
    "constant used by a paper": "a constant that a paper assumes, not a measurement",
}


@dataclass(frozen=True)
class Network:
    """A network of the measurements as torchvision builds it, and what networks are left out together with it."""

    build: Callable[..., nn.Module]
    settings: Mapping[str, Any]
    classes: int = IMAGENET
    family: str = ""


def networks() -> dict[str, Network]:
    """Return the networks of the Raspberry Pi 4 that torchvision has, by the name of the measurements."""
    models = torchvision_module("models")

    def transformer(num_heads: int) -> dict[str, int]:
        dim = 64 * num_heads
        shape = {"image_size": 224, "patch_size": 16, "num_layers": 12}
        return {**shape, "num_heads": num_heads, "hidden_dim": dim, "mlp_dim": 4 * dim}

    found = {name: Network(getattr(models, name), {}) for name in ("resnet18", "resnet34", "resnet50")}
    for width in (50, 100):
        found[f"mobilenetv2_{width:03}"] = Network(models.mobilenet_v2, {"width_mult": width / 100})
    for size in ("small", "large"):
        for width in (75, 100):
            build = getattr(models, f"mobilenet_v3_{size}")
            found[f"mobilenetv3_{size}_{width:03}"] = Network(build, {"width_mult": width / 100})
    for size, num_heads in (("tiny", 3), ("small", 6), ("base", 12)):
        for name in ("vit", "deit"):  # The same network, trained in another way.
            network = Network(models.VisionTransformer, transformer(num_heads), family=f"vit_{size}")
            found[f"{name}_{size}"] = network
    for number in range(4):
        found[f"efficientnet_b{number}"] = Network(getattr(models, f"efficientnet_b{number}"), {})
    for name, built, classes in (
        ("convnext_tiny", models.convnext_tiny, IMAGENET_22K),
        ("convnext_small", models.convnext_small, IMAGENET_22K),
        ("convnext_base", models.convnext_base, IMAGENET),
        ("swin_tiny", models.swin_t, IMAGENET_22K),
        ("swin_small", models.swin_s, IMAGENET),
        ("mnasnet_050", models.mnasnet0_5, IMAGENET),
        ("mnasnet_075", models.mnasnet0_75, IMAGENET),
        ("mnasnet_100", models.mnasnet1_0, IMAGENET),
    ):  # The stated numbers of parameters tell with how many classes a network came.
        found[name] = Network(built, {}, classes)
    return {name: replace(network, family=network.family or name) for name, network in found.items()}


class Classifier(Trainee):
    """A network of torchvision, all of it trained or only its last linear layer."""

    def __init__(self, network: Network, *, head_only: bool) -> None:
        super().__init__()
        with _without_reading():
            self.network = network.build(num_classes=network.classes, **network.settings)
        if head_only:
            self.requires_grad_(False)
            [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)][-1].requires_grad_(True)

    def loss(self, images_BCHW: Tensor, labels_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean cross-entropy of the batch."""
        return F.cross_entropy(self.network(images_BCHW), labels_B), {}


def _without_reading() -> Any:
    """Leave out the one initialisation that reads what it drew, which a fake tensor cannot; no cost depends on it."""
    return patch.object(nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor)


def step_of(network: Network, *, head_only: bool) -> Profile:
    """Return the profile of one training step of 16 images."""
    return profile(
        "", lambda: Classifier(network, head_only=head_only), input_shape=SHAPE, batch_size=16, training=TRAINING
    )


def forward_of(name: str, batch_size: int) -> StepTracer:
    """Return the operators of a forward pass of torchvision's network `name` in evaluation mode."""
    tracer = StepTracer()
    with FakeTensorMode(), torch.no_grad(), _without_reading():
        network = torchvision_module("models").get_model(name, weights=None).eval()
        lay_out(network)
        images = torch.empty(batch_size, *SHAPE)
        with tracer:
            network(images)
    return tracer


@dataclass(frozen=True)
class Fitted:
    """The fit of one device: constants of all measurements, and predictions of each without its own network."""

    title: str
    machine: Machine
    constants: Constants
    measurements: tuple[Measurement, ...]
    predicted: Mapping[str, np.ndarray]
    remarks: tuple[str, ...] = ()


def fit_all(
    title: str,
    measurements: Sequence[Measurement],
    device: str,
    start: Constants,
    *,
    held: Sequence[str] = (),
    remarks: tuple[str, ...] = (),
) -> Fitted:
    """Return the fit of the time model, and of its rivals for comparison, to the measurements of one device."""
    hardware = device_class(device)
    machine = Machine(
        peak_flops_per_second=hardware.peak_flops_per_second, memory_bytes_per_second=hardware.memory_bytes_per_second
    )
    return Fitted(
        title=title,
        machine=machine,
        constants=fit(measurements, machine, start, held=held),
        measurements=tuple(measurements),
        predicted={
            name: left_out(measurements, machine, start, held=held, predict=model) for name, model in MODELS.items()
        },
        remarks=remarks,
    )


def raspberry_pi(rows: Iterable[Mapping[str, str]], profiles: Mapping[tuple[str, str], Profile]) -> Fitted:
    """Return the fit to the training steps of the Raspberry Pi 4."""
    found, remarks = [], []
    known = networks()
    for row in rows:
        name, what = row["model"], "full" if row["kind"] == "train_time" else "head"
        step = profiles.get((name, what))
        if row["device"] != "Raspberry Pi 4" or step is None or math.isnan(float(row["value"])):
            continue
        told = re.search(r"parameters ([0-9.]+)M", row["notes"])
        stated = float(told[1]) if told else math.nan
        full = profiles[name, "full"].parameters / 1e6
        if name == "resnet50":
            if what == "full":
                remarks.append(f"{name} is left out: {stated:g}M parameters are stated, a {name} has {full:.1f}M")
            continue
        if abs(full / stated - 1) > 0.1:
            remarks.append(f"{name} is used, although {stated:g}M parameters are stated and it has {full:.1f}M here")
        columns = (step.operator_flops, step.operator_bytes, step.operator_kinds)
        found.append(_measurement(known[name].family, f"{name}, {what}", float(row["value"]), *columns))
    start = Constants(
        efficiency=0.5,
        convolution_efficiency=0.4,
        bandwidth_efficiency=0.3,
        grouped_bandwidth_efficiency=0.01,
        operator_overhead_s=50e-6,
        step_overhead_s=0.5,
    )
    return fit_all(
        "Raspberry Pi 4, training step of 16 images, PyTorch on CPU", found, "raspberry-pi-4-4gb", start,
        remarks=tuple(remarks),
    )  # fmt: skip


def jetson(rows: Iterable[Mapping[str, str]], mode: str) -> Fitted:
    """Return the fit to the fp32 forward passes of the Jetson AGX Orin in one power mode."""
    found, traced = [], {}
    for row in rows:
        if row["kind"] != "forward_latency" or not row["device"].endswith(mode) or row["precision"] != "fp32":
            continue
        name, batch = row["model"].split()[1], int(row["batch"])
        if (name, batch) not in traced:
            traced[name, batch] = forward_of(name, batch).operators
        operators = traced[name, batch]
        columns = [np.array([getattr(item, key) for item in operators], float) for key in ("flops", "bytes_moved")]
        kinds = np.array([item.kind for item in operators], np.int8)
        found.append(_measurement(name, f"{name}, batch {batch}", float(row["value"]) / 1e3, *columns, kinds))
    start = Constants(
        efficiency=0.5,
        convolution_efficiency=0.5,
        bandwidth_efficiency=0.6,
        grouped_bandwidth_efficiency=0.3,
        operator_overhead_s=150e-6,
        step_overhead_s=0.0,
    )
    title = f"Jetson AGX Orin 64 GB at {mode}, forward pass, PyTorch with CUDA, a hook on every layer"
    return fit_all(title, found, "jetson-agx-orin-64gb", start, held=["efficiency"])


def _measurement(network: str, what: str, seconds: float, flops: Any, num_bytes: Any, kinds: Any) -> Measurement:
    return Measurement(network=network, what=what, seconds=seconds, flops=flops, num_bytes=num_bytes, kinds=kinds)


def unused(rows: Iterable[Mapping[str, str]], known: Iterable[str]) -> Counter[str]:
    """Return how many rows are not used for each reason."""
    reasons: Counter[str] = Counter()
    names = set(known)
    for row in rows:
        weak = next((why for sign, why in WEAK.items() if sign in row["quality"]), "")
        if weak:
            reasons[f"weak: {weak}"] += 1
        elif row["kind"] in ("train_memory", "device_microbenchmark"):
            reasons["no time of a network: memory, or a microbenchmark"] += 1
        elif "DL4J" in row["framework"]:
            reasons["phones: DL4J, not PyTorch, and networks that are named but not described"] += 1
        elif row["device"] == "Raspberry Pi 4" and row["model"] not in names:
            reasons["Raspberry Pi 4: torchvision has no such network"] += 1
        elif row["kind"] == "forward_latency" and row["precision"] != "fp32":
            reasons["Jetson: fp16, which no time model uses"] += 1
        elif row["device"] == "Jetson Xavier NX":
            reasons["Jetson Xavier NX: a detector, one row"] += 1
    return reasons


def qualities(fitted: Fitted) -> dict[str, dict[str, Any]]:
    """Return per model, and per group of measurements, the quality of the predictions on networks left out."""
    measured = np.array([step.seconds for step in fitted.measurements])
    whats = np.array([step.what.partition(", ")[2] for step in fitted.measurements])
    groups = {"all": np.ones(len(measured), bool)}
    if set(whats) == {"full", "head"}:
        groups |= {what: whats == what for what in ("full", "head")}
    return {
        name: {group: quality(predicted[at], measured[at]).to_json() for group, at in groups.items()}
        for name, predicted in fitted.predicted.items()
    }


def worst(fitted: Fitted, count: int = 8) -> list[dict[str, Any]]:
    """Return the measurements that the roofline misses most, with where it thinks their time goes."""
    predicted = fitted.predicted["roofline by kind"]
    lines = []
    for step, seconds in zip(fitted.measurements, predicted.tolist(), strict=True):
        shares = {kind.name.lower(): share_of(step, kind, fitted.constants, fitted.machine) for kind in OperatorKind}
        line = {"step": step.what, "measured_s": step.seconds, "predicted_s": seconds, "shares": shares}
        lines.append({**line, "error": seconds / step.seconds - 1})
    return sorted(lines, key=lambda line: -abs(line["error"]))[:count]


def the_fact(profiles: Mapping[tuple[str, str], Profile], rows: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Return MobileNetV2 beside ResNet18 on a Raspberry Pi 4, by the constants of the catalogue, and as measured."""
    device = device_class("raspberry-pi-4-4gb")
    pi = [row for row in rows if row["device"] == "Raspberry Pi 4" and row["kind"] == "train_time"]
    measured = {row["model"]: float(row["value"]) for row in pi}
    return {
        name: {
            "gflop_per_step": profiles[name, "full"].flops_per_step / 1e9,
            "step_s": step_seconds(profiles[name, "full"], device),
            "measured_s": measured[name],
        }
        for name in ("mobilenetv2_100", "resnet18")
    }


def report(path: Path) -> dict[str, Any]:
    """Return everything that is printed."""
    with (path / "measured_points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    profiles: dict[tuple[str, str], Profile] = {}
    traced: dict[tuple[str, str], Profile] = {}
    for name, network in networks().items():
        for what in ("full", "head"):
            key = (network.family, what)
            traced[key] = traced.get(key) or step_of(network, head_only=what == "head")
            profiles[name, what] = traced[key]
    devices = [raspberry_pi(rows, profiles), jetson(rows, "50W"), jetson(rows, "MAXN")]
    return {
        "rows": len(rows),
        "unused": dict(unused(rows, networks())),
        "devices": [
            {
                "title": fitted.title,
                "networks": len({step.network for step in fitted.measurements}),
                "measurements": len(fitted.measurements),
                "constants": asdict(fitted.constants),
                "left_out": qualities(fitted),
                "worst": worst(fitted),
                "remarks": list(fitted.remarks),
            }
            for fitted in devices
        ],
        "fact": the_fact(profiles, rows),
    }


def print_report(found: Mapping[str, Any]) -> None:
    """Print the report as text."""
    print(f"{found['rows']} rows; not used:")
    for reason, count in found["unused"].items():
        print(f"  {count:4} {reason}")
    for device in found["devices"]:
        print(f"\n{device['title']}: {device['measurements']} steps of {device['networks']} networks")
        for remark in device["remarks"]:
            print(f"  {remark}")
        print("  constants of all networks: " + ", ".join(f"{k} {v:.4g}" for k, v in device["constants"].items()))
        print(f"  {'on networks left out':24}{'steps':>8}{'median error':>14}{'90th pct.':>11}{'Spearman':>10}")
        for model, groups in device["left_out"].items():
            for group, numbers in groups.items():
                name = model if len(groups) == 1 else f"{model}, {group}"
                errors = f"{numbers['median_error']:14.1%}{numbers['p90_error']:11.1%}{numbers['spearman']:10.3f}"
                print(f"  {name:26}{numbers['count']:6}{errors}")
        print("  furthest off (seconds predicted without the network, measured; where the model sees the time):")
        for line in device["worst"]:
            shares = ", ".join(f"{kind} {share:.0%}" for kind, share in line["shares"].items())
            seconds = f"{line['predicted_s']:9.3f}{line['measured_s']:9.3f}{line['error']:+8.0%}"
            print(f"    {line['step']:28}{seconds}   {shares}")
    print("\nRaspberry Pi 4, batch 16, by the catalogue (loading of data not charged) and as measured (with loading):")
    for name, line in found["fact"].items():
        seconds = f"{line['step_s']:6.2f} s, measured {line['measured_s']:6.2f} s"
        print(f"  {name:18}{line['gflop_per_step']:8.1f} GFLOP {seconds}")


def main() -> int:
    """Print the report; 2 where the measurements are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with measured_points.csv")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if not (given.data / "measured_points.csv").is_file():
        print(f"error: {given.data / 'measured_points.csv'} is not there; name its folder with --data", file=sys.stderr)
        return 2
    found = report(given.data)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print_report(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
