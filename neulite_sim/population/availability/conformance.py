"""The laws of availability as assertions, for tests of any kind of it, in this package or in another.

In a test of yours:

    from neulite_sim.population.availability.conformance import check_availability
    check_availability(COMPONENT.build(COMPONENT.options()))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neulite_sim.arrays import Flags, Floats, Integers
from neulite_sim.contracts import array_of, held_to
from neulite_sim.population.availability.contract import Availability, AvailabilityFactory, Followed, Stretch
from neulite_sim.seeding import stream

NUM_DEVICES = 24
NUM_QUESTIONS = 40
SPAN_S = 4 * 86_400.0
"""Virtual time over which questions are spread: four days, so that daily rhythms show."""
SEED = 5


@held_to("neulite_sim.population.availability.contract.Availability")
def check_availability(factory: AvailabilityFactory, *, num_devices: int = NUM_DEVICES, span_s: float = SPAN_S) -> None:
    """Pass where what `factory` returns keeps the contract of `population.availability.contract.Availability`.

    Questions are spread over `span_s` and put to the very moments at which devices come and go.

    Raises:
        AssertionError: the first law that is broken, with the moment and the device.
    """
    asked, same = factory(num_devices, SEED), factory(num_devices, SEED)
    moments_s = _moments_s(asked, num_devices, span_s)
    answers: list[Answer] = []
    kept: list[Answer] = []
    for at_s in moments_s:
        online, until_s, next_s = _answer(asked, num_devices, at_s)
        answers.append((online, until_s, next_s))
        kept.append((online.copy(), until_s.copy(), next_s.copy()))
    for at_s, told, before in zip(moments_s, answers, kept, strict=True):
        for name, now, then in zip(_LOOKUPS, told, before, strict=True):
            assert np.array_equal(now, then), f"{name}: what was returned at {at_s:g} s changed afterwards"
    for at_s, answer in reversed(list(zip(moments_s, kept, strict=True))):
        _check_same(_answer(same, num_devices, at_s), answer, at_s)
    for at_s, answer in zip(moments_s, kept, strict=True):
        _check_some(asked, answer, at_s)
        _check_horizon(asked, answer[1], at_s, span_s)
        _check_edges(asked, answer, at_s)
    _check_between(moments_s, kept)
    if isinstance(asked, Followed):
        _check_stretches(asked, moments_s, kept)
    if forget := getattr(asked, "forget", None):
        for at_s, answer in list(zip(moments_s, kept, strict=True))[::8]:
            forget()
            _check_same(_answer(asked, num_devices, at_s), answer, at_s)


_LOOKUPS = ("online", "online_until_s", "next_online_s")
Answer = tuple[Flags, Floats, Floats]


def _moments_s(asked: Availability, num_devices: int, span_s: float) -> list[float]:
    """Return moments, ascending: spread at random, and those at which devices come and go after some of them."""
    spread_s = [0.0, *map(float, stream(0, "conformance").uniform(0, span_s, NUM_QUESTIONS))]
    changes_s: list[float] = []
    for at_s in spread_s[:8]:
        _, until_s, next_s = _answer(asked, num_devices, at_s)
        changes_s += [float(moment_s) for moment_s in (*until_s[:4], *next_s[:4]) if moment_s < math.inf]
    return sorted({*spread_s, *changes_s})


def _answer(asked: Availability, num_devices: int, at_s: float) -> Answer:
    """Return what all devices are told at a moment, after a look at its form."""
    devices = np.arange(num_devices)
    online = array_of(asked.online(at_s), "online", "true or false")
    assert online.dtype == np.bool_, f"online: must be true or false, is {online.dtype}"
    times_s = _times_s(asked, devices, at_s)
    for name, found in zip(_LOOKUPS, (online, *times_s), strict=True):
        assert found.shape == (num_devices,), f"{name}: {found.shape} for {num_devices} devices at {at_s:g} s"
    for name, found in zip(_LOOKUPS[1:], times_s, strict=True):
        assert found.dtype == np.float64, f"{name}: seconds must be float64, are {found.dtype}"
        early = ~(found >= at_s)
        assert not early.any(), f"{name}: device {_first(early)} at {at_s:g} s: {found[early][0]:g} s lies before"
    until_s, next_s = times_s
    wrong = (until_s > at_s) != online
    assert not wrong.any(), (
        f"online_until_s: device {_first(wrong)} is {_word(online[wrong][0])} at {at_s:g} s, until "
        f"{until_s[wrong][0]:g} s; it must be {at_s:g} s for a device that is offline, and later for one that is online"
    )
    wrong = (next_s == at_s) != online
    assert not wrong.any(), (
        f"next_online_s: device {_first(wrong)} is {_word(online[wrong][0])} at {at_s:g} s, next online at "
        f"{next_s[wrong][0]:g} s; it must be {at_s:g} s for a device that is online, and later for one that is offline"
    )
    return online, until_s, next_s


def _times_s(asked: Availability, devices: Integers, at_s: float) -> tuple[Floats, Floats]:
    until_s = array_of(asked.online_until_s(devices, at_s), _LOOKUPS[1], "seconds")
    return until_s, array_of(asked.next_online_s(devices, at_s), _LOOKUPS[2], "seconds")


def _first(flags: Flags) -> int:
    return int(np.argmax(flags))


def _word(is_online: bool) -> str:
    return "online" if is_online else "offline"


def _check_same(found: Answer, wanted: Answer, at_s: float) -> None:
    for name, one, other in zip(_LOOKUPS, found, wanted, strict=True):
        assert np.array_equal(one, other), (
            f"{name}: at {at_s:g} s, device {_first(one != other)} gets another answer when asked in another order, "
            "after `forget`, or of another fleet of the same seed; lookups must be pure"
        )


def _check_some(asked: Availability, before: Answer, at_s: float) -> None:
    """Check that some devices, in any order, are told what all are told."""
    for devices in (np.arange(len(before[0]))[::-3].copy(), np.zeros(0, np.int64)):
        some = _times_s(asked, devices, at_s)
        for name, found, all_told in zip(_LOOKUPS[1:], some, before[1:], strict=True):
            assert np.array_equal(found, all_told[devices]), (
                f"{name}: devices {devices[:3].tolist()} at {at_s:g} s are told {found[:3].tolist()}, "
                f"among all {all_told[devices][:3].tolist()}"
            )


def _check_horizon(asked: Availability, until_s: Floats, at_s: float, span_s: float) -> None:
    """Check that a horizon changes nothing before it."""
    devices: Integers = np.arange(len(until_s))
    for horizon_s in (at_s + span_s / 100, at_s + span_s / 4):
        found = array_of(asked.online_until_s(devices, at_s, horizon_s), "online_until_s", "seconds")
        wrong = np.minimum(found, horizon_s) != np.minimum(until_s, horizon_s)
        assert not wrong.any(), (
            f"online_until_s: device {_first(wrong)} at {at_s:g} s goes offline at {until_s[wrong][0]:g} s, with "
            f"horizon_s {horizon_s:g} at {found[wrong][0]:g} s; before the horizon both must agree"
        )


def _check_edges(asked: Availability, before: Answer, at_s: float) -> None:
    """Check that a device is online at the start of an interval and offline at its end, to the last bit."""
    online, until_s, next_s = before
    for device in np.flatnonzero(np.where(online, until_s, next_s) < math.inf)[:4]:
        edge_s = float(until_s[device] if online[device] else next_s[device])
        name = _LOOKUPS[1] if online[device] else _LOOKUPS[2]
        at_edge = bool(asked.online(edge_s)[device])
        assert at_edge != online[device], (
            f"{name}: device {device} at {at_s:g} s: {edge_s!r} s, but it is {_word(at_edge)} at that very moment; an "
            "interval holds its start and not its end"
        )
        just_before = bool(asked.online(float(np.nextafter(edge_s, -math.inf)))[device])
        assert just_before == online[device], (
            f"{name}: device {device} at {at_s:g} s: {edge_s!r} s, but it is {_word(just_before)} just before already"
        )


def _check_between(moments_s: Sequence[float], answers: Sequence[Answer]) -> None:
    """Check that devices stay as they are until the moment they were said to change at."""
    for place, (at_s, (online, until_s, next_s)) in enumerate(zip(moments_s, answers, strict=True)):
        change_s = np.where(online, until_s, next_s)
        for later_s, (later, *_) in zip(moments_s[place + 1 :], answers[place + 1 :], strict=True):
            wrong = (later != online) & (later_s < change_s)
            assert not wrong.any(), (
                f"{_LOOKUPS[1] if online[wrong][0] else _LOOKUPS[2]}: device {_first(wrong)} is "
                f"{_word(online[wrong][0])} at {at_s:g} s, said to be so until {change_s[wrong][0]:g} s, but "
                f"{_word(later[wrong][0])} at {later_s:g} s"
            )


def _check_stretches(asked: Followed, moments_s: Sequence[float], answers: Sequence[Answer]) -> None:
    """Check that the changes of the stretches, applied in their order, lead from each answer to the next."""
    stretch = asked.stretch(moments_s[0])
    online, now_s = answers[0][0].copy(), moments_s[0]
    for at_s, (wanted, *_) in zip(moments_s[1:], answers[1:], strict=True):
        while True:
            _check_stretch(stretch, now_s)
            passed = (stretch.moments_s > now_s) & (stretch.moments_s <= at_s)
            if now_s == stretch.begins_s:
                passed |= stretch.moments_s == now_s
            for device, comes in zip(stretch.devices[passed], stretch.comes[passed], strict=True):
                online[device] = comes
            if at_s < stretch.ends_s:
                break
            now_s, stretch = stretch.ends_s, asked.stretch(stretch.ends_s)
        now_s = at_s
        wrong = online != wanted
        assert not wrong.any(), (
            f"stretch: device {_first(wrong)} is {_word(wanted[wrong][0])} at {at_s:g} s, after the changes told until "
            f"then {_word(online[wrong][0])}"
        )


def _check_stretch(stretch: Stretch, at_s: float) -> None:
    begins_s, ends_s, moments_s = stretch.begins_s, stretch.ends_s, stretch.moments_s
    assert begins_s <= at_s < ends_s, f"stretch: [{begins_s:g}, {ends_s:g}) s does not hold the {at_s:g} s asked for"
    assert (np.diff(moments_s) >= 0).all(), f"stretch: moments from {begins_s:g} s on are not in order"
    within = (begins_s <= moments_s) & (moments_s < ends_s)
    assert within.all(), f"stretch: {moments_s[~within][0]:g} s lies outside [{begins_s:g}, {ends_s:g}) s"
    for device in np.unique(stretch.devices):
        told = stretch.comes[stretch.devices == device]
        assert (told[1:] != told[:-1]).all(), f"stretch: device {device} does not come and go by turns"
