"""PyTorch's own settings for the time of a run: what a host program has set must not reach the results.

A run is part of whatever program calls `simulate`. Its digest is that of the settings here, PyTorch's defaults, and the
program finds its own again afterwards. Settings of CUDA alone are left out: only the CPU promises the same bits again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from neulite_sim.turns import my_turn
from neulite_sim.user_code.drawing import put_back

_EXACT = ("none", "ieee")
_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_HAS_NNPACK: bool = torch.backends.nnpack.is_available()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class TorchSwitch:
    """One setting: how it is read and put, and what a run has."""

    name: str
    read: Callable[[], Any]
    put: Callable[[Any], object]
    wanted: Any


def _put_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _put_anomaly(value: tuple[bool, bool]) -> None:
    torch.set_anomaly_enabled(value[0], check_nan=value[1])


def _put_onednn(value: tuple[bool, bool]) -> None:
    torch._C._set_mkldnn_enabled(value[0])
    torch._C._set_mkldnn_deterministic(value[1])


def _onednn() -> tuple[bool, bool]:
    return torch._C._get_mkldnn_enabled(), torch._C._get_mkldnn_deterministic()


def _attention() -> tuple[bool, ...]:
    kernels: Any = torch.backends.cuda
    return kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled(), kernels.math_sdp_enabled()


def _put_attention(value: tuple[bool, ...]) -> None:
    kernels = (torch.backends.cuda.enable_flash_sdp, torch.backends.cuda.enable_mem_efficient_sdp,
               torch.backends.cuda.enable_math_sdp)  # fmt: skip
    for put, is_enabled in zip(kernels, value, strict=True):
        put(is_enabled)


def _flushes_denormals() -> bool:
    # There is no other way to ask.
    return float(torch.full((), torch.finfo(torch.float32).tiny, dtype=torch.float32, device="cpu") * 0.5) == 0.0


def _matmul_precision() -> str:
    """Return PyTorch's old setting; empty where a program uses the new ones, beside which it cannot be read."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return ""


def _put_matmul_precision(value: str) -> None:
    if value and _matmul_precision():
        torch.set_float32_matmul_precision(value)


def _onednn_precisions() -> tuple[str, ...]:
    return tuple(getattr(torch.backends.mkldnn, name).fp32_precision for name in ("matmul", "conv", "rnn"))


def _put_onednn_precisions(value: tuple[str, ...]) -> None:
    for name, before, wanted in zip(("matmul", "conv", "rnn"), _onednn_precisions(), value, strict=True):
        # Both say exact products; to write one for the other would end what is inherited.
        if before != wanted and not (before in _EXACT and wanted in _EXACT):
            getattr(torch.backends.mkldnn, name).fp32_precision = wanted


def _autocast(device: str) -> TorchSwitch:
    return TorchSwitch(
        f"autocast of {device}",
        lambda: torch.is_autocast_enabled(device),
        lambda value: torch.set_autocast_enabled(device, value),
        False,
    )


SETTINGS = (
    TorchSwitch("default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    TorchSwitch("gradients", torch.is_grad_enabled, torch.set_grad_enabled, True),
    _autocast("cpu"),
    _autocast("cuda"),
    TorchSwitch("threads", torch.get_num_threads, torch.set_num_threads, 1),
    TorchSwitch(
        "deterministic algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _put_deterministic,
        (False, False),
    ),
    TorchSwitch(
        "detection of anomalies",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        _put_anomaly,
        (False, True),
    ),
    TorchSwitch("oneDNN", _onednn, _put_onednn, (_HAS_ONEDNN, False)),
    TorchSwitch("NNPACK", torch._C._get_nnpack_enabled, torch.backends.nnpack.set_flags, _HAS_NNPACK),
    TorchSwitch("precision of products", _matmul_precision, _put_matmul_precision, "highest"),
    TorchSwitch("precision of oneDNN", _onednn_precisions, _put_onednn_precisions, ("ieee", "ieee", "ieee")),
    TorchSwitch("kernels of attention", _attention, _put_attention, (True, True, True)),
    TorchSwitch(
        "shortcut of attention",
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.mha.set_fastpath_enabled,
        True,
    ),
    TorchSwitch("denormal numbers", _flushes_denormals, torch.set_flush_denormal, False),
)


@contextlib.contextmanager
def pinned_torch() -> Iterator[None]:
    """Give PyTorch the settings of a run for the time inside, and what it had before afterwards, also after an error.

    Its random numbers are those of a fixed seed inside, and go on afterwards where they were, as Python's and NumPy's.
    Inside it computes on one thread until a worker asks for more. All of that is the process's own, so that other
    threads that come here wait (`my_turn`). Also a decorator.
    """
    with my_turn(), contextlib.ExitStack() as stack:
        # These two are contexts of the caller, and no settings that could be put.
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(put_back())
        # Nothing of ours draws from it but what is written over; code of others is seeded call by call.
        torch.default_generator.manual_seed(0)
        for setting in SETTINGS:
            before = setting.read()
            stack.callback(_give_back, setting, before)
            if before != setting.wanted:
                setting.put(setting.wanted)
        yield


def _give_back(setting: TorchSwitch, before: Any) -> None:
    if setting.read() != before:
        setting.put(before)
