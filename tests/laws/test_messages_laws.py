"""Laws of messages: whatever is wrong in a file from outside is said in this project's own words."""

import re
from typing import get_args

import pytest
from pydantic_core import core_schema
from tiny_scenarios import TINY

from neulite_sim import registry
from neulite_sim.errors import NeuliteError, ScenarioError
from neulite_sim.population.hardware.own import read_hardware
from neulite_sim.scenario.fields import models_at
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.scenario.problems import _MUST_BE, _MUST_BE_SUCH
from neulite_sim.scenario.schema import Scenario
from neulite_sim.synonyms import KEYS, KINDS, plain

# How pydantic speaks of values, of types in Python's words, and of its own names.
NOT_OURS = re.compile(
    r"[Ii]nput should|[Ii]nputs are not|[Ff]ield required|[Vv]alue error|valid (integer|number|string|dictionary|list|tuple)"
    r"|\b(dict|int|float|str|tuple|NoneType)\b|type=|pydantic|unable to parse|_[A-Z]\w+\.|\[key\]|function-"
)
WRONG = (
    None,
    True,
    -1,
    1.5,
    10**40,
    "",
    "x y",
    [],
    [None],
    {},
    {"kind": "no-such"},
    {"kind": 3},
    {"a": {"b": 1}},
    [[]],
)


def told_of(mapping):
    """Return what is said of a scenario, nothing where it is right."""
    try:
        parse_scenario(mapping)
    except ScenarioError as error:
        return str(error)
    return ""


def sections():
    """Every key of a scenario, one level down as well."""
    for name in Scenario.model_fields:
        yield name
        for model in models_at((name,), {}):
            yield from (f"{name}.{inner}" for inner in model.model_fields)


@pytest.mark.parametrize("key", [*sections()])
def test_a_wrong_value_is_refused_in_our_own_words(key):
    for value in WRONG:
        mapping = dict(TINY)
        place, *rest = key.split(".")
        if rest:
            section = mapping.get(place)
            mapping[place] = {
                **(section if isinstance(section, dict) else {"kind": section} if section else {}),
                rest[0]: value,
            }
        else:
            mapping[place] = value
        said = told_of(mapping)
        assert not NOT_OURS.search(said), said


LINE = 'value = 8000000000, status = "measured", source = "made up for a test"'


@pytest.mark.parametrize(
    "wrong",
    [
        '"x"',
        "true",
        "-1",
        "1e40",
        "[]",
        "{ }",
        '{ share_of_installed = 2, status = "measured", source = "made up for it" }',
    ],
)
@pytest.mark.parametrize(
    "key", ["installed_memory_bytes", "usable_memory_bytes", "family", "efficiency", "colour", "devices"]
)
def test_a_wrong_board_is_refused_in_our_own_words(key, wrong, tmp_path):
    numbers = {
        "installed_memory_bytes": f"{{ {LINE} }}",
        "usable_memory_bytes": f"{{ {LINE} }}",
        "family": '"computer"',
    }
    lines = [
        "schema_version = 1",
        "[devices.board]",
        *(f"{name} = {text}" for name, text in {**numbers, key: wrong}.items()),
    ]
    path = tmp_path / "boards.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(ScenarioError) as error:
        read_hardware(path)
    assert not NOT_OURS.search(str(error.value)), str(error.value)


def test_a_wrong_name_of_a_board_is_refused_in_our_own_words(tmp_path):
    path = tmp_path / "boards.toml"
    path.write_text('schema_version = 1\n["devices"."Bad Name"]\nfamily = "x"\n')
    with pytest.raises(ScenarioError) as error:
        read_hardware(path)
    assert not NOT_OURS.search(str(error.value)), str(error.value)


def test_every_error_of_pydantic_has_words_of_ours():
    others = {"missing", "extra_forbidden", "literal_error", "enum", "union_tag_invalid", "union_tag_not_found"}
    for kind in get_args(core_schema.ErrorType):
        known = kind in _MUST_BE or kind in others or any(kind.startswith(start) for start in _MUST_BE_SUCH)
        assert known, kind


# ---- pairs of bounds -------------------------------------------------------------------------------------------------


def pairs():
    """Every pair of bounds that options have, by their names: low and high, minimum_x and maximum_x."""
    for group in registry.GROUPS:
        for name, found in registry.load_all(group)[0].items():
            fields = found.options.model_fields
            for low in fields:
                high = {"low": "high"}.get(low, low.replace("minimum", "maximum").replace("least", "most"))
                if high != low and high in fields:
                    yield pytest.param(found.options, low, high, id=f"{group}-{name}-{low}")


@pytest.mark.parametrize(("options", "low", "high"), [*pairs()])
def test_bounds_in_the_wrong_order_hint_at_their_units(options, low, high):
    is_time = "wait" in low
    needed = {name: "50MB" for name, info in options.model_fields.items() if info.is_required()} | (
        {"sigma": 0.5} if "sigma" in options.model_fields else {}
    )
    for large, small, wish in (
        ("10min", "10s", f"look at their units ({low} 10s, or {high} 10m 00s?)") if is_time else
        ("8GB", "8MB", f"look at their units ({low} 8 MB, or {high} 8 GB?)"),
        ("12s", "10s", "swap them") if is_time else ("9MB", "8MB", "swap them"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(wish)):
            options.model_validate({**needed, low: large, high: small})


# ---- other people's words --------------------------------------------------------------------------------------------


def test_every_path_of_the_table_of_synonyms_exists_with_some_kind():
    for path in KEYS:
        if path.startswith("--"):
            continue
        *above, last = path.split(".")
        group = above[-1] if above else ""
        options = [found.options for found in registry.load_all(group)[0].values()] if group in registry.GROUPS else []
        assert any(last in model.model_fields for model in [*options, *models_at(tuple(above), {})]), path


def test_every_kind_of_the_table_of_synonyms_exists():
    for group, kinds in KINDS.items():
        assert set(kinds) <= set(registry.names(group)), group


def test_no_word_of_the_tables_is_what_it_stands_for():
    for path, words in KEYS.items():
        assert len(set(words)) == len(words), path
        assert path.rpartition(".")[2] not in words, path
        assert all(word == plain(word) for word in words), path


SAID = [
    ("protocol={kind: deadline, deadline: 30s}", "protocol.deadline: unknown key; did you mean 'maximum_wait'?"),
    ("protocol={deadline: 30s}", "protocol.kind: is missing; deadline is an option of deadline ("),
    ("protocol.deadline=30s", "deadline is an option of deadline"),
    ("training.lr=0.1", "training.lr: unknown key; did you mean 'learning_rate'?"),
    ("lr=0.1", "lr: unknown key; did you mean training.learning_rate?"),
    ("batch=3", "batch: unknown key; did you mean training.batch_size?"),
    ("num_clients=4", "num_clients: unknown key; did you mean population.devices?"),
    ("population.clients=4", "population.clients: unknown key; did you mean 'devices'?"),
    ("training.fit={kind: none, micro_batch_sizes: [2]}", "micro_batch_sizes is an option of fit auto, which kind says"),
    ("training.optimizer.beta1=0.8", "training.optimizer.kind: is missing"),
    ("training.local_epochs=3", "training.local_epochs: unknown key; did you mean 'epochs'?"),
    ("rounds=4", "rounds: unknown key; did you mean stop.rounds"),
    ("gpu=true", "gpu: unknown key; did you mean backend.device or backend.gpus_per_worker?"),
    ("alpha=0.5", "alpha: unknown key; did you mean data.partition.alpha"),
    ("memory=4GB", "memory: unknown key; did you mean population.available_memory?"),
    ("population.groups.0.memory=4GB", "population.groups.0.memory: unknown key; did you mean 'available_memory'?"),
    ("bandwidth=3", "bandwidth: unknown key; did you mean population.link"),
    ("clients_per_round=3", "clients_per_round: unknown key; did you mean selection.devices_per_round?"),
    ("selection.tiers=3", "selection.tiers: unknown key; tiers is an option of selection tifl, which kind says"),
    ("eval_every=4", "eval_every: unknown key; did you mean evaluation.every_rounds?"),
    ("checkpoint.every=4", "checkpoint.every: unknown key; did you mean 'every_rounds'?"),
    ("workers=4", "workers: unknown key; did you mean backend.workers?"),
    ("out=x", "out: unknown key; did you mean --out on the command line?"),
    ("method=fedprox", "method.kind: 'fedprox' is not a known method; did you mean 'fedavg'?"),
    ("selection=random", "selection.kind: 'random' is not a known selection; did you mean 'uniform'?"),
    ("data.partition=noniid", "data.partition.kind: 'noniid' is not a known partition; did you mean 'dirichlet'?"),
    ("population.available_memory={kind: uniform, min: 1GB, max: 2GB}", "min: unknown key; did you mean 'low'?"),
    ("population.available_memory={low: 1GB, high: 2GB}", "is missing; low and high are options of lognormal and uniform"),
    ("population.available_memory=512MB", "'512MB' is not a known available_memory; write for example {kind: uniform, "),
    ("population.available_memory=[1GB]", "found a list of 1; write for example {kind: uniform, low: 512MB, high: 2GB}"),
    ("population.availability={kind: markov, on: 2h, off: 1h}", "availability.on: unknown key; did you mean 'mean_on'?"),
    ("population.availability={kind: trace, file: x.csv}", "availability.file: unknown key; did you mean 'path'?"),
    ("population.groups=[{device: jetson-nano-4gb, count: 3}]", "groups.0.count: unknown key; did you mean 'share'?"),
    ("population.groups=[{device: jetson-nano-4gb, share: 50%}]", "must be a number, found '50%'; write 0.5"),
    ("population.groups=[jetson-nano-4gb]", "must be a mapping, found 'jetson-nano-4gb' (keys: device, share, "),
    ("population.link=20Mbps", "population.link: must be a mapping, found '20Mbps' (keys: downlink, uplink, latency)"),
    ("stop=30", "stop: must be a mapping, found 30 (keys: rounds, target_accuracy, virtual_time)"),
    ("stop.target_accuracy=80", "must be at most 1, found 80; a share of 80 % is 0.8"),
    ("selection.devices_per_round=0.1", "must be a whole number, found 0.1; this is a count, not a share"),
    ("evaluation.targets=0.8", "evaluation.targets: must be a list, found 0.8; write [0.8]"),
    ("data=CIFAR10", "'CIFAR10' is not a known data; did you mean 'cifar10'"),
    ("model=mobilenet_v2", "not a known model; write for example torchvision:NAME for any classifier of torchvision"),
    ("method=[fedavg, neulite]", "found a list of 2; to try several, neulite-sim sweep --grid method=A,B (choices"),
    ("no_such_thing_at_all=1", "no_such_thing_at_all: unknown key (choices: name, "),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "says"), SAID)
def test_a_key_of_other_tools_is_answered_with_ours(setting, says):
    with pytest.raises(NeuliteError) as error:
        parse_scenario(dict(TINY), [setting])
    assert says in str(error.value)
