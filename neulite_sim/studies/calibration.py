"""Measures the machine it runs on and fits the time model to it: what `neulite-sim calibrate` prints.

Peaks are the best of a few matrix products and copies. Real training steps of a few architectures at several batch
sizes are then timed, each profiled on fake tensors as scenarios are, and the constants are fitted to both. Its error
is that on each network by constants fitted without it. What else the machine did meanwhile is watched.
"""

from __future__ import annotations

import functools
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from neulite_sim.errors import BackendUnavailableError, SimulationError
from neulite_sim.machine import free_memory_bytes, installed_memory_bytes
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.fit_quality import Quality, quality
from neulite_sim.profiling.fitting import Constants, Fitted, Machine, Measurement, fit, left_out
from neulite_sim.profiling.profile import profile, ready
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training
from neulite_sim.studies.machine_load import LoadWatch, MachineLoad, Moment

ARCHITECTURES = (
    ("torchvision:mobilenet_v2", 96),
    ("torchvision:resnet18", 96),
    ("vit", 32),
    ("squeezenet", 32),
    ("cnn", 32),
    ("resnet18", 32),
)
"""What is trained, and the side of its images: depthwise and dense convolutions, matrix products, large and small."""
_BATCH_SIZES = (8, 32)
NUM_QUICK = 4
"""So many architectures show every kind of operator; fewer are never timed."""
BUDGET_S, QUICK_BUDGET_S = 120.0, 15.0
_NUM_CLASSES = 10
_MIN_REPEATS, _MOST_TIMED_S = 3, 10.0
_START = Constants(
    efficiency=0.5,
    convolution_efficiency=0.4,
    pointwise_efficiency=0.4,
    bandwidth_efficiency=0.5,
    grouped_bandwidth_efficiency=0.1,
    grouped_backward_efficiency=0.05,
    operator_overhead_s=15e-6,
    step_overhead_s=0.0,
)
"""Where the fit begins, and stays where the measurements leave it open: between the devices of the catalogue."""

_MOST_ON_A_CPU = {
    "efficiency": 1.0,
    "convolution_efficiency": 1.0,
    "pointwise_efficiency": 1.0,
    "grouped_backward_efficiency": 1.0,
    "bandwidth_efficiency": 5.0,
    "grouped_bandwidth_efficiency": 5.0,
    "operator_overhead_s": 0.01,
}
"""Shares of the peaks: no more arithmetic than all of it, but traffic that stays in a cache."""
_MOST = {
    **_MOST_ON_A_CPU, "convolution_efficiency": 8.0, "pointwise_efficiency": 8.0, "grouped_backward_efficiency": 8.0
}  # fmt: skip
"""A GPU may run convolutions in TF32, where the products that are its peak are of fp32."""
_MOST_BYTES_PER_SECOND = 2e13
_LOADING = "step_overhead_s"
"""Not measured: the batch is in memory."""
MOST_MEDIAN_ERROR = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A machine as the catalogue describes one, what was measured, and how well the constants predict it.

    `predicted_s[i]` belongs to `steps[i]` and comes from constants fitted without its network. A machine whose
    memory is limited for this process (a container) has that limit as installed memory. `low` and `high` are the ends
    of the constants' 95 % intervals.
    """

    device: str
    compute_unit: str
    num_threads: int
    installed_memory_bytes: int
    available_memory_bytes: int
    machine: Machine
    constants: Constants
    low: Constants
    high: Constants
    steps: tuple[Measurement, ...]
    predicted_s: tuple[float, ...]
    quality: Quality
    load: MachineLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One training step to time: an architecture on square images of `side` pixels at a batch size."""

    architecture: str
    side: int
    batch_size: int

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.architecture}, {self.side} pixels, batch {self.batch_size}"


def tasks(*, quick: bool) -> tuple[Task, ...]:
    """Return what is timed, most telling first: every architecture at every batch size, or the first few at one."""
    every = [
        Task(architecture=name, side=side, batch_size=size) for size in _BATCH_SIZES for name, side in ARCHITECTURES
    ]
    return tuple(every[: min(NUM_QUICK, len(ARCHITECTURES))] if quick else every)


def require_device(name: str) -> torch.device:
    """Return PyTorch's device `cpu` or `cuda`.

    Raises:
        BackendUnavailableError: it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            "--device cuda: PyTorch sees no CUDA device on this machine",
            hint="use --device cpu, or install PyTorch for CUDA",
        )
    return torch.device(name)


def calibrate(
    device_name: str,
    *,
    threads: int | None = None,
    quick: bool = False,
    budget_s: float | None = None,
    advance: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Return what this machine's `cpu` or `cuda` device sustains; `advance` is told before each measurement.

    `threads` is the number of PyTorch's threads on a CPU, its own choice where it is None; it is put back afterwards.
    After `budget_s` no other step is begun, the first few aside, which it takes; what is left is shared by the rest.

    Raises:
        BackendUnavailableError: the device is not there.
        SimulationError: a step or a peak took no time that can be.
    """
    device = require_device(device_name)
    ends_at_s = time.perf_counter() + (budget_s or (QUICK_BUDGET_S if quick else BUDGET_S))
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    watch = LoadWatch(computes_here=device.type == "cpu")
    try:
        planned = tasks(quick=quick)
        advance("peaks")
        machine = measured_peaks(device, watch, timed_s=_share_s(ends_at_s, len(planned) + 1))
        steps: list[Measurement] = []
        for task in planned:
            if len(steps) >= NUM_QUICK and time.perf_counter() > ends_at_s:
                break
            advance(task.name)
            min_timed_s = _share_s(ends_at_s, len(planned) - len(steps))
            steps.append(measured_step(task, device, watch, min_timed_s=min_timed_s))
        require_seconds(machine, steps)
        return _calibration(device, machine, steps, watch.load)
    finally:
        torch.set_num_threads(before)


def _share_s(ends_at_s: float, num_left: int) -> float:
    """Return how long the next of some measurements may be timed: half its share, the rest is for its preparation."""
    return min(_MOST_TIMED_S, max(0.0, ends_at_s - time.perf_counter()) / num_left / 2)


def require_seconds(machine: Machine, steps: Sequence[Measurement]) -> None:
    """Refuse times and rates that no clock of a sound machine gives.

    Raises:
        SimulationError: a step that took no time, or less; a rate that is no positive number.
    """
    wrong = [f"{step.what} took {step.seconds:g} s" for step in steps if not 0 < step.seconds < math.inf]
    rates = {"matrix products": machine.peak_flops_per_second, "copies": machine.memory_bytes_per_second}
    wrong += [f"{name} ran at {rate:g} per second" for name, rate in rates.items() if not 0 < rate < math.inf]
    if wrong:
        raise SimulationError(
            f"the clock of this machine cannot be trusted: {'; '.join(wrong)}",
            hint="see whether its clock is being set or the machine was suspended, and calibrate again",
        )


def _fitted(device: torch.device, machine: Machine, steps: Sequence[Measurement]) -> Fitted:
    """Return the fit; what came out above all of the peak, but may as well be below, is held to all of it."""
    found = fit(steps, machine, _START)
    limits = limits_of(device.type)
    above = {
        name: most for name, most in limits.items() if getattr(found.low, name) <= most < getattr(found.constants, name)
    }
    return fit(steps, machine, _START, most=above) if above else found


def limits_of(device: str) -> Mapping[str, float]:
    """Return the most that each constant can be on a `cpu` or on `cuda`."""
    return _MOST_ON_A_CPU if device == "cpu" else _MOST


def _calibration(
    device: torch.device, machine: Machine, steps: Sequence[Measurement], load: MachineLoad
) -> Calibration:
    found = _fitted(device, machine, steps)
    predicted = left_out(steps, machine, _START)
    installed, available = memory_of(device)
    return Calibration(
        device=device.type,
        compute_unit=_compute_unit(device),
        num_threads=torch.get_num_threads(),
        installed_memory_bytes=installed,
        available_memory_bytes=available,
        machine=machine,
        constants=found.constants,
        low=found.low,
        high=found.high,
        steps=tuple(steps),
        predicted_s=tuple(predicted.tolist()),
        quality=quality(predicted, np.array([step.seconds for step in steps])),
        load=load,
    )


def measured_step(task: Task, device: torch.device, watch: LoadWatch, *, min_timed_s: float) -> Measurement:
    """Return the median time of a training step after one to warm up, with the operators it is charged for."""
    name, _, argument = task.architecture.partition(":")
    found = component("model", task.architecture)
    options = found.options()
    architecture = found.build(options, argument) if found.takes_argument else found.build(options)
    spec = InputSpec(shape=(3, task.side, task.side), num_classes=_NUM_CLASSES)
    blueprint = Blueprint(architecture=architecture, spec=spec, name=name)
    build = functools.partial(FullModel, blueprint)
    training = Training(batch_size=task.batch_size)
    stepper, batch = ready(build().to(device), spec, task.batch_size, training)
    seconds = seconds_of(lambda: stepper.step(*batch), device, watch, min_timed_s=min_timed_s)
    charged = profile(task.name, build, spec=spec, batch_size=task.batch_size, training=training)
    assert charged.operator_kinds is not None
    return Measurement(
        network=task.architecture,
        what=task.name,
        seconds=seconds,
        flops=charged.operator_flops,
        num_bytes=charged.operator_bytes,
        kinds=charged.operator_kinds,
    )


def seconds_of(act: Callable[[], object], device: torch.device, watch: LoadWatch, *, min_timed_s: float) -> float:
    """Return the median seconds of calling `act`: at least three times, and for `min_timed_s` in all."""
    timed: list[float] = []
    _timed(act, device)
    before = Moment.now()
    while len(timed) < _MIN_REPEATS or sum(timed) < min_timed_s:
        timed.append(_timed(act, device))
    watch.watched(timed, before, Moment.now())
    return float(np.median(timed))


def _timed(act: Callable[[], object], device: torch.device) -> float:
    started_s = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started_s


def measured_peaks(device: torch.device, watch: LoadWatch, *, timed_s: float) -> Machine:
    """Return the best rate of fp32 matrix products of several sizes, and of copies far larger than any cache.

    `timed_s` is how long they are timed in all.
    """
    min_timed_s = timed_s / 4
    rates = []
    for size in (512, 1024, 2048) if device.type == "cpu" else (2048, 4096, 8192):
        left, right = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
        out = torch.empty_like(left)
        product = functools.partial(torch.mm, left, right, out=out)
        rates.append(2 * size**3 / seconds_of(product, device, watch, min_timed_s=min_timed_s))
    source = torch.rand(2**25, device=device)
    copy = functools.partial(torch.empty_like(source).copy_, source)
    num_bytes = 2 * source.numel() * source.element_size()
    rate = num_bytes / seconds_of(copy, device, watch, min_timed_s=min_timed_s)
    return Machine(peak_flops_per_second=max(rates), memory_bytes_per_second=rate)


def memory_of(device: torch.device) -> tuple[int, int]:
    """Return the bytes of memory that a device has, and those that are free now."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total, free
    installed = installed_memory_bytes()
    available = free_memory_bytes()
    return installed, max(1, min(installed if available is None else available, installed))


def require_physical(found: Calibration) -> None:
    """Refuse measurements that do not fit together, as they come from a machine that is busy with something else.

    Raises:
        SimulationError: a constant that no machine has, or predictions that are off by more than half at the median;
            with what says that the machine was busy.
    """
    limits = limits_of(found.device)
    wrong = [
        f"{name} {value:.3g}, above {most:g}"
        for name, most in limits.items()
        if not (value := getattr(found.constants, name)) <= most
    ]
    if found.machine.memory_bytes_per_second > _MOST_BYTES_PER_SECOND:
        wrong.append(f"copies at {found.machine.memory_bytes_per_second:.3g} bytes/s, above {_MOST_BYTES_PER_SECOND:g}")
    if not found.quality.median_error <= MOST_MEDIAN_ERROR:
        wrong.append(f"a median error of {found.quality.median_error:.0%}, above {MOST_MEDIAN_ERROR:.0%}")
    if wrong:
        signs = "; ".join(found.load.signs)
        busy = f"the machine was busy: {signs}" if signs else "nothing says that the machine was busy"
        raise SimulationError(
            f"the measurements do not fit together ({'; '.join(wrong)}); {busy}",
            hint="let nothing else run on it, and calibrate again with a longer --budget, 5min for example",
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _compute_unit(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    else:
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def catalogue_text(found: Calibration, name: str) -> str:
    """Return the machine as a file of hardware in TOML, which `population.hardware` reads, with its error.

    Rates are rounded to four digits. The link is nothing that was measured, and says so.
    """
    error = found.quality
    fitted = (
        f"fitted on {error.count} training steps by neulite-sim calibrate with PyTorch {torch.__version__}; error on "
        f"networks left out: median {error.median_error:.0%}, 90th percentile {error.p90_error:.0%}"
    )
    if found.load.signs:
        fitted += f"; the machine was busy: {'; '.join(found.load.signs)}"
    limits, rates = limits_of(found.device), [item.name for item in fields(Constants) if item.name != _LOADING]
    link = "not measured; give the scenario a link"
    numbers: list[tuple[str, float, str, str]] = [
        ("installed_memory_bytes", found.installed_memory_bytes, "measured", "what the operating system reports"),
        ("usable_memory_bytes", found.available_memory_bytes, "measured", "free when calibrate ran"),
        ("peak_flops_per_second", found.machine.peak_flops_per_second, "measured", "best fp32 matrix product"),
        ("memory_bytes_per_second", found.machine.memory_bytes_per_second, "measured", "copy of 128 MiB, both ways"),
        *((name, getattr(found.constants, name), "measured", fitted) for name in rates),
        ("downlink_bits_per_second", 100e6, "assumed", link),
        ("uplink_bits_per_second", 100e6, "assumed", link),
    ]
    # A JSON string of printable text is a TOML string as well.
    lines = [
        "schema_version = 1",
        "",
        f"[devices.{name}]",
        'family = "computer"',
        f"compute_unit = {json.dumps(found.compute_unit)}",
    ]
    for key, value, status, source in numbers:
        shown = str(value) if isinstance(value, int) else f"{value:.4g}"
        if key in rates:
            # Rounded to as many digits, a value on the end of its interval stays there.
            low, high = (min(getattr(end, key), limits.get(key, math.inf)) for end in (found.low, found.high))
            shown += f", low = {min(low, value):.4g}, high = {max(high, value):.4g}"
        lines.append(f'{key} = {{ value = {shown}, status = "{status}", source = {json.dumps(source)} }}')
    return "\n".join(lines) + "\n"
