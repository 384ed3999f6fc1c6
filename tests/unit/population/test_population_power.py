"""Watts of devices: every one of the catalogue has them, with sources; the scenario comes first."""

from __future__ import annotations

import pytest

from neulite_sim.population.hardware.catalogue import load_catalogue
from neulite_sim.population.hardware.power import (
    capacity_watt_hours,
    known_power,
    power_facts,
    powers_in,
    powers_of,
)
from neulite_sim.scenario.energy import STATES, Energy


def test_every_device_of_the_catalogue_has_watts_with_their_sources():
    assert set(power_facts()) == set(load_catalogue())
    for name, facts in power_facts().items():
        assert set(STATES) <= set(facts), name
        idle = facts["idle_watts"].value
        assert all(facts[state].value >= idle for state in STATES), name


def test_measured_watts_are_those_of_their_sources():
    four = power_facts()["raspberry-pi-4-4gb"]
    assert (four["compute_watts"].value, four["compute_watts"].status) == (7.2, "measured")
    assert "top500-benchmark" in four["compute_watts"].source
    assert power_facts()["jetson-tx2-8gb"]["idle_watts"].value == 3.056
    assert power_facts()["jetson-nano-4gb"]["receive_watts"].status == "assumed"


def test_the_scenario_comes_before_the_table():
    energy = Energy.model_validate({"power": {"jetson-nano-4gb": {"radio_watts": 2.5, "send_watts": 3.0}}})
    found = powers_of(["jetson-nano-4gb"], energy)["jetson-nano-4gb"]
    assert (found.receive_watts, found.send_watts, found.compute_watts) == (2.5, 3.0, 10.0)


def test_a_board_of_ones_own_needs_all_its_watts():
    part = Energy.model_validate({"power": {"board": {"idle_watts": 1, "compute_watts": 5}}})
    assert known_power("board", part).missing == ("receive_watts", "send_watts")
    assert powers_of(["board"], part) == {}
    whole = Energy.model_validate({"power": {"board": {"idle_watts": 1, "compute_watts": 5, "radio_watts": 2}}})
    assert powers_of(["board"], whole)["board"].send_watts == 2.0


def test_a_battery_is_that_of_the_device_then_that_of_the_fleet_then_that_of_the_table():
    fleet = {"charging_watts": 10, "capacity_watt_hours": 12}
    phone = "phone-mid-snapdragon-768g"
    own = Energy.model_validate({"power": {phone: {"battery_watt_hours": 9}}, "battery": fleet})
    assert capacity_watt_hours(phone, own) == 9
    assert capacity_watt_hours(phone, Energy.model_validate({"battery": fleet})) == 12
    table = Energy.model_validate({"battery": {"charging_watts": 10}})
    assert capacity_watt_hours(phone, table) == power_facts()[phone]["battery_watt_hours"].value
    assert capacity_watt_hours("jetson-nano-4gb", table) is None


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        ({"population": {"groups": [{"device": "jetson-nano-4gb"}, {"device": "board"}]}}, {"jetson-nano-4gb"}),
        ({"population": {"groups": 3}}, set()),
        ({}, set()),
        ({"population": {"groups": [{"device": "jetson-nano-4gb"}]}, "energy": {"power": 7}}, set()),
    ],
)
def test_a_stored_scenario_of_any_version_tells_what_it_can(stored, names):
    assert set(powers_in(stored)) == names
