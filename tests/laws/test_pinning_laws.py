"""Whatever a host program has set in PyTorch, a run gives the same digest, and leaves everything as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scenarios import tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.training.pinning import SETTINGS, pinned_torch

MODELS = ("model=lenet", "data.image_size=12", "proxy.width=0.5", "stop.rounds=1", "selection.devices_per_round=2")


def put(act: Callable[[Any], object], value: Any, usual: Any) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def altered() -> Iterator[None]:
        act(value)
        try:
            yield
        finally:
            act(usual)

    return altered()


def attribute(owner: Any, name: str, value: Any) -> contextlib.AbstractContextManager[None]:
    return put(lambda given: setattr(owner, name, given), value, getattr(owner, name))


HOSTS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "default dtype float64": lambda: put(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: put(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device meta": lambda: put(torch.set_default_device, "meta", None),
    "inside torch.device": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "oneDNN off": lambda: attribute(torch.backends.mkldnn, "enabled", False),
    "NNPACK off": lambda: put(torch.backends.nnpack.set_flags, False, True),
    "four threads": lambda: put(torch.set_num_threads, 4, torch.get_num_threads()),
    "deterministic": lambda: put(torch.use_deterministic_algorithms, True, False),
    "deterministic, warns": lambda: put(
        lambda value: torch.use_deterministic_algorithms(value, warn_only=value), True, False
    ),
    "products in bfloat16": lambda: put(torch.set_float32_matmul_precision, "medium", "highest"),
    "all of oneDNN in bfloat16": lambda: attribute(torch.backends.mkldnn, "fp32_precision", "bf16"),
    "convolutions in bfloat16": lambda: attribute(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
    "denormals flushed": lambda: put(torch.set_flush_denormal, True, False),
    "anomalies detected": lambda: torch.autograd.set_detect_anomaly(True),
    "no fast attention": lambda: put(torch.backends.cuda.enable_flash_sdp, False, True),
    "no shortcut of attention": lambda: put(torch.backends.mha.set_fastpath_enabled, False, True),
    "a seed of its own": lambda: put(torch.manual_seed, 12345, 0),
}


def state() -> dict[str, Any]:
    """What a host can see: the settings, the contexts it is in, its random numbers, and what it makes of a tensor."""
    seen: dict[str, Any] = {setting.name: setting.read() for setting in SETTINGS}
    seen |= {"device": torch.get_default_device(), "inference": torch.is_inference_mode_enabled()}
    seen |= {"random numbers": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()))}  # noqa: NPY002
    return seen | {"dtype": torch.zeros(1).dtype}


@pytest.fixture(scope="module")
def digest() -> str:
    found: str = simulate(tiny(*MODELS)).summary["digest"]
    return found


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_run_inside_any_host_gives_the_same_digest_and_changes_nothing(host: str, workers: int, digest: str) -> None:
    with HOSTS[host]():
        before = state()
        found = simulate(tiny(*MODELS, f"backend={{kind: inprocess, workers: {workers}}}")).summary["digest"]
        after = state()
    assert found == digest
    assert after == before


@pinned_torch()
def broken_off() -> None:
    torch.set_default_dtype(torch.float64)
    raise RuntimeError("broken off")


@pytest.mark.parametrize("host", HOSTS)
def test_the_settings_come_back_after_an_error_as_well(host: str) -> None:
    with HOSTS[host]():
        before = state()
        with pytest.raises(RuntimeError, match="broken off"):
            broken_off()
        assert state() == before


def test_inside_everything_is_as_pytorch_has_it_by_itself() -> None:
    with contextlib.ExitStack() as hosts:
        for host in HOSTS.values():
            hosts.enter_context(host())
        with pinned_torch():
            told = {setting.name: setting.read() for setting in SETTINGS}
            assert {name for name, value in told.items() if value not in _as_wanted(name)} == set()
            assert torch.get_default_device() == torch.device("cpu")
            assert (torch.ones(2, requires_grad=True) * 2).sum().requires_grad


def _as_wanted(name: str) -> tuple[Any, ...]:
    (setting,) = (setting for setting in SETTINGS if setting.name == name)
    return (setting.wanted, ("none", "none", "none")) if name == "precision of oneDNN" else (setting.wanted,)
