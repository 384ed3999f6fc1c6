"""Calibration: real steps of small networks, and an entry that loads back as it was measured."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neulite_sim.errors import BackendUnavailableError, SimulationError
from neulite_sim.population.hardware.own import read_hardware
from neulite_sim.profiling.fit_quality import quality
from neulite_sim.profiling.fitting import Constants, Machine, Measurement
from neulite_sim.studies import calibration
from neulite_sim.studies.calibration import (
    Calibration,
    Task,
    calibrate,
    catalogue_text,
    measured_step,
    memory_of,
    require_device,
    require_physical,
    require_seconds,
    seconds_of,
    tasks,
)
from neulite_sim.studies.machine_load import LoadWatch, MachineLoad

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found() -> Calibration:
    """Return a calibration on networks that take milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "ARCHITECTURES", (("cnn", 16), ("logistic", 16), ("lenet", 16)))
        return calibrate("cpu", threads=1, quick=True, budget_s=1e-9)


@pytest.mark.slow
def test_the_entry_loads_back_as_it_was_measured(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "here.toml"
    path.write_text(catalogue_text(found, "here"))
    (device,) = read_hardware(path).values()
    assert (device.name, device.family) == ("here", "computer")
    assert device.installed_memory_bytes == found.installed_memory_bytes
    assert device.usable_memory_bytes == found.available_memory_bytes
    assert device.peak_flops_per_second == pytest.approx(found.machine.peak_flops_per_second, rel=1e-3)
    for name in ("efficiency", "convolution_efficiency", "bandwidth_efficiency", "grouped_bandwidth_efficiency",
                 "pointwise_efficiency", "grouped_backward_efficiency", "operator_overhead_s"):  # fmt: skip
        assert getattr(device, name) == pytest.approx(getattr(found.constants, name), rel=1e-3)


@pytest.mark.slow
def test_names_with_quotes_and_an_efficiency_of_all_of_the_peak_still_load_back(
    found: Calibration, tmp_path: Path
) -> None:
    odd = replace(
        found, compute_unit='a "fast"\\slow µ-core', constants=replace(found.constants, efficiency=1.0),
        low=replace(found.low, efficiency=0.7), high=replace(found.high, efficiency=1.4),
    )  # fmt: skip
    path = tmp_path / "odd.toml"
    path.write_text(catalogue_text(odd, "odd"), encoding="utf-8")
    assert read_hardware(path)["odd"].efficiency == 1.0
    assert "efficiency = { value = 1, low = 0.7, high = 1," in path.read_text(encoding="utf-8")


def test_its_error_is_that_on_networks_left_out(found: Calibration) -> None:
    assert [step.network for step in found.steps] == ["cnn", "logistic", "lenet"]
    measured = np.array([step.seconds for step in found.steps])
    assert found.quality == quality(np.array(found.predicted_s), measured)
    assert f"median {found.quality.median_error:.0%}" in catalogue_text(found, "here")


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "measured_peaks", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            calibrate("cpu", threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_every_measurement_is_told_of() -> None:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "ARCHITECTURES", (("logistic", 8), ("cnn", 16)))
        calibrate("cpu", quick=True, budget_s=1e-9, advance=told.append)
    assert told == ["peaks", "logistic, 8 pixels, batch 8", "cnn, 16 pixels, batch 8"]


def test_a_step_is_that_of_the_profile() -> None:
    step = measured_step(Task(architecture="logistic", side=4, batch_size=6), CPU, LoadWatch(), min_timed_s=0.0)
    # Two products of 6 x 48 by 10: forward, and the gradient of the weights.
    assert step.flops.sum() == 2 * (2 * 6 * 48 * 10)
    assert step.seconds > 0


def test_seconds_are_the_median_of_enough_calls_after_one_to_warm_up() -> None:
    calls: list[int] = []
    assert seconds_of(lambda: calls.append(1), CPU, LoadWatch(), min_timed_s=0.0) >= 0
    assert len(calls) == 4


def test_quick_measures_a_part_with_every_kind_of_operator() -> None:
    assert {task.batch_size for task in tasks(quick=False)} == {8, 32}
    names = {task.architecture for task in tasks(quick=True)}
    assert {"vit", "torchvision:mobilenet_v2", "torchvision:resnet18"} <= names
    assert names < {task.architecture for task in tasks(quick=False)}


def test_memory_is_that_of_the_machine_or_of_its_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "installed_memory_bytes", lambda: 1_000_000)
    for free, available in ((600_000, 600_000), (None, 1_000_000), (0, 1), (2_000_000, 1_000_000)):
        monkeypatch.setattr(calibration, "free_memory_bytes", lambda free=free: free)
        assert memory_of(CPU) == (1_000_000, available)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        BackendUnavailableError, match="--device cuda: PyTorch sees no CUDA device on this machine; use"
    ):
        require_device("cuda")


@pytest.mark.slow
def test_after_its_budget_it_times_only_what_it_needs() -> None:
    told: list[str] = []
    tiny = (("logistic", 4), ("logistic", 5), ("logistic", 6), ("logistic", 7), ("logistic", 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "ARCHITECTURES", tiny)
        calibrate("cpu", budget_s=1e-9, advance=told.append)
    assert len(told) == 1 + calibration.NUM_QUICK < 1 + len(tiny) * 2


def test_what_is_above_all_of_the_peak_within_its_error_is_held_to_it() -> None:
    machine = Machine(peak_flops_per_second=1e9, memory_bytes_per_second=1e9)
    wide, narrow = ([product(f"n{at}", 1 / 1.1, spread) for at in range(8)] for spread in (0.5, 0.0))
    for steps, most in ((wide, 1.0), (narrow, 1.2)):
        found = calibration._fitted(CPU, machine, steps)
        assert found.constants.efficiency <= most
        assert (found.constants.efficiency > 1) == (steps is narrow)


def product(network: str, seconds: float, spread: float) -> Measurement:
    """Return a step of one matrix product of 10^9 operations, a different time for each network."""
    seconds *= math.exp(spread * (int(network[1:]) / 3.5 - 1))
    return Measurement(
        network=network, what="", seconds=seconds, flops=np.array([1e9]), num_bytes=np.array([1.0]),
        kinds=np.zeros(1, np.int8),
    )  # fmt: skip


def test_times_that_no_clock_gives_are_refused(found: Calibration) -> None:
    back = (replace(found.steps[0], what="cnn, 16 pixels, batch 8", seconds=-0.5), *found.steps[1:])
    reason = (
        r"the clock of this machine cannot be trusted: cnn, 16 pixels, batch 8 took -0\.5 s; see whether its clock is"
    )
    with pytest.raises(SimulationError, match=reason):
        require_seconds(found.machine, back)
    none = replace(found.machine, memory_bytes_per_second=math.inf)
    with pytest.raises(SimulationError, match="copies ran at inf per second"):
        require_seconds(none, found.steps)


SOUND = Constants(
    efficiency=0.9,
    convolution_efficiency=0.8,
    pointwise_efficiency=0.7,
    bandwidth_efficiency=1.5,
    grouped_bandwidth_efficiency=0.1,
    grouped_backward_efficiency=0.1,
    operator_overhead_s=1e-5,
    step_overhead_s=0.0,
)


QUIET = MachineLoad(num_processors=4, others=0.1, own=2.0, spread=0.02, load_average=0.3)


def judged(found: Calibration, *, device: str = "cpu", median_error: float = 0.2, **constants: float) -> Calibration:
    return replace(
        found,
        device=device,
        constants=replace(SOUND, **constants),
        machine=Machine(peak_flops_per_second=1e11, memory_bytes_per_second=1e10),
        quality=replace(found.quality, median_error=median_error),
        load=QUIET,
    )


@pytest.mark.parametrize(
    ("constants", "reason"),
    [
        ({"convolution_efficiency": 20.67}, "convolution_efficiency 20.7, above 1"),
        ({"efficiency": 1.05}, "efficiency 1.05, above 1"),
        ({"pointwise_efficiency": 1.3}, "pointwise_efficiency 1.3, above 1"),
        ({"bandwidth_efficiency": 6.0}, "bandwidth_efficiency 6, above 5"),
        ({"grouped_bandwidth_efficiency": float("inf")}, "grouped_bandwidth_efficiency inf, above 5"),
        ({"operator_overhead_s": 0.5}, "operator_overhead_s 0.5, above 0.01"),
        ({"efficiency": float("nan")}, "efficiency nan, above 1"),
        ({"median_error": 0.8}, "a median error of 80%, above 50%"),
        ({"device": "cuda", "convolution_efficiency": 9.0}, "convolution_efficiency 9, above 8"),
    ],
)
def test_what_no_machine_sustains_is_refused(constants: dict[str, Any], reason: str, found: Calibration) -> None:
    message = (
        rf"the measurements do not fit together \({re.escape(reason)}\); nothing says that the machine was busy; let "
        r"nothing else run on it, and calibrate again with a longer --budget, 5min for example"
    )
    with pytest.raises(SimulationError, match=message):
        require_physical(judged(found, **constants))


def test_a_refusal_says_what_says_that_the_machine_was_busy(found: Calibration) -> None:
    busy = replace(judged(found, efficiency=2.0), load=replace(QUIET, others=2.5))
    reason = r"\(efficiency 2, above 1\); the machine was busy: other programs kept 2\.5 of 4 processors busy; let"
    with pytest.raises(SimulationError, match=reason):
        require_physical(busy)
    assert "; the machine was busy: other programs kept 2.5 of 4 processors busy" in catalogue_text(busy, "here")
    assert "was busy" not in catalogue_text(judged(found), "here")


def test_copies_beyond_any_memory_are_refused(found: Calibration) -> None:
    fast = replace(judged(found), machine=Machine(peak_flops_per_second=1e11, memory_bytes_per_second=3e13))
    with pytest.raises(SimulationError, match=r"copies at 3e\+13 bytes/s, above 2e\+13"):
        require_physical(fast)


def test_sound_measurements_pass(found: Calibration) -> None:
    require_physical(judged(found))
    require_physical(judged(found, device="cuda", convolution_efficiency=7.0))
