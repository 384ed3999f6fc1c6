"""Laws of scenarios: dumping and loading, setting and writing, and quantities with units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulite_sim import units
from neulite_sim.scenario.loading import dump_scenario, load_scenario, parse_scenario, scenario_hash

pytestmark = pytest.mark.usefixtures("fakes")

positive = st.floats(min_value=1e-12, max_value=1e12)
counts = st.integers(min_value=1, max_value=10**4)
durations = st.floats(min_value=0.001, max_value=1e9)
learning_rates = st.floats(min_value=1e-12, max_value=1000)
bits_per_second = st.floats(min_value=1, max_value=1e12)
shares = st.floats(min_value=0, max_value=1, exclude_min=True)
momenta = st.floats(min_value=0, max_value=1, exclude_max=True)
# Everything UTF-8 can hold; what looks like a number, a boolean or YAML's own signs must survive too.
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["no", "1e3", "0o7", "-.inf", "~", "<<", "=", "null", "12:30", "- a", "a: b", "# c", "'", "\n x", "\u2028", "\x85"]
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
# What something is called is not empty and holds no NUL byte.
called = texts.map(lambda text: text.replace("\0", "")[:200]).filter(bool)
devices = st.fixed_dictionaries({"device": called, "share": positive})
memory = st.one_of(
    st.fixed_dictionaries({"kind": st.just("uniform"), "low": counts, "high": counts}),
    st.fixed_dictionaries({"kind": st.just("explicit"), "values": st.lists(counts, min_size=1, max_size=3)}),
)
methods = st.one_of(
    st.sampled_from(["fedavg", "neulite"]),
    st.fixed_dictionaries(
        {"kind": st.just("neulite"), "weights": st.lists(positive, max_size=3)},
        optional={
            "curriculum": st.booleans(),
            "blocks": st.just("all") | counts,
            "ramp": st.just("flat") | st.fixed_dictionaries({"kind": st.just("linear"), "slope": positive}),
        },
    ),
)
optimizers = st.one_of(
    st.fixed_dictionaries({}, optional={"momentum": momenta, "optimizer": st.just("sgd")}),
    st.fixed_dictionaries({"optimizer": st.just("adam")}),
    st.fixed_dictionaries({"optimizer": st.fixed_dictionaries({"kind": st.just("adam"), "beta1": momenta})}),
)
scenarios = st.fixed_dictionaries(
    {
        "name": names,
        "seed": st.integers(min_value=0, max_value=2**63 - 1),
        "data": st.fixed_dictionaries({"kind": st.just("digits"), "root": texts}),
        "model": st.sampled_from(["resnet18", "torchvision:alexnet"]),
        "training": st.builds(
            lambda rest, optimizer: {**rest, **optimizer},
            st.fixed_dictionaries({}, optional={"epochs": counts, "learning_rate": learning_rates}),
            optimizers,
        ),
        "population": st.fixed_dictionaries(
            {"devices": counts, "groups": st.lists(devices, min_size=1, max_size=3), "available_memory": memory}
        ),
        "method": methods,
        "stop": st.fixed_dictionaries(
            {"rounds": counts}, optional={"target_accuracy": shares, "virtual_time": durations}
        ),
    }
)
rates = bits_per_second | st.fixed_dictionaries(
    {"trace": names},
    optional={
        "scale": st.floats(min_value=1e-6, max_value=1),
        "repeat": st.booleans(),
        "start": st.sampled_from(["random", "beginning"]),
    },
)

# Dotted keys and the values that `--set` may give them.
changes: Mapping[str, st.SearchStrategy[Any]] = {
    "name": names,
    "seed": st.integers(min_value=0, max_value=2**63 - 1),
    "data.root": texts,
    "data.partition": st.fixed_dictionaries({"kind": st.just("dirichlet"), "alpha": positive}),
    "training.weight_decay": learning_rates,
    "population.groups.0.share": positive,
    "population.groups.0.link": st.fixed_dictionaries({"downlink": bits_per_second, "uplink": bits_per_second}),
    "population.link": st.fixed_dictionaries({"downlink": rates, "uplink": rates}),
    "stop.rounds": counts,
    "evaluation.targets": st.lists(shares, max_size=4),
    "proxy.width": shares,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws") / "scenario.yaml"


@settings(max_examples=40, deadline=None)
@given(plain=scenarios)
def test_a_dumped_scenario_loads_again_equal_and_dumps_the_same(file: Path, plain: dict[str, Any]) -> None:
    scenario = parse_scenario(plain)
    dumped = dump_scenario(scenario)
    file.write_text(dumped, encoding="utf-8")
    again = load_scenario(file)
    assert again == scenario
    assert dump_scenario(again) == dumped
    assert scenario_hash(again) == scenario_hash(scenario)


@settings(max_examples=40, deadline=None)
@given(plain=scenarios, key=st.sampled_from(sorted(changes)), draw=st.data())
def test_setting_a_value_equals_writing_it_in_the_file(
    file: Path, plain: dict[str, Any], key: str, draw: st.DataObject
) -> None:
    value = draw.draw(changes[key])
    file.write_text(json.dumps(plain), encoding="utf-8")
    by_option = load_scenario(file, [f"{key}={json.dumps(value)}"])
    inner: Any = plain
    *way, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    for part in way:
        inner = inner[part] if isinstance(part, int) else inner.setdefault(part, {})
    inner[last] = value
    file.write_text(json.dumps(plain), encoding="utf-8")
    assert by_option == load_scenario(file)


@settings(max_examples=40, deadline=None)
@given(plain=scenarios, changed=st.lists(st.sampled_from(sorted(changes)), unique=True, max_size=3), draw=st.data())
def test_the_hash_changes_exactly_when_the_scenario_does(
    plain: dict[str, Any], changed: list[str], draw: st.DataObject
) -> None:
    first = parse_scenario(plain)
    second = parse_scenario(plain, [f"{key}={json.dumps(draw.draw(changes[key]))}" for key in changed])
    assert (scenario_hash(first) == scenario_hash(second)) == (first == second)


@given(number=st.integers(min_value=0, max_value=10**6), unit=st.sampled_from(sorted(units.BYTES)))
def test_whole_sizes_in_any_unit_are_exact(number: int, unit: str) -> None:
    assert units.parse_bytes(f"{number}{unit}") == number * units.BYTES[unit]
    assert units.parse_bytes(f" {number} {unit} ") == number * units.BYTES[unit]


@given(num_bytes=st.integers(min_value=0, max_value=10**15))
def test_a_shown_size_reads_back_within_its_four_digits(num_bytes: int) -> None:
    assert units.parse_bytes(units.format_bytes(num_bytes)) == pytest.approx(num_bytes, rel=5.1e-4)


@given(seconds=st.floats(min_value=0, max_value=1e9), unit=st.sampled_from(sorted(units.SECONDS)))
def test_a_duration_reads_back_in_any_unit(seconds: float, unit: str) -> None:
    written = f"{seconds / units.SECONDS[unit]!r}{unit}"
    assert units.parse_seconds(written) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.slow
@given(rate=st.floats(min_value=0, max_value=1e15), unit=st.sampled_from(sorted(units.BITS_PER_SECOND)))
def test_a_rate_reads_back_in_any_unit(rate: float, unit: str) -> None:
    written = f"{rate / units.BITS_PER_SECOND[unit]!r}{unit}"
    assert units.parse_bits_per_second(written) == pytest.approx(rate, rel=1e-12)
