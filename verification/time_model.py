"""Fits the time model to public measurements, board by board of a family, and prints how far it can be trusted.

    python verification/time_model.py [--data ../shared/data/hardware] [--json] [--write]

Raspberry Pi 4 and 5: seconds of a training step, full and head only, of the networks that torchvision has, and timm
where it is installed. Jetson Nano: one training step. Jetson AGX Orin: seconds of a forward pass. Each network is
profiled as scenarios are, on fake tensors. Constants are fitted without it, on any board, and then asked for its
seconds; and without any measurement of a board, by its data sheet. `--write` puts the constants of all measurements
into `neulite_sim/population/hardware/constants.toml`, from which the catalogue takes them; it needs timm.
A minute and a half with torchvision alone, six with timm.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from measured.constants_file import constants_text, shipped
from measured.networks import HAS_TIMM, Network, forward_of, networks, step_of
from measured.printed import print_report

from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.profiling.fit_quality import quality
from neulite_sim.profiling.fitting import (
    Board,
    Constants,
    Fitted,
    Machine,
    Measurement,
    Predictor,
    Spread,
    Steps,
    boards_left_out,
    bytes_only,
    fit_boards,
    flops_only,
    four_rates,
    networks_left_out,
    plain_roofline,
    roofline,
    share_of,
)
from neulite_sim.profiling.profile import Profile
from neulite_sim.profiling.roofline import OperatorKind
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.scenario.schema import Training

DATA = Path(__file__).parents[2] / "shared" / "data" / "hardware"
WRITTEN = Path(__file__).parents[1] / "neulite_sim" / "population" / "hardware" / "constants.toml"
# As the measurements say: SGD without momentum; they say nothing of weight decay.
PI_TRAINING = Training(batch_size=16, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
# PyTorch's example for ImageNet, which the tutorial of the Jetson Nano trains with.
NANO_TRAINING = Training(batch_size=8, learning_rate=0.1, momentum=0.9, weight_decay=1e-4)
MODELS: Mapping[str, Predictor] = {
    "roofline by kind": roofline,
    "... of fewer kinds": four_rates,
    "one roofline for all": plain_roofline,
    "FLOPs only": flops_only,
    "bytes only": bytes_only,
}
WEAK = {
    "batch INFERRED": "the batch size is inferred, not stated",
    "batch unknown": "the batch size is not stated",
    "device_not_stated": "the device is not stated",
    "anecdotal": "anecdotal",
    "approximate_text": "told in round numbers",
    "constant used by a paper": "a constant that a paper assumes, not a measurement",
}
PI_START = Constants(
    efficiency=0.5,
    convolution_efficiency=0.4,
    pointwise_efficiency=0.2,
    bandwidth_efficiency=0.3,
    grouped_bandwidth_efficiency=0.01,
    grouped_backward_efficiency=0.01,
    operator_overhead_s=50e-6,
    step_overhead_s=0.5,
)
ORIN_START = Constants(
    efficiency=0.5,
    convolution_efficiency=0.5,
    pointwise_efficiency=0.5,
    bandwidth_efficiency=0.6,
    grouped_bandwidth_efficiency=0.3,
    grouped_backward_efficiency=1.0,
    operator_overhead_s=150e-6,
    step_overhead_s=0.0,
)
PI_SPREAD = Spread(overhead=0.3)
"""What a processor spends on an operator is known better than what it makes of one; left to itself the fit has 2 ms."""
_ONE_POINT = ("bandwidth_efficiency", "grouped_bandwidth_efficiency", "operator_overhead_s")
GPU_SPREAD = Spread(mixing=0.0)
"""GPUs reach the shares of their peaks that others of the family reach: arithmetic seldom waits for memory there."""

Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Family:
    """Boards that were fitted together, and what each of their steps is predicted as without its network or board."""

    title: str
    boards: tuple[Board, ...]
    fitted: Mapping[str, Fitted]
    by_network: Mapping[str, Mapping[str, np.ndarray]]
    by_board: Mapping[str, np.ndarray]
    remarks: tuple[str, ...] = ()


def machine_of(device: str) -> Machine:
    """Return the two peaks of a device of the catalogue."""
    known = device_class(device)
    return Machine(
        peak_flops_per_second=known.peak_flops_per_second, memory_bytes_per_second=known.memory_bytes_per_second
    )


def measurement(network: str, what: str, seconds: float, columns: Sequence[Any]) -> Measurement:
    """Return a measured step; operators that are alike stand there once."""
    distinct, counts = np.unique(
        np.stack([np.asarray(column, float) for column in columns]), axis=1, return_counts=True
    )
    flops, num_bytes, kinds = distinct
    return Measurement(
        network=network, what=what, seconds=seconds, flops=flops, num_bytes=num_bytes, kinds=kinds.astype(np.int8),
        counts=counts.astype(float),
    )  # fmt: skip


def columns_of(step: Profile) -> tuple[Any, Any, Any]:
    """Return the columns of a profile's operators."""
    return step.operator_flops, step.operator_bytes, step.operator_kinds


def raspberry_pi(rows: Rows, profiles: Mapping[tuple[str, str], Profile]) -> Family:
    """Return the fit to the training steps of the Raspberry Pi 4 and 5."""
    known, remarks = networks(), []
    found: dict[str, list[Measurement]] = {"Raspberry Pi 4": [], "Raspberry Pi 5": []}
    for row in rows:
        name, what = row["model"], "full" if row["kind"] == "train_time" else "head"
        step = profiles.get((name, what))
        if row["device"] not in found or step is None or math.isnan(float(row["value"])):
            continue
        remark = _remark(name, row["notes"], profiles[name, "full"].parameters / 1e6)
        remarks += [remark] if remark and what == "full" else []
        if name != "resnet50":
            at = measurement(known[name].family, f"{name}, {what}", float(row["value"]), columns_of(step))
            found[row["device"]].append(at)
    boards = tuple(
        Board(name=name, machine=machine_of(device), steps=tuple(found[name]))
        for name, device in (("Raspberry Pi 4", "raspberry-pi-4-4gb"), ("Raspberry Pi 5", "raspberry-pi-5-8gb"))
    )
    return Family(
        title="Raspberry Pi: training step of 16 images, PyTorch on CPU",
        boards=boards,
        fitted=fit_boards(boards, PI_START, spread=PI_SPREAD),
        by_network={
            name: networks_left_out(boards, PI_START, predict=model, spread=PI_SPREAD) for name, model in MODELS.items()
        },
        by_board=boards_left_out(boards, PI_START, spread=PI_SPREAD),
        remarks=tuple(remarks),
    )


def _remark(name: str, notes: str, full: float) -> str:
    told = re.search(r"parameters ([0-9.]+)M", notes)
    stated = float(told[1]) if told else full
    if abs(full / stated - 1) <= 0.1:
        return ""
    if name == "resnet50":
        return f"{name} is left out: {stated:g}M parameters are stated, a {name} has {full:.1f}M"
    return f"{name} is used, although {stated:g}M parameters are stated and it has {full:.1f}M here"


def orin(rows: Rows, mode: str) -> Family:
    """Return the fit to the fp32 forward passes of the Jetson AGX Orin in one power mode."""
    found, traced = [], {}
    for row in rows:
        if row["kind"] != "forward_latency" or not row["device"].endswith(mode) or row["precision"] != "fp32":
            continue
        name, batch = row["model"].split()[1], int(row["batch"])
        if (name, batch) not in traced:
            operators = forward_of(name, batch).operators
            traced[name, batch] = [[getattr(it, key) for it in operators] for key in ("flops", "bytes_moved", "kind")]
        found.append(measurement(name, f"{name}, batch {batch}", float(row["value"]) / 1e3, traced[name, batch]))
    board = Board(name=f"Jetson AGX Orin, {mode}", machine=machine_of("jetson-agx-orin-64gb"), steps=tuple(found))
    held = ("efficiency", "grouped_backward_efficiency")
    return Family(
        title=f"Jetson AGX Orin 64 GB at {mode}: forward pass, PyTorch with CUDA, a hook on every layer",
        boards=(board,),
        fitted=fit_boards([board], ORIN_START, held=held, predict=four_rates),
        by_network={
            name: networks_left_out([board], ORIN_START, held=held, predict=model) for name, model in MODELS.items()
        },
        by_board={},
    )


def one_efficiency(steps: Steps, constants: Constants, machine: Machine) -> np.ndarray:
    """Return seconds where all arithmetic reaches one share of the peak, and grouped convolutions wait for memory."""
    same = dict.fromkeys(("convolution_efficiency", "pointwise_efficiency"), constants.efficiency)
    return four_rates(steps, Constants(**{**asdict(constants), **same}), machine)


def jetson(rows: Rows, forward: Family) -> Family:
    """Return the fit to the one training step of a Jetson Nano, with traffic as a Jetson AGX Orin moves it."""
    forward_share = forward.fitted[forward.boards[0].name].constants.grouped_bandwidth_efficiency
    device = device_class("jetson-nano-4gb")
    start = Constants(
        **{
            **asdict(ORIN_START),
            "bandwidth_efficiency": 1.0,
            "grouped_bandwidth_efficiency": forward_share,
            "operator_overhead_s": device.operator_overhead_s,
        }
    )
    step = columns_of(step_of(Network(networks()["resnet18"].build), NANO_TRAINING))
    steps = tuple(
        measurement(row["model"], f"{row['model']}, batch {row['batch']}", float(row["value"]), step)
        for row in rows
        if row["device"] == "Jetson Nano 4GB" and row["quality"] == "measured_log"
    )
    nano = Board(name="Jetson Nano", machine=machine_of("jetson-nano-4gb"), steps=steps)
    other = Board(name="other Jetsons", machine=nano.machine)
    fitted = fit_boards([nano, other], start, held=_ONE_POINT, predict=one_efficiency, spread=GPU_SPREAD)
    return Family(
        title="Jetson: training step of 8 images, PyTorch with CUDA; one point, so nothing can be left out",
        boards=(nano, other),
        fitted=fitted,
        by_network={},
        by_board={},
        remarks=tuple(_other_words(rows)),
    )


def _other_words(rows: Rows) -> Iterable[str]:
    for row in rows:
        if row["device"].startswith("Jetson Nano") and row["quality"] != "measured_log":
            seconds = float(row["value"])
            images = re.search(r"minutes_per_epoch_of_(\d+)", row["quantity"])
            per_image = seconds * 60 / float(images[1]) if images else seconds / float(row["batch"])
            yield f"not fitted ({row['quality']}): {per_image * 1e3:.0f} ms per image; the fitted step takes 97 ms"


def unused(rows: Rows, known: Iterable[str]) -> Counter[str]:
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
        elif row["device"].startswith("Raspberry Pi") and row["model"] not in names:
            reasons[
                "Raspberry Pi: no such network here" + ("" if HAS_TIMM else "; timm, which has most, is missing")
            ] += 1
        elif row["kind"] == "forward_latency" and row["precision"] != "fp32":
            reasons["Jetson: fp16, which no time model uses"] += 1
        elif row["device"] == "Jetson Xavier NX":
            reasons["Jetson Xavier NX: a detector, one row"] += 1
    return reasons


def _quality(board: Board, predicted: np.ndarray) -> dict[str, Any]:
    """Return the quality of predictions of a board's steps: all, and by what was trained."""
    measured = np.array([step.seconds for step in board.steps])
    whats = np.array([step.what.partition(", ")[2] for step in board.steps])
    groups = {"all": np.ones(len(measured), bool)}
    if set(whats) == {"full", "head"}:
        groups |= {what: whats == what for what in ("full", "head")}
    return {group: quality(predicted[at], measured[at]).to_json() for group, at in groups.items()}


def _worst(board: Board, fitted: Fitted, predicted: np.ndarray, count: int = 6) -> list[dict[str, Any]]:
    """Return the steps that the roofline misses most, with where it thinks their time goes."""
    lines = []
    for step, seconds in zip(board.steps, predicted.tolist(), strict=True):
        shares = {kind.name.lower(): share_of(step, kind, fitted.constants, board.machine) for kind in OperatorKind}
        line = {"step": step.what, "measured_s": step.seconds, "predicted_s": seconds, "shares": shares}
        lines.append({**line, "error": seconds / step.seconds - 1})
    return sorted(lines, key=lambda line: -abs(line["error"]))[:count]


def _board_report(family: Family, board: Board) -> dict[str, Any]:
    fitted = family.fitted[board.name]
    constants = {
        item.name: {
            "value": getattr(fitted.constants, item.name),
            "low": getattr(fitted.low, item.name),
            "high": getattr(fitted.high, item.name),
        }
        for item in fields(Constants)
    }
    found: dict[str, Any] = {
        "name": board.name,
        "steps": len(board.steps),
        "networks": len({step.network for step in board.steps}),
        "constants": constants,
        "network_left_out": {
            name: _quality(board, predicted[board.name]) for name, predicted in family.by_network.items()
        },
    }
    if board.name in family.by_board:
        found["board_left_out"] = _quality(board, family.by_board[board.name])
    if family.by_network:
        found["worst"] = _worst(board, fitted, family.by_network["roofline by kind"][board.name])
    return found


def charged(boards: Sequence[Board], profiles: Mapping[tuple[str, str], Profile]) -> dict[str, Any]:
    """Return how far what devices are charged by the catalogue, loading included, is from what was measured."""
    devices = {"Raspberry Pi 4": "raspberry-pi-4-4gb", "Raspberry Pi 5": "raspberry-pi-5-8gb"}
    found = {}
    for board in boards:
        steps = [profiles[tuple(step.what.split(", "))] for step in board.steps]  # type: ignore[index]
        predicted = np.array([step_seconds(step, device_class(devices[board.name])) for step in steps])
        found[board.name] = _quality(board, predicted)
    return found


def report(path: Path) -> tuple[dict[str, Any], str]:
    """Return everything that is printed, and the text of the file of constants."""
    with (path / "measured_points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    profiles: dict[tuple[str, str], Profile] = {}
    traced: dict[tuple[str, str], Profile] = {}
    for name, network in networks().items():
        for what in ("full", "head"):
            key = (network.family, what)
            traced[key] = traced.get(key) or step_of(network, PI_TRAINING, head_only=what == "head")
            profiles[name, what] = traced[key]
    pi, forward, maxn = raspberry_pi(rows, profiles), orin(rows, "50W"), orin(rows, "MAXN")
    nano = jetson(rows, forward)
    found = {
        "rows": len(rows),
        "unused": dict(unused(rows, networks())),
        "families": [
            {
                "title": family.title,
                "boards": [_board_report(family, board) for board in family.boards],
                "remarks": list(family.remarks),
            }
            for family in (pi, nano, forward, maxn)
        ],
        "charged": charged(pi.boards, profiles),
    }
    loaded_bytes = profiles["resnet18", "full"].loaded_bytes
    return found, constants_text(shipped(pi, nano, forward, loaded_bytes=loaded_bytes))


def main() -> int:
    """Print the report; 2 where the measurements are not there, or constants cannot be written without timm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with measured_points.csv")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="write the constants of the catalogue")
    given = parser.parse_args()
    if not (given.data / "measured_points.csv").is_file():
        print(f"error: {given.data / 'measured_points.csv'} is not there; name its folder with --data", file=sys.stderr)
        return 2
    if given.write and not HAS_TIMM:
        print(
            "error: --write fits every network, and timm is missing; pip install 'neulite-sim[timm]'", file=sys.stderr
        )
        return 2
    found, text = report(given.data)
    if given.write:
        WRITTEN.write_text(text, encoding="utf-8")
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print_report(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
