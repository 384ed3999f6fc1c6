"""Daily windows: the clock, the spread and the days that reach into each other."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from neulite_sim.population.availability.chunked import ChunkedAvailability
from neulite_sim.population.availability.contract import Availability
from neulite_sim.population.availability.diurnal import DiurnalSource, Window
from neulite_sim.population.availability.kinds import DIURNAL
from neulite_sim.seeding import stream

HOUR = 3600.0
DAY = 24 * HOUR


def fleet(num_devices: int, seed: int = 0, **options: Any) -> Availability:
    return DIURNAL.build(DIURNAL.options(**options))(num_devices, seed)


def share_by_hour(availability: Availability, day: int) -> np.ndarray:
    return np.array([availability.online(day * DAY + hour * HOUR).mean() for hour in range(24)])


def test_without_spread_every_device_keeps_the_same_window_every_day() -> None:
    availability = fleet(3, start="9h", start_spread=0, length="8h", length_spread=0)
    devices = np.arange(3)
    for day in (0, 1, 30):
        for hour, online in ((8.99, False), (9, True), (16.99, True), (17, False)):
            assert set(availability.online(day * DAY + hour * HOUR)) == {online}
        assert set(availability.online_until_s(devices, day * DAY + 10 * HOUR)) == {day * DAY + 17 * HOUR}
        assert set(availability.next_online_s(devices, day * DAY + 18 * HOUR)) == {(day + 1) * DAY + 9 * HOUR}


def test_a_window_past_midnight_is_one_interval() -> None:
    availability = fleet(1, start="22h", start_spread=0, length="8h", length_spread=0)
    one = np.array([0])
    # At time 0 the window of the evening before the first day is still open.
    assert availability.online_until_s(one, 0.0)[0] == 6 * HOUR
    assert availability.online_until_s(one, 23 * HOUR)[0] == 30 * HOUR


def test_by_default_devices_are_online_at_night_for_a_third_of_the_time() -> None:
    share = share_by_hour(fleet(20_000), 5)
    # Started: normal around 22 h, spread 2 h. Ended: around 30 h, spread sqrt(2) * 2 h. Cuts are too rare to see.
    clock = np.arange(24) + np.where(np.arange(24) < 14, 24, 0)
    started, ended = NormalDist(22, 2), NormalDist(30, 2 * math.sqrt(2))
    theory = [started.cdf(hour) - ended.cdf(hour) for hour in clock]
    # Four standard errors of a proportion of one half.
    assert share == pytest.approx(theory, abs=4 * 0.5 / math.sqrt(20_000))
    assert share.mean() == pytest.approx(8 / 24, abs=0.003)


def test_windows_are_drawn_anew_for_each_device_and_day() -> None:
    availability = fleet(500)
    first = availability.next_online_s(np.arange(500), 14 * HOUR)
    second = availability.next_online_s(np.arange(500), DAY + 14 * HOUR) - DAY
    assert len(np.unique(first)) == 500
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0, abs=0.15)
    assert first.std() == pytest.approx(2 * HOUR, rel=0.1)


def test_time_zones_spread_the_fleet_around_the_clock() -> None:
    share = share_by_hour(fleet(8000, time_zone_span="24h"), 3)
    assert share == pytest.approx(np.full(24, 1 / 3), abs=0.03)


def test_a_daily_probability_leaves_days_out() -> None:
    share = fleet(8000, daily_probability=0.25).online(4 * DAY + 2 * HOUR).mean()
    assert share == pytest.approx(0.25 * fleet(8000).online(4 * DAY + 2 * HOUR).mean(), abs=0.02)


def test_long_windows_of_two_days_that_meet_are_joined() -> None:
    availability = fleet(300, start="12h", start_spread="6h", length="20h", length_spread="4h")
    devices = np.arange(300)
    until_s = availability.online_until_s(devices, 5 * DAY)
    online = availability.online(5 * DAY)
    assert not any(availability.online(float(end_s))[device] for device, end_s in enumerate(until_s) if online[device])
    assert (until_s - 5 * DAY).max() > 20 * HOUR


def test_a_device_is_online_exactly_where_one_of_its_drawn_windows_is() -> None:
    # The slow twin: windows that start up to half a day early or late, that meet, cover each other or are missing.
    window = Window(
        start_s=20 * HOUR,
        start_spread_s=12 * HOUR,
        length_s=10 * HOUR,
        length_spread_s=10 * HOUR,
        time_zone_span_s=DAY,
        probability=0.8,
    )
    source = DiurnalSource(window, num_devices=200, seed=4)
    drawn = {day: source._draw(stream(4, "availability", day + 2), 200) for day in range(-2, 9)}
    availability = ChunkedAvailability(source, num_devices=200)
    for at_s in np.linspace(0, 5 * DAY, 97):
        starts = {day: day * DAY + source._phase_s + jitter_s for day, (jitter_s, _) in drawn.items()}
        covered = [(starts[day] <= at_s) & (at_s < starts[day] + length_s) for day, (_, length_s) in drawn.items()]
        assert np.array_equal(availability.online(float(at_s)), np.any(covered, axis=0))


def test_days_do_not_depend_on_which_was_asked_first() -> None:
    hours = np.arange(0, 10 * 24, 5) * HOUR
    forward, backward = fleet(50), fleet(50)
    ahead = [forward.online(at_s) for at_s in hours]
    back = [backward.online(at_s) for at_s in hours[::-1]]
    assert np.array_equal(ahead, back[::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "24h"}, "less than 86400"),
        ({"length": "24h"}, "less than 86400"),
        ({"length": 0}, "greater than or equal to 1"),
        ({"start_spread": "13h"}, "less than or equal to 43200"),
        ({"daily_probability": 0}, r"greater than or equal to 0\.05"),
    ],
)
def test_windows_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DIURNAL.options(**options)
