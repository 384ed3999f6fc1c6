"""Who can take part on the memory pool that the NeuLite authors published, by method and model, at batch 128."""

import importlib.util
import json
import random
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neulite_sim.cli import app
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.compatibility import require_somebody
from neulite_sim.errors import InfeasibleError
from neulite_sim.scenario.loading import load_scenario

ROOT = Path(__file__).parents[2]
BASE = ROOT / "scenarios" / "paper" / "base.yaml"
PAGE = ROOT / "docs" / "background" / "participation.md"
CONVOLUTIONAL = ("resnet18", "vgg11_bn", "squeezenet", "resnet34")
MADE_UP = ("data=synthetic", "data.samples=100", "data.test_samples=10")
REPORTED = [
    *(("resnet18", method) for method in ("allsmall", "heterofl", "fedrolex")),
    *((model, "heterofl") for model in CONVOLUTIONAL[1:]),
    *((model, method) for model in CONVOLUTIONAL for method in ("exclusivefl", "depthfl", "progfed", "neulite")),
    *(("vit", method) for method in ("exclusivefl", "neulite")),
]
"""What is profiled here, of all pairs: thin models are the same code in three methods, and deep models take long."""


def script():
    """Return docs/participation.py; each report is made once for all tests."""
    name = "docs_participation"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "participation.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def rate(model, method, batch_size=128):
    return script().report(model, method, batch_size)["participation_rate"]


def pool_mb():
    return [value // 10**6 for value in load_scenario(BASE).population.available_memory.options.values]


def test_the_pool_is_the_published_one():
    drawn = random.Random(42)
    assert pool_mb() == [drawn.randint(100, 900) for _ in range(100)]


@pytest.mark.parametrize(("threshold_mb", "devices"), [(840, 8), (506, 43), (220, 81), (112, 99), (100, 100)])
def test_as_many_devices_reach_a_published_threshold_as_the_authors_have(threshold_mb, devices):
    assert sum(memory_mb >= threshold_mb for memory_mb in pool_mb()) == devices


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method"), REPORTED)
def test_a_rate_is_the_share_of_devices_that_hold_the_smallest_submodel(model, method):
    found = script().report(model, method)
    own = [entry for entry in found["submodels"] if entry["method"] == method and not entry["is_reference"]]
    smallest = min(entry["peak_memory_bytes"] for entry in own)
    assert found["participation_rate"] == sum(value * 10**6 >= smallest for value in pool_mb()) / 100
    assert found["participation_rate"] == max(entry["fits_share"] for entry in own)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "method"), [pair for pair in REPORTED if pair[1] in ("allsmall", "heterofl", "fedrolex")]
)
def test_width_scaling_reaches_everybody(model, method):
    assert rate(model, method) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18", "resnet34", "vgg11_bn"])
def test_depthfl_and_neulite_reach_more_devices_than_the_full_model(model):
    assert rate(model, "exclusivefl") < rate(model, "depthfl") < rate(model, "neulite")


@pytest.mark.slow
def test_a_convolutional_neulite_reaches_what_its_smallest_stage_allows_and_a_smaller_batch_everybody():
    assert 0.8 <= rate("resnet18", "neulite") <= 0.86
    by_batch = [rate("resnet18", "neulite", batch_size) for batch_size in (128, 64, 32, 16)]
    assert by_batch == sorted(by_batch)
    assert by_batch[-1] == 1.0


@pytest.mark.parametrize(("model", "na"), [("resnet18", False), ("resnet34", True)])
def test_exclusivefl_tifl_and_oort_share_one_rate_and_are_not_applicable_where_nobody_holds_the_model(model, na):
    for selection in ("uniform", "tifl", "oort"):
        settings = [*MADE_UP, f"model={model}", "method=exclusivefl", f"selection={selection}"]
        options = [argument for setting in settings for argument in ("--set", setting)]
        done = CliRunner().invoke(app, ["profile", str(BASE), *options, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["participation_rate"] == rate(model, "exclusivefl")
    assert (rate(model, "exclusivefl") == 0) == na
    costing = assemble(load_scenario(BASE, [*MADE_UP, f"model={model}", "method=exclusivefl"]))
    if na:
        with pytest.raises(InfeasibleError, match="no device can train anything with method exclusivefl"):
            require_somebody(costing)
    else:
        require_somebody(costing)


def table(after):
    """Return the cells of the first table behind a text of the page, by model and heading."""
    text = PAGE.read_text(encoding="utf-8").split(after)[1]
    lines = [line for line in text.split("\n\n| ", 1)[1].split("\n\n")[0].splitlines() if "---" not in line]
    heading, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines)
    return {row[0]: dict(zip(heading[1:], row[1:], strict=True)) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method"), REPORTED)
def test_the_rates_of_the_page_are_those_of_the_profiler(model, method):
    (name,) = (name for name, kind in script().METHODS.items() if kind == method)
    cells = table("## Rates")[model]
    assert list(cells) == list(script().METHODS)
    assert cells[name].partition("%")[0] == f"{rate(model, method) * 100:.0f}"


@pytest.mark.slow
@pytest.mark.parametrize("model", CONVOLUTIONAL)
def test_the_peaks_of_the_page_are_those_of_the_profiler(model):
    cells = table("## Peaks")[model]
    for heading, method in {"width 0.5 to 0.0625": "heterofl", "grow 1 on": "progfed", "stage 1 on": "neulite"}.items():
        peaks_mb = script().peaks_mb(model, method)
        assert cells[heading] == ", ".join(f"{peak:.0f}" for name, peak in peaks_mb.items() if name != "full")
        assert cells["full"] == f"{peaks_mb['full']:.0f}"


@pytest.mark.slow
def test_the_batches_of_the_page_are_those_of_the_profiler():
    cells = table("NeuLite's rate by batch size")["resnet18"]
    for batch_size in (128, 64, 32, 16):
        found = cells[f"batch {batch_size}"].partition("%")[0]
        assert found == f"{rate('resnet18', 'neulite', batch_size) * 100:.0f}"
