"""From a scenario's population to a table of devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neulite_sim.errors import ScenarioError
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.sampling import apportion, build_population
from neulite_sim.population.table import Population
from neulite_sim.scenario.schema import PopulationSection

NANO, TX2 = "jetson-nano-4gb", "jetson-tx2-8gb"


def build(seed: int = 1, **changes: Any) -> Population:
    section: dict[str, Any] = {
        "devices": 100,
        "groups": [{"device": NANO, "share": 0.5}, {"device": TX2, "share": 0.5}],
        "available_memory": {"kind": "uniform", "low": "100MB", "high": "900MB"},
    }
    return build_population(PopulationSection.model_validate({**section, **changes}), seed)


def names(population: Population) -> list[str]:
    return [population.classes[index].name for index in population.class_index]


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (10, [0.5, 0.5], (5, 5)),
        (10, [1, 1, 1], (4, 3, 3)),
        # Quotas 3.5, 1.5, 5: the seat left over goes to the earlier of two equal remainders.
        (10, [0.35, 0.15, 0.5], (4, 1, 5)),
        # Quotas 4.8, 3.2, 2: the largest remainder wins although it is not first.
        (10, [0.2, 0.32, 0.48], (2, 3, 5)),
        (1, [0.1, 0.9], (0, 1)),
        (2, [3, 3, 3], (1, 1, 0)),
        (7, [5], (7,)),
    ],
)
def test_devices_are_apportioned_by_largest_remainders(
    total: int, shares: list[float], counts: tuple[int, ...]
) -> None:
    assert apportion(total, shares) == counts


def test_a_fleet_has_a_column_entry_per_device() -> None:
    population = build()
    assert population.num_devices == 100
    assert names(population).count(NANO) == names(population).count(TX2) == 50
    for column in ("available_memory_bytes", "downlink_bits_per_second", "uplink_bits_per_second", "latency_s"):
        assert getattr(population, column).shape == (100,)
    assert population.class_index.dtype == np.int16
    assert population.available_memory_bytes.dtype == np.int64
    assert population.availability.online(0.0).all()
    assert population.speed_jitter == 0.1
    assert population.notes == ()


def test_device_numbers_carry_no_information() -> None:
    first_half = names(build())[:50]
    assert 15 < first_half.count(NANO) < 35
    assert names(build(seed=2)) != names(build(seed=1))


def test_the_same_seed_gives_the_same_fleet() -> None:
    one, two = build(), build()
    assert names(one) == names(two)
    assert np.array_equal(one.available_memory_bytes, two.available_memory_bytes)


def test_memory_does_not_depend_on_the_groups() -> None:
    other = build(groups=[{"device": TX2, "share": 1}])
    assert np.array_equal(build().available_memory_bytes, other.available_memory_bytes)


def test_groups_of_the_same_hardware_share_a_class() -> None:
    population = build(groups=[{"device": NANO, "share": 1}, {"device": TX2, "share": 1}, {"device": NANO, "share": 2}])
    assert population.classes == (device_class(NANO), device_class(TX2))
    assert names(population).count(NANO) == 75


def test_a_group_can_have_memory_of_its_own() -> None:
    own = {"kind": "choice", "values": ["2GB"]}
    population = build(groups=[{"device": NANO, "share": 0.5}, {"device": TX2, "share": 0.5, "available_memory": own}])
    is_tx2 = np.array(names(population)) == TX2
    assert set(population.available_memory_bytes[is_tx2]) == {2_000_000_000}
    # The others keep what they would have had anyway.
    assert np.array_equal(population.available_memory_bytes[~is_tx2], build().available_memory_bytes[~is_tx2])


def test_explicit_memory_is_in_device_order_whatever_the_groups() -> None:
    population = build(devices=4, available_memory={"kind": "explicit", "values": [4, 3, 2, 1]})
    assert list(population.available_memory_bytes) == [4, 3, 2, 1]


def test_explicit_memory_of_a_group_goes_to_its_devices_in_ascending_order() -> None:
    own = {"kind": "explicit", "values": [11, 22]}
    groups = [{"device": NANO, "share": 0.5, "available_memory": own}, {"device": TX2, "share": 0.5}]
    population = build(devices=4, groups=groups)
    is_nano = np.array(names(population)) == NANO
    assert list(population.available_memory_bytes[is_nano]) == [11, 22]


def test_explicit_memory_of_another_length_names_the_key_and_both_numbers() -> None:
    with pytest.raises(ScenarioError, match=r"population\.available_memory\.values: has 3 values for 4 devices"):
        build(devices=4, available_memory={"kind": "explicit", "values": [1, 2, 3]})
    own = {"kind": "explicit", "values": [1, 2, 3]}
    with pytest.raises(ScenarioError, match=r"population\.groups\.0\.available_memory\.values: has 3 values for 4 dev"):
        build(devices=4, groups=[{"device": NANO, "share": 1, "available_memory": own}])


def test_capped_memory_is_noted() -> None:
    population = build(available_memory={"kind": "choice", "values": ["6GB"]})
    is_nano = np.array(names(population)) == NANO
    assert set(population.available_memory_bytes[is_nano]) == {device_class(NANO).usable_memory_bytes}
    assert set(population.available_memory_bytes[~is_nano]) == {6_000_000_000}
    assert population.notes == (
        "population.available_memory: 50 of 100 devices were given more than the usable memory of their hardware, "
        "capped",
    )


def test_explicit_memory_above_the_hardware_is_noted_and_kept() -> None:
    population = build(
        devices=2,
        groups=[{"device": NANO, "share": 1}],
        available_memory={"kind": "explicit", "values": ["1GB", "6GB"]},
    )
    assert list(population.available_memory_bytes) == [10**9, 6 * 10**9]
    assert "1 of 2 devices were given more" in population.notes[0]
    assert population.notes[0].endswith("kept as written")


def test_a_note_counts_only_the_devices_that_a_draw_serves() -> None:
    own = {"kind": "choice", "values": ["1GB"]}
    groups = [{"device": NANO, "share": 0.5, "available_memory": own}, {"device": TX2, "share": 0.5}]
    assert build(groups=groups, available_memory={"kind": "choice", "values": ["6GB"]}).notes == ()
    (note,) = build(groups=groups, available_memory={"kind": "choice", "values": ["9GB"]}).notes
    assert note.startswith("population.available_memory: 50 of 50 devices were given more")


def test_a_group_that_gets_no_device_is_noted_and_its_hardware_left_out() -> None:
    groups = [{"device": NANO, "share": 0.999}, {"device": TX2, "share": 0.001}]
    population = build(groups=groups)
    assert population.classes == (device_class(NANO),)
    assert set(population.class_index) == {0}
    assert population.notes == (
        f"population.groups.1: no device of 100 is a {TX2}, its share 0.001 of 1 rounds to none",
    )


def test_links_come_from_the_group_the_population_or_the_catalogue() -> None:
    slow = {"downlink": "1Mbps", "uplink": "500kbps", "latency": "1s"}
    groups = [{"device": NANO, "share": 0.5}, {"device": TX2, "share": 0.5, "link": slow}]
    population = build(groups=groups)
    is_tx2 = np.array(names(population)) == TX2
    assert set(population.downlink_bits_per_second[is_tx2]) == {1e6}
    assert set(population.latency_s[is_tx2]) == {1.0}
    assert set(population.uplink_bits_per_second[~is_tx2]) == {1e9}


def test_all_unknown_devices_are_named_with_their_keys() -> None:
    groups = [{"device": "jetson-nan-4gb", "share": 1}, {"device": NANO, "share": 1}, {"device": "pdp-11", "share": 1}]
    with pytest.raises(ScenarioError) as caught:
        build(groups=groups)
    assert [problem.key for problem in caught.value.problems] == [
        "population.groups.0.device",
        "population.groups.2.device",
    ]
    assert "did you mean 'jetson-nano-4gb'" in str(caught.value)


def test_availability_is_the_one_the_scenario_names() -> None:
    population = build(availability={"kind": "markov", "mean_on": "1h", "mean_off": "1h"})
    assert 20 < population.availability.online(0.0).sum() < 80
