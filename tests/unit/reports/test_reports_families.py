"""Runs belong to one line, group or twin pair by what they were computed from, and by no folder's name."""

import json
import shutil

import pytest
from stored_runs import write_rows, write_run
from tiny_scenarios import tiny

import neulite_sim
from neulite_sim.reports.comparison import lines_of, notes_of, unlike_setups
from neulite_sim.reports.html.comparison_page import comparison_page
from neulite_sim.reports.run_names import names_of
from neulite_sim.results.places import PROVENANCE, SUMS
from neulite_sim.results.seals import SEAL
from neulite_sim.results.stored import read_run

TABLE = "".join(f"{place % 5},{place % 3},{'ab'[place % 2]}\n" for place in range(90))
METHOD = "def mine(current, updates):\n    return updates[0].tensors\n"
HARDWARE = '[mine]\nsource = "nothing"\nmemory = "4GB"\nmax_flops_per_s = 1e9\n'
KINDS = {
    "a table of data": ("t.csv", f"x,y,label\n{TABLE}", f"x,y,label\n{TABLE}1,1,a\n",
                        "data={{kind: csv, path: '{}', label: label}}"),
    "a method": ("m.py", METHOD, METHOD.replace("[0]", "[-1]"), "method={{kind: python, path: '{}', name: mine}}"),
    "a trace of rates": ("n.csv", "0,1000\n", "0,9000\n", "population.link={{downlink: {{trace: '{}'}}, uplink: 1Mbps}}"),
    "a trace of presence": ("on.csv", "device,start_s,end_s\n0,0,9\n", "device,start_s,end_s\n0,0,8\n",
                            "population.availability={{kind: trace, path: '{}'}}"),
    "a trace of memory": ("mem.csv", "device,second,share\n0,0,0.5\n", "device,second,share\n0,0,0.6\n",
                          "population.memory_motion={{kind: trace, path: '{}'}}"),
    "a table of devices": ("d.csv", "model,memory_bytes\na,4e9\n", "model,memory_bytes\na,3e9\n",
                           "population.groups=[{{device: jetson-nano-4gb, share: 1, individuals: {{path: '{}'}}}}]"),
    "hardware": ("h.toml", HARDWARE, HARDWARE.replace("1e9", "2e9"), "population.hardware='{}'"),
    "a partition": ("p.csv", "sample,device\n0,0\n", "sample,device\n0,1\n", "data.partition={{kind: table, path: '{}'}}"),
}  # fmt: skip
"""A file's name, two contents, and what makes a scenario read it."""


def written(folder, name, kind, *, changed=False, seed=1, at=""):
    """Write a run that reads a file below a folder `at`, with its first or its changed content."""
    file, before, after, override = KINDS[kind]
    place = folder / at / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(after if changed else before)
    return write_run(folder / name, [(10.0, 0.5)], f"seed={seed}", override.format(place))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_changed_makes_another_line_and_is_named(tmp_path, kind):
    runs = [written(tmp_path, f"x-{seed}", kind, changed=seed > 2, seed=seed) for seed in (1, 2, 3, 4)]
    lines, notes = lines_of(runs, grouped=True)
    assert [line.seeds for line in lines] == [[1, 2], [3, 4]]
    (note,) = notes
    assert note.startswith(f"x-1 and x-3 have one scenario and are not of one study: {KINDS[kind][0]} (")
    assert note.endswith(") held something else.")
    _, alone = lines_of(runs)
    assert alone == notes


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_does_not_hide_what_was_changed_and_is_no_repeat(tmp_path, kind):
    runs = [written(tmp_path, "x-1", kind), written(tmp_path, "other", kind, changed=True)]
    lines, notes = lines_of(runs, grouped=True)
    assert [line.seeds for line in lines] == [[1], [1]]
    assert not any("repeats" in note for note in notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_moved_makes_no_other_line(tmp_path, kind):
    runs = [written(tmp_path, f"x-{seed}", kind, seed=seed, at=f"place-{seed}") for seed in (1, 2)]
    (line,), notes = lines_of(runs, grouped=True)
    assert (line.name, line.seeds, notes, notes_of([line])) == ("x", [1, 2], [], [])
    again = written(tmp_path, "again", kind, seed=2, at="place-3")
    assert lines_of([*runs, again], grouped=True)[1] == [
        "again repeats a run of the same scenario and seed and is not counted."
    ]
    assert names_of(lines_of(runs)[0]) == [f"{names_of([line])[0]} (seed {seed})" for seed in (1, 2)]


@pytest.mark.parametrize(("kind", "what"), [("a table of data", "data"), ("a trace of rates", "fleets")])
def test_groups_that_read_other_files_are_not_the_same_study(tmp_path, kind, what):
    runs = [written(tmp_path, "x-1", kind), written(tmp_path, "x-2", kind, seed=2, changed=True)]
    file = KINDS[kind][0]
    assert notes_of(lines_of(runs)[0]) == [
        f"Not the same study: different {what} ({file} held something else); mind what you compare."
    ]
    found = neulite_sim.compare([run.path for run in runs], baseline="x-1")
    assert (
        f"x-2: not the same study as x-1 (different {what} ({file} held something else))." in found.to_json()["notes"]
    )
    page = comparison_page(runs, baseline=None, shown_as=["a", "b"])
    assert page.warnings[0].startswith(f"x-1 and x-2 have one scenario and are not of one study: {file} (")


def test_a_model_of_own_code_is_another_where_its_file_was_changed(tmp_path):
    code = "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    runs = []
    for seed, text in ((1, code), (2, f"{code}# changed\n")):
        (tmp_path / "net.py").write_text(text)
        override = f"model={{kind: python, path: '{tmp_path / 'net.py'}', name: net}}"
        runs.append(write_run(tmp_path / f"x-{seed}", [(10.0, 0.5)], f"seed={seed}", override))
    assert notes_of(lines_of(runs)[0]) == [
        "Not the same study: different models (net.py held something else); mind what you compare."
    ]


@pytest.mark.parametrize("kind", ["a table of data", "a trace of rates"])
def test_twins_read_the_same_files_wherever_these_lay(tmp_path, kind):
    churn = "churn={failures_per_hour: 1.0}"
    file, before, after, override = KINDS[kind]

    def run(name, seed, place, text, *overrides):
        path = tmp_path / place / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return write_run(tmp_path / name, [(10.0, 0.5)], f"seed={seed}", override.format(path), *overrides)

    calm = [run(f"calm-{seed}", seed, "a", before) for seed in (1, 2)]
    moved = [run(f"shaken-{seed}", seed, "b", before, churn) for seed in (1, 2)]
    found = neulite_sim.compare([each.path for each in [*calm, *moved]], view="robustness").view
    assert [(line.name, twin.name) for line, twin in zip(found.lines, found.twins, strict=True)] == [("shaken", "calm")]
    other = [run(f"other-{seed}", seed, "a", after, churn) for seed in (1, 2)]
    found = neulite_sim.compare([each.path for each in [*calm, *moved, *other]], view="robustness").view
    assert [line.name for line in found.lines] == ["shaken"]
    assert "other: no twin without churn." in found.notes
    assert any(note.startswith(f"calm and other have one scenario and are not of one study: {file} (")
               for note in found.notes)  # fmt: skip


def test_twins_may_differ_in_the_trace_of_presence(tmp_path):
    calm = write_run(tmp_path / "calm-1", [(10.0, 0.5)], "seed=1")
    shaken = written(tmp_path, "shaken-1", "a trace of presence")
    found = neulite_sim.compare([calm.path, shaken.path], view="robustness").view
    assert [twin.name for twin in found.twins] == ["calm"]


def _without(path, **changes):
    """Make a run one of an older version, which kept less in its provenance."""
    made = {**json.loads((path / PROVENANCE).read_text()), **changes}
    made = {key: value for key, value in made.items() if value is not None and key != SEAL}
    (path / SUMS).unlink()
    (path / PROVENANCE).write_text(json.dumps(made))
    return read_run(path)


def test_runs_whose_provenance_lacks_checksums_are_told_apart_by_their_paths_and_that_is_said(tmp_path):
    old = [written(tmp_path, f"old-{seed}", "a trace of rates", seed=seed) for seed in (1, 2)]
    old = [_without(run.path, inputs=None, schema_version=1) for run in old]
    new = written(tmp_path, "new-3", "a trace of rates", seed=3)
    lines, notes = lines_of([*old, new], grouped=True)
    assert [line.seeds for line in lines] == [[1, 2], [3]]
    key = "n.csv (population.link.downlink.trace)"
    assert notes == [
        f"old and new have one scenario and are not of one study: {key} has no checksum of what it held.",
        f"old: no checksum tells what {key} held, so whether all of these runs read the same is not known.",
    ]
    # What is not known is no difference.
    assert notes_of(lines) == []
    (old[0].path / PROVENANCE).unlink()
    assert [line.seeds for line in lines_of([read_run(old[0].path), old[1]], grouped=True)[0]] == [[1, 2]]


def test_own_code_that_a_program_registers_and_flower_apps_are_told_apart(tmp_path):
    for place, (first, other) in enumerate((
        ({"registered": {"method": "1"}}, {"registered": {"method": "2"}}),
        ({"flower": {"sha256": "1"}}, {"flower": {"sha256": "2"}}),
    )):  # fmt: skip
        runs = [write_rows(tmp_path / f"{place}-{seed}", [], f"seed={seed}", **made)
                for seed, made in ((1, first), (2, first), (3, other))]  # fmt: skip
        assert [line.seeds for line in lines_of(runs, grouped=True)[0]] == [[1, 2], [3]]


def test_a_run_in_memory_is_one_of_the_files_that_it_read_not_of_what_they_hold_when_it_is_compared(tmp_path):
    file = tmp_path / "m.py"
    found = []
    for seed, scale in ((1, 1.0), (2, 0.5)):
        file.write_text(f"def mine(current, updates):\n    return {{n: {scale} * t for n, t in current.items()}}\n")
        method = f"method={{kind: python, path: '{file}', name: mine}}"
        scenario = tiny(f"seed={seed}", "stop.rounds=1", method)
        found.append(neulite_sim.simulate(scenario))
    rows = neulite_sim.compare(found, group=True)
    assert [row["seeds"] for row in rows.rows] == [[1], [2]]
    assert any("m.py (method.path) held something else" in note for note in rows.notes)


def test_a_sweep_of_one_study_in_two_places_is_one_line_in_its_table(tmp_path):
    runs = [written(tmp_path, f"x-{seed}", "a table of data", seed=seed, at=f"p{seed}") for seed in (1, 2)]
    shutil.move(runs[0].path, tmp_path / "elsewhere" / "x-1")
    found = neulite_sim.compare([tmp_path / "elsewhere" / "x-1", runs[1].path], group=True)
    assert [row["seeds"] for row in found.rows] == [[1, 2]]


def test_of_no_runs_nothing_is_unlike():
    assert unlike_setups([]) == lines_of([], grouped=True)[1] == []
