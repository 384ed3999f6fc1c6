"""Laws of memory that moves: lookups are pure, agree with each other and with going step by step."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim.population.memory.contract import FleetMemory, MemoryMotion
from neulite_sim.population.memory.distributions import UNIFORM
from neulite_sim.population.memory.motion import REDRAWN, WALK
from neulite_sim.population.memory.steps import PARTS
from neulite_sim.population.memory.traced import TraceMemory
from neulite_sim.registry import Choice
from neulite_sim.traces.memory import MemoryFile

DEVICES = 5
EVERYONE = np.arange(DEVICES)
USABLE = np.array([400, 700, 900, 900, 10_000])
NOMINAL = np.array([400, 300, 500, 900, 1000])
MEMORY = FleetMemory(
    nominal_bytes=NOMINAL,
    installed_bytes=2 * USABLE,
    usable_bytes=USABLE,
    choices=(Choice("uniform", UNIFORM.options(low=100, high=1000)),),
    choice_index=np.zeros(DEVICES, np.int16),
)
MOTION = settings(max_examples=40, deadline=None, derandomize=True)

Build = Callable[[], MemoryMotion]


def redrawn(every: float, spread: float | None, seed: int) -> Build:
    return lambda: REDRAWN.build(REDRAWN.options(every=every, spread=spread))(MEMORY, seed)


def walk(every: float, step: float, reversion: float, seed: int) -> Build:
    return lambda: WALK.build(WALK.options(every=every, step=step, reversion=reversion))(MEMORY, seed)


def trace(labels: list[dict[int, int]], is_share: bool, repeat_s: float) -> Build:
    entries = [sorted(label.items()) for label in labels]
    found = MemoryFile(
        labels=tuple(map(str, range(len(labels)))),
        is_share=is_share,
        offsets=np.cumsum([0, *map(len, entries)]),
        time_s=np.array([float(time_s) for entry in entries for time_s, _ in entry]),
        values=np.array([value / 1000 if is_share else value for entry in entries for _, value in entry]),
    )
    return lambda: TraceMemory(found, MEMORY, rows=EVERYONE % len(labels), repeat_s=repeat_s)


seeds = st.integers(0, 2**32)
lengths = st.floats(1.0, 200.0)
values = st.dictionaries(st.integers(0, 299), st.integers(0, 1500), min_size=1, max_size=6)
motions = st.one_of(
    st.builds(redrawn, lengths, st.none() | st.floats(0.1, 1.0), seeds),
    st.builds(walk, lengths, st.floats(0.01, 0.5), st.floats(0.01, 1.0), seeds),
    st.builds(
        trace, st.lists(values, min_size=1, max_size=3), st.booleans(), st.sampled_from([math.inf, 300.0, 310.5])
    ),
)
times = st.floats(0, 1000.0)
stepped = st.one_of(
    st.builds(redrawn, st.floats(30.0, 200.0), st.none() | st.floats(0.1, 1.0), seeds),
    st.builds(walk, st.floats(30.0, 200.0), st.floats(0.01, 0.5), st.floats(0.01, 1.0), seeds),
)
"""Steps of half a minute and more, so that every moment of a quarter of an hour can be gone through."""
amounts = st.dictionaries(st.integers(0, 299), st.integers(100, 1000), min_size=2, max_size=6)
traced = st.builds(
    trace, st.lists(amounts, min_size=1, max_size=3), st.booleans(), st.sampled_from([math.inf, 300.0, 310.5])
)
"""Traces that have something to lose."""
aheads = st.integers(0, 900)
shares = st.integers(60, 110).map(lambda percent: percent / 100)


@MOTION
@given(build=motions, asked=st.lists(times, min_size=2, max_size=10))
def test_answers_do_not_depend_on_what_was_asked_before(build: Build, asked: list[float]) -> None:
    sequence, backwards = build(), build()
    forward = [list(sequence.available_bytes(at_s, 1)) for at_s in asked]
    reverse = [list(backwards.available_bytes(at_s, 1)) for at_s in reversed(asked)][::-1]
    fresh = [list(build().available_bytes(at_s, 1)) for at_s in asked]
    assert forward == reverse == fresh


@MOTION
@given(build=motions, at_s=times, devices=st.lists(st.integers(0, DEVICES - 1), max_size=8))
def test_some_devices_get_the_answers_of_all(build: Build, at_s: float, devices: list[int]) -> None:
    motion, some = build(), np.array(devices, np.int64)
    assert list(motion.available_bytes_of(some, at_s, 1)) == list(build().available_bytes(at_s, 1)[some])


@MOTION
@given(build=motions, at_s=times)
def test_memory_stays_within_what_is_usable(build: Build, at_s: float) -> None:
    found = build().available_bytes(at_s, 1)
    assert (found >= 0).all()
    assert (found <= USABLE).all()


@MOTION
@given(build=motions, at_s=times)
def test_nothing_changes_before_the_next_change(build: Build, at_s: float) -> None:
    motion = build()
    now, change_s = list(motion.available_bytes(at_s, 1)), motion.next_change_s(at_s)
    assert change_s > at_s
    inside = min(change_s, at_s + 1000.0)
    for share in (0.2, 0.7):
        assert list(motion.available_bytes(at_s + share * (inside - at_s), 1)) == now
    assert list(motion.available_bytes(np.nextafter(inside, 0), 1)) == now


@pytest.mark.slow
@MOTION
@given(build=stepped, at_s=times, ahead_s=aheads, share=shares)
def test_shortness_begins_exactly_at_the_first_change_that_brings_it(
    build: Build, at_s: float, ahead_s: float, share: float
) -> None:
    check_shortness(build, at_s, at_s + ahead_s, share)


@settings(MOTION, max_examples=100)
@given(build=traced, at_s=times, ahead_s=aheads, share=shares)
def test_shortness_of_a_trace_begins_exactly_at_the_line_that_brings_it(
    build: Build, at_s: float, ahead_s: float, share: float
) -> None:
    check_shortness(build, at_s, at_s + ahead_s, share)


def check_shortness(build: Build, at_s: float, until_s: float, share: float) -> None:
    """Compare a search with going from change to change, in another motion of the same kind."""
    motion, walked = build(), build()
    needed = np.rint(share * walked.available_bytes(at_s, 1)).astype(np.int64)
    expected, moment_s = np.full(DEVICES, math.inf), at_s
    while moment_s <= until_s and np.isinf(expected).any():
        now_short = walked.available_bytes(moment_s, 1) < needed
        expected[now_short & np.isinf(expected)] = moment_s
        moment_s = walked.next_change_s(moment_s)
    found = [motion.short_from_s(device, int(needed[device]), at_s, until_s) for device in range(DEVICES)]
    assert found == list(expected)


@MOTION
@given(every=lengths, seed=seeds)
def test_a_step_lasts_as_long_as_asked(every: float, seed: int) -> None:
    motion = walk(every, 0.3, 1.0, seed)()
    length_s = PARTS * motion.next_change_s(0.0)
    assert length_s == pytest.approx(every, abs=PARTS * 2**-20)
    table = np.array([motion.available_bytes(part * length_s / PARTS, 1) for part in range(3 * PARTS)])
    assert ((table[1:] != table[:-1]).sum(axis=0) <= 3).all()
