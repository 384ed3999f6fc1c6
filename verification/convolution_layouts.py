"""Scan the convolutions of this machine's PyTorch for kernels that crash, hang or compute something else.

Start it with: python verification/convolution_layouts.py

Shapes are drawn from a seed over kernel, stride, padding, dilation, channels, groups, sides, batch, dimensions and
memory layout; every second one is a strided 1x1 convolution, the kind that oneDNN 3.12.0 gets wrong. Each is run in a
process of its own, so that a crash is a row: forward pass, gradient of the images and gradients of weight and bias,
compared with double precision. Once as PyTorch runs it and once under the guard of `neulite_sim.models.kernel_guard`,
for each instruction set that the machine has. glibc checks its heap at every free where it can.

The last line says whether all holds: nothing fails under the guard, and nothing fails without it but what
`overruns` names. The exit code is 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import asdict, dataclass
from typing import Any

SETS = {"SSE41": "default", "AVX2": "avx2", "AVX512_CORE": "avx512"}
"""What oneDNN and PyTorch call the instruction sets that they can be held to."""
RANKS = {"DEFAULT": 0, "NO AVX": 0, "AVX2": 1, "AVX512": 2}
"""By what PyTorch says that a machine can do: how many of `SETS` lie at or below it, less one."""
HEAP_CHECKS = "c_malloc_debug"
"""Since glibc 2.34 the checks that MALLOC_CHECK_ switches on are in a library of their own."""
SECONDS_PER_SHAPE = 20
REPEATS = 2
TOLERANCE = 1e-4
"""Largest difference from double precision as a part of the largest entry: float32 sums of some thousand terms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One convolution; all of its sides are alike but for `stride`."""

    dimensions: int
    kernel: int
    stride: tuple[int, ...]
    padding: int
    dilation: int
    channels_in: int
    channels_out: int
    groups: int
    side: int
    batch: int
    is_transposed: bool
    is_channels_last: bool


def draw(generator: random.Random) -> Shape:
    """Return a random shape: strided and 1x1 for every second one."""
    pick = generator.choice
    is_pointwise = generator.random() < 0.5
    dimensions = 2 if is_pointwise else pick((1, 2, 2, 2, 3))
    kernel = 1 if is_pointwise else pick((1, 1, 2, 3, 4))
    strides = [(2,) * dimensions, (3,) * dimensions]
    if dimensions > 1:
        strides += [(1, *(2,) * (dimensions - 1)), (2, *(1,) * (dimensions - 1))]
    channels_in = pick((*range(1, 10), 12, 15, 16, 17, 24))
    groups = 1 if is_pointwise else pick((1, 1, 1, 2, channels_in))
    channels_in += channels_in % groups
    return Shape(
        dimensions=dimensions,
        kernel=kernel,
        stride=pick(strides) if is_pointwise else pick([*strides, (1,) * dimensions, (kernel,) * dimensions]),
        padding=0 if is_pointwise else pick((0, kernel // 2)),
        dilation=1 if is_pointwise else pick((1, 1, 2)),
        channels_in=channels_in,
        channels_out=groups * pick((1, 2, 3, 8, 10, 16)),
        groups=groups,
        side=pick((2, 4, 6, 8, 12, 16, 32) if dimensions < 3 else (2, 4, 6)) + (not is_pointwise and pick((0, 1))),
        batch=pick((1, 2, 5, 16)),
        is_transposed=pick((False, False, False, True)),
        is_channels_last=pick((True, True, False)),
    )


def tried(shape: Shape, *, is_guarded: bool) -> str:
    """Return "" where all results of a shape agree with double precision, else what does not. May crash."""
    import torch

    from neulite_sim.models.kernel_guard import KernelGuard

    torch.manual_seed(0)
    images, weight, bias, geometry = _operands(shape)
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(images.ndim)
    if shape.is_channels_last and layout:
        images, weight = (tensor.to(memory_format=layout) for tensor in (images, weight))
    elif shape.is_channels_last:
        images = images.transpose(1, 2).contiguous().transpose(1, 2)
    operands = [images, weight, bias]
    try:
        expected = _results([tensor.double() for tensor in operands], geometry, None)
    except RuntimeError:
        return "refused"
    for _ in range(REPEATS):
        found = _results(operands, geometry, KernelGuard() if is_guarded else None)
        names = ("result", "gradient of images", "gradient of weight", "gradient of bias")
        for name, ours, theirs in zip(names, found, expected, strict=True):
            error = float((ours - theirs).abs().max()) / (float(theirs.abs().max()) or 1.0)
            if not error <= TOLERANCE:
                return f"{name} off by {error:.1g}"
    return ""


def _operands(shape: Shape) -> tuple[Any, Any, Any, tuple[Any, ...]]:
    import torch

    sides, kernels = (shape.side,) * shape.dimensions, (shape.kernel,) * shape.dimensions
    channels = (shape.channels_out, shape.channels_in // shape.groups)
    if shape.is_transposed:
        channels = (shape.channels_in, shape.channels_out // shape.groups)
    weight = torch.randn(*channels, *kernels)
    images = torch.randn(shape.batch, shape.channels_in, *sides)
    rest = [step - 1 if shape.is_transposed else 0 for step in shape.stride]
    alike = ([size] * shape.dimensions for size in (shape.padding, shape.dilation))
    geometry = (list(shape.stride), *alike, shape.is_transposed, rest, shape.groups)
    return images, weight, torch.randn(shape.channels_out), geometry


def _results(operands: list[Any], geometry: tuple[Any, ...], guard: Any) -> list[Any]:
    import contextlib

    import torch

    leaves = [tensor.detach().requires_grad_() for tensor in operands]
    result = torch.ops.aten.convolution.default(*leaves, *geometry)
    grad = torch.linspace(-1, 2, result.numel(), dtype=torch.float64).reshape(result.shape).to(result.dtype)
    if result.ndim == 4 and result.is_contiguous(memory_format=torch.channels_last):
        grad = grad.to(memory_format=torch.channels_last)
    with guard or contextlib.nullcontext():
        result.backward(grad)
    return [result.detach(), *(leaf.grad for leaf in leaves)]


def is_named(shape: Shape) -> bool:
    """Return whether the guard takes this shape for one that may overrun."""
    from neulite_sim.models.pointwise import overruns

    _, weight, _, geometry = _operands(shape)
    (stride, padding, _dilation, is_transposed, _rest, groups) = geometry
    given = [shape.side] * shape.dimensions
    if is_transposed:
        # With `output_padding` of stride - 1, a result of kernel 1 without padding is as large as all strides together.
        sides = ([side * step for side, step in zip(given, stride, strict=True)], given)
    else:
        sides = (given, [-(-side // step) for side, step in zip(given, stride, strict=True)])
    return overruns(weight.shape, *sides, stride=stride, padding=padding, groups=groups)


def alone(shape: Shape, *, is_guarded: bool) -> str:
    """Return what `tried` says in a process of its own, or how that process ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(SECONDS_PER_SHAPE)
        try:
            said = tried(shape, is_guarded=is_guarded)
        except Exception as failure:
            said = f"{type(failure).__name__}: {failure}"
        os.write(writing, said.encode()[:500])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        return "hang" if number is signal.SIGALRM else f"crash ({number.name})"
    return said


def scan(count: int, seed: int, threads: int) -> Iterator[dict[str, Any]]:
    """Yield a row per shape: it, whether it may overrun, and how it went bare and guarded ("" is well)."""
    import torch

    torch.set_num_threads(threads)
    _warm_up()
    generator = random.Random(seed)
    for _ in range(count):
        shape = draw(generator)
        bare = alone(shape, is_guarded=False)
        yield {"shape": asdict(shape), "named": is_named(shape), "bare": bare,
               "guarded": alone(shape, is_guarded=True)}  # fmt: skip


def _warm_up() -> None:
    """Import what PyTorch imports at first use, so that not every process does; autograd cannot be forked once used."""
    import torch

    from neulite_sim.models.kernel_guard import KernelGuard

    torch.manual_seed(0)
    images, weight = (torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64))
    with KernelGuard():
        geometry = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        result = torch.ops.aten.convolution.default(images, weight, None, *geometry)
        torch.ops.aten.convolution_backward.default(result, images, weight, None, *geometry, [True, True, False])


def environment(name: str) -> dict[str, str]:
    """Return the environment that holds a process to an instruction set, "own" to none, and checks its heap."""
    held = {} if name == "own" else {"ONEDNN_MAX_CPU_ISA": name, "ATEN_CPU_CAPABILITY": SETS[name]}
    checks = find_library(HEAP_CHECKS)
    preload = {"LD_PRELOAD": checks} if checks else {}
    return {**os.environ, **held, **preload, "MALLOC_CHECK_": "3"}


def instruction_sets() -> list[str]:
    """Return the names of `SETS` that this machine has, and "own"."""
    import torch

    rank = RANKS.get(torch.backends.cpu.get_cpu_capability().upper(), 0)
    return [*list(SETS)[: rank + 1], "own"]


def kind_of(row: dict[str, Any]) -> str:
    """Return the line of the table that a row belongs to."""
    shape = Shape(**row["shape"])
    if row["named"]:
        return "1x1, strided, under 16 channels, no remainder"
    if shape.kernel == 1 and max(shape.stride) > 1:
        return "1x1, strided, other"
    return "1x1, stride 1" if shape.kernel == 1 else "larger kernels"


def table(rows: list[dict[str, Any]]) -> str:
    """Return counts per kind and layout: tried, and what crashed or was off bare and guarded."""
    lines = [f"{'kind':<46} {'layout':<14} {'tried':>6} {'crash':>6} {'hang':>5} {'off':>4} {'guarded: any':>13}"]
    tally: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        layout = "channels last" if row["shape"]["is_channels_last"] else "default"
        count = tally.setdefault((kind_of(row), layout), Counter())
        count["tried"] += 1
        count[_word(row["bare"])] += 1
        count["guarded"] += bool(_word(row["guarded"]))
    for (kind, layout), count in sorted(tally.items()):
        figures = f"{count['tried']:>6} {count['crash']:>6} {count['hang']:>5} {count['off']:>4} {count['guarded']:>13}"
        lines.append(f"{kind:<46} {layout:<14} {figures}")
    return "\n".join(lines)


def _word(said: str) -> str:
    """Return "" for well or a shape that PyTorch refuses, else the column of the table."""
    if said in ("", "refused"):
        return ""
    return said.split(maxsplit=1)[0] if said.startswith(("crash", "hang")) else "off"


def problems(rows: list[dict[str, Any]]) -> list[str]:
    """Return what does not hold: a failure under the guard, or one without it that `overruns` does not name."""
    return [
        f"{'guarded' if _word(row['guarded']) else 'not named'}: {row['guarded'] or row['bare']}: {row['shape']}"
        for row in rows
        if _word(row["guarded"]) or (_word(row["bare"]) and not row["named"])
    ]


def scan_under(name: str, count: int, seed: int, threads: int) -> list[dict[str, Any]]:
    """Return the rows of a scan in a process that is held to an instruction set, with progress on a terminal."""
    command = [sys.executable, __file__, "--rows", "--shapes", str(count), "--seed", str(seed),
               "--threads", str(threads)]  # fmt: skip
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(command, env=environment(name), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            rows.append(json.loads(line))
            if len(rows) % 100 == 0:
                print(f"{name}: {len(rows)} of {count} shapes", file=sys.stderr, flush=True)
    assert process.returncode == 0, f"the scan held to {name} ended with {process.returncode}"
    return rows


def main() -> int:
    """Scan, print a table per instruction set and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", type=int, default=1500, help="how many shapes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: %(default)s)")
    parser.add_argument("--isa", choices=[*SETS, "own"], help="only this instruction set")
    parser.add_argument("--rows", action="store_true", help="only print the rows of a scan in this process, as JSON")
    chosen = parser.parse_args()
    if chosen.rows:
        for row in scan(chosen.shapes, chosen.seed, chosen.threads):
            print(json.dumps(row), flush=True)
        return 0
    found: list[str] = []
    for name in [chosen.isa] if chosen.isa else instruction_sets():
        started_at = time.monotonic()
        rows = scan_under(name, chosen.shapes, chosen.seed, chosen.threads)
        print(f"\n{name}: {len(rows)} shapes in {time.monotonic() - started_at:.0f} s\n{table(rows)}")
        found += [f"{name}: {problem}" for problem in problems(rows)]
    print("\n" + "\n".join(found or ["all holds"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
