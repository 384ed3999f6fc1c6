"""What `churn` does to a fleet's availability: outages by group, batteries, both on top of what devices do themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import tiny

from neulite_sim.engine.assembly import prepare
from neulite_sim.population.availability.combined import Both
from neulite_sim.population.churn import outage_gate, outage_groups, with_churn
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.scenario.churn import Churn, Outages

pytestmark = pytest.mark.usefixtures("shared_profiles")

TWO_CLASSES = "population.groups=[{device: jetson-nano-4gb, share: 1}, {device: raspberry-pi-4-4gb, share: 2}]"


def fleet(*changes: str, devices: int = 60) -> Population:
    scenario = tiny(f"population.devices={devices}", TWO_CLASSES, *changes)
    return build_population(scenario.population, scenario.seed)


def outages(groups: Any = "device-class", **changes: Any) -> Outages:
    return Outages.model_validate({"mean_between": "12h", "mean_length": "10min", "groups": groups, **changes})


def test_without_outages_and_battery_the_fleet_stays_as_it_is() -> None:
    found = fleet()
    assert with_churn(found, Churn(offline="pause", timeout=60.0), 3) is found


def test_devices_of_one_class_form_a_group() -> None:
    found = fleet()
    assert outage_groups(outages(), found, 3).tolist() == found.class_index.tolist()


@pytest.mark.parametrize("groups", [1, 7, 60])
def test_groups_are_of_equal_size_and_drawn_from_the_seed(groups: int) -> None:
    found = fleet()
    first, again, other = (outage_groups(outages(groups), found, seed) for seed in (1, 1, 2))
    sizes = np.bincount(first, minlength=groups)
    assert sizes.sum() == 60
    assert sizes.max() - sizes.min() <= 1
    assert first.tolist() == again.tolist()
    assert groups in (1, 60) or first.tolist() != other.tolist()


def test_an_outage_hits_its_whole_group_at_once_and_no_other() -> None:
    found = fleet(devices=300)
    group = outage_groups(outages(), found, 3)
    gate = outage_gate(outages(mean_between="1h", mean_length="30min"), group, 3)
    seen = set()
    for at_s in np.arange(0.0, 400_000.0, 977.0):
        online = gate.online(at_s)
        per_group = [online[group == number] for number in range(2)]
        assert all(members.all() or not members.any() for members in per_group)
        seen.add(tuple(bool(members[0]) for members in per_group))
    assert seen == {(True, True), (True, False), (False, True), (False, False)}


def test_the_share_of_time_in_outages_is_the_stationary_one() -> None:
    """Per group the state at times ten cycles apart is as good as independent: p = 10 / (720 + 10) for `12h, 10min`.

    400 groups at 100 moments: four standard errors of a binomial share are allowed.
    """
    gate = outage_gate(outages(400), np.arange(400), 11)
    moments = np.arange(100) * 10 * 730 * 60.0
    share = 1 - np.mean([gate.online(at_s).mean() for at_s in moments])
    expected = 10 / 730
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 40_000)


def test_outages_are_drawn_apart_from_the_devices_own_availability() -> None:
    """With as many groups as devices and the same means the two would be the same if they shared their streams."""
    own = fleet("population.availability={kind: markov, mean_on: 1h, mean_off: 1h}").availability
    gate = outage_gate(outages(60, mean_between="1h", mean_length="1h"), np.arange(60), 3)
    assert own.online(5e5).tolist() != gate.online(5e5).tolist()


def test_a_device_is_online_where_it_is_itself_and_neither_outage_nor_battery_forbids_it() -> None:
    found = fleet("population.availability={kind: markov, mean_on: 1h, mean_off: 1h}")
    battery = {"capacity_watt_hours": 15, "idle_watts": 0.5, "working_watts": 4, "charging_watts": 10, "minimum": 0.5}
    churn = Churn.model_validate(
        {"outages": {"mean_between": "2h", "mean_length": "1h"}, "battery": {**battery, "requires_charging": True}}
    )
    gates = [with_churn(fleet(), Churn.model_validate(part), 3).availability for part in
             ({"outages": churn.outages.model_dump()}, {"battery": churn.battery.model_dump()})]  # fmt: skip
    both = with_churn(found, churn, 3).availability
    assert isinstance(both, Both)
    for at_s in np.arange(0.0, 200_000.0, 3777.0):
        expected = found.availability.online(at_s) & gates[0].online(at_s) & gates[1].online(at_s)
        assert both.online(at_s).tolist() == expected.tolist()


def test_a_run_gets_the_fleet_with_its_churn() -> None:
    scenario = tiny("churn.outages={mean_between: 1h, mean_length: 1h, groups: 2}")
    online = prepare(scenario).population.availability.online
    expected = with_churn(build_population(scenario.population, 3), scenario.churn, 3).availability.online
    assert [online(at_s).tolist() for at_s in (0.0, 1e4, 5e5)] == [expected(at_s).tolist() for at_s in (0.0, 1e4, 5e5)]
    assert not all(online(at_s).all() for at_s in np.arange(0.0, 1e5, 1e3))


def test_a_million_devices_cost_columns_and_no_objects() -> None:
    found = fleet(devices=1_000_000)
    churn = Churn.model_validate(
        {
            "outages": {"mean_between": "2h", "mean_length": "1h", "groups": 1000},
            "battery": {
                "capacity_watt_hours": 15, "idle_watts": 0.5, "working_watts": 4, "charging_watts": 10, "minimum": 0.6,
            },
        }
    )  # fmt: skip
    availability = with_churn(found, churn, 3).availability
    assert isinstance(availability, Both)
    columns = (availability.first._row_of_device, availability.second.first_s)  # type: ignore[attr-defined]
    assert [(column.dtype.kind, len(column), column.dtype.itemsize) for column in columns] == [
        ("i", 1_000_000, 8), ("f", 1_000_000, 8),
    ]  # fmt: skip
    devices = np.arange(1_000_000)
    next_s = availability.next_online_s(devices, 1000.0)
    online = availability.online(1000.0)
    assert np.array_equal(next_s == 1000.0, online)
    assert np.isfinite(next_s).all()
