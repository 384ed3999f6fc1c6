"""A run that is broken off and taken up again ends as one that was not: same rows, same weights, same digest."""

import csv
import json
import shutil

import pytest
from broken_runs import broken_off, tables
from safetensors.torch import load_file
from slow_cases import some_slow
from stored_runs import resealed
from tiny_scenarios import TINY, WAVES

from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import DataNotFoundError, OutputError, ScenarioError
from neulite_sim.scenario.loading import parse_scenario
from neulite_sim.training.worker import Worker

PROTOCOLS = {
    "synchronous": "synchronous",
    "deadline": {"kind": "deadline", "over_selection": 1.5},
    "fedasync": {"kind": "fedasync", "concurrency": 3},
    "fedbuff": {"kind": "fedbuff", "concurrency": 5, "buffer_size": 2},
}
LARGE_BUFFER = {"large buffer": {"kind": "fedbuff", "concurrency": 3, "buffer_size": 6}}
METHODS = {
    "neulite": "neulite",
    "sequential": {"kind": "neulite", "schedule": "sequential", "convergence": {"max_rounds": 2}},
    "heterofl": "heterofl",
    "fedrolex": "fedrolex",
    "depthfl": {"kind": "depthfl", "feddyn_alpha": 0.1},
    "progfed": "progfed",
    "slt": {"kind": "slt", "subset": 0.9, "width_step": 0.05, "training_depths": [1, 2]},
    "fedepth": {"kind": "fedepth", "link": "conv"},
    "cocofl": "cocofl",
    "profl": {"kind": "profl", "shrinking_rounds": 2, "convergence": {"max_rounds": 2}},
}
PARTS = {
    "tail of two layers": {"kind": "neulite", "tail": 2, "surrogate": "none"},
    "random channels": {"kind": "federated-dropout", "rates": [1, 0.5]},
    "random variables": {"kind": "partial-variables", "shares": [1, 0.5]},
}
IN_ROUNDS, MIXING = ("synchronous", "deadline"), ("fedasync", "fedbuff")
RESUMED = [
    (kinds[(place + number) % 2], method)
    for place, method in enumerate(METHODS)
    for number, kinds in enumerate((IN_ROUNDS, MIXING))
]
"""Each method with a protocol of rounds, in which all are of one version, and with one that mixes versions."""
WITHOUT_FEDDYN = {"plain depthfl": "depthfl"}
CHANGES = {
    "fedrolex": {"evaluation": {"every_rounds": 2, "batch_norm": "running"}},
    # Most hold two parts, some the last block alone, and some the full model.
    "fedepth": {
        "population": {
            **WAVES["population"],
            "available_memory": {"kind": "explicit", "values": ["1600kB", *["2550kB"] * 5, *["2600kB"] * 2]},
        }
    },
}
# These hold the full model, or runs of its blocks.
CHANGES["cocofl"] = CHANGES["fedepth"]


def scenario(protocol="synchronous", method="neulite", **changes):
    given = {
        **WAVES,
        "method": {**METHODS, **WITHOUT_FEDDYN, **PARTS}[method],
        "protocol": {**PROTOCOLS, **LARGE_BUFFER}[protocol],
        "checkpoint": {"every_rounds": 3},
    }
    return parse_scenario({**given, "stop": {"rounds": 10}, **CHANGES.get(method, {}), **changes})


@pytest.mark.parametrize(("protocol", "method"), some_slow(RESUMED, lambda run: run[1] != "neulite"))
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, protocol, method):
    # FedDyn is the part of depthfl that keeps something for each device; it needs updates of the current version.
    is_stale = method == "depthfl" and protocol in ("fedasync", "fedbuff")
    given = scenario(protocol, "plain depthfl" if is_stale else method)
    whole = simulate(given, out=tmp_path / "whole")
    broken_off(tmp_path / "broken", given, 4, 8)
    result = resume(find_cut_off(tmp_path / "broken"))
    assert result.summary["digest"] == whole.summary["digest"]
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken")]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_every_method_and_every_protocol_is_resumed():
    assert {method for _, method in RESUMED} == set(METHODS)
    assert {protocol for protocol, _ in RESUMED} == set(PROTOCOLS)
    assert set(PROTOCOLS) == {*IN_ROUNDS, *MIXING}


@pytest.mark.slow
def test_several_updates_of_one_device_in_a_buffer_are_replayed_too(tmp_path):
    given = scenario("large buffer")
    whole = simulate(given, out=tmp_path / "whole")
    merged = [(row["round"], row["device"]) for row in whole.flights if row["staleness"] is not None]
    assert len(set(merged)) < len(merged)
    broken_off(tmp_path / "broken", given, 4, 8)
    assert resume(find_cut_off(tmp_path / "broken")).summary["digest"] == whole.summary["digest"]
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["synchronous", "fedbuff"])
def test_a_run_whose_devices_choose_their_plans_ends_as_an_unbroken_one(tmp_path, protocol):
    memory = {"available_memory": {"kind": "uniform", "low": "1.2MB", "high": "2.8MB"},
              "memory_motion": {"kind": "walk", "step": 0.2, "every": "1s", "reversion": 0.05}}  # fmt: skip
    training = {**WAVES["training"], "fit": {"kind": "auto", "micro_batch_sizes": [8, 2]}}
    given = scenario(protocol, "neulite", training=training, population={**WAVES["population"], **memory})
    whole = simulate(given, out=tmp_path / "whole")
    assert len({row["plan"] for row in whole.flights}) > 1
    broken_off(tmp_path / "broken", given, 4)
    assert resume(find_cut_off(tmp_path / "broken")).summary["digest"] == whole.summary["digest"]
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("method", PARTS)
def test_a_run_with_parts_of_coadaptation_ends_as_an_unbroken_one(tmp_path, method):
    roomy = {**WAVES["population"], "available_memory": {"kind": "uniform", "low": "20MB", "high": "30MB"}}
    given = scenario("synchronous", method, model="cnn", population=roomy, stop={"rounds": 6})
    whole = simulate(given)
    broken_off(tmp_path / "broken", given, 4)
    assert resume(find_cut_off(tmp_path / "broken")).summary["digest"] == whole.summary["digest"]


ADAPTED = {
    "stacks that are owed": {"kind": "lora", "aggregation": "flora", "ranks": [2]},
    "factors that devices keep": {"kind": "lora", "aggregation": "fedsa", "ranks": [2]},
    "numbers that are owed": {"kind": "zeroth-order", "perturbations": 2},
    "a pool of seeds": {"kind": "zeroth-order", "pool": 8, "steps": 2},
    "a warm-up": {"kind": "zo-warmup", "warmup_rounds": 2, "capable": "first-order"},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ADAPTED)
def test_a_run_whose_devices_keep_or_owe_something_ends_as_an_unbroken_one(tmp_path, method):
    given = parse_scenario(
        {
            **TINY, "data": {**TINY["data"], "image_size": 8}, "model": "lenet", "method": ADAPTED[method],
            "checkpoint": {"every_rounds": 2}, "stop": {"rounds": 6},
        }
    )  # fmt: skip
    whole = simulate(given, out=tmp_path / "whole")
    broken_off(tmp_path / "broken", given, 3)
    assert resume(find_cut_off(tmp_path / "broken")).summary["digest"] == whole.summary["digest"]
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")
    if "owed" in method:
        assert len({row["bytes_down"] for row in whole.flights}) > 1


def wall_times(folder):
    with (folder / "rounds.csv").open() as lines:
        return [float(row["wall_time_s"]) for row in csv.DictReader(lines)]


def test_the_replay_trains_nothing_and_keeps_the_wall_times(tmp_path, monkeypatch):
    given = scenario("fedbuff")
    broken_off(tmp_path / "run", given, 7)
    before = wall_times(tmp_path / "run")
    journal = (tmp_path / "run" / "journal" / "updates.jsonl").read_text().splitlines()
    trained = []
    train = Worker.train
    monkeypatch.setattr(
        Worker, "train", lambda self, task, *rest, **how: trained.append(task.flight) or train(self, task, *rest, **how)
    )
    resume(find_cut_off(tmp_path / "run"))
    after = wall_times(tmp_path / "run")
    assert after[:6] == before[:6]
    assert after[6] > after[5]
    # Six rounds of two updates stand in the journal; only what came after the checkpoint is trained again.
    replayed = {json.loads(line)["flight"] for line in journal[:12]}
    assert len(replayed) == 12
    assert not replayed & set(trained)
    with (tmp_path / "run" / "journal" / "updates.jsonl").open() as lines:
        flights = [json.loads(line)["flight"] for line in lines]
    assert set(flights[12:]) == set(trained)


@pytest.mark.slow
def test_a_run_that_was_broken_off_before_its_first_checkpoint_begins_anew(tmp_path):
    given = scenario()
    whole = simulate(given)
    broken_off(tmp_path / "run", given, 2)
    assert find_cut_off(tmp_path / "run").found is None
    assert resume(find_cut_off(tmp_path / "run")).summary["digest"] == whole.summary["digest"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"stop": {"rounds": 10, "virtual_time": "6s"}},
        {"selection": {"kind": "oort", "devices_per_round": 3}},
        {"selection": {"kind": "tifl", "devices_per_round": 2, "tiers": 2, "interval": 1}},
        {"evaluation": {"every_rounds": 4}},
    ],
    ids=["virtual time", "oort", "tifl", "rare tests"],
)
def test_stop_conditions_selectors_and_tests_are_taken_up_too(tmp_path, changes):
    given = scenario("synchronous", **changes)
    whole = simulate(given, out=tmp_path / "whole")
    broken_off(tmp_path / "broken", given, 4)
    result = resume(find_cut_off(tmp_path / "broken"))
    assert result.summary["digest"] == whole.summary["digest"]
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")


@pytest.mark.slow
def test_a_target_that_is_reached_after_the_break_ends_the_run_in_the_same_round(tmp_path):
    free = simulate(scenario("fedbuff", checkpoint={"every_rounds": 2}, seed=1))
    accuracies = [row["test_accuracy"] or 0.0 for row in free.rounds]
    best = max(accuracies)
    reached = accuracies.index(best) + 1
    assert reached > 3, "the run gets no better after its break: choose another seed"
    given = scenario("fedbuff", seed=1, checkpoint={"every_rounds": 2}, stop={"rounds": 10, "target_accuracy": best})
    whole = simulate(given)
    assert len(whole.rounds) == reached
    broken_off(tmp_path / "broken", given, reached - 1)
    assert resume(find_cut_off(tmp_path / "broken")).summary["digest"] == whole.summary["digest"]


def test_feddyn_is_refused_with_a_protocol_that_merges_old_updates():
    message = (
        "fedbuff merges updates of older versions, and with feddyn_alpha: 0.1 method depthfl needs those of the latest"
    )
    with pytest.raises(ScenarioError, match=message):
        simulate(scenario("fedbuff", "depthfl"))


@pytest.mark.slow
def test_how_often_checkpoints_are_made_changes_nothing(tmp_path):
    digests = {
        every: simulate(scenario("fedbuff", checkpoint={"every_rounds": every}), out=tmp_path / str(every)).summary[
            "digest"
        ]
        for every in (1, 4, 100)
    }
    assert len(set(digests.values())) == 1


@pytest.fixture
def cut_off(tmp_path):
    broken_off(tmp_path / "run", parse_scenario({**TINY, "checkpoint": {"every_rounds": 1}}), 2)
    return tmp_path / "run"


def test_a_complete_run_has_nothing_to_resume(tmp_path):
    simulate(parse_scenario(TINY), out=tmp_path / "run")
    with pytest.raises(OutputError, match="run: the run is complete; nothing is left to resume"):
        find_cut_off(tmp_path / "run")


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"holds no scenario.yaml, so it is no run folder; name the folder of a run"):
        find_cut_off(tmp_path)


def test_a_run_of_another_version_is_refused(cut_off):
    resealed(cut_off / "provenance.json", neulite_sim="0.0.1")
    with pytest.raises(OutputError, match=r"was made with neulite-sim 0.0.1 \(here .*\), whose bits this installation"):
        find_cut_off(cut_off)


def test_a_run_of_another_torch_is_refused(cut_off):
    path = cut_off / "provenance.json"
    made = json.loads(path.read_text())
    resealed(path, libraries={**made["libraries"], "torch": "1.0"})
    with pytest.raises(
        OutputError, match=r"was made with torch 1.0 \(here .*resume it with those versions, or run its"
    ):
        find_cut_off(cut_off)


def test_a_changed_scenario_is_refused(cut_off):
    path = cut_off / "scenario.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.05", "learning_rate: 0.06"))
    with pytest.raises(OutputError, match=r"scenario.yaml: was changed since the run began; undo that"):
        find_cut_off(cut_off)


def test_lost_provenance_is_told(cut_off):
    (cut_off / "provenance.json").unlink()
    with pytest.raises(
        OutputError, match=r"provenance.json: cannot be read: No such file or directory; name the folder"
    ):
        find_cut_off(cut_off)


def test_a_journal_of_another_run_is_refused(cut_off):
    path = cut_off / "journal" / "updates.jsonl"
    path.write_text(path.read_text().replace('"flight":1,', '"flight":7,'))
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: a line is not as it was written; it was changed, and"):
        resume(find_cut_off(cut_off))


def test_a_lost_journal_is_told_and_the_checkpoint_stays(cut_off):
    shutil.rmtree(cut_off / "journal")
    with pytest.raises(DataNotFoundError, match=r"journal/\w+.jsonl: .*the run cannot be resumed"):
        resume(find_cut_off(cut_off))
    assert find_cut_off(cut_off).found is not None


def test_a_cut_journal_is_told_and_left_as_it_is(cut_off):
    path = cut_off / "journal" / "updates.jsonl"
    kept = path.read_bytes()[:50]
    path.write_bytes(kept)
    with pytest.raises(DataNotFoundError, match=r"updates.jsonl: has 50 bytes, its checkpoint needs \d+; it was cut"):
        resume(find_cut_off(cut_off))
    assert path.read_bytes() == kept
