"""Memory-budget studies of a fleet that can be counted by hand."""

from __future__ import annotations

import json

import pytest
from whatif_fleet import OWN_BYTES, entrant, written, written_profiles

from neulite_sim.errors import ScenarioError
from neulite_sim.studies import shared_profiler, whatif
from neulite_sim.studies.shared_profiler import SharedProfiler
from neulite_sim.studies.whatif import Budgets, study

ROW = {"method", "budget_bytes", "participation_rate", "data_share", "binding_submodel", "round_s", "bytes_per_round"}


def answered(kind, values, *methods):
    with written_profiles():
        return study([entrant(method) for method in methods], Budgets(kind=kind, values=values))


def test_the_report_has_the_keys_that_scripts_rely_on_and_is_json():
    report = answered("memory", (300, 900), "neulite", "fedavg")
    assert all(row.keys() >= ROW for row in report["rows"])
    assert report["includes_everyone_at_bytes"] == {"neulite": 300, "fedavg": 900}
    assert json.loads(json.dumps(report)) == report


def test_with_one_budget_for_all_the_next_submodel_binds():
    """NeuLite's stages need 300 and 500 bytes."""
    rows = answered("memory", (299, 300, 499, 500), "neulite")["rows"]
    found = [(row["budget_bytes"], row["participation_rate"], row["binding_submodel"], row["short_devices"],
              row["shortfall_bytes_median"], row["shortfall_bytes_max"]) for row in rows]  # fmt: skip
    assert found == [
        (299, 0.0, "stage-2", 6, 1, 1),
        (300, 1.0, "stage-1", 6, 200, 200),
        (499, 1.0, "stage-1", 6, 1, 1),
        (500, 1.0, None, 0, None, None),
    ]


def test_scaled_budgets_are_the_fleets_own():
    """Half of 200 to 1000 bytes is 100 to 500: three devices (225 up) are short of 300 with 225, 250 and 400 above."""
    (half, own) = answered("scale", (0.5, 1.0), "neulite")["rows"]
    assert (half["scale"], half["participation_rate"], half["binding_submodel"]) == (0.5, 2 / 6, "stage-2")
    # Missing to 300: 200, 150, 75, 50.
    assert (half["short_devices"], half["shortfall_bytes_median"], half["shortfall_bytes_max"]) == (4, 112, 200)
    assert (own["participation_rate"], own["data_share"]) == (5 / 6, pytest.approx(5 / 6))
    assert (own["short_devices"], own["shortfall_bytes_max"]) == (1, 100)
    assert half["budget_bytes"] == int((225 + 250) / 2)


def test_capped_budgets_only_fall():
    rows = answered("cap", (250, 400, 10_000), "neulite")["rows"]
    assert [row["participation_rate"] for row in rows] == [0.0, 5 / 6, 5 / 6]


def test_thresholds_of_the_fleets_own_budgets():
    scaled = answered("scale", (1.0,), "neulite", "heterofl")
    assert scaled["includes_everyone_at_scale"] == {"neulite": 300 / 200, "heterofl": 100 / 200}
    capped = answered("cap", (400,), "neulite", "heterofl")
    assert capped["includes_everyone_at_cap_bytes"] == {"neulite": None, "heterofl": 100}


def test_everything_is_trained_from_the_largest_submodel_on():
    report = answered("memory", (900,), "neulite", "heterofl", "depthfl")
    assert report["trains_everything_at_bytes"] == {"neulite": 500, "heterofl": 900, "depthfl": 950}


def test_data_share_counts_samples_not_devices():
    with written_profiles():
        uneven = entrant("fedavg", "data.partition={kind: dirichlet, alpha: 0.3}", "data.train_samples=90")
        ((_, costing),), _ = whatif.costings([uneven])
        (row,) = study([uneven], Budgets(kind="scale", values=(1.0,)))["rows"]
    sizes = costing.partition.sizes
    able = [device for device, memory in enumerate(OWN_BYTES) if memory >= 900]
    assert len(set(sizes.tolist())) > 1
    assert row["data_share"] == pytest.approx(sum(int(sizes[device]) for device in able) / 90)


def test_without_a_memory_limit_everybody_takes_part():
    report = answered("memory", (1,), "{kind: fedavg, memory_limit: false}")
    (row,) = report["rows"]
    assert (row["participation_rate"], row["binding_submodel"]) == (1.0, None)
    assert list(report["includes_everyone_at_bytes"].values()) == [0]


def test_each_device_class_says_what_it_lacks():
    rows = answered("memory", (1,), "neulite")["device_classes"]
    assert [(row["submodel"], row["needed_bytes"], row["memory_bytes_min"], row["memory_bytes_median"],
             row["missing_bytes_min"], row["missing_bytes_median"], row["fits_devices"]) for row in rows] == [
        ("stage-2", 300, 200, 475, 100, 0, 5),
        ("full", 900, 200, 475, 700, 425, 1),
    ]  # fmt: skip


def test_submodels_stand_in_the_methods_order_with_the_rounds_of_their_stage():
    rows = answered("scale", (1.0,), "neulite")["submodels"]
    assert [(row["submodel"], row["peak_memory_bytes"], row["fits_share"], row["share_of_rounds"]) for row in rows] == [
        ("stage-1", 500, 0.5, 0.5),
        ("stage-2", 300, 5 / 6, 0.5),
    ]


def test_smaller_batches_lower_what_is_needed():
    shrinking = entrant("fedavg", "training.batch_size=4", "training.shrink_batch={minimum: 2}")
    with written_profiles(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("neulite_sim.engine.charging.profile_submodel", _by_batch)
        report = study([shrinking], Budgets(kind="memory", values=(470, 900)))
    # 40 bytes of parameters and 860 of activations at batch 4, 430 at batch 2.
    assert report["includes_everyone_at_bytes"] == {"fedavg": 470}
    assert [row["participation_rate"] for row in report["rows"]] == [1.0, 1.0]


def _by_batch(method, submodel, charged, training, profiler=None):
    del method, charged, profiler
    whole = written(submodel, lambda: None, batch_size=training.batch_size)
    memory = whatif.replace(whole.memory, activations=860 * training.batch_size // 4)
    return whatif.replace(whole, memory=memory)


def test_the_full_model_is_profiled_once_for_all_methods_that_train_it_plainly():
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_profiler, "profile", lambda submodel, build, **how: asked.append(submodel) or written(
            submodel, build, **how))  # fmt: skip
        study([entrant(name) for name in ("fedavg", "exclusivefl", "neulite")], Budgets(kind="memory", values=(900,)))
    assert asked == ["full", "stage-1", "stage-2"]


def test_another_batch_size_is_another_profile():
    profiler, asked = SharedProfiler(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_profiler, "profile", lambda submodel, build, **how: asked.append(how["batch_size"]) or written(
            submodel, build, **how))  # fmt: skip
        for batch_size in (5, 6, 5):
            found = entrant("fedavg", f"training.batch_size={batch_size}")
            whatif.charge(whatif.prepare(found.scenario), profiler)
    assert asked == [5, 6]


def test_a_method_that_does_not_go_with_the_model_is_listed_with_its_reason():
    with written_profiles():
        report = study(
            [entrant("heterofl", "model=logistic"), entrant("fedavg", "model=logistic")],
            Budgets(kind="memory", values=(900,)),
        )
    assert [row["variant"] for row in report["rows"]] == ["fedavg"]
    (reason,) = report["not_applicable"].values()
    assert "method heterofl trains logistic at several widths, but no width makes it thinner" in reason


def test_with_no_method_left_the_problems_of_all_are_told():
    with written_profiles(), pytest.raises(ScenarioError, match="heterofl trains logistic at several widths"):
        study([entrant("heterofl", "model=logistic")], Budgets(kind="memory", values=(900,)))


def test_what_the_study_leaves_out_is_noted():
    with written_profiles():
        moving = entrant("fedavg", "population.memory_motion={kind: walk, step: 0.1}", "protocol=fedbuff")
        notes = study([moving], Budgets(kind="scale", values=(1.0,)))["notes"]
    assert notes == [
        "Available memory moves in this scenario; the study takes each device's nominal memory.",
        "Round times are those of synchronous rounds; the scenario's protocol is fedbuff.",
    ]
