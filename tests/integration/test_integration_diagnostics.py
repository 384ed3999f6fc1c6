"""Diagnostics of a run: a table beside the others, which changes nothing else and comes back after a break."""

import json

import numpy as np
import pytest
import torch
from broken_runs import BreakAfter, Broken
from tiny_scenarios import TINY, WAVES, tiny

from neulite_sim.engine import assembly, building
from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.methods.nhsic import feature_kernel, label_kernel, nhsic
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.seeding import stream
from neulite_sim.training.worker import Worker

PLANE = {"every_rounds": 2, "diagnostics": ["nhsic_plane"], "diagnostic_samples": 40}


def waves(**changes):
    return parse_scenario({**WAVES, "evaluation": PLANE, "checkpoint": {"every_rounds": 3}, **changes})


def without_clock(rows):
    return [{**row, "wall_time_s": 0} for row in rows]


@pytest.mark.slow
def test_they_change_nothing_but_the_digest_and_a_table_of_their_own(tmp_path):
    plain = simulate(waves(evaluation={"every_rounds": 2}), out=tmp_path / "plain")
    told = simulate(waves(), out=tmp_path / "told")
    assert {path.name for path in (tmp_path / "told").iterdir()} - {
        path.name for path in (tmp_path / "plain").iterdir()
    } == {"diagnostics.csv"}
    for table in ("rounds", "flights", "denials"):
        assert without_clock(getattr(told, table)) == without_clock(getattr(plain, table))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "told")]
    assert weights[0] == weights[1]
    assert told.summary["digest"] != plain.summary["digest"]
    assert plain.diagnostics == read_run(tmp_path / "plain").diagnostics() == []
    assert told.diagnostics == read_run(tmp_path / "told").diagnostics() == simulate(waves()).diagnostics


def test_every_block_is_measured_at_each_test_and_only_then():
    result = simulate(waves())
    tested = [(row["round"], row["virtual_time_s"]) for row in result.rounds if row["test_accuracy"] is not None]
    assert [(row["round"], row["virtual_time_s"], row["name"], row["block"]) for row in result.diagnostics] == [
        (*test, name, block) for test in tested for block in (1, 2) for name in ("nhsic_x", "nhsic_y")
    ]
    assert all(0 <= row["value"] <= 1 for row in result.diagnostics)
    assert len({row["value"] for row in result.diagnostics}) == len(result.diagnostics), "the model moves"


def test_a_model_of_one_identity_block_gives_what_the_images_alone_give():
    """The block of the logistic model passes images on, so nHSIC(X; Z) is 1 and nHSIC(Y; Z) is that of the images."""
    given = tiny("evaluation.diagnostics=[nhsic_plane]", "evaluation.diagnostic_samples=40")
    dataset = assembly.prepare(given).dataset
    chosen = stream(given.seed, "diagnostics").choice(60, 40, replace=False)
    images = torch.from_numpy(np.asarray(dataset.train_images[chosen], dtype=np.float64)).flatten(1)
    images = (images / dataset.pixel_scale - dataset.mean[0]) / dataset.std[0]
    labels = label_kernel(torch.from_numpy(dataset.train_labels[chosen]), dataset.num_classes, 5.0)
    expected = float(nhsic(feature_kernel(images, 5.0), labels, form="ratio", epsilon=0.0)[0])
    values = {name: [row["value"] for row in simulate(given).diagnostics if row["name"] == name]
              for name in ("nhsic_x", "nhsic_y")}  # fmt: skip
    assert values == {
        "nhsic_x": [pytest.approx(1.0, abs=1e-14)] * 4,
        "nhsic_y": [pytest.approx(expected, rel=1e-5)] * 4,
    }


def test_a_sample_beyond_the_training_set_is_the_training_set():
    wide, whole = (
        simulate(tiny("evaluation.diagnostics=[nhsic_plane]", f"evaluation.diagnostic_samples={n}")).diagnostics
        for n in (500, 60)
    )
    assert wide == whole


@pytest.mark.slow
def test_a_resumed_run_has_the_rows_of_an_unbroken_one(tmp_path, monkeypatch):
    whole = simulate(waves(), out=tmp_path / "whole")
    with pytest.raises(Broken):
        simulate(waves(), out=tmp_path / "run", observers=[BreakAfter(5)])
    before = (tmp_path / "run" / "diagnostics.csv").read_bytes()
    assert len(before.splitlines()) == 1 + 2 * 4
    tested = []
    evaluate = Worker.evaluate
    monkeypatch.setattr(Worker, "evaluate", lambda self, *given: tested.append(given) or evaluate(self, *given))
    result = resume(find_cut_off(tmp_path / "run"))
    assert len(tested) == 2, "the test before the checkpoint comes from the journal"
    assert result.summary["digest"] == whole.summary["digest"]
    tables = [(tmp_path / name / "diagnostics.csv").read_bytes() for name in ("whole", "run")]
    assert tables[0] == tables[1]
    assert tables[1].startswith(before)


def test_an_undefined_value_is_an_empty_cell_and_a_null_in_the_journal(tmp_path, monkeypatch):
    """A model that diverged has no finite features."""
    given = {
        **TINY,
        "model": "lenet",
        "training": {"epochs": 1, "batch_size": 5, "learning_rate": 1000, "momentum": 0.9},
    }
    result = simulate(parse_scenario({**given, "evaluation": {**PLANE, "every_rounds": 4}}), out=tmp_path / "run")
    assert [row["value"] for row in result.diagnostics] == [None] * 4
    test = json.loads((tmp_path / "run" / "journal" / "tests.jsonl").read_text())
    assert {found["value"] for found in test["diagnostics"]} == {None}


def test_tests_on_devices_for_a_selector_measure_nothing():
    parts = assembly.prepare(tiny("evaluation.diagnostics=[nhsic_plane]"))
    worker, tensors = Worker(building.workplace(parts)), parts.trained.build_seeded(1).state_dict()
    assert worker.evaluate("full", tensors, np.array([0, 1])).diagnostics == ()
    assert len(worker.evaluate("full", tensors).diagnostics) == 2


def test_a_backend_that_trains_nothing_is_refused():
    with pytest.raises(
        ScenarioError,
        match=r"^--set: evaluation.diagnostics: dry-run trains nothing and tests nothing, so there is nothing to measure; "
        "remove it, or use backend inprocess or ray$",
    ):
        simulate(tiny("evaluation.diagnostics=[nhsic_plane]", "backend=dry-run"))
