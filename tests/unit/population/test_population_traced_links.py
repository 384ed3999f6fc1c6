"""Links that follow traces: which device follows which, from where on, and what stays constant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scenarios import TINY

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.population.link.throughput import ConstantRate, SteppedRate, ThroughputTraces
from neulite_sim.population.sampling import build_population
from neulite_sim.population.table import Population
from neulite_sim.scenario.loading import load_scenario, parse_scenario
from neulite_sim.scenario.schema import Link, RateTrace

NANO, PI = "jetson-nano-4gb", "raspberry-pi-4-4gb"


@pytest.fixture(autouse=True)
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files: `rates.csv` with three traces of 1, 2 and 4 Mbps on average, `slow.csv` with one of 1 kbps."""
    lines = ["trace,t_s,bits_per_second"]
    for number, rate in enumerate((1e6, 2e6, 4e6)):
        lines += [f"bus-{number},0,{1.5 * rate}", f"bus-{number},10,{rate / 2}", f"bus-{number},20,"]
    (tmp_path / "rates.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "slow.csv").write_text("trace,t_s,bits_per_second\na,0,1000\na,60,\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fleet(link: Any, devices: int = 3, seed: int = 3, **population: Any) -> Population:
    groups = population.pop("groups", [{"device": NANO, "share": 1}])
    section = {**TINY["population"], "devices": devices, "groups": groups, "link": link, **population}
    scenario = parse_scenario({**TINY, "population": {k: v for k, v in section.items() if v is not None}})
    return build_population(scenario.population, seed)


def traced(population: Population) -> ThroughputTraces:
    assert population.throughput is not None
    return population.throughput


def test_device_d_follows_the_dth_trace_and_its_columns_hold_the_means() -> None:
    population = fleet({"downlink": {"trace": "rates.csv"}, "uplink": {"trace": "rates.csv", "scale": 0.25}})
    assert population.downlink_bits_per_second.tolist() == [1e6, 2e6, 4e6]
    assert population.uplink_bits_per_second.tolist() == [2.5e5, 5e5, 1e6]
    assert population.latency_s.tolist() == [0.02] * 3
    for device, mean in enumerate((1e6, 2e6, 4e6)):
        assert traced(population).of(device, "down").mean_bits_per_second == mean
        assert traced(population).of(device, "down").bits(0, 20) == pytest.approx(20 * mean)
        assert traced(population).of(device, "up").bits(0, 20) == pytest.approx(5 * mean)


def test_both_directions_of_one_file_follow_the_same_moment() -> None:
    population = fleet({"downlink": {"trace": "rates.csv"}, "uplink": {"trace": "rates.csv", "scale": 0.5}}, devices=50)
    for device in range(50):
        down, up = (traced(population).of(device, way) for way in ("down", "up"))
        assert up.bits(0, 7) == pytest.approx(down.bits(0, 7) / 2)


def test_directions_of_different_files_are_drawn_apart() -> None:
    link = {"downlink": {"trace": "rates.csv"}, "uplink": {"trace": "slow.csv"}}
    down, up = traced(fleet(link)).of(0, "down"), traced(fleet(link)).of(0, "up")
    assert isinstance(down, SteppedRate)
    assert isinstance(up, SteppedRate)
    assert up.mean_bits_per_second == 1000
    assert down.offset_s / 20 != up.offset_s / 60


def test_where_devices_begin_is_drawn_from_the_seed() -> None:
    def offsets(seed: int) -> list[float]:
        found = traced(fleet({"downlink": {"trace": "rates.csv"}, "uplink": 1e6}, devices=500, seed=seed))
        return found.down.offset_s.tolist()

    assert offsets(1) == offsets(1) != offsets(2)
    assert 0 <= min(offsets(1)) < 1 < 19 < max(offsets(1)) < 20


def test_a_device_may_begin_at_the_beginning_and_stop_at_the_end() -> None:
    rate = {"trace": "rates.csv", "start": "beginning", "repeat": False}
    down = traced(fleet({"downlink": rate, "uplink": "5Mbps"})).of(0, "down")
    assert down.ends_s(0, 15e6) == 10
    assert down.bits(0, 100) == 20e6


def test_a_number_beside_a_trace_stays_constant() -> None:
    population = fleet({"downlink": {"trace": "rates.csv"}, "uplink": "5Mbps", "latency": "50ms"})
    up = traced(population).of(1, "up")
    assert up == ConstantRate(5e6)
    assert population.latency_s.tolist() == [0.05] * 3
    assert traced(population).is_traced().all()


def test_a_group_without_a_trace_keeps_its_nominal_link() -> None:
    groups = [
        {"device": NANO, "share": 1, "link": {"downlink": {"trace": "slow.csv"}, "uplink": {"trace": "slow.csv"}}},
        {"device": PI, "share": 1},
    ]
    population = fleet(None, devices=10, groups=groups)
    slow = population.downlink_bits_per_second == 1000
    assert slow.sum() == 5
    assert np.array_equal(traced(population).is_traced(), slow)
    for device in range(10):
        rate = traced(population).of(device, "down").mean_bits_per_second
        assert rate == population.downlink_bits_per_second[device]


def test_a_fleet_of_constant_links_has_no_throughput() -> None:
    assert fleet({"downlink": "20Mbps", "uplink": "5Mbps"}).throughput is None
    assert fleet(None).throughput is None


def test_more_devices_than_traces_share_them_evenly() -> None:
    found = traced(fleet({"downlink": {"trace": "rates.csv"}, "uplink": 1e6}, devices=300))
    assert np.bincount(found.down.trace_of_device).tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("population.link.downlink=20 mbit", "population.link.downlink: '20 mbit' is not a rate; write for example"),
        ("population.link.downlink={}", "population.link.downlink.trace: is missing (File with the header"),
        ("population.link.downlink={trace: rates.csv, scale: 0}",
         "population.link.downlink.scale: must be at least 1e-06, found 0"),
        ("population.link.uplink={trace: rates.csv, repeats: true}",
         "population.link.uplink.repeats: unknown key; did you mean 'repeat'? (choices: trace, scale, repeat, start)"),
        ("population.link.uplink=true", "population.link.uplink: must be a number, found true"),
    ],
)  # fmt: skip
def test_a_wrong_rate_is_refused_with_its_key(setting: str, message: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        parse_scenario(
            {**TINY, "population": {**TINY["population"], "link": {"downlink": 1e6, "uplink": 1e6}}}, [setting]
        )
    assert message in str(refused.value)


def test_a_trace_that_is_missing_or_wrong_names_the_key_of_its_link() -> None:
    with pytest.raises(DataNotFoundError, match=r"no throughput trace at .*gone\.csv; population\.link\.uplink\.trace"):
        fleet({"downlink": 1e6, "uplink": {"trace": "gone.csv"}})
    Path("bad.csv").write_text("trace,t_s,bits_per_second\na,0,1\n")
    groups = [{"device": NANO, "share": 1, "link": {"downlink": {"trace": "bad.csv"}, "uplink": 1e6}}]
    with pytest.raises(
        ScenarioError, match=r"bad\.csv:2: population\.groups\.0\.link\.downlink\.trace: trace 'a' has no"
    ):
        fleet(None, groups=groups)


def test_a_link_is_dumped_and_loaded_again_as_it_was() -> None:
    link = Link(downlink=RateTrace(trace="rates.csv", scale=2), uplink=3e6)
    dumped = link.model_dump(mode="json")
    assert dumped["downlink"] == {"trace": "rates.csv", "scale": 2.0, "repeat": True, "start": "random"}
    assert Link.model_validate(dumped) == link
    from neulite_sim.scenario.loading import dump_scenario

    scenario = parse_scenario({**TINY, "population": {**TINY["population"], "link": dumped}})
    Path("again.yaml").write_text(dump_scenario(scenario))
    assert load_scenario("again.yaml") == scenario
