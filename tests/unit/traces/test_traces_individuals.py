"""Individuals: memory, speed and link of a device drawn together from a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import TINY

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.seeding import stream
from neulite_sim.traces.individuals import read_individuals

PHONE, NANO = "phone-mid-snapdragon-768g", "jetson-nano-4gb"
TABLE = "model,memory_bytes,speed_factor,weight\nslow,1000000000,0.5,1\nfast,8000000000,2,3\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("phones.csv").write_text(TABLE)
    return tmp_path


def fleet(*groups: dict[str, Any], devices: int = 400, seed: int = 1, **population: Any) -> Population:
    section = {
        "devices": devices, "groups": list(groups), "available_memory": {"kind": "installed", "share": 0.25}, **population
    }  # fmt: skip
    scenario = parse_scenario({**TINY, "population": section})
    return build_population(scenario.population, seed)


def phones(share: float = 1, path: str = "phones.csv") -> dict[str, Any]:
    return {"device": PHONE, "share": share, "individuals": {"path": path}}


def test_memory_and_speed_come_from_the_same_row() -> None:
    population = fleet(phones())
    assert population.speed_factor is not None
    pairs = set(zip(population.available_memory_bytes.tolist(), population.speed_factor.tolist(), strict=True))
    assert pairs == {(250_000_000, 0.5), (2_000_000_000, 2.0)}


def test_rows_are_drawn_by_weight_and_seed() -> None:
    fast = [float(np.mean(fleet(phones(), devices=4000, seed=seed).speed_factor == 2)) for seed in (1, 2)]
    # A weight of 3 beside 1: three quarters, give or take four standard errors of 4000 draws.
    assert fast == pytest.approx([0.75, 0.75], abs=4 * (0.75 * 0.25 / 4000) ** 0.5)
    assert fast[0] != fast[1]


def test_the_operating_system_takes_the_same_share_of_every_individuals_memory() -> None:
    phone = device_class(PHONE)
    usable = phone.usable_memory_bytes / phone.installed_memory_bytes
    found = fleet(phones(), available_memory={"kind": "installed", "share": 1})
    assert set(found.available_memory_bytes.tolist()) == {round(1e9 * usable), round(8e9 * usable)}


def test_groups_without_a_table_compute_as_their_class() -> None:
    population = fleet(phones(), {"device": NANO, "share": 1})
    is_nano = np.array([found.name == NANO for found in population.classes])[population.class_index]
    assert population.speed_factor is not None
    assert set(population.speed_factor[is_nano].tolist()) == {1.0}
    assert set(population.available_memory_bytes[is_nano].tolist()) == {
        round(0.25 * device_class(NANO).installed_memory_bytes)
    }


def test_a_fleet_without_tables_has_no_speed_factors() -> None:
    assert fleet({"device": NANO, "share": 1}).speed_factor is None


def test_rates_of_a_table_stand_where_the_scenario_gives_no_link() -> None:
    Path("links.csv").write_text("model,downlink_bits_per_second,uplink_bits_per_second\na,1e6,2e5\n")
    assert set(fleet(phones(path="links.csv")).uplink_bits_per_second.tolist()) == {2e5}
    link = {"downlink": "9Mbps", "uplink": "3Mbps"}
    assert set(fleet(phones(path="links.csv"), link=link).uplink_bits_per_second.tolist()) == {3e6}
    mixed = fleet(phones(path="links.csv"), {"device": NANO, "share": 1})
    assert set(mixed.downlink_bits_per_second.tolist()) == {1e6, device_class(NANO).downlink_bits_per_second}


def test_who_is_drawn_does_not_change_with_the_memory_or_the_link() -> None:
    plain = fleet(phones())
    other = fleet(phones(), available_memory={"kind": "uniform", "low": "1MB", "high": "2MB"},
                  link={"downlink": "9Mbps", "uplink": "3Mbps"})  # fmt: skip
    assert np.array_equal(plain.speed_factor, other.speed_factor)


def test_compute_takes_as_much_longer_as_the_device_is_slower() -> None:
    from neulite_sim.engine.assembly import assemble

    section = {**TINY["population"], "groups": [phones()]}
    costing = assemble(parse_scenario({**TINY, "population": section}, ["population.devices=6"]))
    ledger, everyone = costing.ledger, np.arange(6)
    name = costing.method.submodels[0]
    plain = type(ledger)(ledger.profiles, dataclasses.replace(costing.population, speed_factor=None),
                         ledger.num_samples, epochs=ledger.epochs)  # fmt: skip
    assert ledger.compute_s(name, everyone) * costing.population.speed_factor == pytest.approx(
        plain.compute_s(name, everyone)
    )


def test_a_table_may_have_its_columns_in_any_order_and_no_weight() -> None:
    Path("t.csv").write_text("speed_factor,model\n2,a\n3,b\n")
    table = read_individuals(Path("t.csv"))
    assert table.models == ("a", "b")
    assert table.columns["speed_factor"].tolist() == [2, 3]
    assert set(table.draw(100, stream(1, "test")).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,ram\na,1\n", r"csv:1: path: the header is 'model,ram'; write model and any of memory_bytes, speed_f"),
        ("speed_factor\n1\n", r"csv:1: path: the header is 'speed_factor'; write model"),
        ("model,weight\na,1\n", r"csv:1: path: has none of the columns memory_bytes, speed_factor"),
        ("model,downlink_bits_per_second\na,1\n", r"has one of downlink_bits_per_second and uplink_bits_per_second"),
        ("model,memory_bytes\na,0\n", r"csv:2: path: memory_bytes '0' is not a number from 1 to 1.15e"),
        ("model,memory_bytes\na,1e19\n", r"csv:2: path: memory_bytes '1e19' is not a number from 1 to 1.15e"),
        ("model,speed_factor\na,fast\n", r"csv:2: path: speed_factor 'fast' is not a number from 1e-09 to 1e"),
        ("model,speed_factor,weight\na,1,-1\n", r"csv:2: path: weight '-1' is not a number from 0 to 1e"),
        ("model,speed_factor\na\n", r"csv:2: path: 'a' is not model,speed_factor"),
        ("model,speed_factor,weight\na,1,0\n", r"csv:1: path: all weights are 0"),
        ("model,speed_factor\n", r"csv:1: path: holds no device"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(text: str, message: str) -> None:
    Path("bad.csv").write_text(text)
    with pytest.raises(ScenarioError, match=message):
        read_individuals(Path("bad.csv"))


def test_a_missing_table_names_the_key_of_its_group() -> None:
    with pytest.raises(DataNotFoundError, match=r"no table of devices at .*; population\.groups\.0\.individuals\.path"):
        fleet(phones(path="gone.csv"))
