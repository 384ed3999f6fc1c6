"""The scripts behind the tables of paired runs: what they run, what they refuse, and what a table says."""

import importlib
import re
import sys
from dataclasses import replace

import pytest
from docs_pages import DOCS
from stored_runs import resealed, write_run

from neulite_sim import registry
from neulite_sim.scenario.loading import load_scenario
from neulite_sim.scenario.schema import Training


@pytest.fixture(scope="module")
def scripts():
    """Return `paired_runs`, `methods_compared` and `ablation`, imported as they import each other."""
    sys.path.insert(0, str(DOCS))
    try:
        yield tuple(map(importlib.import_module, ("paired_runs", "methods_compared", "ablation")))
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture
def table(scripts, tmp_path):
    paired, _, _ = scripts
    entries = (paired.Entry(name="base", label="Base"), paired.Entry(name="other", label="Other"))
    return paired.Table(
        name="t", scenario=tmp_path / "x.yaml", page=tmp_path / "page.md", rounds=4, target="0.6", entries=entries,
        clock="base", baseline="base", seeds=(1, 2, 3),
    )  # fmt: skip


@pytest.fixture
def present(scripts):
    """Return every table and entry whose method and options this version has."""
    _, compared, ablation = scripts
    known, keys = registry.names("method"), Training.model_fields
    return [
        (table, entry)
        for table in (*compared.TABLES, ablation.HARMONIZER, ablation.BATCH)
        for entry in table.entries
        if all(
            text.removeprefix("method=") in known for text in entry.settings if re.fullmatch(r"method=[a-z-]+", text)
        )
        and all(text.split(".")[1].split("=")[0] in keys for text in entry.settings if text.startswith("training."))
    ]


def written(paired, table, out, name, tails):
    """Write a complete run per seed, tested once, with the given accuracy."""
    for seed, tail in zip(table.seeds, tails, strict=False):
        job = paired.Job(table=table, entry=table.entry(name), seed=seed, out=out)
        write_run(job.folder, [(3600.0 * seed, tail)], f"seed={seed}")


def test_every_entry_of_the_tables_is_a_scenario(scripts, present):
    for table, entry in present:
        assert load_scenario(table.scenario, entry.at(8)).stop.rounds == 8, (table.name, entry.name)
        assert table.entry(table.baseline)


def test_every_table_has_its_place_in_its_page(scripts):
    paired, compared, ablation = scripts
    for table in (*compared.TABLES, ablation.HARMONIZER, ablation.BATCH):
        page = paired.placed(table.page.read_text(), table.name, "| here |")
        assert f"<!-- table: {table.name} -->\n| here |\n\n<!-- end -->" in page


def test_rounds_stand_in_settings_as_they_are_and_as_a_share_rounded_up(scripts):
    entry = scripts[0].Entry(name="x", label="X", settings=("method={kind: x, most: {rounds/4}}", "y={rounds}"))
    assert entry.at(10) == ["method={kind: x, most: 3}", "y=10", "stop.rounds=10"]


def test_entries_that_matter_come_first_with_all_their_seeds(scripts, table, tmp_path):
    jobs = scripts[0].jobs_of([table, replace(table, name="u")], tmp_path, order=["other"])
    assert [job.folder.name for job in jobs[:6]] == [f"{name}-4-other-{seed}" for name in "tu" for seed in (1, 2, 3)]
    assert all(job.entry.name == "base" for job in jobs[6:])


def test_a_row_says_better_only_where_the_interval_of_the_difference_leaves_out_zero(scripts, table, tmp_path):
    """Differences of 1, 2, 3 points: 2 ± 4.303 / sqrt(3) = 2 ± 2.5; of 9, 10, 11: 10 ± 2.5."""
    paired = scripts[0]
    written(paired, table, tmp_path, "base", [0.5, 0.6, 0.7])
    written(paired, table, tmp_path, "other", [0.51, 0.62, 0.73])
    head, base, other = paired.rows(paired.found_in(table, tmp_path))
    assert head[:4] == ("method", "accuracy, %", "difference to Base", "time to 60%, h")
    assert base[:4] == ("Base", "60.0 ± 24.8", "-", "2.50 ± 6.35 (2 of 3 runs)")
    assert other[:3] == ("Other", "62.0 ± 27.3", "+2.0 ± 2.5, not told apart")
    for job in paired.jobs_of([table], tmp_path, order=["other"])[:3]:
        resealed(job.folder / "summary.json", tail_accuracy=(0.59, 0.70, 0.81)[job.seed - 1])
    *_, other = paired.rows(paired.found_in(table, tmp_path))
    assert other[2] == "+10.0 ± 2.5, better"


def test_what_is_incomplete_is_paired_as_far_as_it_goes(scripts, table, tmp_path):
    paired = scripts[0]
    written(paired, table, tmp_path, "base", [0.5, 0.6, 0.7])
    written(paired, table, tmp_path, "other", [0.4])
    *_, other = paired.rows(paired.found_in(table, tmp_path))
    assert other[:4] == ("Other (1 of 3 seeds)", "40.0", "-10.0 (one seed)", "never")


def test_runs_of_two_commits_are_not_put_into_one_table(scripts, table, tmp_path):
    paired = scripts[0]
    written(paired, table, tmp_path, "base", [0.5, 0.6, 0.7])
    resealed(tmp_path / "t-4-base-2" / "provenance.json", git_commit="of-yesterday")
    with pytest.raises(paired.MixedOriginsError, match=r"t-4-base-1: commit .*; t-4-base-2: commit of-yesterday, "):
        paired.found_in(table, tmp_path)


def test_runs_of_two_processors_are_not_put_into_one_table(scripts, table, tmp_path):
    paired = scripts[0]
    written(paired, table, tmp_path, "base", [0.5, 0.6, 0.7])
    resealed(tmp_path / "t-4-base-3" / "provenance.json", processor="Z80")
    with pytest.raises(paired.MixedOriginsError, match=r"t-4-base-3: commit .*, Z80"):
        paired.found_in(table, tmp_path)


def test_a_table_says_where_its_runs_come_from(scripts, table, tmp_path):
    paired = scripts[0]
    written(paired, table, tmp_path, "base", [0.5])
    resealed(tmp_path / "t-4-base-1" / "provenance.json", git_commit="0123456789abcdef", processor="Z80")
    assert paired.written(paired.found_in(table, tmp_path)).endswith("\n\n(commit 0123456789ab, Z80.)")


def test_an_entry_does_the_rounds_that_fit_into_the_time_of_the_clock(scripts, table, tmp_path, monkeypatch):
    """Rounds of 10 s for the clock, 4 for it in all; the other's take 3 s, so that 13 come nearest to 40 s."""
    paired = scripts[0]
    monkeypatch.setattr(paired, "load_scenario", lambda path, changes: None)
    seconds = {"base": 10.0, "other": 3.0}
    monkeypatch.setattr(paired, "_virtual_s", lambda job, entry, rounds: seconds[entry.name] * rounds)
    long = replace(table, rounds=40)
    job = paired.Job(table=long, entry=long.entry("other"), seed=1, out=tmp_path)
    assert paired.rounds_in_the_same_time(job) == 80
    seconds["other"] = 7.0
    assert paired.rounds_in_the_same_time(job) == 57
    assert paired.rounds_in_the_same_time(replace(job, entry=long.entry("base"))) == 40


def test_what_this_version_does_not_have_is_skipped_with_its_reason(scripts, table, tmp_path, capsys):
    paired = scripts[0]
    scenario = DOCS.parent / "scenarios" / "study" / "digits.yaml"
    entry = paired.Entry(name="x", label="X", settings=("method=no-such-method",))
    paired.run(paired.Job(table=replace(table, scenario=scenario), entry=entry, seed=1, out=tmp_path))
    assert "t-4-x-1: skipped: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
