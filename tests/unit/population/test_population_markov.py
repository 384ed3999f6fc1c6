"""The Markov chain of availability against its theory."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import MARKOV
from neulite_sim.population.availability.markov import DEVICES_PER_BLOCK, MarkovSource

HOUR = 3600.0


def fleet(num_devices: int, mean_on: float = 2 * HOUR, mean_off: float = 4 * HOUR, seed: int = 3) -> Availability:
    return MARKOV.build(MARKOV.options(mean_on=mean_on, mean_off=mean_off))(num_devices, seed)


def sojourns_s(availability: Availability, num_devices: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return full times online and full times offline, walked through the public lookups only."""
    devices = np.arange(num_devices)
    online: list[np.ndarray] = []
    offline: list[np.ndarray] = []
    for device in devices:
        one, at_s = np.array([device]), 0.0
        at_s = availability.next_online_s(one, availability.online_until_s(one, at_s)[0])[0]
        for _ in range(steps):
            end_s = availability.online_until_s(one, at_s)[0]
            next_s = availability.next_online_s(one, end_s)[0]
            online.append(end_s - at_s)
            offline.append(next_s - end_s)
            at_s = next_s
    return np.array(online), np.array(offline)


def distance_to_exponential(values: np.ndarray, mean: float) -> float:
    """Return the Kolmogorov-Smirnov distance to the exponential distribution, times the root of the sample size."""
    ordered = np.sort(values)
    theory = 1 - np.exp(-ordered / mean)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.max(steps[1:] - theory), np.max(theory - steps[:-1]))
    return float(distance * math.sqrt(len(ordered)))


@pytest.mark.parametrize(("mean_on", "mean_off"), [(2.0, 4.0), (4.0, 2.0), (1.0, 1.0), (0.2, 30.0)])
@pytest.mark.parametrize("at_h", [0.0, 1.0, 777.7])
def test_the_share_online_is_stationary(mean_on: float, mean_off: float, at_h: float) -> None:
    share = mean_on / (mean_on + mean_off)
    online = fleet(40_000, mean_on * HOUR, mean_off * HOUR).online(at_h * HOUR)
    # Four standard errors of a proportion.
    assert online.mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 40_000))


@pytest.mark.parametrize(("mean_on", "mean_off"), [(2.0, 4.0), (4.0, 2.0)])
def test_times_online_and_offline_are_exponential(mean_on: float, mean_off: float) -> None:
    # 100 devices x 20 cycles cross many chunk boundaries (a chunk is 16 h). 1.63 is the 1 % point.
    online_s, offline_s = sojourns_s(fleet(100, mean_on * HOUR, mean_off * HOUR), 100, 20)
    assert distance_to_exponential(online_s, mean_on * HOUR) < 1.63
    assert distance_to_exponential(offline_s, mean_off * HOUR) < 1.63


@pytest.mark.parametrize("later_h", [0.5, 3.0])
@pytest.mark.parametrize("at_h", [7.0, 15.9])
def test_memory_of_the_state_fades_as_the_chain_says(at_h: float, later_h: float) -> None:
    # P(on at t + h | on at t) = p + (1 - p) exp(-(1/on + 1/off) h); 15.9 h is just before a chunk's end.
    availability = fleet(60_000)
    online = availability.online(at_h * HOUR)
    again = availability.online((at_h + later_h) * HOUR)[online].mean()
    assert again == pytest.approx(1 / 3 + 2 / 3 * math.exp(-(1 / 2 + 1 / 4) * later_h), abs=0.012)


def test_the_rest_of_a_time_online_is_exponential_too() -> None:
    availability = fleet(20_000)
    devices = np.flatnonzero(availability.online(5 * HOUR))
    rest_s = availability.online_until_s(devices, 5 * HOUR) - 5 * HOUR
    assert distance_to_exponential(rest_s, 2 * HOUR) < 1.63


def test_a_far_jump_gives_the_same_states_as_walking_there() -> None:
    jumped, walked = fleet(3000), fleet(3000)
    far_s = 500 * HOUR
    for at_s in np.arange(0.0, far_s, 10 * HOUR):
        walked.online(at_s)
    assert np.array_equal(jumped.online(far_s), walked.online(far_s))
    assert np.array_equal(jumped.online(0.0), fleet(3000).online(0.0))


def test_no_chunk_is_made_beyond_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    whole = MarkovSource.chunk
    monkeypatch.setattr(MarkovSource, "chunk", lambda source, index: made.append(index) or whole(source, index))
    asked, length_s = fleet(3000), MarkovSource(mean_on_s=HOUR, mean_off_s=4 * HOUR, num_devices=1, seed=1).length_s
    everyone = np.arange(3000)
    asked.online_until_s(everyone, 0.5 * length_s, length_s)
    assert made == [0]
    asked.online_until_s(everyone, 0.5 * length_s, 1.001 * length_s)
    assert made == [0, 1]


@pytest.mark.parametrize(("mean_on", "mean_off"), [(1.0, 1.0), (0.9, 1.0), (1.0, 0.9), (1e-2, 1.0)])
def test_a_visit_that_outlasts_its_chunk_is_carried_over(mean_on: float, mean_off: float) -> None:
    # Consecutive chunks made from scratch in reverse order agree with chunks made in order.
    def source() -> MarkovSource:
        return MarkovSource(mean_on_s=mean_on, mean_off_s=mean_off, num_devices=10_000, seed=1)

    ordered = source()
    forward = [ordered.chunk(index) for index in range(8)]
    for index in reversed(range(8)):
        alone = source().chunk(index)
        assert np.array_equal(alone.start_s, forward[index].start_s)
        assert np.array_equal(alone.end_s, forward[index].end_s)
        assert np.array_equal(alone.offsets, forward[index].offsets)


def test_seeds_and_devices_differ() -> None:
    assert not np.array_equal(fleet(1000, seed=1).online(0.0), fleet(1000, seed=2).online(0.0))
    starts = fleet(1000).next_online_s(np.arange(1000), 1e5)
    assert len(np.unique(starts[starts > 1e5])) > 500


def test_fleets_larger_than_one_block_are_made_whole() -> None:
    num_devices = DEVICES_PER_BLOCK + 5
    availability = fleet(num_devices)
    online = availability.online(HOUR)
    assert online.shape == (num_devices,)
    last = np.arange(num_devices - 5, num_devices)
    assert np.array_equal(availability.next_online_s(last, HOUR) == HOUR, online[last])


def test_a_large_fleet_holds_less_than_300_bytes_per_device() -> None:
    num_devices = 200_000
    tracemalloc.start()
    try:
        availability = fleet(num_devices)
        for at_s in (0.0, 10 * HOUR, 20 * HOUR, 40 * HOUR):
            availability.online(at_s)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / num_devices < 300


@pytest.mark.parametrize("options", [{"mean_on": 0, "mean_off": 1}, {"mean_on": 1, "mean_off": 0}])
def test_a_mean_duration_of_nothing_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.001"):
        MARKOV.options(**options)
