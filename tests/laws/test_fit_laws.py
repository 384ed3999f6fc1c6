"""Laws of `training.fit: auto`: the fastest plan that fits, by brute force over all plans, on many made-up fleets.

A plan's profile here follows the roofline's form: operators whose work is linear in the micro-batch, or quadratic, and
bytes that are a constant and a share per sample. All numbers are drawn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_fleets import fleet_of
from numpy.typing import NDArray

from neulite_sim.models.step import micro_batch_sizes
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.profiling.ledger import Ledger, merges_last_batch
from neulite_sim.profiling.plans import Choice, Plan, rungs_of
from neulite_sim.profiling.profile import Profile
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.profiling.tracer import MemoryBytes
from neulite_sim.scenario.schema import Training

NUM_FLEETS = 200
NUM_DEVICES = 12


class Work:
    """What one submodel does, drawn: its profile by any plan."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.flops, self.bytes = rng.uniform(0, 1e6, 6), rng.uniform(0, 1e5, 6)
        self.weights, self.kept = rng.uniform(0, 1e6, 6), int(rng.integers(1, 100_000))
        self.compares_samples = bool(rng.random() < 0.3)
        self.can_checkpoint = bool(rng.random() < 0.8)
        self.asked: list[Plan] = []

    def profile(self, plan: Plan) -> Profile | None:
        self.asked.append(plan)
        if plan.checkpointing and not self.can_checkpoint:
            return None
        sizes = micro_batch_sizes(plan.batch_size, plan.micro_batch_size)
        power = 2 if self.compares_samples else 1
        again = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) if plan.checkpointing else np.ones(6)
        half = 0.5 if plan.precision == "bf16" else 1.0
        flops = np.concatenate([self.flops * size**power * again for size in sizes])
        moved = np.concatenate([(self.weights + self.bytes * size * half) * again for size in sizes])
        kept = int(self.kept * max(sizes) * half * (0.4 if plan.checkpointing else 1.0))
        return Profile(
            submodel="full", batch_size=plan.batch_size, parameters=1, trainable_parameters=1,
            memory=MemoryBytes(parameters=1_000, activations=kept), operator_flops=flops, operator_bytes=moved,
            bytes_down=4, bytes_up=4, micro_batch_sizes=tuple(sizes), compares_samples=self.compares_samples,
        )  # fmt: skip


def drawn_class(rng: np.random.Generator, name: str) -> DeviceClass:
    return DeviceClass(
        name=name, family="board", installed_memory_bytes=10**9, usable_memory_bytes=10**9,
        peak_flops_per_second=float(10 ** rng.uniform(7, 11)),
        memory_bytes_per_second=float(10 ** rng.uniform(7, 11)), efficiency=0.5,
        operator_overhead_s=float(rng.choice([0.0, 1e-6, 1e-3])),
        downlink_bits_per_second=8e6, uplink_bits_per_second=8e6,
    )  # fmt: skip


def drawn_training(rng: np.random.Generator) -> Training:
    batch = int(rng.choice([1, 7, 12, 32, 48]))
    fit: dict[str, object] = {"kind": "auto", "checkpointing": str(rng.choice(["allowed", "never", "always"]))}
    if rng.random() < 0.5:
        fit["micro_batch_sizes"] = sorted({int(size) for size in rng.integers(1, batch + 1, 4)})
    if rng.random() < 0.3:
        fit["precisions"] = ["fp32", "bf16"]
    more = {"shrink_batch": {"minimum": max(1, batch // 4)}} if rng.random() < 0.3 and batch > 1 else {}
    return Training.model_validate({"batch_size": batch, "fit": fit, **more})


class Drawn:
    """A fleet, its training and what its submodel does."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.training, self.work = drawn_training(rng), Work(rng)
        self.work.can_checkpoint |= getattr(self.training.fit, "checkpointing", "") == "always"
        self.rungs = rungs_of(self.training)
        self.num_samples = rng.integers(0, 130, NUM_DEVICES)
        least, most = sorted(rng.integers(500, 4_000_000, 2))
        self.memory = rng.integers(least, most + 1, NUM_DEVICES)
        self.population = fleet_of(
            [drawn_class(rng, name) for name in "ab"], rng.integers(0, 2, NUM_DEVICES), self.memory
        )
        self.seed = seed

    def ledger(self, *, chooses: bool = True) -> Ledger:
        first = self.rungs[0][0]
        merges = merges_last_batch(self.num_samples, first.batch_size).any()
        return Ledger(
            {"full": self._certainly(first)},
            self.population,
            self.num_samples,
            epochs=2,
            merged_profiles={"full": self._certainly(_merged(first))} if merges else None,
            choice=Choice(
                rungs=self.rungs if chooses else ((first,),), profile_of=lambda _, plan: self.work.profile(plan)
            ),
        )

    def _certainly(self, plan: Plan) -> Profile:
        found = self.work.profile(plan)
        assert found is not None
        return found

    def by_hand(self, plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return peak and seconds of each device by a plan, one device after the other."""
        found = self.work.profile(plan)
        if found is None:
            return None
        peaks, seconds = [], []
        for count, index in zip(self.num_samples.tolist(), self.population.class_index.tolist(), strict=True):
            device = self.population.classes[index]
            merges = count > plan.batch_size > 1 and count % plan.batch_size == 1
            peaks.append(self._certainly(_merged(plan) if merges else plan).peak_memory_bytes)
            whole, rest = divmod(count, plan.batch_size)
            last_s = step_seconds(found, device, rest / plan.batch_size) if rest else 0.0
            seconds.append(2 * (whole * step_seconds(found, device) + last_s))
        return np.array(peaks), np.array(seconds)


def _merged(plan: Plan) -> Plan:
    return replace(plan, batch_size=plan.batch_size + 1)


def expected(drawn: Drawn, device: int) -> tuple[bool, float, int]:
    """Return whether any plan fits, the seconds of the fastest that does at the largest batch, and its peak."""
    least = np.iinfo(np.int64).max
    for rung in drawn.rungs:
        known = [found for plan in rung if (found := drawn.by_hand(plan)) is not None]
        pairs = [(float(seconds[device]), int(peaks[device])) for peaks, seconds in known]
        fitting = [pair for pair in pairs if pair[1] <= drawn.memory[device]]
        if fitting:
            fastest_s = min(seconds for seconds, _ in fitting)
            return True, fastest_s, min(peak for seconds, peak in fitting if seconds == fastest_s)
        least = min([least, *(peak for _, peak in pairs)])
    return False, 0.0, least


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, NUM_FLEETS, 20))
def test_each_device_takes_the_fastest_plan_that_it_holds(first: int) -> None:
    for seed in range(first, first + 20):
        drawn = Drawn(seed)
        ledger, everybody = drawn.ledger(), np.arange(NUM_DEVICES)
        fits, peaks = ledger.fits("full"), ledger.peak_memory_bytes("full")
        seconds, costs = ledger.compute_s("full", everybody), ledger.costs_at(["full"] * NUM_DEVICES, everybody, 0.0, 1)
        for device in range(NUM_DEVICES):
            can, fastest_s, peak = expected(drawn, device)
            assert bool(fits[device]) == can, (seed, device)
            if can:
                assert seconds[device] == pytest.approx(fastest_s, rel=1e-12), (seed, device)
                assert peaks[device] <= drawn.memory[device]
            else:
                # The denial names the smallest peak of all plans.
                assert peaks[device] == peak, (seed, device)
                assert ledger.shortfall_bytes("full")[device] == peak - drawn.memory[device]
            assert costs[device].plan == ledger.plans[ledger.chosen("full")[device]]
            assert (costs[device].peak_memory_bytes, costs[device].compute_s) == (peaks[device], seconds[device])


def test_fitting_never_excludes_anybody() -> None:
    gained = 0
    for seed in range(NUM_FLEETS):
        drawn = Drawn(seed)
        fitted, plain = drawn.ledger(), drawn.ledger(chooses=False)
        assert (fitted.fits("full") >= plain.fits("full")).all(), seed
        assert fitted.participation_rate(("full",)) >= plain.participation_rate(("full",))
        assert fitted.fits_somebody("full") == bool((fitted.fits("full") & fitted.owns_data).any())
        gained += int(fitted.fits("full").sum() - plain.fits("full").sum())
    assert gained > NUM_FLEETS


def test_plans_that_nobody_needs_are_not_profiled() -> None:
    """Whoever holds whole batches takes them: with linear work nothing is faster."""
    drawn = next(
        found for found in map(Drawn, range(NUM_FLEETS))
        if not found.work.compares_samples and len(found.rungs[0]) > 3 and found.rungs[0][0].precision == "fp32"
        and all(plan.precision == "fp32" and found.training.batch_size % (plan.micro_batch_size or 1) == 0
                and plan.micro_batch_size != 1 for plan in found.rungs[0])
    )  # fmt: skip
    ledger = drawn.ledger().with_memory(np.full(NUM_DEVICES, 10**9))
    drawn.work.asked.clear()
    assert ledger.fits("full").all()
    assert drawn.work.asked == []


def test_memory_of_a_moment_decides_the_plan() -> None:
    drawn = Drawn(3)
    ledger = drawn.ledger()
    rich = ledger.with_memory(np.full(NUM_DEVICES, 10**9))
    poor = ledger.with_memory(np.zeros(NUM_DEVICES, np.int64))
    assert rich.fits("full").all()
    assert not poor.fits("full").any()
    assert (rich.compute_s("full", np.arange(NUM_DEVICES)) <= ledger.compute_s("full", np.arange(NUM_DEVICES))).all()
    assert (poor.peak_memory_bytes("full") <= rich.peak_memory_bytes("full")).all()
    assert rich.total_s("full", np.arange(NUM_DEVICES)) == pytest.approx(
        rich.download_s("full", np.arange(NUM_DEVICES)) + rich.compute_s("full", np.arange(NUM_DEVICES))
        + rich.upload_s("full", np.arange(NUM_DEVICES))
    )  # fmt: skip
