"""What a run was computed from but for its seed: scenario, what files held, own code."""

import json

import pytest

from neulite_sim.results.study import fixed_samples, not_told_apart, study_of

FILE = {"bytes": 3, "sha256": "a" * 64}
FOLDER = {"by": "content", "files": 2, "bytes": 9, "parts": {"train/x": "1", "train/y": "2"}}


def study(place="/here/t.csv", *, seed=1, record=None, inputs=True, **made):
    """Return the study of a run whose data are in a file at a place."""
    scenario = {"name": "x", "seed": seed, "data": {"kind": "csv", "path": place}, "stop": {"rounds": 3}}
    return study_of(
        scenario, {**({"inputs": {"data.path": {"path": place, **(record or FILE)}}} if inputs else {}), **made}
    )


def said(first, other, **how):
    return [str(each) for each in first.others(other, **how)]


@pytest.mark.parametrize(
    "other",
    [study(seed=2), study("/there/t.csv"), study("/there/u.csv"), study(record={**FILE, "beside": {"h.py": "1"}})],
)
def test_a_seed_and_the_place_of_a_file_make_no_other_study(other):
    assert other.text == study().text
    assert said(study(), other) == said(other, study()) == []


def test_the_ending_of_a_file_says_how_it_is_read_and_that_of_a_folder_nothing():
    assert study("/here/t.csv").text != study("/here/t.tsv").text
    assert study("/here/a.old", record=FOLDER).text == study("/here/b", record=FOLDER).text


@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        (study(), study(record={**FILE, "sha256": "b" * 64}), "t.csv (data.path) held something else"),
        (study(), study(record={**FILE, "bytes": 4}), "t.csv (data.path) held something else"),
        (study("/d", record=FOLDER), study("/e", record={**FOLDER, "parts": {"train/x": "1", "train/y": "3"}}),
         "e/train/y (data.path) held something else"),
        (study("/d", record=FOLDER), study("/d", record={**FOLDER, "parts": {"train/z": "1"}}),
         "d/train/x and 2 more (data.path) held something else"),
        (study("/d", record=FOLDER), study("/d", record={**FOLDER, "by": "names and sizes"}),
         "d (data.path) held something else"),
        (study(record={**FILE, "beside": {"h.py": "1"}}), study(record={**FILE, "beside": {"h.py": "2"}}),
         "h.py, which own code imports, (data.path) held something else"),
        (study(registered={"method": "1"}), study(registered={"method": "2"}),
         "registered code or data (method) held something else"),
        (study(registered={"method": "1"}), study(), "registered code or data (method) held something else"),
        (study(flower={"sha256": "1", "run_config": {}}), study(flower={"sha256": "1", "run_config": {"lr": 2}}),
         "the Flower app, or a value it was started with, (flower) held something else"),
        (study(data_sha256="1"), study(data_sha256="2"), "the samples of own code (data) held something else"),
        (study(), study(record={"missing": "too large"}), "t.csv (data.path) has no checksum of what it held"),
        (study(), study(inputs=False), "t.csv (data.path) has no checksum of what it held"),
        (study("/a/t.csv", inputs=False), study("/b/t.csv", inputs=False),
         "t.csv (data.path) has no checksum of what it held"),
    ],
)  # fmt: skip
def test_what_was_read_makes_another_study_and_is_named(first, other, words):
    assert first.text == other.text
    assert said(first, other) == [words]
    assert len(said(other, first)) == 1


def test_samples_of_own_code_may_go_by_the_seed_unless_two_seeds_had_the_same():
    by_seed = [study(seed=seed, data_sha256=str(seed)) for seed in (1, 2, 3)]
    assert said(by_seed[0], by_seed[1], fixed=fixed_samples(by_seed)) == []
    assert list(not_told_apart(by_seed)) == [
        "own code gave other samples to other seeds; whether by nothing but the seed is not known"
    ]
    changed = [study(seed=1, data_sha256="1"), study(seed=2, data_sha256="1"), study(seed=3, data_sha256="2")]
    fixed = fixed_samples(changed)
    assert said(changed[0], changed[2], fixed=fixed) == ["the samples of own code (data) held something else"]
    assert said(changed[0], changed[1], fixed=fixed) == []


def test_what_nothing_tells_of_runs_that_count_as_one_study_is_said():
    old = study(inputs=False)
    assert list(not_told_apart([old, study(seed=2, inputs=False)])) == [
        "no checksum tells what t.csv (data.path) held, so whether all of these runs read the same is not known"
    ]
    large = {**FOLDER, "by": "names and sizes"}
    assert list(not_told_apart([study("/a/d", record=large), study("/b/d", record=large)])) == [
        "d (data.path) lay in several places, which were compared by the names and sizes of files"
    ]
    assert list(not_told_apart([study("/a/d", record=large), study("/a/d", seed=2, record=large)])) == []
    assert list(not_told_apart([old])) == list(not_told_apart([study(), study(seed=2)])) == []


def test_a_section_is_left_out_with_the_files_that_it_names():
    groups = [{"device": "x", "link": {"downlink": {"trace": "/a/n.csv"}}}]
    scenario = {"seed": 1, "population": {"groups": groups, "availability": {"kind": "trace", "path": "/a/on.csv"}}}
    inputs = {"population.groups.0.link.downlink.trace": {"path": "/a/n.csv", **FILE},
              "population.availability.path": {"path": "/a/on.csv", **FILE}}  # fmt: skip
    first = study_of(scenario, {"inputs": inputs})
    assert "/a/" not in first.text
    inputs = {key: {**record, "sha256": "c" * 64} for key, record in inputs.items()}
    other = study_of(scenario, {"inputs": inputs})
    assert said(first.without("population.availability"), other.without("population.availability")) == [
        "n.csv (population.groups.0.link.downlink.trace) held something else"
    ]
    assert "availability" not in json.loads(first.without("population.availability").text)["population"]
    assert said(first.only("data"), other.only("data")) == []


def test_the_path_after_the_colon_of_a_kind_is_a_place():
    def model(place):
        scenario = {"seed": 1, "model": {"kind": f"transformers:{place}", "blocks": 2}}
        return study_of(scenario, {"inputs": {"model.kind": {"path": place, **FOLDER}}})

    assert model("/a/b").text == model("/c/d").text
    assert json.loads(model("/a/b").text)["model"]["kind"] == "transformers:"


@pytest.mark.parametrize("made", [{"inputs": None}, {"inputs": {"data.path": "x", "a.9.b": {}}}, {"registered": 3}])
def test_a_provenance_that_somebody_changed_is_no_error(made):
    changed = study_of({"seed": 1, "data": {"path": "t.csv"}, "a": [1]}, made)
    assert changed.others(study())
