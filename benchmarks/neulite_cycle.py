"""Samples per second of NeuLite's cycle: neulite-sim beside a plain PyTorch loop of the official code's structure.

    python benchmarks/neulite_cycle.py [--repeats 3] [--threads 2] [--cycles 2]

The job: ResNet18 at a quarter of its width, four stages in turn, one per round, 8 devices x 64 samples of 3x32x32,
batch 32, 5 epochs (`neulite_cycle.yaml`). The plain loop does what the official client loop does, on `--threads`
threads: each step the whole forward pass in PyTorch's own layout, frozen layers and their BatchNorm in training mode
included; surrogate convolutions, classifier and projection MLP; two nHSIC terms from plain kernel matrices; SGD in its
default implementation; then the mean over whole state dicts. The no-op max-pooling of the official stem is left out.
neulite-sim runs with as many actors of one thread each (`ray`), or as many threads of one process (`inprocess`), at its
defaults; `recompute` is `ray` with `training.prefix_cache: none`. Runs alternate, so that a machine that slows
down slows down all of them; the first cycle of each is a warm-up and is not counted. What is printed is the median,
and the ratio to the plain loop of the same repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCENARIO = Path(__file__).with_name("neulite_cycle.yaml")
DEVICES_PER_ROUND, SAMPLES, BATCH, EPOCHS, STAGES, CLASSES = 8, 64, 32, 5, 4, 10
CHANNELS = (16, 32, 64, 128)
SIGMA, WEIGHTS = 5.0, (0.5, 0.5)


def official_stages() -> list[Any]:
    """Return the model of each stage: the blocks up to it, convolutions in place of the later ones, head and MLP."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
            self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
            self.relu = nn.ReLU(inplace=True)
            self.side = nn.Sequential()
            if stride > 1:
                self.side = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

        def forward(self, maps: Any) -> Any:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
            out += self.side(maps)
            return self.relu(out)

    class Stage(nn.Module):
        def __init__(self, stage: int) -> None:
            super().__init__()
            first = CHANNELS[0]
            self.stem = nn.Sequential(nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(True))
            inner, blocks, last = first, [], CHANNELS[-1]
            for number, outer in enumerate(CHANNELS):
                stride = 1 if number == 0 else 2
                blocks.append(
                    nn.Sequential(Residual(inner, outer, stride), Residual(outer, outer, 1))
                    if number < stage
                    else nn.Conv2d(inner, outer, 3, 2, 1, bias=False)
                )
                inner = outer
            self.blocks = nn.Sequential(*blocks)
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(last, CLASSES)
            self.mlp = nn.Sequential(
                nn.Linear(last, 4 * last), nn.Linear(4 * last, 2 * last), nn.Linear(2 * last, last)
            )
            if stage > 1:
                for part in (self.stem, *self.blocks[: stage - 1]):
                    part.requires_grad_(False)
                tail = self.blocks[stage - 2][1]
                for part in (tail.conv2, tail.bn2):
                    part.requires_grad_(True)

        def forward(self, images: Any) -> Any:
            maps = self.blocks(self.stem(images))
            pooled = torch.flatten(self.pool(maps), 1)
            return self.head(pooled), maps.reshape(len(maps), -1), self.mlp(pooled)

    return [Stage(stage) for stage in range(1, STAGES + 1)]


def plain_nhsic(first: Any, second: Any) -> Any:
    """Return nHSIC as a ratio of three HSICs, each from the centred kernel matrices of its own two operands."""
    import torch

    def centred(features: Any) -> Any:
        squares = (features * features).sum(1, keepdim=True)
        distances = (squares - 2 * features @ features.T + squares.T).abs()
        kernel = torch.exp(-distances / (2 * SIGMA**2 * features.shape[1]))
        count = len(features)
        return kernel @ (torch.eye(count) - torch.ones(count, count) / count)

    def hsic(one: Any, other: Any) -> Any:
        return (centred(one) * centred(other).T).mean()

    return hsic(first, second) / (hsic(first, first).sqrt() * hsic(second, second).sqrt())


def plain_loop(cycles: int, threads: int) -> dict[str, float]:
    """Train the job with nothing but PyTorch and return the seconds of all cycles after the first."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    images = torch.randn(3200, 3, 32, 32)
    labels = torch.randint(CLASSES, (3200,))
    stages = official_stages()
    states = [{name: tensor.clone() for name, tensor in stage.state_dict().items()} for stage in stages]
    started = time.perf_counter()
    for round_number in range(cycles * STAGES):
        if round_number == STAGES:
            started = time.perf_counter()
        model, state = stages[round_number % STAGES], states[round_number % STAGES]
        total: dict[str, Any] = {}
        for device in torch.randperm(len(images) // SAMPLES)[:DEVICES_PER_ROUND].tolist():
            model.load_state_dict(state)
            model.train()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
            for _ in range(EPOCHS):
                for batch in (device * SAMPLES + torch.randperm(SAMPLES)).split(BATCH):
                    optimizer.zero_grad()
                    logits, maps, projected = model(images[batch])
                    one_hot = nn.functional.one_hot(labels[batch], CLASSES).float()
                    loss = nn.functional.cross_entropy(logits, labels[batch])
                    loss = loss - WEIGHTS[0] * plain_nhsic(maps, images[batch].flatten(1))
                    (loss - WEIGHTS[1] * plain_nhsic(projected, one_hot)).backward()
                    optimizer.step()
            for name, tensor in model.state_dict().items():
                total[name] = total.get(name, 0) + tensor / DEVICES_PER_ROUND
        state.update({name: tensor.to(state[name].dtype) for name, tensor in total.items()})
    return {"steady_s": (time.perf_counter() - started) / (cycles - 1)}


def simulated(backend: str, cycles: int, threads: int, *overrides: str) -> dict[str, float]:
    """Run the scenario in a fresh process and return the seconds of a cycle after the first."""
    script = (
        "import json, sys\n"
        "from neulite_sim import load_scenario, simulate\n"
        "result = simulate(load_scenario(sys.argv[1], sys.argv[2:]))\n"
        "print(json.dumps([row['wall_time_s'] for row in result.rounds]))\n"
    )
    chosen = f"{{kind: {backend}, workers: {threads}}}"
    settings = (f"stop.rounds={cycles * STAGES}", f"backend={chosen}", *overrides)
    done = subprocess.run(
        [sys.executable, "-c", script, str(SCENARIO), *settings], check=True, capture_output=True, text=True
    )
    walls = json.loads(done.stdout.splitlines()[-1])
    return {"steady_s": (walls[-1] - walls[STAGES - 1]) / (cycles - 1)}


def plain_in_fresh_process(cycles: int, threads: int) -> dict[str, float]:
    """Return what `plain_loop` measures in a process of its own."""
    command = [sys.executable, __file__, "--plain-only", "--cycles", str(cycles), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Measure, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=2, help="cycles of four rounds, the first of them a warm-up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cycles < 2:
        parser.error("--cycles must be at least 2: the first one is a warm-up")
    how = arguments.cycles, arguments.threads
    if arguments.plain_only:
        print(json.dumps(plain_loop(*how)))
        return
    samples = DEVICES_PER_ROUND * SAMPLES * EPOCHS * STAGES
    runs = {
        "official": lambda: plain_in_fresh_process(*how),
        "ray": lambda: simulated("ray", *how),
        "inprocess": lambda: simulated("inprocess", *how),
        "recompute": lambda: simulated("ray", *how, "training.prefix_cache=none"),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            found[name].append(run()["steady_s"])
    print(f"{os.cpu_count()} processors, {arguments.threads} threads, {arguments.repeats} repeats, samples x epochs/s")
    print(f"{'':<12}{'samples/s':>11}{'ratio':>8}")
    for name, seconds in found.items():
        speed = statistics.median(samples / each for each in seconds)
        ratio = statistics.median(base / each for base, each in zip(found["official"], seconds, strict=True))
        print(f"{name:<12}{speed:>11.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
