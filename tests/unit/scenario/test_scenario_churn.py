"""The section `churn`: its defaults, and what it refuses, in which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from neulite_sim.scenario.churn import Battery, Churn

PHONE = {"capacity_watt_hours": 15, "idle_watts": 0.5, "working_watts": 4, "charging_watts": 10}


def test_by_default_a_flight_ends_only_when_its_device_goes_offline() -> None:
    found = Churn()
    assert (found.offline, found.failures_per_hour, found.timeout, found.outages, found.battery) == (
        "abort", 0.0, None, None, None,
    )  # fmt: skip


def test_durations_are_written_with_units() -> None:
    found = Churn.model_validate({"timeout": "1h", "outages": {"mean_between": "12h", "mean_length": "10min"}})
    assert found.timeout == 3600.0
    assert found.outages is not None
    assert (found.outages.mean_between, found.outages.mean_length) == (43_200.0, 600.0)
    assert found.outages.groups == "device-class"


def refusal(given: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ValidationError) as refused:
        Churn.model_validate(given)
    error = refused.value.errors()[0]
    return ".".join(map(str, error["loc"])), error["msg"]


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"charging_watts": 0.5}, "charging_watts", "is 0.5 W, and an idle device draws 0.5 W: no battery would ever "
         "charge; use more than 0.5"),
        ({"working_watts": 0.25}, "working_watts", "is 0.25 W, less than the 0.5 W of an idle device; use 0.5 or more"),
        ({"charging_watts": 0.75, "minimum": 0.5}, "minimum", "is 0.5, but a day's charging never gets an empty battery "
         "above 0.133: no device would ever be online; lower it, or raise charging_watts or plugged_in_for"),
    ],
)  # fmt: skip
def test_a_battery_that_could_not_work_is_refused(change: dict[str, float], key: str, words: str) -> None:
    assert refusal({"battery": {**PHONE, **change}}) == (f"battery.{key}", words)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"offline": "wait"}, "offline"),
        ({"failures_per_hour": -1}, "failures_per_hour"),
        ({"timeout": 0}, "timeout"),
        ({"outages": {"mean_between": "12h"}}, "outages.mean_length"),
        ({"outages": {"mean_between": 0, "mean_length": 1}}, "outages.mean_between"),
        ({"battery": {**PHONE, "minimum": 0}}, "battery.minimum"),
        ({"battery": {**PHONE, "plugged_in_for": "24h"}}, "battery.plugged_in_for"),
    ],
)
def test_what_lies_outside_its_range_is_refused_at_its_key(given: dict[str, Any], key: str) -> None:
    assert refusal(given)[0] == key


@pytest.mark.parametrize(
    ("change", "highest"),
    [({}, 1.0), ({"charging_watts": 0.75}, 2 / 15), ({"idle_watts": 2, "charging_watts": 3}, 8 / 15)],
)
def test_the_highest_charge_is_full_where_a_night_makes_up_for_a_day(change: dict[str, float], highest: float) -> None:
    """Plugged in for 8 h: 0.25 W net bring 2 Wh; 1 W net brings 8 Wh, and 16 h at 2 W empty any battery."""
    assert Battery.model_validate({**PHONE, "minimum": 0.1, **change}).highest_charge == pytest.approx(highest)
