"""Runs on tables, arrays and vectors: what reads them learns, what does not says so, and feature skew repeats."""

import re

import numpy as np
import pytest
from tiny_scenarios import tiny

from neulite_sim.engine import assembly
from neulite_sim.engine.conflicts import survey_data
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.models.contract import _reads_any_samples
from neulite_sim.registry import component, load, names
from neulite_sim.scenario.inputs import input_records
from neulite_sim.seeding import stream

pytestmark = pytest.mark.usefixtures("shared_profiles")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A table that a line separates: who is older than their town's mean."""
    folder = tmp_path_factory.mktemp("people")
    rng = stream(0, "tests")
    age, town = rng.normal(40, 10, 120), rng.integers(0, 2, 120)
    old = age > 35 + 10 * town
    lines = [
        f"{a:.2f},{'AB'[t]},{'person ' + str(n % 6)},{'yes' if o else 'no'}"
        for n, (a, t, o) in enumerate(zip(age, town, old, strict=True))
    ]
    (folder / "people.csv").write_text("\n".join(["age,town,who,label", *lines]))
    return folder / "people.csv"


def of_people(people, *more):
    return tiny(f"data={{kind: csv, path: {people}, group: who, partition: natural}}", *more)


@pytest.mark.parametrize("method", ["fedavg", "neulite"])
def test_a_table_is_learned_from_its_owners(people, method):
    result = simulate(of_people(people, f"method={method}", "stop.rounds=12", "training.learning_rate=0.5",
                                "population.available_memory={kind: uniform, low: 1GB, high: 1GB}"))  # fmt: skip
    assert result.summary["final_accuracy"] > 0.85
    assert result.summary["data_share"] == 1


def test_the_file_of_a_table_is_part_of_the_run(people):
    records = input_records(of_people(people))
    assert records["data.path"]["sha256"]


def reads_images_only(kind):
    """Return whether a model that needs no options is called with the shape of an image."""
    found = component("model", kind)
    needs = any(info.is_required() for info in found.options.model_fields.values())
    return not needs and not _reads_any_samples(found.build(found.options()))


@pytest.mark.parametrize("kind", [kind for kind in names("model") if not load("model", kind).takes_argument])
def test_what_reads_images_only_refuses_a_table(people, kind):
    if not reads_images_only(kind):
        pytest.skip(f"{kind} reads more than images, or needs options")
    with pytest.raises(
        ScenarioError, match=f"model: {kind} reads images only, and the samples of data are rows of 3 numbers"
    ):
        assembly.prepare(of_people(people, f"model={kind}"))


def test_logistic_refuses_tokens(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(60).reshape(20, 3) % 9, y=np.arange(20) % 2)
    with pytest.raises(
        ScenarioError,
        match="model: logistic reads numbers with one target, and the samples of data are sequences of 3 out of 9 tokens",
    ):
        assembly.prepare(tiny(f"data={{kind: array, path: {tmp_path / 'a.npz'}, inputs: tokens}}"))


def test_a_partition_of_another_package_gets_its_name(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "neulite_sim.data.flwr_partitions.deal_flwr", lambda *given, **options: seen.append(options) or stop()
    )
    with pytest.raises(ScenarioError, match="enough"):
        assembly.prepare(tiny("data.partition={kind: 'flwr-datasets:LinearPartitioner', options: {shuffle: true}}"))
    assert seen[0]["partitioner"] == "LinearPartitioner"
    assert seen[0]["arguments"] == {"shuffle": True}


def stop():
    from neulite_sim.errors import Problem

    raise ScenarioError([Problem(key="data.partition", message="enough")])


@pytest.mark.parametrize("skew", ["{kind: noise, strength: 2}", "{kind: rotation}"])
def test_feature_skew_changes_what_is_learned_and_not_when(skew):
    plain, skewed = (simulate(tiny("stop.rounds=2", *more)) for more in ((), (f"data.feature_skew={skew}",)))
    assert plain.summary["digest"] != skewed.summary["digest"]
    assert [row["ended_s"] for row in plain.flights] == [row["ended_s"] for row in skewed.flights]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{kind: csv, path: none.csv}", "none.csv is not there; data.path names a CSV file with a header"),
        ("{kind: csv, path: .}", "is a folder; data.path names a CSV file with a header"),
        ("{kind: array, path: none.npz}", "none.npz is not there; data.path names an .npz file"),
        ("{kind: huggingface, path: none}", "none is not there; data.path names a folder made by save_to_disk"),
    ],
)
def test_a_check_without_reading_finds_files_that_are_not_there(data, words):
    with pytest.raises(DataNotFoundError, match=re.escape(words)):
        survey_data(tiny(f"data={data}"))
    assert survey_data(tiny()) == ()
