"""Sweeps: which runs a grid makes, what they are called, and every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_components
import pytest

from neulite_sim.errors import Problem, ScenarioError
from neulite_sim.scenario.loading import load_scenario, scenario_hash
from neulite_sim.scenario.schema import Scenario
from neulite_sim.scenario.sweep_files import load_sweep
from neulite_sim.scenario.sweeps import Variant, variants

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(fake_components.SCENARIO)
    return tmp_path


def swept(path: str = "base.yaml", *grid: str, **options: Any) -> tuple[Variant, ...]:
    return variants(load_sweep(path, grid=grid, **options))


def names(*grid: str, **options: Any) -> list[str]:
    return [variant.name for variant in swept("base.yaml", *grid, **options)]


def refused(path: str = "base.yaml", *grid: str, **options: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        swept(path, *grid, **options)
    return [str(problem) for problem in caught.value.problems]


def sweep_file(text: str) -> str:
    Path("sweep.yaml").write_text(text)
    return "sweep.yaml"


# Which runs.


def test_every_combination_is_a_run_seeds_last() -> None:
    found = swept("base.yaml", "training.epochs=1,2", "data.image_size=8,16", seeds=2)
    base = load_scenario("base.yaml")
    assert [(item.scenario.training.epochs, item.scenario.data.options.image_size, item.scenario.seed - base.seed)
            for item in found] == [(e, s, n) for e in (1, 2) for s in (8, 16) for n in (0, 1)]  # fmt: skip


def test_a_run_is_the_scenario_that_its_overrides_give() -> None:
    found = swept("base.yaml", "data.partition={kind: dirichlet, alpha: 1e-3},iid", seeds=2)
    for item in found:
        alone = load_scenario("base.yaml", item.overrides, seed=item.scenario.seed)
        assert scenario_hash(alone) == scenario_hash(item.scenario)
    assert [item.scenario.data.options.partition.kind for item in found] == ["dirichlet"] * 2 + ["iid"] * 2


def test_without_a_grid_only_the_seed_varies() -> None:
    assert [item.scenario.seed for item in swept(overrides=["seed=40"], seeds=3)] == [40, 41, 42]
    assert len(swept()) == 1


@pytest.mark.parametrize("settings", [["method.schedule=sequential"], ["data.partition=iid"]])
def test_sections_are_set_before_what_stands_inside_them(settings: list[str]) -> None:
    grid = ["method=neulite"] if settings[0].startswith("method") else ["data={kind: digits, partition: dirichlet}"]
    (found,) = swept("base.yaml", *grid, overrides=settings)
    chosen = found.scenario.method.options.schedule if "method" in settings[0] else found.scenario.data.options
    assert chosen == "sequential" or chosen.partition.kind == "iid"


def test_text_that_looks_like_a_number_stays_text() -> None:
    path = sweep_file("scenario: base.yaml\ngrid: {data.root: ['1e3', '010', 'null', \"a'b\"]}\n")
    assert [item.scenario.data.options.root for item in swept(path)] == ["1e3", "010", "null", "a'b"]


# The sweep file.


def test_a_sweep_file_says_it_all() -> None:
    Path("deep").mkdir()
    Path("deep/sweep.yaml").write_text(
        "scenario: ../base.yaml\ngrid:\n  method: [fedavg, {kind: neulite, curriculum: false}]\n"
        "seeds: [5, 3]\nset: {name: other, data.image_size: 12}\n"
    )
    sweep = load_sweep("deep/sweep.yaml")
    assert (sweep.name, sweep.scenario, sweep.seeds) == ("sweep", "base.yaml", (5, 3))
    found = variants(sweep)
    assert [item.name for item in found] == [
        "other-fedavg-5", "other-fedavg-3", "other-neulite-curriculum-false-5", "other-neulite-curriculum-false-3",
    ]  # fmt: skip
    assert {item.scenario.data.options.image_size for item in found} == {12}
    assert [item.scenario.seed for item in found] == [5, 3, 5, 3]


def test_the_command_line_adds_to_a_sweep_file_and_wins() -> None:
    path = sweep_file("scenario: base.yaml\ngrid: {training.epochs: [1, 2]}\nseeds: 3\nset: {data.image_size: 8}\n")
    found = swept(path, "training.epochs=4", "data.root=x,y", overrides=["data.image_size=9"], seeds=1)
    facts = [(item.scenario.training.epochs, item.scenario.data.options.root, item.scenario.data.options.image_size)
             for item in found]  # fmt: skip
    assert facts == [(4, "x", 9), (4, "y", 9)]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("grid: {training.epochs: [1]}\n",
         ["sweep.yaml:1: scenario: is missing (path of the scenario, relative to this file)"]),
        ("scenario: [base.yaml]\n", ["sweep.yaml:1: scenario: must be the path of a scenario, relative to this file, "
                                     "found a list of 1"]),
        ("scenario: base.yaml\ngird: {}\n",
         ["sweep.yaml:2: gird: unknown key; did you mean 'grid'? (choices: scenario, grid, seeds, set)"]),
        ("scenario: base.yaml\ngrid: [1]\n",
         ["sweep.yaml:2: grid: must be a mapping of dotted keys to lists of values, found a list of 1"]),
        ("scenario: base.yaml\ngrid:\n  training.epochs: 3\n  training.batch_size: []\n",
         ["sweep.yaml:3: grid.training.epochs: must be a list of values, found 3",
          "sweep.yaml:4: training.batch_size: has no values; write at least one"]),
        ("scenario: base.yaml\nset: 3\n",
         ["sweep.yaml:2: set: must be a mapping of dotted keys to values, found 3"]),
        ("scenario: base.yaml\nseeds: 0\n",
         ["sweep.yaml:2: seeds: must be a number of seeds, at least 1, or a list of seeds, whole numbers from 0 on, "
          "found 0"]),
        ("scenario: base.yaml\nseeds: [1, x]\n",
         ["sweep.yaml:2: seeds: must be a number of seeds, at least 1, or a list of seeds, whole numbers from 0 on, "
          "found [1, 'x']"]),
        ("scenario: base.yaml\nseeds: [1, 2, 1]\n", ["sweep.yaml:2: seeds: names 1 twice; remove one"]),
        ("scenario: base.yaml\nseeds: true\n",
         ["sweep.yaml:2: seeds: must be a number of seeds, at least 1, or a list of seeds, whole numbers from 0 on, "
          "found true"]),
        ("scenario: base.yaml\ngrid: {training.epochs: [1]}\nset: {training.epochs: 2}\n",
         ["sweep.yaml:3: training.epochs: is set and varied by the grid; remove one of the two"]),
        ("scenario: base.yaml\nset: {seed: 1, seed: 2}\n",
         ["sweep.yaml:2: set.seed: is given twice, first on line 2; remove one"]),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_sweep_file_has_its_line(text: str, problems: list[str]) -> None:
    assert refused(sweep_file(text)) == problems


def test_the_scenario_of_a_sweep_file_may_be_missing() -> None:
    assert refused(sweep_file("scenario: bas.yaml\n")) == ["bas.yaml: does not exist; did you mean 'base.yaml'?"]


# Problems of the options and of the combinations.


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ("training.epochs", "'training.epochs' varies nothing; write key=v1,v2 with a dotted key, for example "
                            "method=neulite,fedavg"),
        ("a..b=1", "'a..b=1' varies nothing; write key=v1,v2 with a dotted key, for example method=neulite,fedavg"),
        ("seed=1,2", "seed: is varied by seeds; write the number of seeds with --seeds, or a list of them in a sweep "
                     "file"),
        ("name=a,b", "name: names the runs together with what varies; set it instead"),
        ("training.epochs=", "training.epochs: has no values; write at least one"),
        ("training.epochs=1,2,1", "training.epochs: has the value 1 twice; remove one"),
    ],
)  # fmt: skip
def test_a_grid_that_says_nothing_usable_is_refused(grid: str, problem: str) -> None:
    assert refused("base.yaml", grid) == [f"--grid: {problem}"]


def test_a_key_that_is_varied_twice_is_refused() -> None:
    assert refused("base.yaml", "training.epochs=1", "training.epochs=2") == [
        "--grid: training.epochs: is varied twice; write all its values in one --grid"
    ]


def test_a_grid_that_is_not_yaml_is_refused() -> None:
    (problem,) = refused("base.yaml", "training.epochs={1")
    assert problem.startswith("--grid: training.epochs: not valid YAML at column ")


def test_the_problems_of_all_combinations_come_at_once_each_with_its_place() -> None:
    text = "scenario: base.yaml\ngrid:\n  training.epochs: [1, 0]\n  data.image_size: [8, 2]\nset:\n  stop.rounds: -1\n"
    assert refused(sweep_file(text)) == [
        "sweep.yaml:6: stop.rounds: must be at least 1, found -1",
        "sweep.yaml:4: data.image_size: must be at least 4, found 2 (in epochs-1-image_size-2 and 1 more)",
        "sweep.yaml:3: training.epochs: must be at least 1, found 0 (in epochs-0-image_size-8 and 1 more)",
    ]


def test_a_problem_inside_a_value_has_the_place_of_the_value() -> None:
    (problem,) = refused("base.yaml", "method=fedavg,{kind: neulite, curriculm: true}")
    assert problem.startswith("--grid: method.curriculm: unknown key; did you mean 'curriculum'?")
    assert problem.endswith("(in neulite-curriculm-true)")


def test_checks_are_called_once_per_combination() -> None:
    seen: list[int] = []

    def check(scenario: Scenario) -> None:
        seen.append(scenario.training.epochs)
        if scenario.training.epochs == 2:
            raise ScenarioError([Problem(key="training.epochs", message="is too many")])

    with pytest.raises(ScenarioError, match=r"^--grid: training\.epochs: is too many \(in epochs-2\)$"):
        variants(load_sweep("base.yaml", grid=["training.epochs=1,2"], seeds=3), checks=[check])
    assert seen == [1, 2]


# Names.


def test_a_name_is_that_of_the_scenario_then_what_varies_then_the_seed() -> None:
    base = load_scenario("base.yaml")
    grid = ("method=neulite,fedavg", "training.learning_rate=0.1", "population.available_memory.low=1MB,2MB")
    assert names(*grid, seeds=2)[:2] == [
        f"{base.name}-neulite-learning_rate-0.1-low-1MB-{base.seed + number}" for number in (0, 1)
    ]


@pytest.mark.parametrize(
    ("grid", "slugs"),
    [
        ("data.partition=iid,{kind: dirichlet, alpha: 1.0},{kind: dirichlet, alpha: 0.1}",
         ["iid", "dirichlet-alpha-1.0", "dirichlet-alpha-0.1"]),
        ("data={kind: digits, root: x, partition: iid},{kind: digits, root: x, partition: dirichlet}",
         ["digits-iid", "digits-dirichlet"]),
        ("method.coadaptation=true,false", ["coadaptation-true", "coadaptation-false"]),
        ("method.weights=[1, 2],[3]", ["weights-1-2", "weights-3"]),
        ("data.image_size=null,8", ["image_size-null", "image_size-8"]),
        ("data.root=a/b,a b", ["a-b-?", "a-b-?"]),
        ("data.root=x,X", ["x-?", "X-?"]),
        ("data.root=ÄÖ,..", ["value", "root"]),
    ],
)  # fmt: skip
def test_a_value_becomes_a_short_piece_of_a_name(grid: str, slugs: list[str]) -> None:
    base = load_scenario("base.yaml")
    found = [name.removeprefix(f"{base.name}-").removesuffix(f"-{base.seed}") for name in names(grid)]
    assert len(set(map(str.lower, found))) == len(found)
    for name, slug in zip(found, slugs, strict=True):
        stem, _, digest = name.rpartition("-") if slug.endswith("?") else (name, "", "")
        assert stem == slug.removesuffix("-?")
        assert len(digest) == (6 if slug.endswith("?") else 0)


def test_long_names_are_cut_and_stay_apart() -> None:
    values = [f"{'x' * 90}{end}" for end in "ab"]
    found = names(f"data.root={','.join(values)}")
    assert len(set(found)) == 2
    assert max(map(len, found)) < 90


def test_pieces_that_join_to_the_same_name_stay_apart() -> None:
    grid = ("data.root=a,a-b", "population.groups.0.device=b-c,c")
    joined = [variant.name for variant in swept("base.yaml", *grid)]
    assert len(set(joined)) == 4


def test_a_sweep_of_more_runs_than_anybody_waits_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("name: x\n", encoding="utf-8")
    grid = [f"training.key{number}=1,2,3,4" for number in range(5)]
    with pytest.raises(ScenarioError, match="grid: comes to 10240 runs; a sweep has at most 10000, so vary fewer keys"):
        load_sweep(str(path), grid=grid, seeds=10)
