"""The shape that `profile --json` promises, its numbers against the ledger, and the audit."""

import json

import numpy as np
import pytest
from tiny_scenarios import tiny, waves

from neulite_sim.engine.assembly import assemble
from neulite_sim.studies.costs import cost_report

pytestmark = pytest.mark.usefixtures("shared_profiles")

ENTRY = {
    "method", "submodel", "batch_size", "parameters", "trainable_parameters", "peak_memory_bytes", "memory_bytes",
    "flops_per_step", "bytes_down", "bytes_up", "fits_share", "seconds_per_flight",
}  # fmt: skip
CATEGORIES = {"parameters", "gradients", "optimizer", "activations", "inputs", "temporaries"}


@pytest.fixture(scope="module")
def costing():
    return assemble(waves("population.groups.0.share=3"))


@pytest.fixture(scope="module")
def report(costing):
    return cost_report(costing)


def test_the_report_has_the_keys_that_scripts_rely_on(report):
    assert {"participation_rate", "submodels"} <= report.keys()
    for entry in report["submodels"]:
        assert entry.keys() >= ENTRY
        assert entry["memory_bytes"].keys() == CATEGORIES
        assert not any(key.startswith("audited") for key in entry)


def test_the_report_is_json(report):
    assert json.loads(json.dumps(report)) == report


def test_every_submodel_stands_in_order_and_the_full_model_beside_them(report):
    assert [entry["submodel"] for entry in report["submodels"]] == ["stage-1", "stage-2", "full"]
    assert [entry["is_reference"] for entry in report["submodels"]] == [False, False, True]
    assert {entry["method"] for entry in report["submodels"]} == {"neulite"}


def test_memory_adds_up_to_the_peak_and_bytes_travel_as_floats(report):
    for entry in report["submodels"]:
        assert sum(entry["memory_bytes"].values()) == entry["peak_memory_bytes"]
        assert entry["bytes_down"] == 4 * entry["parameters"]
        assert entry["bytes_up"] == 4 * entry["trainable_parameters"]
        assert entry["batch_size"] == 32


def test_shares_of_the_fleet_are_counted_over_all_devices(costing, report):
    memory = costing.population.available_memory_bytes
    for entry in report["submodels"]:
        assert entry["fits_share"] == np.mean(memory >= entry["peak_memory_bytes"])
    smallest = min(entry["peak_memory_bytes"] for entry in report["submodels"][:2])
    assert report["participation_rate"] == np.mean(memory >= smallest)
    assert 0 < report["participation_rate"] < 1


def test_a_method_without_a_memory_limit_lets_everybody_take_part():
    method = "method={kind: fedavg, memory_limit: false}"
    found = cost_report(assemble(tiny(method, "population.available_memory={kind: uniform, low: 1kB, high: 1kB}")))
    assert found["participation_rate"] == 1.0
    assert found["submodels"][0]["fits_share"] == 0.0


def test_seconds_are_means_over_the_devices_of_each_class(costing, report):
    fleet = costing.population
    for entry in report["submodels"]:
        seconds = costing.ledger.total_s(entry["submodel"], np.arange(fleet.num_devices))
        assert list(entry["seconds_per_flight"]) == ["jetson-nano-4gb", "raspberry-pi-4-4gb"]
        for index, mean_s in enumerate(entry["seconds_per_flight"].values()):
            assert mean_s == pytest.approx(seconds[fleet.class_index == index].mean())


def test_the_audit_measures_what_was_predicted():
    found = cost_report(assemble(tiny("model=cnn", "training.batch_size=10")), audits=True)
    entry = found["submodels"][0]
    assert entry["audited_memory_bytes"].keys() == CATEGORIES
    assert sum(entry["audited_memory_bytes"].values()) == entry["audited_peak_memory_bytes"]
    assert entry["audited_peak_memory_bytes"] == pytest.approx(entry["peak_memory_bytes"], rel=0.03)


def test_a_fleet_that_fits_nothing_is_reported_with_participation_zero():
    report = cost_report(assemble(tiny("population.available_memory={kind: uniform, low: 10B, high: 20B}")))
    assert report["participation_rate"] == 0.0
    assert [entry["fits_share"] for entry in report["submodels"]] == [0.0]
