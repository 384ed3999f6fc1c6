"""Lines, means and spreads of a comparison, its rows and its notes."""

import math
from dataclasses import replace

import pytest
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.reports.comparison import flat, lines_of, notes_of, spread, unlike_setups
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import write_not_applicable

REASON = "NA: no device can train anything with method fedavg: too big"


def not_applicable(path, *overrides):
    write_not_applicable(tiny(*overrides), REASON, out=path)
    return read_run(path)


def seeds(folder, tails, *overrides):
    """Return a run per seed 1, 2, ... that is tested once, with the given accuracies."""
    return [
        write_run(folder / f"x-{seed}", [(100.0 * seed, tail)], f"seed={seed}", *overrides)
        for seed, tail in enumerate(tails, start=1)
    ]


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [([2.0, 4.0, 9.0], 5.0, math.sqrt(13.0)), ([3.0], 3.0, None), ([None, 3.0], 3.0, None), ([None], None, None)],
)
def test_a_spread_is_mean_and_sample_standard_deviation_of_what_is_known(values, mean, std):
    """By hand: (9 + 1 + 16) / 2 = 13."""
    found = spread(values)
    assert (found.mean, found.std) == (mean, pytest.approx(std) if std else None)
    assert (found.count, found.total) == (sum(value is not None for value in values), len(values))


def test_runs_that_differ_in_the_seed_only_are_one_line_named_without_it(tmp_path):
    runs = [*seeds(tmp_path, [0.5, 0.7]), write_run(tmp_path / "y-1", (), "seed=1", "stop.rounds=5")]
    lines, notes = lines_of(runs, grouped=True)
    assert [(line.name, line.seeds) for line in lines] == [("x", [1, 2]), ("y", [1])]
    assert notes == []
    assert lines[0].of("tail_accuracy").mean == pytest.approx(0.6)
    assert lines[0].of("tail_accuracy").std == pytest.approx(math.sqrt(0.02))


def test_without_grouping_every_run_is_a_line_in_the_given_order(tmp_path):
    lines, _ = lines_of(seeds(tmp_path, [0.5, 0.7])[::-1])
    assert [line.name for line in lines] == ["x-2", "x-1"]


def test_folders_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    runs = [write_run(tmp_path / place / "x-1") for place in "ab"]
    assert [line.name for line in lines_of(runs)[0]] == [str(run.path) for run in runs]


def test_an_equal_run_does_not_narrow_the_spread(tmp_path):
    runs = [*seeds(tmp_path, [0.5, 0.7]), write_run(tmp_path / "x-1-2", [(100.0, 0.5)], "seed=1")]
    (line,), notes = lines_of(runs, grouped=True)
    assert line.seeds == [1, 2]
    assert notes == ["x-1-2 repeats a run of the same scenario and seed and is not counted."]


def test_a_cut_off_run_stays_out_of_the_means_and_is_named(tmp_path):
    runs = [*seeds(tmp_path, [0.5, 0.7]), write_run(tmp_path / "x-3", (), "seed=3", is_complete=False)]
    lines, _ = lines_of(runs, grouped=True)
    assert [(line.name, line.seeds, line.status) for line in lines] == [
        ("x", [1, 2], "complete"),
        ("x-3", [3], "cut off"),
    ]
    assert notes_of(lines) == ["Cut off, or still running (no COMPLETE): x-3; shown as far as the rows go."]


def test_time_to_accuracy_is_that_of_the_seeds_which_reached_it(tmp_path):
    (line,), _ = lines_of(seeds(tmp_path, [0.4, 0.65, 0.65]), grouped=True)
    found = line.time_to("0.6")
    assert (found.mean, found.count, found.total) == (250.0, 2, 3)
    assert line.time_to("0.9").mean is None


def test_inclusive_means_that_every_device_of_every_seed_can_take_part(tmp_path):
    full = write_run(tmp_path / "a-1", (), "seed=1")
    almost = write_run(tmp_path / "a-2", (), "seed=2", rate=0.999)
    cut = write_run(tmp_path / "c", (), is_complete=False)
    assert [line.is_inclusive for line in lines_of([full, almost, cut])[0]] == [True, False, None]
    assert lines_of([full, almost], grouped=True)[0][0].is_inclusive is False


def test_a_method_that_nobody_can_train_is_na_with_its_reason_below(tmp_path):
    lines, _ = lines_of([not_applicable(tmp_path / "a"), write_run(tmp_path / "b")])
    assert [line.status for line in lines] == ["NA", "complete"]
    assert notes_of(lines) == ["NA a: no device can train anything with method fedavg: too big"]


def test_of_many_seeds_that_nobody_can_train_one_reason_is_told(tmp_path):
    runs = []
    for seed in (1, 2):
        write_not_applicable(tiny(f"seed={seed}"), f"NA: {seed} byte too little", out=tmp_path / f"x-{seed}")
        runs.append(read_run(tmp_path / f"x-{seed}"))
    assert notes_of(lines_of(runs, grouped=True)[0]) == ["NA x: 1 byte too little"]


def test_a_seed_in_which_nobody_can_train_counts_in_participation_and_nowhere_else(tmp_path):
    runs = [*seeds(tmp_path, [0.5]), not_applicable(tmp_path / "x-2", "seed=2")]
    (line,), _ = lines_of(runs, grouped=True)
    assert line.status == "complete"
    assert line.of("participation_rate").mean == 0.5
    for key in ("tail_accuracy", "rounds", "bytes_up", "peak_memory_bytes", "virtual_time_s"):
        assert (line.of(key).mean, line.of(key).count) == (runs[0].summary[key], 1)
    assert notes_of([line]) == ["NA x (seed 2): no device can train anything with method fedavg: too big"]


def test_unlike_set_ups_are_named_and_not_refused(tmp_path):
    runs = [
        write_run(tmp_path / "a"),
        write_run(tmp_path / "b", (), "model=lenet", "population.devices=7", "workload.batch_size=9"),
    ]
    lines, _ = lines_of(runs)
    note = "models (logistic, lenet), different fleets, different charged workloads; mind what you compare."
    assert notes_of(lines) == [f"Not the same study: different {note}"]


def test_other_options_of_one_dataset_are_another_study_and_another_folder_is_not(tmp_path):
    kind = "data={kind: synthetic, shape: [1, 4, 4], classes: 2, samples: 60, test_samples: 9}"
    runs = [write_run(tmp_path / "a", (), kind), write_run(tmp_path / "b", (), kind, "data.samples=90")]
    assert notes_of(lines_of(runs)[0]) == ["Not the same study: different data; mind what you compare."]
    moved = replace(runs[0], scenario={**runs[0].scenario, "data": {**runs[0].scenario["data"], "root": "elsewhere"}})
    assert unlike_setups([runs[0], moved]) == []


def test_a_proxy_is_named_once_where_all_have_it_and_by_run_where_not(tmp_path):
    thin, also, full = (write_run(tmp_path / name, proxy=proxy) for name, proxy in
                        (("a", "thin"), ("b", "thin"), ("c", None)))  # fmt: skip
    assert notes_of(lines_of([thin, also])[0]) == ["accuracy is of a proxy: thin"]
    assert notes_of(lines_of([thin, also, full])[0]) == ["a, b: accuracy is of a proxy: thin"]


def test_a_method_without_its_memory_limit_is_named(tmp_path):
    run = write_run(tmp_path / "a", (), "method={kind: fedavg, memory_limit: false}")
    assert notes_of(lines_of([run])[0]) == ["a: memory limit off, so every device takes part whatever its memory."]


def test_many_names_are_counted(tmp_path):
    lines, _ = lines_of([not_applicable(tmp_path / f"run{number}") for number in range(8)])
    (note,) = notes_of(lines)
    assert note.startswith("NA run0, run1, run2, run3, run4, run5 and 2 more: ")


def test_the_row_of_a_run_is_its_summary_with_its_name_and_state(tmp_path):
    run = write_run(tmp_path / "a-3")
    row = lines_of([run])[0][0].row()
    assert row["run"] == "a-3"
    assert {key: row[key] for key in run.summary} == run.summary
    assert row.keys() - run.summary.keys() == {"run", "inclusive", "status", "not_applicable", "run_dir"}
    assert (row["inclusive"], row["status"], row["not_applicable"]) == (True, "complete", None)


def test_the_row_of_a_group_has_means_spreads_and_counts(tmp_path):
    (line,), _ = lines_of(seeds(tmp_path, [0.4, 0.65, 0.7]), grouped=True)
    row = line.row()
    assert (row["run"], row["method"], row["seed"], row["seeds"]) == ("x", "fedavg", None, [1, 2, 3])
    assert (row["virtual_time_s"], row["virtual_time_s_std"]) == (200.0, 100.0)
    assert row["time_to_accuracy_s"] == {"0.5": 250.0, "0.6": 250.0, "0.7": 300.0, "0.8": None, "0.9": None}
    assert row["time_to_accuracy_s_count"] == {"0.5": 2, "0.6": 2, "0.7": 1, "0.8": 0, "0.9": 0}
    assert row["time_to_accuracy_s_std"]["0.5"] == pytest.approx(math.sqrt(5000.0))


def test_a_flat_row_has_a_cell_for_each_item_of_a_mapping():
    row = {"run": "a", "seeds": [1, 2], "time_to_accuracy_s": {"0.5": 1.0, "0.6": None}}
    assert flat(row) == {"run": "a", "seeds": "1 2", "time_to_accuracy_s.0.5": 1.0, "time_to_accuracy_s.0.6": None}
