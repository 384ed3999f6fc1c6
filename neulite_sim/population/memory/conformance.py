"""The laws of available memory as assertions, for tests of any distribution or motion, in this package or in another.

In a test of yours:

    from neulite_sim.population.memory.conformance import check_memory_distribution, check_memory_motion
    check_memory_distribution(DISTRIBUTION.build(DISTRIBUTION.options(low="1MB")))
    check_memory_motion(MOTION.build(MOTION.options()))
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from neulite_sim.arrays import Integers
from neulite_sim.contracts import array_of, held_to
from neulite_sim.errors import ScenarioError
from neulite_sim.population.memory.contract import FleetMemory, MemoryMotion, MemorySampler, MotionFactory
from neulite_sim.population.memory.distributions import UNIFORM, UniformOptions
from neulite_sim.registry import Choice
from neulite_sim.seeding import stream

NUM_DEVICES = 40
NUM_CHANGES = 30
"""Moments of change that a motion is followed over, from time 0 on."""
NUM_FLIGHTS = 30
"""Lookups of when memory becomes too little that are compared with what memory is then."""
_STILL_S = (0.0, 1.0, 3600.0, 86_400.0, 1e7)
_GB = 10**9


@held_to("neulite_sim.population.memory.contract.MemorySampler")
def check_memory_distribution(sampler: MemorySampler, *, num_devices: int = NUM_DEVICES, varies: bool = True) -> None:
    """Pass where `sampler` keeps the contract of `population.memory.contract.MemorySampler`.

    It must serve `num_devices` devices; any other number it may refuse with a `ScenarioError`. `varies` says whether
    two draws can differ, which is asked for then.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    installed = _installed(num_devices)
    first = _drawn(sampler, installed, 1)
    assert np.array_equal(installed, _installed(num_devices)), "draw: changed the installed memory that it was given"
    other = _drawn(sampler, installed, 2)
    again = _drawn(sampler, installed, 1)
    assert np.array_equal(first, again), (
        f"draw: equal generators gave {first[:3].tolist()} and then {again[:3].tolist()}; `rng` must be the only "
        "randomness, and nothing may be kept from one draw to the next"
    )
    assert not varies or not np.array_equal(first, other), (
        f"draw: generators 1 and 2 both gave {first[:3].tolist()}; use `rng`, or check with varies=False"
    )
    for count in (1, num_devices // 2, 2 * num_devices):
        try:
            _drawn(sampler, _installed(count), 1)
        except ScenarioError:
            continue


def _installed(count: int) -> Integers:
    return _GB * (1 + np.arange(count, dtype=np.int64) % 4)


def _drawn(sampler: MemorySampler, installed: Integers, number: int) -> Integers:
    count = len(installed)
    drawn = sampler(count, installed, stream(0, "conformance", number))
    assert isinstance(drawn, np.ndarray), f"draw: must be an array of bytes, is a {type(drawn).__name__}"
    assert drawn.dtype == np.int64, f"draw: bytes must be int64, are {drawn.dtype}"
    assert drawn.shape == (count,), f"draw: of {count} devices must have shape ({count},), has {drawn.shape}"
    least = int(drawn.min(initial=0))
    assert least >= 0, f"draw: bytes must be 0 or more, the smallest is {least}"
    return drawn.copy()


@held_to("neulite_sim.population.memory.contract.MemoryMotion")
def check_memory_motion(factory: MotionFactory, *, num_devices: int = NUM_DEVICES) -> None:
    """Pass where the motions that `factory` returns keep the contract of `population.memory.contract.MemoryMotion`.

    They move a fleet of `num_devices` whose memory was drawn uniformly, and are followed over their first changes.

    Raises:
        AssertionError: the first law that is broken, with the moment and the device.
    """
    memory = _fleet(num_devices)
    motion, same = (factory(memory, 7) for _ in range(2))
    if motion is None or same is None:
        assert motion is same, "build: equal calls gave a motion and then None"
        return
    moments_s = _moments_s(motion)
    questions = [(at_s, number) for at_s in moments_s for number in (1, 2)]
    answers, kept = [], []
    for at_s, number in questions:
        answers.append(_available(motion, memory, at_s, number))
        kept.append(answers[-1].copy())
    for (at_s, _), answer, before in zip(questions, answers, kept, strict=True):
        assert np.array_equal(answer, before), f"available_bytes: what was returned at {at_s:g} s changed afterwards"
    for (at_s, number), answer in reversed(list(zip(questions, kept, strict=True))):
        found = _available(same, memory, at_s, number)
        assert np.array_equal(found, answer), (
            f"available_bytes: at {at_s:g} s in round {number}, device {_first(found != answer)} has other memory when "
            "asked in another order, or of another motion of the same seed; lookups must be pure"
        )
    for (at_s, number), answer in zip(questions, kept, strict=True):
        _check_some(motion, answer, at_s, number)
    in_round_1 = dict(zip(moments_s, kept[::2], strict=True))
    for at_s, now in in_round_1.items():
        _check_until_change(motion, memory, at_s, now)
    for number in range(NUM_FLIGHTS):
        _check_short(motion, number % num_devices, moments_s[number % len(moments_s)], in_round_1)
        _check_enough(motion, number % num_devices, moments_s[number % len(moments_s)], in_round_1)


def _fleet(count: int) -> FleetMemory:
    installed = _installed(count)
    options = UniformOptions(low=_GB // 10, high=_GB // 2)
    sampler: MemorySampler = UNIFORM.build(options)
    return FleetMemory(
        nominal_bytes=sampler(count, installed, stream(0, "conformance-fleet")),
        installed_bytes=installed,
        usable_bytes=installed // 2,
        choices=(Choice(UNIFORM.kind, options),),
        choice_index=np.zeros(count, np.int16),
    )


def _moments_s(motion: MemoryMotion) -> list[float]:
    """Return moments to look at: beginnings of stretches without a change, and moments within them."""
    moments_s, at_s = [], 0.0
    for _ in range(NUM_CHANGES):
        change_s = motion.next_change_s(at_s)
        assert change_s > at_s, f"next_change_s: must lie after {at_s:g} s, is {change_s:g} s"
        if change_s == math.inf:
            moments_s += [at_s + more_s for more_s in _STILL_S]
            break
        moments_s += [at_s, (at_s + change_s) / 2]
        at_s = change_s
    return moments_s


def _available(motion: MemoryMotion, memory: FleetMemory, at_s: float, number: int) -> Integers:
    where = f"available_bytes: at {at_s:g} s in round {number}"
    found = array_of(motion.available_bytes(at_s, number), where, "bytes")
    assert found.dtype == np.int64, f"{where}, bytes must be int64, are {found.dtype}"
    assert found.shape == (memory.num_devices,), f"{where}, {found.shape} for {memory.num_devices} devices"
    low, high = _first(found < 0), _first(found > memory.cap_bytes)
    assert low is None, f"{where}, device {low} has {found[low or 0]} bytes"
    assert high is None, (
        f"{where}, device {high} has {found[high or 0]} bytes, its most are {memory.cap_bytes[high or 0]} (cap_bytes)"
    )
    return found


def _first(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int | None:
    return int(np.argmax(flags)) if flags.any() else None


def _check_some(motion: MemoryMotion, answer: Integers, at_s: float, number: int) -> None:
    """Check that some devices are told what all are told."""
    for devices in (np.arange(0, len(answer), 3), np.zeros(0, np.int64)):
        some = motion.available_bytes_of(devices, at_s, number)
        assert np.array_equal(some, answer[devices]), (
            f"available_bytes_of: at {at_s:g} s in round {number}, devices {devices[:3].tolist()} have "
            f"{np.asarray(some)[:3].tolist()} bytes, of all they have {answer[devices][:3].tolist()}"
        )


def _check_until_change(motion: MemoryMotion, memory: FleetMemory, at_s: float, now: Integers) -> None:
    """Check that nothing changes before the next change, from a moment on at which memory is `now`."""
    change_s = motion.next_change_s(at_s)
    assert change_s > at_s, f"next_change_s: must lie after {at_s:g} s, is {change_s:g} s"
    last_s = at_s + 1e6 if change_s == math.inf else float(np.nextafter(change_s, -math.inf))
    for later_s in (at_s + (last_s - at_s) / 3, last_s):
        moved = _first(_available(motion, memory, later_s, 1) != now)
        assert moved is None, (
            f"next_change_s: says {change_s:g} s at {at_s:g} s, but device {moved} has other memory at {later_s:g} s"
        )


def _check_short(motion: MemoryMotion, device: int, begins_s: float, known: Mapping[float, Integers]) -> None:
    """Check when a device that has just enough at the beginning has too little, against what it has at all moments."""
    needed, until_s = int(known[begins_s][device]), max(known)
    short_s = motion.short_from_s(device, needed, begins_s, until_s)
    said = f"short_from_s: of device {device}, {needed} bytes from {begins_s:g} s on: says {short_s:g} s"
    if short_s != math.inf:
        assert begins_s < short_s <= until_s, f"{said}, which is not between that and {until_s:g} s"
        left = int(motion.available_bytes_of(np.array([device]), short_s, 1)[0])
        assert left < needed, f"{said}, but it has {left} then"
    for at_s, bytes_of_all in known.items():
        if begins_s <= at_s < min(short_s, until_s):
            left = int(bytes_of_all[device])
            assert left >= needed, f"{said}, but it has {left} at {at_s:g} s"


def _check_enough(motion: MemoryMotion, device: int, at_s: float, known: Mapping[float, Integers]) -> None:
    """Check when a device has a byte more than now, where the motion can tell, against what it has at all moments."""
    find = getattr(motion, "enough_from_s", None)
    if find is None:
        return
    needed, until_s = int(known[at_s][device]) + 1, max(known)
    one = np.array([device])
    enough_s = float(find(one, np.array([needed]), np.array([at_s]), until_s)[0])
    said = f"enough_from_s: of device {device}, {needed} bytes from {at_s:g} s on: says {enough_s:g} s"
    if enough_s < math.inf:
        assert at_s < enough_s <= until_s, f"{said}, which is not between that and {until_s:g} s"
        has = int(motion.available_bytes_of(one, enough_s, 1)[0])
        assert has >= needed, f"{said}, but it has {has} then"
    for moment_s, bytes_of_all in known.items():
        if at_s <= moment_s < min(enough_s, until_s):
            has = int(bytes_of_all[device])
            assert has < needed, f"{said}, but it has {has} at {moment_s:g} s"
