"""The ledger at a moment and at smaller batches: who fits what, in how many steps, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_fleets import fleet_of

from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.population.memory.contract import MemoryMotion
from neulite_sim.population.memory.steps import SteppedMemory
from neulite_sim.population.table import Population
from neulite_sim.profiling.ledger import Ledger, merges_last_batch
from neulite_sim.profiling.plans import Choice, Plan, halvings
from neulite_sim.profiling.profile import Profile
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.profiling.tracer import MemoryBytes

BOARD = DeviceClass(
    name="board", family="board", installed_memory_bytes=10_000, usable_memory_bytes=10_000,
    peak_flops_per_second=1e9, memory_bytes_per_second=1e9, efficiency=0.5, operator_overhead_s=0.001,
    downlink_bits_per_second=8000.0, uplink_bits_per_second=8000.0,
)  # fmt: skip
PEAKS = {"full": 10, "half": 4}
"""Bytes of activations per sample; 100 bytes of parameters are added."""


def made(submodel: str, batch_size: int, flops_per_sample: float = 0.0) -> Profile:
    """Return a profile of four operators whose peak is 100 bytes and some per sample."""
    return Profile(
        submodel=submodel, batch_size=batch_size, parameters=25, trainable_parameters=25,
        memory=MemoryBytes(parameters=100, activations=PEAKS[submodel] * batch_size),
        operator_flops=np.full(4, flops_per_sample * batch_size), operator_bytes=np.zeros(4),
        bytes_down=1000, bytes_up=500,
    )  # fmt: skip


def population(memory: Sequence[int], motion: MemoryMotion | None = None) -> Population:
    return fleet_of([BOARD], [0] * len(memory), memory, motion)


def ledger(
    memory: Sequence[int], samples: Sequence[int], *, batch: int = 32, minimum: int | None = 4, epochs: int = 2,
    flops_per_sample: float = 0.0, motion: MemoryMotion | None = None, asked: list[tuple[str, int]] | None = None,
) -> Ledger:  # fmt: skip
    def profile_of(submodel: str, plan: Plan) -> Profile:
        if asked is not None:
            asked.append((submodel, plan.batch_size))
        return made(submodel, plan.batch_size, flops_per_sample)

    def all_at(batch_size: int) -> Mapping[str, Profile]:
        return {name: made(name, batch_size, flops_per_sample) for name in PEAKS}

    num_samples = np.array(samples, np.int64)
    return Ledger(
        all_at(batch), population(memory, motion), num_samples, epochs=epochs,
        merged_profiles=all_at(batch + 1) if merges_last_batch(num_samples, batch).any() else None,
        choice=None if minimum is None else Choice(
            rungs=tuple((Plan(batch_size=size),) for size in (batch, *halvings(batch, minimum))), profile_of=profile_of
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "minimum", "sizes"),
    [(64, 8, (32, 16, 8)), (64, 9, (32, 16)), (64, 64, ()), (10, 2, (5, 2)), (5, 1, (2, 1)), (1, 1, ())],
)
def test_batches_are_halved_down_to_the_minimum(batch: int, minimum: int, sizes: tuple[int, ...]) -> None:
    assert halvings(batch, minimum) == sizes


def test_a_device_trains_the_largest_batch_that_fits() -> None:
    # The full model needs 100 + 10 B bytes: 420 at 32, 260 at 16, 180 at 8, 140 at 4.
    found = ledger([420, 419, 260, 259, 180, 179, 140, 139], [64] * 8)
    assert list(found.batch_size("full")) == [32, 16, 16, 8, 8, 4, 4, 4]
    assert list(found.peak_memory_bytes("full")) == [420, 260, 260, 180, 180, 140, 140, 140]
    assert list(found.fits("full")) == [True] * 7 + [False]
    assert list(found.shortfall_bytes("full")) == [0] * 7 + [1]
    assert [found.cost("full", device).batch_size for device in range(8)] == [32, 16, 16, 8, 8, 4, 4, 4]
    assert [found.cost("full", device).peak_memory_bytes for device in range(8)] == list(
        found.peak_memory_bytes("full")
    )
    assert found.cost("full", 7).shortfall_bytes == 1
    assert found.participation_rate(("full",)) == 7 / 8
    assert list(found.batch_size("half")) == [32] * 3 + [32, 16, 16, 8, 8]


def test_smaller_batches_take_more_steps_of_less_work() -> None:
    # 70 samples in batches of 32, 16 and 8: 3, 5 and 9 steps of four operators of 1 ms, twice. Work per sample: 4 ms.
    found = ledger([420, 260, 180], [70, 70, 70], flops_per_sample=0.5e6)
    seconds = found.compute_s("full", np.arange(3))
    expected = [2 * (steps * 0.004 + 70 * 0.004) for steps in (3, 5, 9)]
    assert seconds == pytest.approx(expected)
    for device, batch in enumerate((32, 16, 8)):
        profile = made("full", batch, 0.5e6)
        whole, rest = divmod(70, batch)
        by_step = 2 * (whole * step_seconds(profile, BOARD) + step_seconds(profile, BOARD, rest / batch))
        assert found.cost("full", device).compute_s == pytest.approx(by_step)
    total = seconds + 1.0 + 0.5
    assert found.total_s("full", np.arange(3)) == pytest.approx(total)
    assert found.total_s("full", np.array([2, 0])) == pytest.approx(total[[2, 0]])


def test_a_last_batch_of_one_is_merged_and_its_memory_counts_at_every_size() -> None:
    # 33 samples leave one over at 32, at 16 and at 8: the peak is that of 33, 17 and 9 samples.
    found = ledger([430, 429, 270, 269, 190, 189], [33] * 6, minimum=8)
    assert list(found.batch_size("full")) == [32, 16, 16, 8, 8, 8]
    assert list(found.peak_memory_bytes("full")) == [430, 270, 270, 190, 190, 190]
    assert list(found.fits("full")) == [True] * 5 + [False]
    assert found.cost("full", 1).peak_memory_bytes == 270


def test_only_the_profiles_that_somebody_needs_are_made() -> None:
    asked: list[tuple[str, int]] = []
    found = ledger([420, 300, 500], [64] * 3, asked=asked)
    assert found.fits("full").all()
    assert found.fits("full").all()
    assert asked == [("full", 16)]
    assert found.fits_somebody("half")
    found.total_s("full", np.arange(3))
    assert asked == [("full", 16)]


def test_without_shrinking_everybody_trains_whole_batches() -> None:
    found = ledger([420, 419], [64, 64], minimum=None)
    assert list(found.fits("full")) == [True, False]
    assert list(found.batch_size("full")) == [32, 32]
    assert list(found.shortfall_bytes("full")) == [0, 1]
    assert found.least_peak_bytes("full") == 420


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    memory=st.lists(st.integers(0, 600), min_size=1, max_size=8), data=st.data(),
    batch=st.integers(2, 48), minimum=st.integers(1, 24),
)  # fmt: skip
def test_nobody_is_denied_who_fits_the_smallest_batch_and_nobody_trains_what_does_not_fit(
    memory: list[int], data: st.DataObject, batch: int, minimum: int
) -> None:
    samples = data.draw(st.lists(st.integers(0, 100), min_size=len(memory), max_size=len(memory)))
    if not halvings(batch, minimum):
        minimum = 1
    found = ledger(memory, samples, batch=batch, minimum=minimum)
    for device, (available, count) in enumerate(zip(memory, samples, strict=True)):
        sizes = (batch, *halvings(batch, minimum))
        peaks = [100 + 10 * (size + (count > size > 1 and count % size == 1)) for size in sizes]
        fitting = [(size, peak) for size, peak in zip(sizes, peaks, strict=True) if peak <= available]
        size, peak = fitting[0] if fitting else (sizes[-1], peaks[-1])
        cost = found.cost("full", device)
        assert bool(found.fits("full")[device]) == bool(fitting)
        assert (int(found.batch_size("full")[device]), int(found.peak_memory_bytes("full")[device])) == (size, peak)
        assert (cost.batch_size, cost.peak_memory_bytes, cost.available_memory_bytes) == (size, peak, available)
        assert cost.compute_s == found.compute_s("full", np.array([device]))[0]


class Falling:
    """Every device has 100 bytes less at each step."""

    def bytes_at(self, devices: np.ndarray, steps: np.ndarray) -> np.ndarray:
        return 500 - 100 * steps


def moved(minimum: int | None = 8) -> Ledger:
    # One device, and steps long enough that it changes within each of them.
    return ledger([500], [64], minimum=minimum, motion=SteppedMemory(Falling(), num_devices=1, every_s=3200.0, seed=3))


def test_a_ledger_without_motion_is_its_own_at_any_moment() -> None:
    found = ledger([420], [64])
    assert found.at(77.0, 3) is found
    assert found.cost_at("full", 0, 77.0, 3) == found.cost("full", 0)


def test_at_a_moment_the_memory_of_that_moment_counts() -> None:
    found = moved()
    after = [found.at(3200.0 * steps, 1) for steps in range(5)]
    assert [list(item.batch_size("full")) for item in after] == [[32], [16], [16], [8], [8]]
    assert [bool(item.fits("full")[0]) for item in after] == [True, True, True, True, False]
    assert [int(item.shortfall_bytes("full")[0]) for item in after] == [0, 0, 0, 0, 80]
    assert list(found.fits("full")) == [True]
    costs = [found.cost_at("full", 0, 3200.0 * steps, 1) for steps in range(5)]
    assert [cost.available_memory_bytes for cost in costs] == [500, 400, 300, 200, 100]
    assert [cost.batch_size for cost in costs] == [32, 16, 16, 8, 8]
    assert costs == [item.cost("full", 0) for item in after]


def test_whether_a_submodel_fits_somebody_is_asked_of_the_nominal_memory() -> None:
    late = moved(minimum=None).at(3200.0 * 4, 1)
    assert not late.fits("full")[0]
    assert late.fits_somebody("full")


def test_a_moment_leaves_the_ledger_as_it_was_and_shares_its_columns() -> None:
    found = moved()
    before = list(found.batch_size("full"))
    late = found.at(3200.0 * 3, 1)
    late.total_s("full", np.array([0]))
    assert list(found.batch_size("full")) == before
    assert late._compute_s is found._compute_s


def test_costs_of_many_devices_are_those_of_each_one() -> None:
    # 33 samples are one batch of 32 and one sample, which is merged; 180 bytes fit a batch of 16 only.
    found = ledger([420, 430, 180, 139], [64, 33, 64, 64])
    devices = np.array([3, 0, 2, 1])
    assert list(found.costs_at(["full"] * 4, devices, 0.0, 1)) == [
        found.cost("full", device) for device in (3, 0, 2, 1)
    ]
    assert list(found.costs_at([], np.zeros(0, np.int64), 0.0, 1)) == []


def test_the_shortfall_of_some_devices_is_that_of_all_at_their_places() -> None:
    found = ledger([420, 139, 100, 180], [64, 64, 33, 64])
    devices = np.array([2, 1])
    assert found.shortfall_bytes_of("full", devices).tolist() == found.shortfall_bytes("full")[devices].tolist()
    assert (found.shortfall_bytes_of("full", devices) > 0).all()


def test_so_many_steps_take_whole_epochs_and_then_whole_batches():
    """Of 10 samples in batches of 4 the third is smaller; of 9 the last one joins the second."""
    samples = np.array([10, 9, 3, 0], np.int64)
    profiles, merged = ({"full": made("full", size, 1e6)} for size in (4, 5))
    found = Ledger(profiles, population([10_000] * 4), samples, epochs=7, own_steps={"full": 5}, merged_profiles=merged)
    plain = Ledger(profiles, population([10_000] * 4), samples, epochs=1, merged_profiles=merged)
    whole = step_seconds(profiles["full"], BOARD)
    epochs = plain.compute_s("full", np.arange(4))
    wanted = [epochs[0] + 2 * whole, 2 * epochs[1] + whole, 5 * epochs[2], 0.0]
    assert found.compute_s("full", np.arange(4)) == pytest.approx(wanted)


def test_a_device_that_owes_downloads_more_and_takes_longer():
    full = ledger([200, 10_000], [8, 8])
    costs = full.costs_at(["full", "full"], np.arange(2), 0.0, 1)
    owing = full.owing(costs, np.array([0, 3000]))
    assert (owing.download_s - costs.download_s).tolist() == [0.0, pytest.approx(3.0)]
    assert [owing[place].owed_bytes for place in range(2)] == [0, 3000]
    assert owing.taken(np.array([1])).owed_bytes.tolist() == [3000]
    assert type(owing).of([owing[0], owing[1]]).owed_bytes.tolist() == [0, 3000]
    assert type(owing).of([owing[0]]).owed_bytes is None
