"""Groups of runs against one of them: which one, over which seeds, and what is said of the difference."""

import pytest
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.errors import ScenarioError
from neulite_sim.reports.baseline import baseline_of, difference, difference_row, pairing_notes
from neulite_sim.reports.comparison import lines_of
from neulite_sim.reports.comparison_table import comparison_tables
from neulite_sim.results.stored import read_run
from neulite_sim.studies.sweeps import write_not_applicable


@pytest.fixture
def groups(tmp_path):
    """Return a function that writes runs of seeds 1, 2, ... per group and returns the groups.

    Each group has another number of rounds, so that they are told apart.
    """

    def written(**tails):
        runs = [
            write_run(tmp_path / f"{name}-{seed}", [(10.0, tail)], f"seed={seed}", f"stop.rounds={rounds}")
            for rounds, (name, of) in enumerate(tails.items(), start=4)
            for seed, tail in enumerate(of, start=1)
        ]
        return lines_of(runs, grouped=True)[0]

    return written


def test_a_group_is_found_by_its_name_or_as_the_only_one_of_a_method(groups):
    lines = groups(a=[0.5, 0.6], b=[0.5, 0.7])
    assert baseline_of(lines, "b") is lines[1]
    assert baseline_of(lines[:1], "fedavg") is lines[0]


@pytest.mark.parametrize(
    ("name", "finding"),
    [("fedavg", "fedavg is several groups of these runs"), ("neulite", "neulite is no group of these runs")],
)
def test_a_name_that_is_none_or_several_groups_is_refused_with_their_names(groups, name, finding):
    with pytest.raises(ScenarioError, match=f"--baseline: {finding}; name one of the groups: a, b"):
        baseline_of(groups(a=[0.5, 0.6], b=[0.5, 0.7]), name)


def test_a_difference_pairs_the_seeds_that_both_have(groups):
    """0.10, 0.20, 0.30 over seeds 1 to 3: mean 0.2, s = 0.1, half width 4.30265 x 0.1 / sqrt(3); seed 4 is left out."""
    a, b = groups(a=[0.1, 0.5, 0.3], b=[0.2, 0.7, 0.6, 0.9])
    found = difference(b, a, "tail_accuracy")
    assert (found.mean, found.count) == (pytest.approx(0.2), 3)
    assert found.half_width == pytest.approx(0.248414, abs=1e-6)


def test_a_row_has_the_difference_its_ends_and_what_they_say(groups):
    a, b = groups(a=[0.1, 0.5, 0.3], b=[0.21, 0.60, 0.41])
    row = difference_row(b, a)
    assert (row["baseline"], row["tail_accuracy_verdict"], row["tail_accuracy_difference_count"]) == ("a", "better", 3)
    assert row["tail_accuracy_difference"] == pytest.approx(0.32 / 3)
    assert row["tail_accuracy_difference_low"] > 0
    assert difference_row(a, b)["tail_accuracy_verdict"] == "worse"
    assert row["virtual_time_s_verdict"] == "not told apart"


def test_the_table_says_what_the_interval_leaves_open(groups):
    lines = groups(a=[0.1, 0.5, 0.3], b=[0.2, 0.7, 0.6], c=[0.21, 0.60, 0.41])
    (table,) = comparison_tables(lines, baseline=lines[0])
    columns = dict(zip(table.headers, zip(*table.rows, strict=True), strict=True))
    assert columns["difference"] == ("-", "+20.0 ± 24.8", "+10.7 ± 1.4")
    assert columns["so it is"] == ("-", "not told apart", "better")
    assert columns["pairs"] == ("-", "3", "3")
    assert "difference: to a, paired by seed, ± half of a 95 % interval." in table.notes


def test_seeds_that_one_group_lacks_are_named(groups):
    a, b, c = groups(a=[0.1, 0.5, 0.3], b=[0.2, 0.7], c=[0.2])
    assert pairing_notes([a, b, c], a) == [
        "b: seed 3 missing in b, so not paired.",
        "c: seeds 2, 3 missing in c, so not paired.",
        "c: one pair has no interval, so it is not told apart.",
    ]
    assert pairing_notes([a, b], b) == ["a: seed 3 missing in b, so not paired."]


def test_groups_without_a_common_seed_have_no_difference_and_that_is_said(groups, tmp_path):
    (a,) = groups(a=[0.1, 0.5])
    run = write_run(tmp_path / "z-9", [(10.0, 0.5)], "seed=9", "population.devices=7")
    (z,), _ = lines_of([run], grouped=True)
    assert difference(z, a, "tail_accuracy") is None
    assert pairing_notes([a, z], a)[-2:] == [
        "z: has no seed of a, so there is no difference to tell.",
        "z: not the same study as a (different fleets).",
    ]


def test_differences_that_are_all_the_same_have_an_interval_of_no_width(groups):
    """In all three seeds 0.25 more, which floating point holds exactly; time is the same and so not told apart."""
    a, b = groups(a=[0.25, 0.5, 0.125], b=[0.5, 0.75, 0.375])
    found = difference(b, a, "tail_accuracy")
    assert (found.mean, found.low, found.high, found.verdict()) == (0.25, 0.25, 0.25, "better")
    assert difference_row(b, a)["virtual_time_s_verdict"] == "not told apart"


def test_a_run_that_could_train_nothing_is_no_pair(groups, tmp_path):
    lines = groups(a=[0.1, 0.5])
    for seed in (1, 2):
        write_not_applicable(tiny(f"seed={seed}", "stop.rounds=9"), "NA: too big", out=tmp_path / f"n-{seed}")
    (nobody,), _ = lines_of([read_run(tmp_path / f"n-{seed}") for seed in (1, 2)], grouped=True)
    assert difference(nobody, lines[0], "tail_accuracy") is None
    (table,) = comparison_tables([*lines, nobody], baseline=lines[0])
    assert table.rows[1][table.headers.index("difference")] == "-"
