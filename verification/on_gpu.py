"""Everything that only a GPU can show, in one command of under eight minutes.

Run it from the checkout: `python verification/on_gpu.py`. It needs neither Ray nor data, and PyTorch 2.11:

1. peaks: predicted, tracked on real tensors and `torch.cuda.max_memory_allocated`, for every stage, width, depth and
   plan of ResNet18 (goal: within 5 percent of each other);
2. steps per second of a worker's training step beside a plain loop over the same network;
3. `run --audit`, whose table has a column for CUDA, and a run with `backend: {kind: inprocess, device: cuda}` twice;
4. many clients in one kernel (`torch.func.vmap` over stacked weights) beside one client after another;
5. 40 rounds of `scenarios/paper/cifar10_resnet18_neulite.yaml`, with throughput.

`--small --device cpu` goes through all of it on tiny sizes, without the column of CUDA. `--json FILE` keeps what was
measured. Fails where peaks are further apart than the goal, digests of equal runs differ, or a client alone learns
something else than among others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from neulite_sim import registry
from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.contract import Method, Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel, Trainee
from neulite_sim.profiling.audit import audit, cuda_peak_bytes
from neulite_sim.profiling.profile import profile, ready
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.scenario.schema import Training
from neulite_sim.torchvision_compat import torchvision_module

GOAL = 0.05
METHODS = ("fedavg", "neulite", "heterofl", "depthfl")
PLANS: dict[str, dict[str, Any]] = {
    "whole": {},
    "micro-batches": {"micro_batch_size": 16},
    "checkpointing": {"checkpointing": True},
    "bf16": {"precision": "bf16"},
    "all three": {"precision": "bf16", "micro_batch_size": 16, "checkpointing": True},
}
PAPER = Path(__file__).parents[1] / "scenarios" / "paper" / "cifar10_resnet18_neulite.yaml"
SYNTHETIC = "data={kind: synthetic, shape: [3, 32, 32], classes: 10, samples: %d, test_samples: %d}"
STEPS_OF_A_ROUND = 400
"""Of the paper's scenario: ten devices, five epochs of about 500 samples in batches of 64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large everything is."""

    side: int
    width: float
    batches: tuple[int, ...]
    steps: int
    clients: int
    rounds: int
    samples: int


LARGE = Sizes(side=32, width=1.0, batches=(32, 128), steps=60, clients=10, rounds=40, samples=50_000)
SMALL = Sizes(side=16, width=0.125, batches=(8,), steps=3, clients=2, rounds=1, samples=200)


class Report:
    """What was printed, for a file, and what was not as it should be."""

    def __init__(self, until_s: float) -> None:
        self.found: dict[str, Any] = {}
        self.wrong: list[str] = []
        self._until_s = until_s

    def left_s(self) -> float:
        """Return how many seconds are left."""
        return self._until_s - time.monotonic()

    def say(self, text: str) -> None:
        """Print a line at once."""
        print(text, flush=True)


def blueprint_of(sizes: Sizes) -> Blueprint:
    """Return the ResNet18 that everything is measured on."""
    found = registry.component("model", "resnet18")
    shape = (3, sizes.side, sizes.side)
    return Blueprint(
        architecture=found.build(found.options()), input_shape=shape, num_classes=10, width=sizes.width,
        name="resnet18",
    )  # fmt: skip


def method_of(name: str, blueprint: Blueprint) -> Method:
    """Return a method at its defaults."""
    num_blocks = blueprint.build_meta().num_blocks
    found = registry.component("method", name)
    setting = Setting(num_blocks=num_blocks, num_devices=10, max_rounds=2 * num_blocks, seed=0)
    method: Method = found.build(found.options(), setting)
    return method


def cases(sizes: Sizes) -> Iterator[tuple[str, Training, Callable[[], Trainee]]]:
    """Yield what is trained, how, and what builds it: every submodel as it is, and the full model by every plan."""
    blueprint = blueprint_of(sizes)
    for name in METHODS if sizes is LARGE else METHODS[:2]:
        method = method_of(name, blueprint)
        for submodel in method.submodels:
            for batch_size in sizes.batches:
                plans = PLANS if name == "fedavg" else {"whole": {}}
                for plan, changes in plans.items():
                    if "micro_batch_size" in changes:
                        changes = {**changes, "micro_batch_size": min(16, batch_size // 2)}
                    training = Training(batch_size=batch_size, **changes)
                    label = f"{name} {submodel}, batch {batch_size}, {plan}"
                    yield label, training, lambda method=method, submodel=submodel: method.trainee(submodel, blueprint)


def peaks(sizes: Sizes, device: str, report: Report) -> None:
    """Compare predicted peaks with tracked ones, and with those of CUDA's allocator."""
    report.say(f"{'1. peak of a step, bytes':<52} {'predicted':>14} {'tracked':>14} {'CUDA':>14} {'largest error':>14}")
    rows = []
    for label, training, build in cases(sizes):
        how: dict[str, Any] = {
            "spec": blueprint_of(sizes).spec, "batch_size": training.batch_size, "training": training,
        }  # fmt: skip
        predicted = profile(label, build, **how).peak_memory_bytes
        tracked = audit(build, **how).total
        allocated = cuda_peak_bytes(build, **how) if device == "cuda" else None
        measured = [tracked, *([] if allocated is None else [allocated])]
        error = max(abs(each / predicted - 1) for each in measured)
        shown = "" if allocated is None else f"{allocated:,}"
        report.say(f"{label:<52} {predicted:>14,} {tracked:>14,} {shown:>14} {error:>14.2%}")
        rows.append({"case": label, "predicted": predicted, "tracked": tracked, "cuda": allocated, "error": error})
        if error > GOAL:
            report.wrong.append(f"peak of {label} is off by {error:.1%}")
    report.found["peaks"] = rows


def _seconds(work: Callable[[], object], steps: int, device: str) -> float:
    """Return seconds of `steps` calls, after three that are not counted."""
    for _ in range(3):
        work()
    _settle(device)
    start = time.perf_counter()
    for _ in range(steps):
        work()
    _settle(device)
    return time.perf_counter() - start


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def throughput(sizes: Sizes, device: str, report: Report) -> float:
    """Compare our training step with a plain loop; return our steps per second at a batch of 64, or the largest."""
    report.say("2. steps per second of the full model     ours      plain      ratio")
    blueprint, rows = blueprint_of(sizes), []
    for batch_size in sizes.batches:
        training = Training(batch_size=batch_size, learning_rate=0.01, momentum=0.9)
        stepper, batch = ready(FullModel(blueprint).to(device), blueprint.spec, batch_size, training)
        ours = sizes.steps / _seconds(lambda stepper=stepper, batch=batch: stepper.step(*batch), sizes.steps, device)
        plain = sizes.steps / _seconds(_plain(blueprint, batch, device), sizes.steps, device)
        report.say(f"   batch {batch_size:<31} {ours:>7.1f} {plain:>10.1f} {ours / plain:>10.2f}")
        rows.append({"batch_size": batch_size, "ours_per_s": ours, "plain_per_s": plain})
    report.found["throughput"] = rows
    return float(rows[-1]["ours_per_s"])


def _plain(blueprint: Blueprint, batch: tuple[Tensor, Tensor], device: str) -> Callable[[], None]:
    """Return a step as one writes it by hand."""
    model = blueprint.build().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return step


def commands(sizes: Sizes, device: str, report: Report) -> None:
    """Run a small scenario with `--audit`, and once more: the same digest."""
    rounds = 4 if sizes is LARGE else 2
    model = "resnet18" if sizes is LARGE else "lenet"
    scenario = {
        "name": "gpu", "model": model, "method": "neulite", "stop": {"rounds": rounds},
        "training": {"batch_size": sizes.batches[0]},
        "data": {"kind": "digits", "image_size": sizes.side},
        "population": {"devices": 10, "groups": [{"device": "jetson-nano-4gb", "share": 1}],
                       "available_memory": {"kind": "uniform", "low": "2GB", "high": "3GB"}},
        "selection": {"kind": "uniform", "devices_per_round": 3},
        "backend": {"kind": "inprocess", "device": device},
    }  # fmt: skip
    digests = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gpu.yaml")
        path.write_text(json.dumps(scenario), encoding="utf-8")
        for place, more in enumerate((["--audit"], [])):
            printed = _printed(["run", str(path), "--out", str(Path(folder, str(place))), *more])
            if more:
                report.say("3. run --audit\n" + printed)
                if device == "cuda" and "CUDA" not in printed:
                    report.wrong.append("run --audit has no column for CUDA")
            digests.append(json.loads(Path(folder, str(place), "summary.json").read_text(encoding="utf-8"))["digest"])
    same = digests[0] == digests[1]
    report.say(f"   the same digest twice: {same} ({digests[0][:16]})")
    report.found["digests"] = digests
    if not same:
        report.wrong.append(f"two equal runs on {device} have other digests")


def _printed(arguments: Sequence[str]) -> str:
    """Return what the command line prints, in a process of its own."""
    checkout = str(Path(__file__).parents[1])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([checkout, os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "neulite_sim", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def clients(sizes: Sizes, device: str, report: Report) -> None:
    """Compare a step of many clients in one kernel with a step of each by itself, in time and in result."""
    torch.manual_seed(0)
    # Plain modules without running statistics: what this project adds to its own networks has no rule for vmap.
    resnet18 = torchvision_module("models").resnet18
    models = [resnet18(num_classes=10, norm_layer=partial(nn.GroupNorm, 8)).to(device) for _ in range(sizes.clients)]
    batch = sizes.batches[0]
    inputs = torch.randn(sizes.clients, batch, 3, sizes.side, sizes.side, device=device)
    labels = torch.randint(0, 10, (sizes.clients, batch), device=device)
    states, buffers = stack_module_state(models)
    gradient = grad(_loss_of(models[0]))
    alone = [{name: tensor[client] for name, tensor in states.items()} for client in range(sizes.clients)]

    def one_by_one() -> list[Any]:
        return [gradient(alone[client], {}, inputs[client], labels[client]) for client in range(sizes.clients)]

    together = vmap(gradient, in_dims=(0, 0 if buffers else None, 0, 0), randomness="different")
    steps = max(1, sizes.steps // 6)
    try:
        stacked = together(states, buffers, inputs, labels)
        apart = max(
            float(((stacked[name][client] - tensor).norm() / tensor.norm().clamp_min(1e-12)).detach())
            for client, found in enumerate(one_by_one()) for name, tensor in found.items()
        )  # fmt: skip
        single_s = _seconds(one_by_one, steps, device)
        joint_s = _seconds(lambda: together(states, buffers, inputs, labels), steps, device)
    except (RuntimeError, NotImplementedError) as error:
        report.say(f"4. many clients in one kernel: not possible here ({str(error).splitlines()[0]})")
        report.found["clients"] = {"error": str(error)}
        return
    report.say(
        f"4. {sizes.clients} clients in one kernel: {single_s / joint_s:.2f} times as fast as one after another; their "
        f"gradients differ by {apart:.1e} of their size"
    )
    report.found["clients"] = {"single_s": single_s, "joint_s": joint_s, "apart": apart}
    if apart > 1e-2:
        report.wrong.append(f"gradients of clients in one kernel are off by {apart:.1e}")


def _loss_of(model: nn.Module) -> Callable[..., Tensor]:
    def loss(state: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, {**state, **buffers}, (inputs,)), labels)

    return loss


def paper(sizes: Sizes, device: str, report: Report, *, steps_per_s: float, data: Sequence[str]) -> None:
    """Run the beginning of the paper's scenario, as many rounds as the time that is left allows."""
    rounds = sizes.rounds
    if sizes is LARGE:
        rounds = max(1, min(rounds, int(0.7 * report.left_s() * steps_per_s / STEPS_OF_A_ROUND)))
    changes = [f"backend={{kind: inprocess, device: {device}}}", f"stop.rounds={rounds}", *data]
    if sizes is SMALL:
        changes += ["proxy={width: 0.125}", "training.epochs=1", "selection.devices_per_round=2"]
    start = time.perf_counter()
    result = simulate(load_scenario(PAPER, changes))
    seconds = time.perf_counter() - start
    samples = sum(row["samples"] * result.scenario.training.epochs for row in result.flights)
    report.say(
        f"5. {rounds} rounds of {PAPER.name} in {seconds:.0f} s: {rounds / seconds:.2f} rounds and "
        f"{samples / seconds:,.0f} samples a second; accuracy {result.summary['final_accuracy']:.1%}; digest "
        f"{result.summary['digest'][:16]}"
    )
    report.found["paper"] = {"rounds": rounds, "seconds": seconds, "samples": samples, **result.summary}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all sections and return 0 where nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a processor")
    parser.add_argument("--seconds", type=float, default=450.0, help="time for all of it (default: 450)")
    parser.add_argument("--data-root", help="folder with CIFAR-10; images of noise where it is not given")
    parser.add_argument("--json", type=Path, help="file for what was measured")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device here; --small --device cpu goes through the script without one")
    if chosen.device == "cpu":
        # Tensors this small: threads that wait for one another would take most of the time.
        torch.set_num_threads(1)
    sizes, report = SMALL if chosen.small else LARGE, Report(time.monotonic() + chosen.seconds)
    card = torch.cuda.get_device_name() if chosen.device == "cuda" else "processor"
    report.say(f"{card}, PyTorch {torch.__version__}")
    report.found["device"] = {"name": card, "torch": torch.__version__}
    own = [f"data.root={chosen.data_root}"] if chosen.data_root else [SYNTHETIC % (sizes.samples, sizes.samples // 5)]
    peaks(sizes, chosen.device, report)
    steps_per_s = throughput(sizes, chosen.device, report)
    commands(sizes, chosen.device, report)
    clients(sizes, chosen.device, report)
    paper(sizes, chosen.device, report, steps_per_s=steps_per_s, data=own)
    for text in report.wrong:
        report.say(f"WRONG: {text}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(report.found, indent=1, default=str), encoding="utf-8")
    return int(bool(report.wrong))


if __name__ == "__main__":
    sys.exit(main())
