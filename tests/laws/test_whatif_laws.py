"""Laws of memory-budget studies: more memory excludes nobody, and thresholds are exact to the byte."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whatif_fleet import entrant, written_profiles

from neulite_sim.reports.whatif_table import whatif_tables
from neulite_sim.studies.whatif import Budgets, costings, least_peaks, study
from neulite_sim.studies.whatif_stages import expected_maximum
from neulite_sim.studies.whatif_training import budgeted

METHODS = ("fedavg", "allsmall", "heterofl", "depthfl", "progfed", "profl", "neulite")


@pytest.fixture(scope="module")
def entrants():
    return [entrant(name) for name in METHODS]


@pytest.mark.parametrize("kind", ["memory", "scale", "cap"])
def test_participation_and_data_share_never_fall_with_the_budget(kind, entrants):
    values = (0.1, 0.4, 0.9, 1.0, 1.7, 3.0) if kind == "scale" else (90, 100, 299, 300, 451, 900, 951, 5000)
    with written_profiles():
        rows = study(entrants, Budgets(kind=kind, values=values))["rows"]
    for _, group in itertools.groupby(rows, key=lambda row: row["variant"]):
        for less, more in itertools.pairwise(group):
            assert less["participation_rate"] <= more["participation_rate"]
            assert less["data_share"] <= more["data_share"]


def test_one_byte_less_than_the_threshold_excludes_somebody(entrants):
    with written_profiles():
        thresholds = study(entrants, Budgets(kind="memory", values=(1,)))["includes_everyone_at_bytes"]
        for found in entrants:
            at = thresholds[found.variant]
            below, exact = study([found], Budgets(kind="memory", values=(at - 1, at)))["rows"]
            assert below["participation_rate"] < 1
            assert exact["participation_rate"] == 1


COSTS = ("participation_rate", "binding_submodel", "round_s", "bytes_down_per_round", "bytes_up_per_round")


@pytest.mark.parametrize("kind", ["memory", "scale", "cap"])
def test_a_budget_is_priced_as_the_fleet_that_has_it_for_its_own(kind):
    """SLT chooses its submodels by the fleet: thin ones, then more of them, the whole model in the end."""
    values = (0.5, 2.0, 40.0) if kind == "scale" else (100, 400_000, 1_000_000, 1_500_000, 4_000_000)
    memory = "population.available_memory.values=[1500000, 1200000, 800000, 20000, 600000, 90000]"
    budgets = Budgets(kind=kind, values=values)
    for name in ("slt", "fedavg"):
        given = entrant(name, memory)
        found = study([given], budgets)
        for value, row in zip(values, found["rows"], strict=True):
            other = replace(given, scenario=budgeted(given.scenario, budgets, value))
            own = study([other], Budgets(kind="scale", values=(1.0,)))
            assert {key: row[key] for key in COSTS} == {key: own["rows"][0][key] for key in COSTS}
            here = [item for item in found["submodels"] if item.get("scale", item["budget_bytes"]) == value]
            assert [item["submodel"] for item in here] == [item["submodel"] for item in own["submodels"]]
    assert found["notes"] == []


def test_the_threshold_of_a_method_that_looks_at_the_fleet_is_exact():
    found = entrant("slt")
    given = study([found], Budgets(kind="memory", values=(1,)))
    at = given["includes_everyone_at_bytes"]["slt"]
    below, exact = study([found], Budgets(kind="memory", values=(at - 1, at)))["rows"]
    assert below["participation_rate"] < exact["participation_rate"] == 1
    assert given["notes"] == [
        "slt chooses its submodels by the fleet: at each budget it has those of a run with that memory."
    ]


def test_a_submodel_that_a_budget_does_not_have_is_told_from_one_that_nobody_holds():
    found = study([entrant("slt")], Budgets(kind="memory", values=(100, 4_000_000)))
    table = next(table for table in whatif_tables(found, width=None, details=True) if "each submodel" in table.title)
    shares = {row[0]: row[-2:] for row in table.rows}
    assert shares.pop("slt full") == ("NA", "100")
    assert set(shares.values()) == {("0", "NA")}
    assert table.notes[-1] == "NA: the method chooses its submodels by the fleet, and at this budget it has others."


@pytest.mark.slow
def test_the_threshold_of_real_profiles_is_exact_where_devices_merge_their_last_batch():
    """Eleven samples in batches of five leave one, which joins the batch before: some devices need a larger step."""
    found = entrant("neulite", "training.batch_size=5", "data.train_samples=63")
    at = study([found], Budgets(kind="memory", values=(1,)))["includes_everyone_at_bytes"]["neulite"]
    below, exact = study([found], Budgets(kind="memory", values=(at - 1, at)))["rows"]
    assert 0 < below["participation_rate"] < 1
    assert exact["participation_rate"] == 1


def test_the_factor_of_the_threshold_includes_everybody_and_a_smaller_one_does_not(entrants):
    with written_profiles():
        factors = study(entrants, Budgets(kind="scale", values=(1.0,)))["includes_everyone_at_scale"]
        for found in entrants:
            at = factors[found.variant]
            below, exact = study([found], Budgets(kind="scale", values=(at * 0.99, at)))["rows"]
            assert below["participation_rate"] < exact["participation_rate"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), st.integers(1, 9))
def test_an_expected_maximum_lies_among_the_values_and_grows_with_the_draw(values, count):
    column = np.array(values)
    found = expected_maximum(column, count)
    assert column.min() - 1e-6 <= found <= column.max() + 1e-6
    assert found <= expected_maximum(column, count + 1) + 1e-6 * (1 + column.max())


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ("head-only", "training.prefix_cache=device"), ("cocofl", "training.prefix_cache=device"),
        ("fedavg", "training.batch_size=4"), ("{kind: fedavg, memory_limit: false}", "training.batch_size=4"),
        ("depthfl", "training.batch_size=4"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("slack_bytes", [0, 1])
def test_a_class_lacks_memory_where_a_device_is_short_of_its_own_need_and_nowhere_else(method, training, slack_bytes):
    """Needs differ with the features that devices keep and with batches that are merged; budgets are these needs."""
    partition = "data.partition={kind: quantity, alpha: 0.4}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whatif_fleet.OWN_BYTES", (10**9,) * 6)
        ((_, costing),), _ = costings([entrant(method, training, partition)])
    own = [least_peaks(costing, name) for name in costing.method.submodels]
    needs = np.minimum.reduce(own).tolist()
    assert len(set(needs)) > 1
    given = f"population.available_memory.values={[need - slack_bytes for need in needs]}"
    found = study([entrant(method, training, partition, given)], Budgets(kind="scale", values=(1.0,)))
    first = found["device_classes"][0]
    is_short = slack_bytes > 0
    assert (first["missing_bytes_min"], first["missing_bytes_median"]) == (slack_bytes, slack_bytes)
    assert first["fits_devices"] == (0 if is_short else 6)
    for row in found["device_classes"]:
        assert (row["missing_bytes_min"] > 0) is (row["fits_devices"] < row["devices"])
        assert row["missing_bytes_min"] >= row["missing_bytes_median"]
    if costing.method.enforces_memory:
        assert found["rows"][0]["participation_rate"] == (0 if is_short else 1)


def test_columns_are_shared_only_by_methods_that_lack_the_same():
    report = study([entrant("fedavg"), entrant("heterofl")], Budgets(kind="scale", values=(1.0,)))
    rows = report["device_classes"]
    full = [row for row in rows if row["submodel"] == "full"]
    assert [row["variant"] for row in full] == ["fedavg", "heterofl"]
    heads = [table.headers for table in whatif_tables(report) if "own memory" in table.headers]
    full[0]["missing_bytes_min"] += 5_000_000
    more = [table.headers for table in whatif_tables(report) if "own memory" in table.headers]
    assert len(more[0]) == len(heads[0]) + 1
