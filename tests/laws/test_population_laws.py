"""Laws of the fleet: lookups are pure and agree with each other, counts add up, memory stays within its limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.kinds import DIURNAL, MARKOV
from neulite_sim.population.availability.traced import TraceSource
from neulite_sim.population.link.network import transfer_s
from neulite_sim.population.memory.distributions import CHOICE, INSTALLED, LOGNORMAL, UNIFORM, draw_memory
from neulite_sim.population.sampling import apportion
from neulite_sim.registry import Choice
from neulite_sim.seeding import stream
from neulite_sim.traces.intervals import merged, on_grid
from neulite_sim.traces.labels import rows_for

DEVICES = 6
EVERYONE = np.arange(DEVICES)
FLEET = settings(max_examples=30, deadline=None, derandomize=True)

Build = Callable[[], Availability]


def markov(mean_on: float, mean_off: float, seed: int) -> Build:
    return lambda: MARKOV.build(MARKOV.options(mean_on=mean_on, mean_off=mean_off))(DEVICES, seed)


def diurnal(length_h: float, spread_h: float, seed: int) -> Build:
    options = DIURNAL.options(length=length_h * 3600, length_spread=spread_h * 3600, start_spread=spread_h * 3600)
    return lambda: DIURNAL.build(options)(DEVICES, seed)


def trace(edges: list[list[float]], seed: int, is_repeated: bool) -> Build:
    """Return a fleet over labels whose intervals alternate between the sorted edges of each."""
    flat = [
        (row, start, end)
        for row, label in enumerate(edges)
        for start, end in zip(sorted(set(label))[::2], sorted(set(label))[1::2], strict=False)
    ]
    rows, start_s, end_s = (np.array(column, dtype) for column, dtype in zip(
        zip(*flat, strict=True) if flat else ([], [], []), (np.int64, float, float), strict=True))  # fmt: skip
    table = merged(rows, on_grid(start_s), on_grid(end_s), num_rows=len(edges))

    def build() -> Availability:
        source = TraceSource(table, length_s=1000.0, is_repeated=is_repeated)
        mapping = rows_for(DEVICES, num_labels=len(edges), seed=seed)
        return ChunkedAvailability(source, num_devices=DEVICES, row_of_device=mapping)

    return build


seeds = st.integers(0, 2**32)
means = st.floats(0.5, 5000.0)
fleets = st.one_of(
    st.builds(markov, means, means, seeds),
    st.builds(diurnal, st.floats(0.1, 23.0), st.floats(0.0, 8.0), seeds),
    st.builds(trace, st.lists(st.lists(st.floats(0, 1000), max_size=8), min_size=1, max_size=8), seeds, st.booleans()),
)
times = st.floats(0, 50_000.0)


@FLEET
@given(build=fleets, asked=st.lists(times, min_size=2, max_size=12))
def test_the_order_of_questions_does_not_change_the_answers(build: Build, asked: list[float]) -> None:
    one_for_all = build()
    answers = {
        at_s: (
            one_for_all.online(at_s),
            one_for_all.online_until_s(EVERYONE, at_s),
            one_for_all.next_online_s(EVERYONE, at_s),
        )
        for at_s in asked
    }
    other = build()
    for at_s in sorted(asked, reverse=True):
        assert np.array_equal(other.next_online_s(EVERYONE, at_s), answers[at_s][2])
        assert np.array_equal(other.online_until_s(EVERYONE, at_s), answers[at_s][1])
        assert np.array_equal(other.online(at_s), answers[at_s][0])
        assert np.array_equal(build().online(at_s), answers[at_s][0])


@FLEET
@given(build=fleets, at_s=times)
def test_the_three_lookups_agree_with_each_other(build: Build, at_s: float) -> None:
    availability = build()
    online = availability.online(at_s)
    until_s = availability.online_until_s(EVERYONE, at_s)
    next_s = availability.next_online_s(EVERYONE, at_s)
    assert np.array_equal(online, until_s > at_s)
    assert np.array_equal(online, next_s == at_s)
    assert (next_s >= at_s).all()
    for device in EVERYONE:
        if online[device] and math.isfinite(until_s[device]):
            assert not availability.online(until_s[device])[device]
            assert availability.online(np.nextafter(until_s[device], 0))[device]
        if not online[device] and math.isfinite(next_s[device]):
            assert availability.online(next_s[device])[device]
            assert not availability.online(np.nextafter(next_s[device], 0))[device]


@FLEET
@given(build=fleets, at_s=times, share=st.floats(0, 1, exclude_max=True))
def test_nothing_changes_between_now_and_the_next_change(build: Build, at_s: float, share: float) -> None:
    availability = build()
    online = availability.online(at_s)
    one_day = at_s + 86400.0
    changes_s = np.where(
        online, availability.online_until_s(EVERYONE, at_s), availability.next_online_s(EVERYONE, at_s)
    )
    for device in EVERYONE:
        between_s = at_s + share * (min(changes_s[device], one_day) - at_s)
        if between_s < changes_s[device]:
            assert availability.online(between_s)[device] == online[device]


@FLEET
@given(build=fleets, at_s=times, ahead_s=st.floats(0, 50_000.0))
def test_up_to_its_horizon_a_question_has_the_same_answer(build: Build, at_s: float, ahead_s: float) -> None:
    horizon_s = at_s + ahead_s
    until_s = build().online_until_s(EVERYONE, at_s)
    found_s = build().online_until_s(EVERYONE, at_s, horizon_s)
    assert np.array_equal(np.minimum(found_s, horizon_s), np.minimum(until_s, horizon_s))


@FLEET
@given(build=fleets, at_s=times, picked=st.lists(st.integers(0, DEVICES - 1), max_size=9))
def test_asking_for_some_devices_equals_asking_for_all(build: Build, at_s: float, picked: list[int]) -> None:
    availability, devices = build(), np.array(picked, np.int64)
    assert np.array_equal(
        availability.next_online_s(devices, at_s), availability.next_online_s(EVERYONE, at_s)[devices]
    )
    assert np.array_equal(
        availability.online_until_s(devices, at_s), availability.online_until_s(EVERYONE, at_s)[devices]
    )


@pytest.mark.parametrize("build", [markov(7.0, 3.0, 11), markov(3.0, 7.0, 12), diurnal(10.0, 5.0, 13)])
def test_lookups_equal_a_plain_scan_over_all_intervals(build: Build) -> None:
    # The slow twin: chunks are stitched into one list per device, and every answer is found by scanning it.
    availability = build()
    assert isinstance(availability, ChunkedAvailability)
    source = availability._source
    length_s, horizon = source.length_s, 40
    whole: list[list[list[float]]] = [[] for _ in EVERYONE]
    for index in range(horizon):
        chunk = source.chunk(index)
        for device in EVERYONE:
            for at in range(chunk.offsets[device], chunk.offsets[device + 1]):
                start_s, end_s = index * length_s + chunk.start_s[at], index * length_s + chunk.end_s[at]
                if whole[device] and whole[device][-1][1] == start_s:
                    whole[device][-1][1] = end_s
                else:
                    whole[device].append([start_s, end_s])
    rng = stream(0, "test")
    for at_s in rng.uniform(0, 0.5 * horizon * length_s, 200):
        online = availability.online(at_s)
        until_s = availability.online_until_s(EVERYONE, at_s)
        next_s = availability.next_online_s(EVERYONE, at_s)
        for device in EVERYONE:
            holding = [end_s for start_s, end_s in whole[device] if start_s <= at_s < end_s]
            coming = [start_s for start_s, _ in whole[device] if start_s > at_s]
            assert online[device] == bool(holding)
            assert until_s[device] == (holding[0] if holding else at_s)
            assert next_s[device] == (at_s if holding else coming[0])


@given(total=st.integers(1, 100_000), shares=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_apportioned_counts_add_up_and_stay_within_one_of_their_quota(total: int, shares: list[float]) -> None:
    counts = apportion(total, shares)
    assert sum(counts) == total
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - total * share / sum(shares)) < 1 + 1e-6 * total


@given(
    chosen=st.one_of(
        st.builds(
            lambda low, more: Choice("uniform", UNIFORM.options(low=low, high=low + more)),
            st.integers(0, 10**10),
            st.integers(0, 10**10),
        ),
        st.builds(
            lambda median, sigma: Choice("lognormal", LOGNORMAL.options(median=median, sigma=sigma)),
            st.integers(1, 10**10),
            st.floats(0, 5),
        ),
        st.builds(
            lambda values: Choice("choice", CHOICE.options(values=values)),
            st.lists(st.integers(0, 10**12), min_size=1, max_size=5),
        ),
        st.builds(lambda share: Choice("installed", INSTALLED.options(share=share)), st.floats(0.01, 1)),
    ),
    seed=seeds,
)
def test_drawn_memory_is_never_above_the_usable_and_says_where_it_was(chosen: Choice, seed: int) -> None:
    installed = np.array([2, 4, 8, 16], np.int64) * 2**30
    usable = installed * 9 // 10
    values, above = draw_memory(
        chosen, installed_memory_bytes=installed, usable_memory_bytes=usable, rng=stream(seed, "test")
    )
    assert values.dtype == np.int64
    assert (values >= 0).all()
    assert (values <= usable).all()
    assert (values[above] == usable[above]).all()


@given(
    num_bytes=st.integers(0, 10**12),
    rate=st.floats(1.0, 1e12),
    latency_s=st.floats(0, 100),
    more=st.integers(0, 10**12),
)
def test_more_bytes_never_arrive_sooner(num_bytes: int, rate: float, latency_s: float, more: int) -> None:
    assert latency_s <= transfer_s(num_bytes, rate, latency_s) <= transfer_s(num_bytes + more, rate, latency_s)
