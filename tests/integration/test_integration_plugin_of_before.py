"""What was written for version 0.1.0 from its guides runs unchanged: a method, a dataset, a model, a selector, a protocol.

`tests/plugin_of_0_1` holds the code of those guides as it was, and is never edited with them.
"""

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from neulite_sim import registry
from neulite_sim.data.conformance import check_dataset
from neulite_sim.engine.simulation import simulate
from neulite_sim.methods.conformance import check_method
from neulite_sim.models.conformance import check_architecture
from neulite_sim.models.contract import Blueprint
from neulite_sim.registry import component
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.selection.conformance import check_selector

OLD = Path(__file__).parents[1] / "plugin_of_0_1"


@pytest.fixture(scope="module", autouse=True)
def installed():
    """Put the folder on the path, as that of any installed package is, and take it off again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(OLD)
        registry.forget_installed()
        yield
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent == OLD:
            del sys.modules[name]
    importlib.invalidate_caches()
    registry.forget_installed()


def test_the_method_of_the_guide_runs_and_does_what_the_guide_said():
    flights = simulate(load_scenario(OLD / "lastblock.yaml")).flights
    trained = Counter((flight["submodel"], flight["available_memory_bytes"] // 10**6) for flight in flights)
    assert trained == {("last-block", 4): 17, ("full", 8): 7}


def test_a_dataset_a_model_a_selector_and_a_method_run_together_and_with_a_protocol():
    changes = ["stop.rounds=3", "protocol={kind: breaks, seconds: 100}"]
    plain, rested = (simulate(load_scenario(OLD / "extras.yaml", more)) for more in (changes[:1], changes))
    assert [row["selected"] for row in rested.rounds] == [4, 4, 4]
    # Only when a round begins depends on the break, so the devices learn the same.
    times_s = [[row["virtual_time_s"] for row in result.rounds] for result in (plain, rested)]
    assert [later_s - s for s, later_s in zip(*times_s, strict=True)] == pytest.approx([0.0, 100.0, 200.0])
    losses = [[row["train_loss"] for row in result.rounds] for result in (plain, rested)]
    assert losses[0] == losses[1]
    assert max(Counter(flight["device"] for flight in rested.flights).values()) == 2


def test_the_checks_that_its_author_runs_are_called_as_before():
    bars, small = component("data", "bars"), component("model", "small")
    median, rotation = component("method", "median"), component("selection", "rotation")
    check_dataset(bars.build(bars.options(samples=20), 0))
    check_architecture(small.build(small.options()), input_shape=(1, 8, 8), num_classes=2)
    check_selector(lambda setting: rotation.build(rotation.options(), setting))
    blueprint = Blueprint(architecture=small.build(small.options()), input_shape=(1, 8, 8), num_classes=2)
    check_method(median, blueprint)
    check_method(component("method", "lastblock"), blueprint)
