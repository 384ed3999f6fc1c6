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
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Case = dict[str, Any]
"""What is trained and how: `model`, `shape`, `batch`, and where they differ from the plain step, `method`, `submodel`,
`training` and `malloc`."""

NUM_STEPS = 3
LIMIT_S = 600.0
MEASURED = "process_memory.jsonl"
MEDIAN_ERROR, WORST_ERROR = 0.10, 0.20
BASE_BYTES = 359_000_000
GRID = tuple((1.0, share) for share in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3))
"""Shares of pinned slack that are tried: of blocks that autograd makes a node for, and of others."""

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
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
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
            known[key(entry["case"])] = entry
    if forks:
        started()
    for place, case in enumerate(wanted):
        if key(case) in known:
            continue
        # Variables of glibc are read when a process starts.
        start_s, is_forked = time.monotonic(), forks and case["malloc"] == "default"
        entry = {"case": case, **(in_fork(case) if is_forked else in_fresh_process(case))}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        known[key(case)] = entry
        seconds = time.monotonic() - start_s
        print(f"[{place + 1}/{len(wanted)}] {key(case)} {seconds:.0f} s", file=sys.stderr, flush=True)
    return known


def key(case: Case) -> str:
    """Return a text that no other case has."""
    return json.dumps(case, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A case, its tensor bytes and the allocations that a fake step says, beside what was measured; bytes."""

    case: Case
    tensor_bytes: int
    log: Any
    step_bytes: int
    """Highest resident bytes of the process, less those before the model was built."""

    @property
    def network(self) -> str:
        """The network without its origin, which is left out of the fit as a whole."""
        return str(self.case["model"].removeprefix("torchvision:"))

    def predicted(self, shares: tuple[float, float]) -> int:
        """Return the predicted bytes above the base."""
        from neulite_sim.profiling.process import PinnedShares, process_peaks
        from neulite_sim.scenario.schema import GlibcAllocator

        threshold = 65536 if self.case["malloc"] == "mmap" else None
        allocator = GlibcAllocator(base=0, mmap_threshold=threshold)
        return max(process_peaks(self.log, allocator, pinned=PinnedShares(graph=shares[0], other=shares[1])))


def compared(case: Case, found: dict[str, Any]) -> Compared:
    """Return a case with what a step on fake tensors allocates."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from neulite_sim.profiling.allocations import AllocationLog, AllocationRecorder
    from neulite_sim.profiling.keeping import largest, trace_training
    from neulite_sim.profiling.profile import ready

    build, spec, training = setting(case)
    log = AllocationLog()
    with FakeTensorMode():
        with AllocationRecorder(log):
            trainee = build()
            stepper, batch = ready(trainee, spec, training.batch_size, training)
        parts = trace_training(trainee, stepper, batch, training, log=log)
    step_bytes = max(found["steps"]) - found["warm"]
    return Compared(case=case, tensor_bytes=largest(parts).total, log=log, step_bytes=step_bytes)


def table(items: Sequence[Compared], base_bytes: int) -> dict[str, Any]:
    """Return a row per case, predicted with the shares that suit all other networks best, and the errors."""
    from neulite_sim.profiling.process import PINNED

    guesses = [[item.predicted(shares) for shares in GRID] for item in items]

    def error(place: int, choice: int) -> float:
        return (guesses[place][choice] + base_bytes) / (items[place].step_bytes + base_bytes) - 1

    def best(left_out: str | None) -> int:
        others = [place for place, item in enumerate(items) if item.network != left_out]
        if not others:
            # A single network says nothing about another one.
            return GRID.index((PINNED.graph, PINNED.other))
        return min(range(len(GRID)), key=lambda choice: statistics.fmean(abs(error(p, choice)) for p in others))

    chosen = {network: best(network) for network in {item.network for item in items}}
    rows = [
        {**item.case, "tensor_bytes": item.tensor_bytes, "measured_bytes": item.step_bytes + base_bytes,
         "predicted_bytes": guesses[place][chosen[item.network]] + base_bytes, "shares": GRID[chosen[item.network]],
         "error": error(place, chosen[item.network]),
         "error_above_base": guesses[place][chosen[item.network]] / item.step_bytes - 1}
        for place, item in enumerate(items)
    ]  # fmt: skip
    return {"base_bytes": base_bytes, "networks": len(chosen), "shares": GRID[best(None)], "rows": rows, **errors(rows)}


def errors(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the errors over all rows, and how often a step that was predicted to fit its memory did not.

    As xMem (Shi et al., 2025, https://arxiv.org/abs/2510.21048) counts: a device has exactly what was predicted, so
    each prediction below the measurement is a step that does not fit; the margin is what would have made it none.
    """
    sizes = sorted(abs(row["error"]) for row in rows)
    return {
        "median_error": statistics.median(sizes),
        "worst_error": sizes[-1],
        "median_error_above_base": statistics.median(abs(row["error_above_base"]) for row in rows),
        "worst_error_above_base": max(abs(row["error_above_base"]) for row in rows),
        "tensors_alone_median_error": statistics.median(
            1 - row["tensor_bytes"] / row["measured_bytes"] for row in rows
        ),
        "does_not_fit_share": statistics.fmean(row["error"] < 0 for row in rows),
        "does_not_fit_share_with_5_percent": statistics.fmean(1.05 * (1 + row["error"]) < 1 for row in rows),
        "safety_margin": max(0.0, max(1 / (1 + row["error"]) - 1 for row in rows)),
    }


def printed(found: dict[str, Any]) -> None:
    """Print the table and the errors, megabytes of 10^6 bytes."""
    print(
        f"{'network':<22} {'what':<30} {'tensors':>8} {'process':>8} {'predicted':>9} {'error':>7} {'above base':>10}"
    )
    for row in found["rows"]:
        plan = ", ".join(f"{key} {value}" for key, value in row.get("training", {}).items())
        what = " ".join(filter(None, (row.get("submodel", ""), plan, "" if row["malloc"] == "default" else "mmap")))
        sizes = (row[key] / 1e6 for key in ("tensor_bytes", "measured_bytes", "predicted_bytes"))
        print(f"{row['model'].removeprefix('torchvision:'):<22} {what:<30} {next(sizes):8.1f} {next(sizes):8.1f} "
              f"{next(sizes):9.1f} {row['error']:+7.1%} {row['error_above_base']:+10.1%}")  # fmt: skip
    print(f"{len(found['rows'])} steps of {found['networks']} networks, each network left out of the fit; base "
          f"{found['base_bytes'] / 1e6:.0f} MB, shares {found['shares']}")  # fmt: skip
    both = [f"median {found[f'median_error{kind}']:.1%}, worst {found[f'worst_error{kind}']:.1%}"
            for kind in ("", "_above_base")]  # fmt: skip
    print(f"error of the process's peak: {both[0]}; above the base: {both[1]}")
    shares = [f"{found[f'does_not_fit_share{kind}']:.0%}" for kind in ("", "_with_5_percent")]
    print(f"predicted to fit and does not: {shares[0]} where memory is just what was predicted, {shares[1]} with 5 % "
          f"more; none with a margin of {found['safety_margin']:.1%}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print the table and return 0 where the errors are within the goals, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", help="comma-separated names, without 'torchvision:'")
    parser.add_argument("--measured", type=Path, default=Path(MEASURED), help="file of what was measured; appended to")
    parser.add_argument("--only-measured", action="store_true", help="measure nothing: use what the file has")
    parser.add_argument("--forked", action="store_true", help="fork a process that is warm: quicker, 10 MB less exact")
    parser.add_argument("--base", type=int, default=BASE_BYTES, help="bytes of a warm process")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.case:
        print(json.dumps(measured(json.loads(given.case), started())))
        return 0
    wanted = cases(given.networks.split(",") if given.networks else None)
    known = measure([] if given.only_measured else wanted, given.measured, forks=given.forked)
    taken = [(case, known[key(case)]) for case in wanted if key(case) in known]
    failures = {json.dumps(case): found["failure"] for case, found in taken if "failure" in found}
    for case, failure in failures.items():
        print(f"{case}: {failure}", file=sys.stderr)
    items = [compared(case, found) for case, found in taken if "failure" not in found]
    if not items:
        print("nothing was measured", file=sys.stderr)
        return 1
    found = table(items, given.base)
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        printed(found)
    return int(bool(failures) or found["median_error"] > MEDIAN_ERROR or found["worst_error"] > WORST_ERROR)


if __name__ == "__main__":
    sys.exit(main())
