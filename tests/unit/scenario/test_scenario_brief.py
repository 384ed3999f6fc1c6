"""Scenarios as a notebook and a prompt show them."""

from __future__ import annotations

from types import SimpleNamespace

from tiny_scenarios import TINY, tiny, waves

from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.yaml_text import read_yaml


def test_a_scenario_is_one_line_where_it_is_printed() -> None:
    assert repr(tiny()) == (
        "Scenario(name='tiny', seed=3, method='fedavg', model='logistic', data='digits', selection='uniform', "
        "protocol='synchronous', devices=6, rounds=4)"
    )


def test_a_scenario_in_short_is_what_differs_from_the_defaults_and_loads_back() -> None:
    for scenario in (tiny(), waves(), waves("method={kind: neulite, nhsic: ratio, sigma: 3}", "churn.offline=pause")):
        text = scenario.brief()
        node, problems = read_yaml(text, "brief.yaml")
        assert not problems
        assert node is not None
        assert parse_scenario(node.plain()) == scenario  # type: ignore[arg-type]
        assert len(text.splitlines()) < 45
        assert max(map(len, text.splitlines())) <= 90
    assert "momentum" not in tiny().brief()
    assert "sigma: 3" in scenario.brief()


def test_a_long_list_is_cut() -> None:
    values = [10**7 + number for number in range(6)]
    few = tiny(f"population.available_memory={{kind: explicit, values: {values}}}")
    assert "10000005" in few.brief()
    values = [10**7 + number for number in range(60)]
    population = {**TINY["population"], "devices": 60, "available_memory": {"kind": "explicit", "values": values}}
    many = parse_scenario({**TINY, "population": population})
    assert "values: [10000000, 10000001, 10000002, '... and 57 more']" in many.brief()


def test_a_notebook_shows_yaml_and_no_tags() -> None:
    scenario = tiny("data={kind: digits, partition: iid}")
    assert scenario._repr_html_().startswith("<pre>name: tiny\nseed: 3\n")
    hostile = scenario.model_copy(update={"name": "<b>"})
    assert "<pre>name: &lt;b&gt;\n" in hostile._repr_html_()
    said: list[str] = []
    scenario._repr_pretty_(SimpleNamespace(text=said.append), False)
    assert said[0].splitlines()[:2] == ["name: tiny", "seed: 3"]
