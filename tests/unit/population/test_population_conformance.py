"""The checks of memory and of availability: every built-in passes, and each law is missed by something broken."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from neulite_sim.population.availability.combined import Both
from neulite_sim.population.availability.conformance import check_availability
from neulite_sim.population.memory.conformance import check_memory_distribution, check_memory_motion
from neulite_sim.registry import component, names
from neulite_sim.seeding import stream

DISTRIBUTIONS = {
    "choice": ({"values": (10**6, 10**8), "weights": (1, 3)}, True),
    "explicit": ({"values": tuple(range(40))}, False),
    "installed": ({"share": 0.5}, False),
    "lognormal": ({"median": 10**8, "sigma": 0.5, "high": 2 * 10**8}, True),
    "uniform": ({"low": 0, "high": 10**9}, True),
}
MOTIONS = {
    "constant": {},
    "redrawn": {"every": 600},
    "trace": {"path": "memory.csv", "repeat_every": 40},
    "walk": {"step": 0.2},
}
AVAILABILITIES = {
    "always": {},
    "diurnal": {"time_zone_span": 86_400.0},
    "markov": {"mean_on": 7200, "mean_off": 14_400},
    "trace": {"path": "online.csv", "span": 100_000},
}


@pytest.fixture(autouse=True)
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("memory.csv").write_text("device,t_s,available_bytes\na,0,90000000\nb,10,80\na,20,300\nb,30,200000000\n")
    Path("online.csv").write_text("device,start_s,end_s\na,0,3600\nb,3000,60000.5\na,7000,8000\nb,70000,100000\n")
    Path("periods.csv").write_text("device,start_s,end_s,period_s\na,1,2,2\nb,0,50000,100000000\n")


@pytest.mark.parametrize("kind", names("available_memory"))
def test_every_registered_distribution_keeps_the_contract(kind: str) -> None:
    found = component("available_memory", kind)
    options, varies = DISTRIBUTIONS[kind]
    check_memory_distribution(found.build(found.options(**options)), varies=varies)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, MOTIONS[kind]) for kind in names("memory_motion")),
        ("redrawn", {"every": "round"}),
        ("redrawn", {"spread": 0.5, "every": 7}),
        ("trace", {"path": "memory.csv"}),
    ],
)
def test_every_registered_motion_keeps_the_contract(kind: str, options: dict[str, object]) -> None:
    found = component("memory_motion", kind)
    check_memory_motion(found.build(found.options(**options)))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, AVAILABILITIES[kind]) for kind in names("availability")),
        ("trace", {"path": "online.csv", "repeat": False}),
        ("trace", {"path": "periods.csv"}),
    ],
)
def test_every_registered_availability_keeps_the_contract(kind: str, options: dict[str, object]) -> None:
    found = component("availability", kind)
    check_availability(found.build(found.options(**options)))


def test_the_logical_and_of_two_availabilities_keeps_the_contract() -> None:
    markov, diurnal = component("availability", "markov"), component("availability", "diurnal")
    first, second = markov.build(markov.options(mean_on="1h", mean_off="1h")), diurnal.build(diurnal.options())
    check_availability(lambda count, seed: Both(first=first(count, seed), second=second(count, seed)))


# Distributions.

moods = itertools.count()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda count, installed, rng: stream(0, "mood", next(moods)).integers(0, 9, count), "equal generators gave"),
        (lambda count, installed, rng: np.arange(count), "generators 1 and 2 both gave .0, 1, 2.; use `rng`"),
        (lambda count, installed, rng: rng.integers(0, 9, 40), r"of 1 devices must have shape \(1,\), has \(40,\)"),
        (lambda count, installed, rng: rng.uniform(0, 9, count), "bytes must be int64, are float64"),
        (lambda count, installed, rng: rng.integers(-9, -8, count), "must be 0 or more, the smallest is -9"),
        (lambda count, installed, rng: list(rng.integers(0, 9, count)), "must be an array of bytes, is a list"),
        (lambda count, installed, rng: np.multiply(installed, 2, out=installed), "changed the installed memory"),
    ],
)
def test_a_broken_distribution_is_found(broken, message) -> None:
    with pytest.raises(AssertionError, match=message):
        check_memory_distribution(broken)


# Motions: each is one that halves memory every ten seconds, with one thing wrong.


class Halving:
    """Half the nominal memory in the second ten of every twenty seconds."""

    def __init__(self, memory):
        self.memory = memory

    def available_bytes(self, at_s, round_number):
        return self.memory.nominal_bytes // (1 + int(at_s // 10) % 2)

    def available_bytes_of(self, devices, at_s, round_number):
        return self.available_bytes(at_s, round_number)[devices]

    def short_from_s(self, device, needed_bytes, at_s, until_s):
        for moment_s in (at_s, self.next_change_s(at_s), self.next_change_s(at_s) + 10):
            if moment_s <= until_s and self.available_bytes(moment_s, 1)[device] < needed_bytes:
                return moment_s
        return math.inf

    def next_change_s(self, at_s):
        return (at_s // 10 + 1) * 10.0


class Above(Halving):
    def available_bytes(self, at_s, round_number):
        return 3 * super().available_bytes(at_s, round_number) + self.memory.usable_bytes


class Floating(Halving):
    def available_bytes(self, at_s, round_number):
        return super().available_bytes(at_s, round_number) / 2


class Remembering(Halving):
    asked = 0

    def available_bytes(self, at_s, round_number):
        self.asked += 1
        return super().available_bytes(at_s, round_number) - self.asked % 7


class Reused(Halving):
    def available_bytes(self, at_s, round_number):
        self.kept = getattr(self, "kept", self.memory.nominal_bytes.copy())
        self.kept[:] = super().available_bytes(at_s, round_number)
        return self.kept


class OtherForSome(Halving):
    def available_bytes_of(self, devices, at_s, round_number):
        return self.memory.nominal_bytes[devices]


class Late(Halving):
    def next_change_s(self, at_s):
        return super().next_change_s(at_s) + 1


class Past(Halving):
    def next_change_s(self, at_s):
        return at_s // 10 * 10.0


class NeverShort(Halving):
    def short_from_s(self, device, needed_bytes, at_s, until_s):
        return math.inf


class ShortEarly(Halving):
    def short_from_s(self, device, needed_bytes, at_s, until_s):
        return at_s + 1 if at_s + 1 <= until_s and at_s // 10 % 2 == 0 else math.inf


def test_a_motion_as_small_as_it_gets_keeps_the_contract() -> None:
    check_memory_motion(lambda memory, seed: Halving(memory))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Above, r"device 0 has \d+ bytes, its most are \d+ \(cap_bytes\)"),
        (Floating, "bytes must be int64, are float64"),
        (Remembering, "has other memory when asked in another order"),
        (Reused, "what was returned at .* s changed afterwards"),
        (OtherForSome, "available_bytes_of: at 10 s in round 1, devices .0, 3, 6. have"),
        (Late, "next_change_s: says 11 s at 0 s, but device 0 has other memory at 11 s"),
        (Past, "next_change_s: must lie after 0 s, is 0 s"),
        (NeverShort, "short_from_s: of device 0, .* from 0 s on: says inf s, but it has"),
        (ShortEarly, "says 1 s, but it has"),
    ],
)
def test_a_broken_motion_is_found(broken, message) -> None:
    with pytest.raises(AssertionError, match=message):
        check_memory_motion(lambda memory, seed: broken(memory))


def test_a_motion_that_is_now_there_and_now_not_is_found() -> None:
    motions = iter([Halving, lambda memory: None])
    with pytest.raises(AssertionError, match="a motion and then None"):
        check_memory_motion(lambda memory, seed: next(motions)(memory))


# Availability: each is one with windows of ten hours, with one thing wrong.

HOUR = 3600.0


class Windows:
    """Device d is online in the ten hours after every (d + 20 k)th hour."""

    def __init__(self, num_devices, seed):
        self.num_devices = num_devices

    def _since_s(self, devices, at_s):
        return np.mod(at_s - devices * HOUR, 20 * HOUR)

    def online(self, at_s):
        return self._since_s(np.arange(self.num_devices), at_s) < 10 * HOUR

    def _next_s(self, devices, at_s, within_s):
        """The next moment later than `at_s`, in whole hours."""
        hours = np.floor(at_s / HOUR) + 1 + np.arange(21)
        found = self._since_s(devices[:, None], hours * HOUR) == within_s
        return hours[np.argmax(found, axis=1)] * HOUR

    def online_until_s(self, devices, at_s, horizon_s=math.inf):
        return np.where(self.online(at_s)[devices], self._next_s(devices, at_s, 10 * HOUR), at_s)

    def next_online_s(self, devices, at_s):
        return np.where(self.online(at_s)[devices], at_s, self._next_s(devices, at_s, 0.0))


class Closed(Windows):
    def online(self, at_s):
        return self._since_s(np.arange(self.num_devices), at_s) <= 10 * HOUR


class Walking(Windows):
    latest_s = 0.0

    def online(self, at_s):
        self.latest_s = max(self.latest_s, at_s)
        return super().online(self.latest_s)


class ReturnsInThePast(Windows):
    def next_online_s(self, devices, at_s):
        return np.where(self.online(at_s)[devices], at_s - 1, super().next_online_s(devices, at_s))


class LeavesEarly(Windows):
    def online_until_s(self, devices, at_s, horizon_s=math.inf):
        return np.where(self.online(at_s)[devices], at_s + 1.0, at_s)


class LeavesLate(Windows):
    def online_until_s(self, devices, at_s, horizon_s=math.inf):
        return np.where(self.online(at_s)[devices], math.inf, at_s)


class ForgetsOthers(Windows):
    def next_online_s(self, devices, at_s):
        return super().next_online_s(np.arange(self.num_devices), at_s)[: len(devices)]


class CutsAtTheHorizon(Windows):
    def online_until_s(self, devices, at_s, horizon_s=math.inf):
        found = super().online_until_s(devices, at_s)
        return np.minimum(found, horizon_s / 2 + at_s / 2)


class Whole(Windows):
    def next_online_s(self, devices, at_s):
        return super().next_online_s(devices, at_s).astype(np.int64)


class SameArray(Windows):
    def online(self, at_s):
        self.kept = getattr(self, "kept", np.zeros(self.num_devices, np.bool_))
        self.kept[:] = super().online(at_s)
        return self.kept


class OneShort(Windows):
    def next_online_s(self, devices, at_s):
        return super().next_online_s(devices, at_s)[1:]


class ForgetsItself(Windows):
    shift_s = 0.0

    def forget(self):
        self.shift_s = HOUR

    def _since_s(self, devices, at_s):
        return super()._since_s(devices, at_s + self.shift_s)


def test_an_availability_as_small_as_it_gets_keeps_the_contract() -> None:
    check_availability(Windows)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Closed, "online_until_s: device .*, but it is online at that very moment"),
        (Walking, "asked in another order|must be .* for a device that is o"),
        (ReturnsInThePast, "next_online_s: device .* lies before"),
        (LeavesEarly, "online at that very moment; an interval holds its start and not its end"),
        (LeavesLate, "online_until_s: device .* said to be so until inf s, but offline at"),
        (ForgetsOthers, r"next_online_s: devices \[23, 20, 17\] at 0 s are told"),
        (CutsAtTheHorizon, "with horizon_s .* before the horizon both must agree"),
        (Whole, "next_online_s: seconds must be float64, are int64"),
        (SameArray, "online: what was returned at .* s changed afterwards"),
        (ForgetsItself, "another answer when asked in another order, after `forget`"),
        (OneShort, r"next_online_s: \(23,\) for 24 devices at 0 s"),
    ],
)
def test_a_broken_availability_is_found(broken, message) -> None:
    with pytest.raises(AssertionError, match=message):
        check_availability(broken)


def test_another_fleet_at_every_call_is_found() -> None:
    class Shifted(Windows):
        def _since_s(self, devices, at_s):
            return super()._since_s(devices + self.shift, at_s)

    def factory(num_devices, seed):
        fleet = Shifted(num_devices, seed)
        fleet.shift = next(moods)
        return fleet

    with pytest.raises(AssertionError, match="or of another fleet of the same seed"):
        check_availability(factory)
