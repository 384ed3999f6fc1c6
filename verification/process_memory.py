"""Predicted against measured peak of the whole process of a training step, on the processor, each in a fresh process.

Run it from the checkout: `python verification/process_memory.py [--networks resnet50,vit] [--json]`. Every case is a
process of its own with one thread, which imports PyTorch and torchvision, steps a toy once so that every kind of kernel
is there, builds the submodel as devices train it and takes some steps; `VmRSS` and `VmHWM` are read from
`/proc/self/status` in between. What is measured is appended to a file (`--measured`), and what stands there is not
measured again: a run that was stopped goes on where it was.

Cases are torchvision's networks, and of five architectures of this project all stages of NeuLite, micro-batches and
checkpointing. Most are measured as PyTorch comes and with `MALLOC_MMAP_THRESHOLD_=65536 MALLOC_ARENA_MAX=1` as well.
Prints a line per case and the errors of the law on networks that were left out when its constants were chosen.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Case = dict[str, Any]
"""What is trained and how: `model`, `shape`, `batch`, and where they differ from the plain step, `method`, `submodel`,
`training` and `malloc`."""

NUM_STEPS = 3
LIMIT_S = 600.0
MEASURED = "process_memory.jsonl"

MALLOC: dict[str, dict[str, str]] = {
    "default": {},
    "mmap": {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"},
}
"""Ways of running the process, as environment variables of glibc."""

TORCHVISION: dict[str, tuple[int, int]] = {
    "mobilenet_v2": (96, 16), "resnet18": (128, 16), "squeezenet1_1": (128, 16), "alexnet": (128, 16),
    "efficientnet_b0": (96, 16), "densenet121": (64, 16), "shufflenet_v2_x1_0": (160, 16), "resnet50": (64, 16),
    "mobilenet_v3_large": (128, 16), "regnet_y_400mf": (128, 16), "mnasnet1_0": (96, 16), "googlenet": (96, 16),
    "vgg11": (64, 8), "swin_t": (96, 4), "convnext_tiny": (64, 8), "resnext50_32x4d": (64, 8),
    "mobilenet_v3_small": (160, 16), "regnet_x_400mf": (96, 16), "efficientnet_b1": (96, 8), "mnasnet0_5": (128, 32),
    "shufflenet_v2_x0_5": (128, 32), "resnet34": (96, 8), "squeezenet1_0": (128, 8), "inception_v3": (96, 8),
    "regnet_x_800mf": (96, 8), "efficientnet_v2_s": (64, 8), "vgg13_bn": (64, 4), "vit_b_16": (224, 2),
}  # fmt: skip
"""Side of the images and batch of each network of torchvision."""

OWN: dict[str, tuple[int, int]] = {
    "resnet18": (32, 16), "squeezenet": (32, 16), "vit": (32, 16), "vgg11_bn": (32, 16), "resnet34": (32, 16),
}  # fmt: skip
PLANS: tuple[dict[str, Any], ...] = ({}, {"micro_batch_size": 4}, {"checkpointing": True})
OWN_WIDTH = 0.5
STAGES = {"squeezenet": 3, "vit": 3}


def cases(networks: Sequence[str] | None = None) -> list[Case]:
    """Return every case of the networks named, of all where none is; those of the plain process come first."""
    first: list[Case] = []
    last: list[Case] = []
    for name, (side, batch) in TORCHVISION.items():
        plain: Case = {"model": f"torchvision:{name}", "shape": [3, side, side], "batch": batch, "malloc": "default"}
        first.append(plain)
        last.append({**plain, "malloc": "mmap"})
    for place, (name, (side, batch)) in enumerate(OWN.items()):
        plain = {"model": name, "shape": [3, side, side], "batch": batch, "malloc": "default", "width": OWN_WIDTH}
        own = [{**plain, "training": plan} if plan else plain for plan in PLANS]
        own += [{**plain, "method": "neulite", "submodel": f"stage-{n}"} for n in range(1, STAGES.get(name, 4) + 1)]
        # A run that is stopped early has some of both kinds.
        at = 12 + 10 * place
        first[at:at] = own
        last.append({**plain, "malloc": "mmap"})
    found = first + last
    return found if networks is None else [case for case in found if case["model"].split(":")[-1] in networks]


def resident() -> dict[str, int]:
    """Return resident bytes of this process, now and at their highest."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    found = {name: re.search(rf"{name}:\s+(\d+) kB", text) for name in ("VmRSS", "VmHWM")}
    return {name: int(match[1]) * 1024 for name, match in found.items() if match}


def warm_up() -> None:
    """Take two steps of a toy that holds a layer of each kind."""
    import torch
    from torch import nn

    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
              nn.Conv2d(16, 32, 1), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LayerNorm(128),
              nn.Dropout(0.1), nn.Linear(128, 10))  # fmt: skip
    toy = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(toy.parameters(), lr=0.1, momentum=0.9, foreach=False)
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(toy(images), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()


def started() -> dict[str, int]:
    """Import all that a case needs and step a toy; returns resident bytes of this process at each stage."""
    found = {"start": resident()["VmRSS"]}
    import torch

    torch.set_num_threads(1)
    found["framework"] = resident()["VmRSS"]
    from neulite_sim.torchvision_compat import torchvision_module

    torchvision_module("models")
    for name in ("engine.charging", "models.torchvision_classifier", "profiling.profile"):
        importlib.import_module(f"neulite_sim.{name}")
    found["imports"] = resident()["VmRSS"]
    warm_up()
    found["warm"] = resident()["VmRSS"]
    return found


def measured(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """Return what this process, which has started and done nothing else, takes to train a case, step by step."""
    import torch

    from neulite_sim.profiling.profile import ready

    build, spec, training = setting(case)
    found["warm"] = resident()["VmRSS"]
    trainee = build()
    stepper, batch = ready(trainee, spec, training.batch_size, training)
    found["ready"] = resident()["VmRSS"]
    found["steps"] = []
    for _ in range(NUM_STEPS):
        stepper.step(*batch)
        found["steps"].append(resident()["VmHWM"])
    versions = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(),
                "libc": " ".join(platform.libc_ver()), "machine": platform.machine()}  # fmt: skip
    return found | {"versions": versions}


def setting(case: Case) -> tuple[Any, Any, Any]:
    """Return how the trainee of a case is built, its kind of samples and its training."""
    from neulite_sim import registry
    from neulite_sim.engine.charging import build_trainee
    from neulite_sim.methods.contract import Setting
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.torchvision_classifier import Classifier
    from neulite_sim.scenario.schema import Training

    model, shape = case["model"], tuple(case["shape"])
    if model.startswith("torchvision:"):
        architecture: Any = Classifier(name=model.removeprefix("torchvision:"))
    else:
        found = registry.component("model", model)
        architecture = found.build(found.options())
    blueprint = Blueprint(architecture=architecture, input_shape=shape, num_classes=10, name=model,
                          width=case.get("width", 1.0))  # fmt: skip
    num_blocks = blueprint.build_meta().num_blocks
    found = registry.component("method", case.get("method", "fedavg"))
    where = Setting(num_blocks=num_blocks, num_devices=10, max_rounds=2 * num_blocks, seed=0)
    method = found.build(found.options(), where)
    training = Training(batch_size=case["batch"], **case.get("training", {}))
    return (
        lambda: build_trainee(method, case.get("submodel", method.submodels[-1]), blueprint),
        blueprint.spec,
        training,
    )


def in_fresh_process(case: Case) -> dict[str, Any]:
    """Return what a new process with one thread measures of a case; `failure` where it does not come to an end."""
    environment = {**os.environ, **MALLOC[case.get("malloc", "default")]}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except subprocess.TimeoutExpired:
        return {"failure": f"took more than {LIMIT_S:.0f} s"}
    except subprocess.CalledProcessError as failure:
        return {"failure": (failure.stderr.strip() or str(failure)).splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_fork(case: Case) -> dict[str, Any]:
    """Return the same, measured in a copy of this process, which must have started; quicker on a busy machine."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # Pages of libraries come back only when they are used again.
            warm_up()
            answer = measured(case, {"forked": True})
        except BaseException as failure:
            answer = {"failure": f"{type(failure).__name__}: {failure}"}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content) if content else {"failure": "the process died"}


def measure(wanted: Sequence[Case], path: Path, *, forks: bool = False) -> dict[str, dict[str, Any]]:
    """Return what was measured of each case, by its JSON; what is not in the file yet is measured and added to it."""
    known: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            known[json.dumps(entry["case"], sort_keys=True)] = entry
    if forks:
        started()
    for place, case in enumerate(wanted):
        key = json.dumps(case, sort_keys=True)
        if key in known:
            continue
        start_s, is_forked = time.monotonic(), forks and case.get("malloc") == "default"
        known[key] = {"case": case, **(in_fork(case) if is_forked else in_fresh_process(case))}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[key]) + "\n")
        print(f"[{place + 1}/{len(wanted)}] {key} {time.monotonic() - start_s:.0f} s", file=sys.stderr, flush=True)
    return {json.dumps(case, sort_keys=True): known[json.dumps(case, sort_keys=True)] for case in wanted}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, default=Path(MEASURED))
    parser.add_argument("--forked", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.case:
        print(json.dumps(measured(json.loads(given.case), started())))
        return 0
    measure(cases(), given.measured, forks=given.forked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
