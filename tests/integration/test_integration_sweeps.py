"""The sweep files of the paper's tables: each combination of each grid is a valid scenario that can be assembled."""

import functools
import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from neulite_sim.engine.assembly import prepare
from neulite_sim.engine.building import build_selector
from neulite_sim.scenario.loading import load_scenario, parse_scenario
from neulite_sim.scenario.sweep_files import load_sweep
from neulite_sim.scenario.sweeps import variants

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "scenarios" / "paper"
SWEEPS = sorted((PAPER / "sweeps").glob("*.yaml"))
CLASSES = {"cifar10": 10, "cinic10": 10, "cifar100": 100}
TABLE_ROWS = {"allsmall", "exclusivefl", "depthfl", "heterofl", "fedrolex", "tifl", "oort", "neulite"}


@functools.cache
def combinations(path):
    """Return every scenario of a sweep file: its `set` and one value of each key of its grid, laid on its scenario."""
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert sweep.keys() == {"scenario", "set", "grid", "seeds"}
    fixed = [f"{key}={json.dumps(value)}" for key, value in sweep["set"].items()]
    choices = [[f"{key}={json.dumps(value)}" for value in values] for key, values in sweep["grid"].items()]
    base = path.parent / sweep["scenario"]
    return tuple(
        load_scenario(base, [*fixed, *chosen], seed=seed)
        for chosen in itertools.product(*choices)
        for seed in sweep["seeds"]
    )


def cell(scenario):
    """Return the row of the paper's table (a selector other than uniform names it), model, dataset and partition."""
    selector = scenario.selection.kind
    row = scenario.method.kind if selector == "uniform" else selector
    return row, scenario.model.kind, scenario.data.kind, scenario.data.options.partition.kind


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_file_says_how_to_start_it_and_how_many_runs_it_is(path):
    header = " ".join(line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert f"neulite-sim sweep {path.relative_to(ROOT)} " in header
    assert re.search(rf"\b{len(combinations(path))} runs of", header)
    assert {scenario.name for scenario in combinations(path)} == {path.stem}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_command_reads_the_same_combinations_from_a_sweep_file(path):
    found = variants(load_sweep(str(path)))
    assert {variant.scenario for variant in found} == set(combinations(path))
    assert len({variant.name for variant in found}) == len(combinations(path))


@pytest.mark.parametrize(
    ("pattern", "models", "data", "partitions"),
    [
        ("table1*", ("resnet18", "vgg11_bn", "squeezenet"), ("cifar10", "cinic10", "cifar100"), ("dirichlet",)),
        ("table2*", ("resnet18", "resnet34"), ("cifar10", "cifar100"), ("iid", "dirichlet")),
    ],
)
def test_the_sweeps_of_a_table_hold_each_of_its_cells_once(pattern, models, data, partitions):
    paths = sorted((PAPER / "sweeps").glob(f"{pattern}.yaml"))
    cells = [cell(scenario) for path in paths for scenario in combinations(path)]
    assert sorted(cells) == sorted(itertools.product(TABLE_ROWS, models, data, partitions))


def test_the_ablation_holds_neulite_whole_and_halved_beside_fedavg():
    found = {
        (method.kind, getattr(method.options, "curriculum", None), getattr(method.options, "coadaptation", None))
        for method in (scenario.method for scenario in combinations(PAPER / "sweeps" / "ablation.yaml"))
    }
    halves = {("neulite", False, True), ("neulite", True, False)}
    assert found == {("neulite", True, True), *halves, ("fedavg", None, None)}


def test_depthfl_runs_with_feddyn_in_the_tables_as_its_reference_does():
    found = [
        scenario.method.options.feddyn_alpha
        for path in SWEEPS
        for scenario in combinations(path)
        if scenario.method.kind == "depthfl"
    ]
    assert found == [0.1] * (9 + 8)


def test_the_study_of_coadaptation_holds_every_tail_with_every_surrogate():
    variants_of = variants(load_sweep(str(ROOT / "scenarios" / "study" / "sweeps" / "coadaptation.yaml")))
    options = [variant.scenario.method.options for variant in variants_of]
    tails, surrogates = (False, True, 2), ("none", "conv", "conv-bn-relu")
    assert [(found.tail, found.surrogate) for found in options] == list(itertools.product(tails, surrogates))
    assert len({variant.name for variant in variants_of}) == 9
    assert all(prepare(variant.scenario).method.num_stages == 4 for variant in variants_of)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_combination_differs_from_the_base_only_where_the_tables_do(path):
    base = load_scenario(PAPER / "base.yaml").dump()
    free = {"name", "seed", "method", "model", "data", "selection", "evaluation"}
    for scenario in combinations(path):
        found = scenario.dump()
        assert {key: found[key] for key in found.keys() - free} == {key: base[key] for key in base.keys() - free}
        assert found["data"]["augmentation"] == "crop-flip"
        assert found["selection"]["devices_per_round"] == 10
        if scenario.data.options.partition.kind == "dirichlet":
            assert scenario.data.options.partition.options.alpha == 0.5


def test_width_scaling_is_tested_with_recalibrated_statistics_wherever_there_are_any():
    for path in SWEEPS:
        for scenario in combinations(path):
            recalibrates = scenario.method.kind in ("heterofl", "fedrolex") and scenario.model.kind != "squeezenet"
            assert (scenario.evaluation.batch_norm == "recalibrated") == recalibrates


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_combination_can_be_assembled_on_images_of_the_same_shape(path):
    built = set()
    for scenario in combinations(path):
        # The dataset matters to the parts by its shape and its number of classes only; one IID deal stands for all.
        key = json.dumps([scenario.dump()[name] for name in ("method", "model", "selection", "evaluation")])
        classes = CLASSES[scenario.data.kind]
        if (key, classes) in built:
            continue
        built.add((key, classes))
        data = f"data={{kind: synthetic, shape: [3, 32, 32], classes: {classes}, samples: 200, test_samples: 10}}"
        parts = prepare(parse_scenario(scenario.dump(), [data]))
        assert parts.method.submodels
        assert build_selector(parts.scenario)
    assert built
