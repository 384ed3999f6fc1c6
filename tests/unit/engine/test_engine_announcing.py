"""What is said of a method that is another one on this model, and of submodels that save no memory."""

import re

import pytest
from tiny_scenarios import tiny, waves

from neulite_sim.engine.announcing import announcements
from neulite_sim.engine.assembly import assemble
from neulite_sim.engine.simulation import simulate
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.studies.costs import cost_report
from neulite_sim.studies.whatif import Budgets, Entrant, study

pytestmark = pytest.mark.usefixtures("shared_profiles")


def said(*changes):
    return announcements(assemble(tiny(*changes)))


@pytest.mark.parametrize("kind", ["neulite", "progfed", "depthfl"])
def test_a_method_that_trains_by_blocks_says_that_one_block_is_the_whole_model(kind):
    first, *_ = said(f"method={kind}")
    assert first.startswith(f"{kind} trains block by block, and logistic is one block: its only submodel is the whole")


def test_methods_that_act_on_the_model_say_nothing():
    assert said("method=fedavg") == ()


def test_a_method_without_gradients_says_what_of_the_training_it_leaves_out():
    assert said("method=zeroth-order", "training.momentum=0.5") == (
        "zeroth-order takes no gradients, so these of training have no effect: epochs and momentum",
    )


def test_what_is_said_of_a_training_does_not_depend_on_whether_its_defaults_are_written_out():
    for changes, words in (
        ((), "epochs"),
        (("training.optimizer=adam",), "epochs and optimizer"),
        (("training.weight_decay=0", "training.momentum=0.9"), "epochs and weight_decay"),
    ):
        found = said("method=zeroth-order", *changes)
        assert found == (f"zeroth-order takes no gradients, so these of training have no effect: {words}",)
        written = parse_scenario(tiny("method=zeroth-order", *changes).dump())
        assert announcements(assemble(written)) == found


def test_exclusivefl_is_fedavg_with_its_limit_on_and_says_so():
    assert said("method=exclusivefl") == (
        "exclusivefl is another name of fedavg with memory_limit true: the same rows, the same digest",
    )
    digests = {simulate(tiny(f"method={kind}")).summary["digest"] for kind in ("fedavg", "exclusivefl")}
    assert len(digests) == 1


def test_a_stage_above_the_full_model_is_told_with_both_peaks_wherever_costs_are_told():
    scenario = waves()
    costing = assemble(scenario)
    peaks = {name: found.peak_memory_bytes for name, found in costing.ledger.profiles.items()}
    above = [name for name in costing.method.submodels if peaks[name] > peaks["full"]]
    assert above, peaks
    (message,) = announcements(costing)
    assert re.findall(r"[a-z]+-\d+(?= \()", message) == above
    assert message.endswith("): none is saved there")
    assert cost_report(costing)["notices"] == [message]
    entrant = Entrant(method="neulite", variant="neulite", scenario=scenario)
    assert f"neulite: {message}" in study([entrant], Budgets(kind="memory", values=(1e9,)))["notes"]
    told = []

    class Listener:
        def notify(self, event):
            told.append(getattr(event, "message", None))

    simulate(scenario, observers=[Listener()])
    assert message in told
