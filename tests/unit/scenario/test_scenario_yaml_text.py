"""YAML as it is read: what was written, or a refusal with its place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import neulite_sim
from neulite_sim.errors import ScenarioError
from neulite_sim.scenario import yaml_text
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.scenario.yaml_text import read_yaml

SCENARIOS = sorted((Path(neulite_sim.__file__).parents[1] / "scenarios").rglob("*.yaml"))


def read(text: str) -> tuple[Any, list[str]]:
    node, problems = read_yaml(text, "f.yaml")
    return (None if node is None else node.plain()), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2020-01-01", "2020-01-01"),
        ("5e-4", 5e-4),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("{<<: {a: 1, b: 1}, b: 2}", {"a": 1, "b": 2}),
        ("{<<: [{a: 1}, {a: 2, b: 2}]}", {"a": 1, "b": 2}),
    ],
)
def test_a_value_is_what_was_written(written: str, value: object) -> None:
    assert read(f"key: {written}") == ({"key": value}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n<<: 5", "f.yaml:2: <<: merges mappings only, one or a list of them, found 5; remove it"),
        ("<<: ~", "f.yaml:1: <<: merges mappings only, one or a list of them, found nothing; remove it"),
        ("x: {<<: [1]}", "f.yaml:1: x.<<: merges mappings only, one or a list of them, found a list of 1; remove it"),
        ("<<: {a: 1}\n<<: {b: 1}", "f.yaml:2: <<: is given twice, first on line 1; remove one"),
        ("a: !!binary aGk=", "f.yaml:1: a: the tag !!binary is not allowed; a scenario holds plain values"),
        ('a: "\\ud800"', "f.yaml:1: a: '\\ud800' holds half of a character (a lone surrogate); remove it"),
        ("a: \ud800", "f.yaml:1: not valid YAML: character 0xd800 is not allowed"),
        ("a: 0x" + "f" * 5000, "is not a number, or has too many digits"),
        ("a: " + "9" * 5000, "is not a number, or has too many digits"),
        ("a: " + "[" * 5000 + "]" * 5000, "f.yaml:1: not valid as a scenario: nested too deeply, more than 50 levels"),
        ("[ " * 5000, "f.yaml:1: not valid as a scenario: nested too deeply, more than 50 levels; write it flat"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(200)), "f.yaml:1: not valid as a scenario: nested too deeply"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(text: str, message: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.slow
def test_aliases_of_aliases_end_soon() -> None:
    laughs = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    _, problems = read("\n".join(["a0: &a0 [ha]", *laughs]))
    assert ["is repeated by aliases beyond any use; write the values out" in problem for problem in problems] == [True]


def test_thousands_of_mistakes_are_told_in_a_hundred_lines_and_soon(tmp_path: Any) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("\n".join(f"key{number}: 1" for number in range(5000)))
    started = time.process_time()
    with pytest.raises(ScenarioError) as refused:
        load_scenario(path)
    assert time.process_time() - started < 5
    assert len(refused.value.problems) == 101
    assert "more problems are not listed; mend these first" in str(refused.value)


def test_libyaml_reads_a_long_text_as_pyyaml_would() -> None:
    values = [1.5, "1:30", True, None, "no", 31]
    text = "a: {b: 0x1F}\nc: [1.5, 1:30, true, ~, no, 0o37]\n"
    assert read(text + "# " + "x" * 200_000) == read(text) == ({"a": {"b": 31}, "c": values}, [])


@pytest.mark.parametrize("text", [*(path.read_text(encoding="utf-8") for path in SCENARIOS), "a: &b [1, *b]", "", "#"])
def test_both_parsers_make_the_same_of_a_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read_yaml(text, "f.yaml")
    yaml_text._read.cache_clear()
    monkeypatch.setattr(yaml_text, "_FastLoader", yaml_text._Loader)
    plain = read_yaml(text, "f.yaml")
    yaml_text._read.cache_clear()
    assert fast == plain


@pytest.mark.parametrize(("text", "value"), [("a: [1\tx, 2]", ["1\tx", 2]), ("a: {b: c}\t", {"b": "c"}), ("a:\t1", 1)])
def test_a_tab_that_indents_nothing_is_as_good_as_a_blank(text: str, value: object) -> None:
    assert read(text) == ({"a": value}, [])


def test_a_tab_that_indents_is_told() -> None:
    _, (problem,) = read("a:\n\tb: 1")
    assert problem.endswith("indent with spaces, not with tabs")
