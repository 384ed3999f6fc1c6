"""Batteries that flights drain: closed forms against a clock that ticks, and what is remembered of a flight."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from neulite_sim.population.availability.charge_course import Cells, Course
from neulite_sim.population.availability.charges import Charges

HOUR_S, DAY_S = 3600.0, 86400.0


def cells(*, capacity=36_000.0, idle=0.5, at=22.0, charging=4.0, hours=6.0) -> Cells:
    one = np.ones(1)
    return Cells(capacity_j=capacity * one, idle_watts=idle * one, plugged_at_s=at * HOUR_S * one,
                 charging_watts=charging, plugged_s=hours * HOUR_S)  # fmt: skip


def charges(of: Cells, *, level=1.0, minimum=0.2, compute=5.0, num=1) -> Charges:
    everybody = np.zeros(num, np.int64)
    watts = {"idle_watts": float(of.idle_watts[0]), "compute_watts": compute, "receive_watts": 1.0, "send_watts": 2.0}
    columns = {state: np.full(num, value) for state, value in watts.items()}
    many = of.of(everybody)
    return Charges(many, watts=columns, level_j=level * many.capacity_j, least_j=minimum * many.capacity_j)


def ticked(of: Cells, level_j, from_s, to_s, watts, *, step_s=60.0):
    """Return the joules minute by minute: a slow twin, exact where all edges are whole minutes."""
    found = [level_j]
    at_s, capacity_j = float(of.plugged_at_s[0]), float(of.capacity_j[0])
    for minute in range(round((to_s - from_s) / step_s)):
        now_s = from_s + minute * step_s
        is_plugged = (now_s - at_s) % DAY_S < of.plugged_s
        level_j += (of.charging_watts * is_plugged - watts(now_s)) * step_s
        level_j = min(max(level_j, 0.0), capacity_j)
        found.append(level_j)
    return found


def drawn(case: int):
    """Return a battery, its charge, a moment and a minimum, by the number of the case."""
    rng = random.Random(case)
    of = cells(capacity=rng.choice([7_200.0, 36_000.0, 144_000.0]), idle=rng.choice([0.25, 0.5, 1.0]),
               at=rng.choice([0.0, 6.0, 22.0]), charging=rng.choice([1.5, 4.0]), hours=rng.choice([1.0, 6.0, 20.0]))  # fmt: skip
    return of, rng.choice([0.0, 0.3, 1.0]), rng.randrange(96) * 900.0, rng.choice([0.1, 0.5, 0.9])


@pytest.mark.parametrize("case", range(8))
def test_the_course_of_an_idle_device_is_that_of_a_clock_that_ticks(case):
    of, share, since_s, minimum = drawn(case)
    first_j, least_j = share * of.capacity_j, minimum * of.capacity_j
    course = Course(of, first_j, np.array([since_s]))
    idle = float(of.idle_watts[0])
    levels = ticked(of, float(first_j[0]), since_s, since_s + 3 * DAY_S, lambda _: idle)
    enough = [level >= least_j[0] for level in levels]
    for place in range(0, len(levels), 211):
        at = np.array([since_s + 60.0 * place])
        assert course.level_j(at)[0] == pytest.approx(levels[place], abs=1e-6)
        # Within a minute: the moment itself lies between two ticks.
        assert course.has(at, least_j)[0] in set(enough[max(place - 1, 0) : place + 2])
        next_s = course.next_s(at, least_j)[0]
        later = next((tick for tick in range(place, len(levels)) if enough[tick]), None)
        if later is not None:
            assert next_s == pytest.approx(since_s + 60.0 * later, abs=61)
        else:
            assert next_s > since_s + 3 * DAY_S - 61
        if course.has(at, least_j)[0]:
            until_s = course.until_s(at, least_j, math.inf)[0]
            gone = next((tick for tick in range(place, len(levels)) if not enough[tick]), None)
            if gone is not None and enough[place]:
                assert until_s == pytest.approx(since_s + 60.0 * gone, abs=61)
            elif enough[place]:
                assert until_s > since_s + 3 * DAY_S - 61


def test_a_charge_that_only_touches_what_is_wanted_does_so_for_a_moment():
    """3600 J at most: an hour at 1.5 W less the 0.5 W of an idle device."""
    course = Course(cells(at=0.0, charging=1.5, hours=1.0), np.zeros(1), np.array([68_400.0]))
    next_s = course.next_s(np.array([68_400.0]), np.array([3600.0]))
    assert next_s.tolist() == [DAY_S + HOUR_S]
    assert course.has(next_s, np.array([3600.0]))[0]
    assert course.until_s(next_s, np.array([3600.0]), math.inf)[0] == pytest.approx(DAY_S + HOUR_S, abs=1e-5)


def test_a_charge_that_lasts_every_day_lasts_for_ever_and_one_that_sinks_does_not():
    often = Course(cells(hours=20.0), np.array([36_000.0]), np.zeros(1))
    assert often.until_s(np.zeros(1), np.array([7200.0]), math.inf)[0] == math.inf
    # Gains 2.5 W for 1 h and loses 0.1 W for 23 h a day: 9000 J against 8280 J; with 0.12 W it loses 216 J a day.
    slow = cells(capacity=3e5, idle=0.12, charging=2.62, hours=1.0, at=0.0)
    rare = Course(slow, np.array([3e5]), np.zeros(1))
    until_s = rare.until_s(np.zeros(1), np.array([2e5]), math.inf)[0]
    expected = next(k for k in range(10**4) if 3e5 - k * (0.12 * 23 - 2.5) * HOUR_S - 0.12 * 23 * HOUR_S < 2e5)
    assert expected * DAY_S + HOUR_S < until_s <= (expected + 1) * DAY_S


@pytest.mark.parametrize("case", range(12))
def test_a_flight_drains_as_a_clock_that_ticks(case):
    """Receive, compute, send, with a pause in every other; empty at the moment at which the ticking battery is."""
    of, share, left_s, _ = drawn(case)
    rng = random.Random(1000 + case)
    minutes = [rng.randrange(600) for _ in range(3)]
    held = charges(of, level=share)
    before_j = float(held.level_j(np.array([0]), left_s)[0])
    seconds = [np.array([60.0 * minute]) for minute in minutes]
    total = sum(minutes)
    pause = ()
    if case % 2:
        begins = rng.randrange(total)
        pause = ((left_s + 60.0 * begins, left_s + 60.0 * (begins + 30)),)

    def watts(now_s):
        worked = round((now_s - left_s) / 60)
        for begins_s, ends_s in pause:
            if begins_s <= now_s < ends_s:
                return float(of.idle_watts[0])
            if now_s >= ends_s:
                worked -= 30
        return [1.0, 5.0, 2.0][0 if worked < minutes[0] else 1 if worked < minutes[0] + minutes[1] else 2]

    ended_s = left_s + 60.0 * (total + 30 * len(pause))
    levels = ticked(of, before_j, left_s, ended_s, watts)
    empty_s = held.empty_s(np.array([0]), left_s, seconds, [pause])[0]
    # Empty is where it would sink below nothing: the tick at which nothing is left while it draws more than it gets.
    runs_out = next((place for place in range(1, len(levels)) if levels[place] == 0.0), None)
    if runs_out is None:
        assert empty_s == math.inf
    else:
        assert empty_s == pytest.approx(left_s + 60.0 * runs_out, abs=61)
    held.depart(np.array([0]), left_s)
    held.land(np.array([0]), np.array([ended_s]), seconds, [pause])
    after_j = held.level_j(np.array([0]), ended_s)[0]
    assert after_j == pytest.approx(levels[-1], abs=1e-6)
    assert 0.0 <= after_j <= of.capacity_j[0]


def test_what_a_flight_has_drawn_is_remembered_until_the_charger_has_brought_it():
    """36 kJ: an hour at 5 W leaves 18 kJ at one o'clock; the 0.5 W of an idle device nothing at eleven."""
    held, device = charges(cells(at=22.0)), np.array([0])
    held.depart(device, 0.0)
    # 00:00 to 04:00 it is on the charger that began at 22:00; so fly at noon, with what is left of a full battery then.
    held.begin()
    noon_s = 12 * HOUR_S
    assert held.level_j(device, noon_s)[0] == 36_000 - 0.5 * 8 * HOUR_S
    held.depart(device, noon_s)
    held.land(device, np.array([noon_s + HOUR_S]), [np.zeros(1), np.array([HOUR_S]), np.zeros(1)], [()])
    assert held.level_j(device, noon_s + HOUR_S)[0] == pytest.approx(36_000 - 0.5 * 8 * HOUR_S - 5 * HOUR_S)
    assert not held.online(noon_s + HOUR_S)[0]
    back_s = held.next_online_s(device, noon_s + HOUR_S)[0]
    # 3600 J at one are gone by three; 7200 J, the minimum, take 7200 / 3.5 s from ten at night on.
    assert back_s == pytest.approx(22 * HOUR_S + 7200 / 3.5, abs=1e-4)
    assert held.online(back_s)[0]


def test_a_device_in_flight_is_online_whatever_its_charge():
    held, device = charges(cells(at=0.0), level=0.1), np.array([0])
    held.depart(device, 8 * HOUR_S)
    assert held.online(20 * HOUR_S)[0]
    assert held.online_until_s(device, 20 * HOUR_S)[0] == math.inf


@pytest.mark.parametrize("case", range(6))
def test_a_look_at_a_moment_that_has_passed_is_answered_as_it_was(case):
    rng = random.Random(case)
    held, seen, now_s = charges(cells(capacity=9_000.0, at=3.0), num=5, minimum=0.4), {}, 0.0
    for _ in range(20):
        device = rng.randrange(5)
        seen[now_s] = held.online(now_s).tolist()
        if seen[now_s][device]:
            # Whoever leaves has enough.
            held.depart(np.array([device]), now_s)
            seen[now_s + 60.0] = held.online(now_s + 60.0).tolist()
            ended_s = now_s + 60.0 * rng.randrange(2, 300)
            held.land(
                np.array([device]), np.array([ended_s]), [np.zeros(1), np.array([ended_s - now_s]), np.zeros(1)], [()]
            )
            now_s = ended_s
        now_s += rng.choice([30.0, 4000.0])
    moments_s = sorted(seen)
    rng.shuffle(moments_s)
    for at_s in moments_s:
        assert held.online(at_s).tolist() == seen[at_s], at_s
    held.begin()
    assert held.online(0.0).tolist() == seen[0.0]


def test_many_at_once_are_each_by_itself():
    rng = np.random.Generator(np.random.PCG64(3))
    together, apart = charges(cells(), num=40), charges(cells(), num=40)
    devices = np.arange(40)
    seconds = [rng.uniform(0, 9000, 40) for _ in range(3)]
    ended_s = 50_000.0 + sum(seconds)
    for held in (together, apart):
        held.depart(devices, 50_000.0)
    together.land(devices, ended_s, seconds, [()] * 40)
    for one in np.argsort(ended_s)[:, None]:
        apart.land(one, ended_s[one], [part[one] for part in seconds], [()])
    at_s = float(ended_s.max())
    assert together.level_j(devices, at_s).tolist() == apart.level_j(devices, at_s).tolist()
    for moment_s in (0.0, 52_000.0, 60_000.0, at_s, at_s + 1):
        assert together.online(moment_s).tolist() == apart.online(moment_s).tolist()
