"""Scenarios from files: YAML, `extends`, `--set`, where problems stand, and writing a scenario back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fake_components
import pytest
import yaml

from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError
from neulite_sim.scenario.loading import dump_scenario, load_scenario, parse_scenario, scenario_hash
from neulite_sim.scenario.schema import Scenario

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own that holds `base.yaml`, so that messages show short paths."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(fake_components.SCENARIO)
    return tmp_path


def written(name: str, text: str) -> str:
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    Path(name).write_text(text)
    return name


def refused(path: str, *settings: str, **options: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, settings, **options)
    return [str(problem) for problem in caught.value.problems]


# What YAML means.


@pytest.mark.parametrize(("text", "value"), [("5e-4", 5e-4), ("1e-3", 1e-3), (".5", 0.5), ("1.", 1.0), ("+0.5", 0.5)])
def test_numbers_are_read_as_yaml_1_2_does(text: str, value: float) -> None:
    assert load_scenario("base.yaml", [f"training.weight_decay={text}"]).training.weight_decay == value


@pytest.mark.parametrize(("text", "value"), [("1e3", 1000), ("0x10", 16), ("0o17", 15), ("010", 10)])
def test_whole_numbers_are_read_as_yaml_1_2_does(text: str, value: int) -> None:
    assert load_scenario("base.yaml", [f"seed={text}"]).seed == value


@pytest.mark.parametrize("text", ["no", "on", "yes", "12:30", "2024-01-01", "1_000", "'1e3'", "0b1", "="])
def test_what_yaml_1_1_would_convert_stays_text(text: str) -> None:
    assert load_scenario("base.yaml", [f"data.root={text}"]).data.options.root == text.strip("'")


@pytest.mark.parametrize("text", ["yes", "on", "true", "True"])
def test_booleans_may_be_words(text: str) -> None:
    assert load_scenario("base.yaml", [f"method.coadaptation={text}"]).method.options.coadaptation is True


def test_anchors_and_merge_keys_work_and_explicit_keys_win() -> None:
    text = fake_components.SCENARIO + "evaluation: &shared {every_rounds: 7, batch_size: 9}\n"
    text += "workload: {epochs: 2}\nproxy: {<<: {epochs: 3, batch_size: 4}, epochs: 1}\n"
    scenario = load_scenario(written("a.yaml", text))
    assert (scenario.proxy.epochs, scenario.proxy.batch_size, scenario.evaluation.batch_size) == (1, 4, 9)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbf" + fake_components.SCENARIO.encode())
    assert load_scenario("bom.yaml").name == "example"


# Files that cannot be used.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty; a scenario is a mapping with keys such as name, data, model and method"),
        ("- a\n- b", ": holds a list of 2; a scenario is a mapping"),
        ("name:foo", ": holds 'name:foo'; a scenario is a mapping"),
        ("a:\n\tb: 3", ":2: not valid YAML at column 1: while scanning for the next token, found character '\\t' that "
                       "cannot start any token; indent with spaces, not with tabs"),
        ("a: b: c", ":1: not valid YAML at column 5: mapping values are not allowed here"),
        ("a: 1\nb: {c: 3\nd: 4", ":3: not valid YAML at column 2: while parsing a flow mapping, expected ',' or '}'"),
        ("a: *b", ":1: not valid YAML at column 4: found undefined alias 'b'"),
        ("a: 1\n---\nb: 1", ":2: not valid YAML at column 1: expected a single document"),
        ("a: 1\nb: \0", ":2: not valid YAML: character 0x0000 is not allowed"),
        ("[" * 600, ":1: not valid as a scenario: nested too deeply"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_scenario_says_why_and_where(text: str, message: str) -> None:
    (found,) = refused(written("bad.yaml", text))
    assert found.startswith(f"bad.yaml{message}")


def test_a_file_that_is_not_text_is_refused() -> None:
    Path("bad.yaml").write_bytes(b"name: \xff")
    assert refused("bad.yaml") == ["bad.yaml: is not UTF-8 text (byte 0xff at position 6)"]


def test_a_missing_file_offers_close_names() -> None:
    assert refused("bsae.yaml") == ["bsae.yaml: does not exist; did you mean 'base.yaml'?"]
    assert refused("zzz.yaml") == ["zzz.yaml: does not exist"]
    assert refused("nowhere/x.yaml") == ["nowhere/x.yaml: does not exist; there is no directory 'nowhere'"]


def test_a_directory_offers_a_file_in_it() -> None:
    os.mkdir("empty")
    assert refused(".") == [".: is a directory; name a scenario file, for example ./base.yaml"]
    assert refused("empty") == ["empty: is a directory; name a scenario file"]


def test_an_unreadable_file_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, *, most_bytes: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("neulite_sim.scenario.files.read_regular", denied)
    assert refused("base.yaml") == ["base.yaml: cannot be read: Permission denied"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: !!python/object:os.system x", "seed: the tag !!python/object:os.system is not allowed; a scenario "
                                              "holds plain values"),
        ("seed: !!int abc", "seed: 'abc' is not a number, or has too many digits"),
        ("seed: &s [1, *s]", "seed.1: is part of itself; write the values out"),
        ("? [seed]\n: 3", "a key must be text, not a list or a mapping"),
    ],
)  # fmt: skip
def test_values_that_are_not_plain_are_refused(line: str, message: str) -> None:
    found = refused(written("bad.yaml", fake_components.SCENARIO.replace("seed: 42", line)))
    assert found[0] == f"bad.yaml:3: {message}"


def test_a_number_of_too_many_digits_is_refused() -> None:
    (found,) = refused(written("bad.yaml", fake_components.SCENARIO.replace("seed: 42", "seed: " + "9" * 5000)))
    assert found.startswith("bad.yaml:3: seed: '99999")
    assert found.endswith("... is not a number, or has too many digits")


def test_aliases_that_multiply_are_stopped() -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 9)]
    assert any(
        "is repeated by aliases beyond any use" in line for line in refused(written("bad.yaml", "\n".join(layers)))
    )


def test_a_key_given_twice_is_refused_with_both_lines_and_the_rest_is_still_checked() -> None:
    text = fake_components.SCENARIO + "seed: 3\n"
    text = text.replace("epochs: 5", "epochs: 0")
    assert refused(written("bad.yaml", text)) == [
        "bad.yaml:6: training.epochs: must be at least 1, found 0",
        "bad.yaml:16: seed: is given twice, first on line 3; remove one",
    ]


# Where problems stand.


def test_each_problem_has_the_line_of_its_key() -> None:
    text = """\
    name: my run
    data:
      kind: digits
      partition:
        kind: dirichlet
        alpa: 0.5
    model: resnet81
    population:
      devices: 3
      groups:
        - device: pi
          share: 1
        - device: pi
          share: 0
      available_memory: {kind: uniform,
        low: 1}
    method: neulite
    """
    assert [line.split(": ")[:2] for line in refused(written("bad.yaml", text))] == [
        ["bad.yaml:1", "name"],
        ["bad.yaml:6", "data.partition.alpa"],
        ["bad.yaml:7", "model.kind"],
        ["bad.yaml:14", "population.groups.1.share"],
        ["bad.yaml:15", "population.available_memory.high"],
        ["bad.yaml", "stop"],
    ]


def test_problems_come_file_by_file_and_the_command_line_last() -> None:
    written("sub/bad.yaml", "extends: ../base2.yaml\ntraining: {epochs: 0}\n")
    written("base2.yaml", "extends: base.yaml\nstop: {rounds: 0}\nmodle: x\n")
    assert [line.split(": ")[:2] for line in refused("sub/bad.yaml", "proxy.width=2", seed=-1)] == [
        ["sub/bad.yaml:2", "training.epochs"],
        ["base2.yaml:2", "stop.rounds"],
        ["base2.yaml:3", "modle"],
        ["--set", "proxy.width"],
        ["--seed", "seed"],
    ]


# Files that extend others.


def test_a_file_lays_its_values_over_those_it_extends() -> None:
    written("sub/middle.yaml", "extends: ../base.yaml\nname: middle\ntraining: {epochs: 2}\n")
    written(
        "top.yaml", "extends: sub/middle.yaml\nname: top\ntraining: {batch_size: 8}\nmethod: {schedule: sequential}\n"
    )
    scenario = load_scenario("top.yaml")
    assert (scenario.name, scenario.seed) == ("top", 42)
    assert (scenario.training.epochs, scenario.training.batch_size, scenario.training.learning_rate) == (2, 8, 0.01)
    assert (scenario.method.options.curriculum, scenario.method.options.schedule) == (False, "sequential")


def test_another_kind_does_not_inherit_options() -> None:
    scenario = load_scenario(written("top.yaml", "extends: base.yaml\nmethod: {kind: fedavg}\n"))
    assert scenario.method.dump() == {"kind": "fedavg", "memory_limit": True}


def test_extends_is_relative_to_its_file_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / written("sub/top.yaml", "extends: ../base.yaml\nname: top\n")
    monkeypatch.chdir("/")
    assert load_scenario(path).name == "top"
    assert load_scenario(path).data.options.root == "data"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": "extends: a.yaml"}, "a.yaml:1: extends: leads back to itself: a.yaml -> a.yaml"),
        (
            {"a.yaml": "seed: 1\nextends: s/b.yaml", "s/b.yaml": "extends: ../a.yaml"},
            "s/b.yaml:1: extends: leads back to itself: a.yaml -> s/b.yaml -> a.yaml",
        ),
        ({"a.yaml": "extends: bse.yaml"}, "a.yaml:1: extends: 'bse.yaml' does not exist; did you mean 'base.yaml'?"),
        ({"a.yaml": "extends: [x]"}, "a.yaml:1: extends: must be the path of another scenario, relative to this file, "
                                     "found a list of 1"),
        ({"a.yaml": "extends: ."}, "a.yaml:1: extends: '.' is a directory; name a scenario file, for example ./a.yaml"),
        ({"a.yaml": "extends: b.yaml", "b.yaml": "- 1"}, "b.yaml: holds a list of 1; a scenario is a mapping with keys "
                                                         "such as name, data, model and method"),
    ],
)  # fmt: skip
def test_extending_what_cannot_be_extended_is_refused(files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        written(name, text)
    assert refused("a.yaml") == [message]


# --set and --seed.


def test_settings_act_in_order_and_may_be_mappings() -> None:
    settings = ["training.epochs=3", "training.epochs=4", "population.groups.1.share=2",
                "population.availability={kind: markov, mean_on: 2h, mean_off: 4h}"]  # fmt: skip
    scenario = load_scenario("base.yaml", settings)
    assert scenario.training.epochs == 4
    assert scenario.population.groups[1].share == 2
    assert scenario.population.availability.dump() == {"kind": "markov", "mean_on": 7200.0, "mean_off": 14400.0}


def test_setting_only_the_kind_drops_the_other_kinds_options() -> None:
    assert load_scenario("base.yaml", ["method.kind=fedavg"]).method.dump() == {"kind": "fedavg", "memory_limit": True}


def test_a_value_may_hold_an_equals_sign_and_be_empty() -> None:
    assert load_scenario("base.yaml", ["data.root=a=b"]).data.options.root == "a=b"
    assert load_scenario("base.yaml", ["stop.target_accuracy="]).stop.target_accuracy is None


def test_the_seed_option_replaces_the_seed_and_settings() -> None:
    assert load_scenario("base.yaml", ["seed=5"], seed=6).seed == 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", "--set: 'training.epochs' sets nothing; write key=value with a dotted key, for example "
                            "training.epochs=3"),
        ("=3", "--set: '=3' sets nothing; write key=value with a dotted key, for example training.epochs=3"),
        ("a..b=3", "--set: 'a..b=3' sets nothing; write key=value with a dotted key, for example training.epochs=3"),
        ("seed={a", "--set: seed: not valid YAML at column 3: while parsing a flow mapping, expected ',' or '}', but "
                    "got '<stream end>'"),
        ("training={epochs: 1, epochs: 2}", "--set: training.epochs: is given twice; remove one"),
        ("extends=x.yaml", "--set: extends: stands in a file only; name that file instead"),
        ("population.groups.7.share=3", "--set: population.groups.7.share: there is no item '7' in a list of 2 items "
                                        "(numbered 0 to 1); set the whole list instead"),
        ("seed.x=3", "--set: seed.x: 'x' cannot be set inside 42, which is neither a mapping nor a list"),
        ("name.x=3", "--set: name: must be text, found a mapping"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_act_is_refused(setting: str, message: str) -> None:
    assert refused("base.yaml", setting) == [message]


def test_wrong_settings_are_reported_beside_a_wrong_file() -> None:
    assert refused("zzz.yaml", "bad") == [
        "zzz.yaml: does not exist",
        "--set: 'bad' sets nothing; write key=value with a dotted key, for example training.epochs=3",
    ]


# What the schema cannot know.


def test_checks_see_a_valid_scenario_and_their_problems_get_file_and_line() -> None:
    def unknown_device(scenario: Scenario) -> None:
        raise ScenarioError([Problem(key="population.groups.1.device", message=scenario.population.groups[1].device)])

    assert refused("base.yaml", checks=[unknown_device]) == ["base.yaml:11: population.groups.1.device: jetson-tx2-8gb"]
    assert (
        refused("base.yaml", "population.groups.1.device=x", checks=[unknown_device, unknown_device])
        == ["--set: population.groups.1.device: x"] * 2
    )


def test_checks_are_not_asked_about_a_wrong_scenario_and_other_errors_pass_through() -> None:
    def missing(scenario: Scenario) -> None:
        raise DataNotFoundError(f"no data for {scenario.name}")

    assert refused("base.yaml", "seed=-1", checks=[missing]) == ["--set: seed: must be at least 0, found -1"]
    with pytest.raises(DataNotFoundError, match="no data for example"):
        load_scenario("base.yaml", checks=[missing])


# From mappings, and back to text.


def test_a_mapping_gives_the_same_scenario_as_its_file() -> None:
    given = yaml.safe_load(fake_components.SCENARIO)
    assert parse_scenario(given) == load_scenario("base.yaml")
    assert parse_scenario({"extends": "base.yaml", "seed": 3}).seed == 3


def test_problems_of_a_mapping_have_no_file() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario({"extends": "base.yaml"}, ["training.epochs=0"], seed=-3)
    assert str(caught.value) == (
        "--set: training.epochs: must be at least 1, found 0\n--seed: seed: must be at least 0, found -3"
    )
    with pytest.raises(ScenarioError, match=r"^seed: must be at least 0, found -1\nstop\.rounds: is missing"):
        parse_scenario({**yaml.safe_load(fake_components.SCENARIO), "seed": -1, "stop": {}})


def test_a_dumped_scenario_loads_again_equal() -> None:
    scenario = load_scenario("base.yaml")
    again = load_scenario(written("dumped.yaml", dump_scenario(scenario)))
    assert again == scenario
    assert dump_scenario(again) == dump_scenario(scenario)


def test_a_dump_has_the_keys_in_the_order_of_the_schema() -> None:
    dumped = yaml.safe_load(dump_scenario(load_scenario("base.yaml")))
    assert list(dumped) == [name for name in Scenario.model_fields if name != "energy"]
    assert list(dumped["method"])[:3] == ["kind", "curriculum", "coadaptation"]


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "1e3",
        "12:30",
        "2024-01-01",
        "010",
        "0o7",
        "null",
        "",
        "~",
        "<<",
        " x ",
        "a: b",
        "\x85",
        "a\u2028b",
        "a\nb",
    ],
)
def test_text_that_looks_like_something_else_survives_a_dump(text: str) -> None:
    scenario = parse_scenario({"extends": "base.yaml", "data": {"root": text}})
    dumped = dump_scenario(scenario)
    assert load_scenario(written("dumped.yaml", dumped)).data.options.root == text
    assert yaml.safe_load(dumped)["data"]["root"] == text


def test_the_hash_tells_scenarios_apart_and_nothing_else() -> None:
    scenario = load_scenario("base.yaml")
    spelt_out = load_scenario("base.yaml", ["method.coadaptation=true", "population.available_memory.low=100000kB"])
    assert scenario_hash(spelt_out) == scenario_hash(scenario)
    assert scenario_hash(load_scenario("base.yaml", seed=43)) != scenario_hash(scenario)
    assert len(scenario_hash(scenario)) == 64
