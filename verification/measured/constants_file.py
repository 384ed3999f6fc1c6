"""The file of fitted constants from which the catalogue of hardware takes them, as `time_model.py --write` makes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING

from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.profiling.fitting import Fitted

if TYPE_CHECKING:
    from time_model import Family

_PI_SOURCE = (
    "jafermarq/federated-embedded-vision@17ecd8b, batch 16, PyTorch on CPU (Raspberry Pi 4: "
    "results/blog/rpi4_bench_results.pkl; 5: README.md)"
)
_NANO_SOURCE = (
    "fitted to one training step, ResNet18 at batch 8 in 0.773 s (dusty-nv/jetson-inference@014555c "
    "docs/pytorch-plants.md)"
)
_ORIN_SOURCE = (
    "fitted to {steps} forward passes of {networks} networks on a Jetson AGX Orin 64GB at 50 W, fp32 "
    "(branes-ai/graphs@b6c5e82 calibration_data/jetson_orin_50w)"
)
_BY = "by verification/time_model.py"

HEADER = """\
# Constants of the time model. Written by `python verification/time_model.py --write`: do not edit, run it again.
#
# Each device of `catalogue.toml` that names one of these boards as its `constants` has them. `low` and `high` are the
# ends of the 95 % interval of the fit; a board without its own measurements is where its family puts it.
# Fitted on {date} with PyTorch {torch}.
"""


@dataclass(frozen=True)
class _Number:
    value: float
    status: str
    source: str
    low: float | None = None
    high: float | None = None

    def line(self, key: str) -> str:
        shown = {"value": f"{self.value:.4g}"}
        if self.low is not None and self.high is not None:
            shown |= {"low": f"{self.low:.3g}", "high": f"{self.high:.3g}"}
        shown |= {"status": json.dumps(self.status), "source": json.dumps(self.source)}
        return f"{key} = {{ {', '.join(f'{name} = {text}' for name, text in shown.items())} }}"


Shipped = Mapping[str, Mapping[str, _Number]]


@dataclass(frozen=True)
class _Phone:
    """A phone's processor by its cores: those of a Raspberry Pi, at another peak; `words` say where the peak is from.

    Its shares of peak are of the peak that the catalogue gives, which is that of the GPU where that is known.
    """

    cores_of: str
    peak_flops_per_second: float
    words: str


_PHONES = {
    "phone-low-snapdragon-650": _Phone("raspberry-pi-4", 28.8e9, "2 Cortex-A72 x 1.8 GHz x 8 flop"),
    "phone-mid-snapdragon-768g": _Phone("raspberry-pi-5", 83.2e9, "2 Cortex-A76 at 2.8 and 2.4 GHz x 16 flop"),
    "phone-mid-snapdragon-778g": _Phone(
        "raspberry-pi-5", 144e9, "4 Cortex-A78 at 2.4 and 2.2 GHz x 16 flop, the generation after"
    ),
    "phone-high-snapdragon-8-gen-2": _Phone(
        "raspberry-pi-5", 281.6e9, "Cortex-X3 at 3.2 GHz x 32 flop and 4 Cortex-A7xx at 2.8 GHz x 16 flop"
    ),
}
_OF_A_PEAK = ("efficiency", "convolution_efficiency", "pointwise_efficiency", "grouped_backward_efficiency")
_OF_BANDWIDTH = ("bandwidth_efficiency", "grouped_bandwidth_efficiency")


def shipped(pi: Family, jetson: Family, forward: Family, *, loaded_bytes: int) -> Shipped:
    """Return the constants of each board by the name that the catalogue knows it by.

    `loaded_bytes` is what a step of the Raspberry Pis loads: what they spend beside operators is its loading.
    """
    found: dict[str, dict[str, _Number]] = {}
    total = sum(len(board.steps) for board in pi.boards)
    for name, board in zip(("raspberry-pi-4", "raspberry-pi-5"), pi.boards, strict=True):
        networks = len({step.network for step in board.steps})
        source = (
            f"fitted to {len(board.steps)} training steps of {networks} networks, {total} of the family: {_PI_SOURCE}"
        )
        found[name] = dict(_fitted(pi.fitted[board.name], "measured", f"{source}, {_BY}"))
        found[name]["loading_bytes_per_second"] = _loading(found[name].pop("step_overhead_s"), loaded_bytes)
    traffic = forward.boards[0]
    orin = _ORIN_SOURCE.format(steps=len(traffic.steps), networks=len({step.network for step in traffic.steps}))
    moved = forward.fitted[traffic.name]
    for name, board in zip(("jetson-nano", "jetson"), jetson.boards, strict=True):
        status = "measured" if board.steps else "derived"
        words = _NANO_SOURCE if board.steps else f"that of the Jetson Nano, {_NANO_SOURCE}, whose family shares it"
        numbers = dict(_fitted(jetson.fitted[board.name], status, f"{words}, {_BY}"))
        found[name] = {"efficiency": numbers["efficiency"]}
        for key, number in _fitted(moved, "derived", f"{orin}, {_BY}"):
            if key == "grouped_bandwidth_efficiency":
                found[name][key] = number
    for name, phone in _PHONES.items():
        found[name] = dict(_of_phone(name, phone, found[phone.cores_of]))
    return found


def _fitted(fitted: Fitted, status: str, source: str) -> Iterator[tuple[str, _Number]]:
    low, high = asdict(fitted.low), asdict(fitted.high)
    for key, value in asdict(fitted.constants).items():
        most = 1.0 if key == "efficiency" else float("inf")
        yield key, _Number(min(value, most), status, source, low[key], min(high[key], most))


def _loading(seconds: _Number, loaded_bytes: int) -> _Number:
    low, high = seconds.low, seconds.high
    assert low is not None
    assert high is not None
    source = f"{loaded_bytes / 1e6:.3g} MB of images in {seconds.value:.2g} s beside the operators, {seconds.source}"
    return _Number(loaded_bytes / seconds.value, seconds.status, source, loaded_bytes / high, loaded_bytes / low)


def _of_phone(name: str, phone: _Phone, cores: Mapping[str, _Number]) -> Iterator[tuple[str, _Number]]:
    device = device_class(name)
    ratio = phone.peak_flops_per_second / device.peak_flops_per_second
    board = phone.cores_of.replace("raspberry-pi-", "Raspberry Pi ")
    source = (
        f"no measured point in PyTorch; phones train on their CPU: {phone.words} = "
        f"{phone.peak_flops_per_second / 1e9:g} GFLOPS (general knowledge) at the fitted share of a {board}, over the "
        f"peak given here, {device.peak_flops_per_second / 1e9:g} GFLOPS; FLASH measured less with DL4J"
    )
    for key in _OF_A_PEAK:
        yield key, _Number(ratio * cores[key].value, "assumed", source)
    for key in _OF_BANDWIDTH:
        yield key, _Number(cores[key].value, "assumed", f"no measured point: the share fitted on a {board}")


def constants_text(found: Shipped) -> str:
    """Return the file's text."""
    lines = [HEADER.format(date=date.today(), torch=version("torch")), "schema_version = 1"]
    for name, numbers in found.items():
        lines += ["", f"[boards.{name}]", *(number.line(key) for key, number in numbers.items())]
    return "\n".join(lines) + "\n"
