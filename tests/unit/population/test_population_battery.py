"""Batteries on a day small enough to reckon by hand, and against a clock that ticks second by second."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.population.availability.battery import Batteries, build_batteries
from neulite_sim.scenario.churn import Battery

HOUR_S = 3600.0
# 10 Wh, plugged in from 0 to 4 h: 0.25 W idle takes 5 Wh in the other 20 h; 3.25 W - 0.25 W brings 3 Wh per hour.
DAY = {"capacity_watt_hours": 10, "idle_watts": 0.25, "working_watts": 4, "charging_watts": 3.25, "plugged_in_at": 0,
       "plugged_in_spread": 0, "plugged_in_for": "4h", "minimum": 0.8}  # fmt: skip


def batteries(**changes: object) -> Batteries:
    return Batteries(Battery.model_validate({**DAY, **changes}), num_devices=1, seed=0)


@pytest.mark.parametrize(
    ("hour", "charge"), [(0, 0.5), (1, 0.8), (5 / 3, 1.0), (4, 1.0), (8, 0.9), (14, 0.75), (23.999, 0.5), (48, 0.5)]
)
def test_the_charge_rises_while_plugged_in_and_falls_afterwards(hour: float, charge: float) -> None:
    assert batteries().charge(0, hour * HOUR_S) == pytest.approx(charge, abs=1e-4)


def test_a_charger_too_weak_for_the_day_leaves_the_battery_empty_at_its_end() -> None:
    """4 h bring 2 Wh, and 20 h at 0.25 W would take 5 Wh: full at 0.2, empty 8 h after it is unplugged."""
    weak = batteries(charging_watts=0.75, minimum=0.1)
    assert [weak.charge(0, hour * HOUR_S) for hour in (0, 2, 4, 8, 12, 20)] == pytest.approx([0, 0.1, 0.2, 0.1, 0, 0])


def test_a_device_is_online_between_the_moments_at_which_its_charge_passes_the_minimum() -> None:
    """From 0.8 at 1 h to 0.8 at 4 h + 2 Wh / 0.25 W = 12 h."""
    gate = batteries().gate()
    assert gate is not None
    one = np.array([0])
    assert gate.next_online_s(one, 0.0)[0] == pytest.approx(HOUR_S)
    assert gate.online_until_s(one, 2 * HOUR_S)[0] == pytest.approx(12 * HOUR_S)
    assert gate.next_online_s(one, 13 * HOUR_S)[0] == pytest.approx(25 * HOUR_S)


def test_where_charging_is_required_a_device_leaves_when_it_is_unplugged() -> None:
    gate = batteries(requires_charging=True).gate()
    assert gate is not None
    assert gate.online_until_s(np.array([0]), 2 * HOUR_S)[0] == 4 * HOUR_S


def test_a_minimum_that_is_never_passed_gates_nothing() -> None:
    assert batteries(minimum=0.5).gate() is None
    assert batteries(minimum=0.5, requires_charging=True).gate() is not None


def test_a_charge_that_only_touches_the_minimum_counts_for_a_moment() -> None:
    """4 h bring exactly the 5 Wh that the day takes: full at the moment at which it is unplugged."""
    gate = batteries(charging_watts=1.5, minimum=1).gate()
    assert gate is not None
    assert 0 < gate.length_s < 1e-5
    assert gate.next_online_s(np.array([0]), 0.0)[0] == 4 * HOUR_S


def test_a_flight_on_battery_ends_when_the_charge_is_used_up() -> None:
    """At 12 h 8 Wh are left: 2 h at 4 W."""
    assert batteries().empty_at_s(0, 12 * HOUR_S, 30 * HOUR_S) == pytest.approx(14 * HOUR_S)
    assert batteries().empty_at_s(0, 12 * HOUR_S, 13.9 * HOUR_S) == math.inf


def test_a_charger_slows_the_drain_and_a_pause_nearly_stops_it() -> None:
    """Plugged in at 0 h with 5 Wh: 4 h at 0.75 W leave 2 Wh, half an hour at 4 W. A pause of 2 h at 0.25 W spares 7.5 Wh."""
    assert batteries().empty_at_s(0, 0.0, 30 * HOUR_S) == pytest.approx(4.5 * HOUR_S)
    pause = (12.5 * HOUR_S, 14.5 * HOUR_S)
    # 2 Wh until the pause, 0.5 Wh in it, 5.5 Wh after it.
    assert batteries().empty_at_s(0, 12 * HOUR_S, 30 * HOUR_S, [pause]) == pytest.approx(15.875 * HOUR_S)


def test_a_charger_strong_enough_keeps_a_flight_going() -> None:
    assert batteries(charging_watts=5).empty_at_s(0, 0.0, 3.9 * HOUR_S) == math.inf


@given(st.integers(0, 86_400 // 60), st.integers(1, 3000), st.lists(st.integers(0, 3000), max_size=6, unique=True))
def test_the_end_of_a_battery_agrees_with_a_clock_that_ticks(start: int, length: int, edges: list[int]) -> None:
    """A minute per tick: nothing happens within one, so the tick in which the charge ends must be the same."""
    found = batteries()
    inner = [start + edge for edge in sorted(edges) if edge <= length]
    pauses = list(zip(inner[::2], inner[1::2], strict=False))
    watt_minutes, expected = found.charge(0, start * 60.0) * 600, math.inf
    for minute in range(start, start + length):
        drain = 0.25 if any(first <= minute < last for first, last in pauses) else 4.0
        drain -= 3.25 if minute % 1440 < 240 else 0.0
        if watt_minutes <= drain:
            expected = minute + watt_minutes / drain
            break
        watt_minutes = min(watt_minutes - drain, 600.0)
    seconds = [(first * 60.0, last * 60.0) for first, last in pauses]
    answer = found.empty_at_s(0, start * 60.0, (start + length) * 60.0, seconds)
    assert answer / 60 == pytest.approx(expected, abs=1e-6) or (
        # A charge that is used up at the very last moment may be on either side of it.
        min(answer / 60, expected) == pytest.approx(start + length, abs=1e-6)
    )


def test_devices_are_plugged_in_at_their_own_clock_times() -> None:
    options = Battery.model_validate({**DAY, "plugged_in_at": "22h", "plugged_in_spread": "1h"})
    first, again, other = (Batteries(options, num_devices=4000, seed=seed).gate() for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(first.first_s, again.first_s)
    assert not np.array_equal(first.first_s, other.first_s)
    # The gate opens an hour after a device is plugged in; four standard errors of the mean.
    clock_s = (first.first_s - 12 * HOUR_S) % 86_400
    assert np.mean(clock_s) == pytest.approx(11 * HOUR_S, abs=4 * HOUR_S / math.sqrt(4000))
    assert np.std(clock_s) == pytest.approx(HOUR_S, rel=4 / math.sqrt(2 * 4000))


def test_without_a_battery_there_is_none() -> None:
    assert build_batteries(None, num_devices=3, seed=0) is None
