"""`whatif`: what it prints and writes, what it refuses, and the runs of `--train`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from tiny_scenarios import TINY
from typer.testing import CliRunner, Result
from whatif_fleet import OWN_BYTES, PEAKS, written_profiles

from neulite_sim.cli import app
from neulite_sim.registry import names
from neulite_sim.results.stored import read_run

ROW = {"method", "budget_bytes", "participation_rate", "data_share", "binding_submodel", "round_s", "bytes_per_round"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    population = {**TINY["population"], "available_memory": {"kind": "explicit", "values": list(OWN_BYTES)}}
    data = {"kind": "digits", "image_size": 12, "train_samples": 60, "test_samples": 30, "partition": "iid"}
    hand = {**TINY, "name": "hand", "data": data, "model": "lenet", "population": population, "method": "neulite"}
    Path("hand.yaml").write_text(yaml.safe_dump(hand))
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "stop": {"rounds": 1}}))
    return tmp_path


def asked(*arguments: str) -> Result:
    with written_profiles():
        return CliRunner().invoke(app, ["whatif", *arguments], prog_name="neulite-sim")


def reported(*arguments: str) -> dict:
    found = asked(*arguments, "--json")
    assert (found.exit_code, found.stderr) == (0, "")
    return json.loads(found.stdout)


def test_json_has_a_row_per_budget_and_method_in_rising_order() -> None:
    report = reported("hand.yaml", "--memory", "500B,300B", "--methods", "neulite,fedavg")
    assert all(row.keys() >= ROW for row in report["rows"])
    assert [(row["method"], row["budget_bytes"]) for row in report["rows"]] == [
        ("neulite", 300), ("neulite", 500), ("fedavg", 300), ("fedavg", 500),
    ]  # fmt: skip
    assert report["includes_everyone_at_bytes"] == {"neulite": PEAKS["stage-2"], "fedavg": PEAKS["full"]}


def test_without_budgets_it_is_half_of_the_fleets_own_these_and_twice_as_much() -> None:
    found = reported("hand.yaml", "--methods", "neulite")
    assert [row["scale"] for row in found["rows"]] == [0.5, 1, 2]
    assert found["rows"] == reported("hand.yaml", "--methods", "neulite", "--scale-memory", "0.5,1,2")["rows"]


def test_all_methods_take_part_by_default_the_scenarios_own_first_with_its_options() -> None:
    report = reported("hand.yaml", "--memory", "300B", "--set", "method.curriculum=false")
    methods = [row["method"] for row in report["rows"]]
    assert methods[0] == "neulite"
    assert {"allsmall", "depthfl", "exclusivefl", "fedavg", "fedrolex", "heterofl", "progfed"} <= set(methods[1:])


@pytest.mark.slow
def test_fedavg_that_fits_its_steps_into_memory_stands_beside_all_methods() -> None:
    """What every method has to beat, whether or not somebody asks for it."""
    report = reported("hand.yaml", "--memory", "300B")
    rows = {row["variant"]: row for row in report["rows"]}
    assert [*rows][1] == "fedavg, fit auto"
    assert {variant: row["fit"] for variant, row in rows.items() if row["fit"] != "none"} == {
        "fedavg, fit auto": "auto"
    }
    assert rows["fedavg, fit auto"]["method"] == "fedavg"
    of_one_way = reported("hand.yaml", "--memory", "300B", "--set", "training.fit=auto")
    assert {row["fit"] for row in of_one_way["rows"]} == {"auto"}
    assert "fedavg, fit auto" not in {row["variant"] for row in of_one_way["rows"]}


def test_it_takes_back_what_the_scenario_says_of_all_steps() -> None:
    given = ("--set", "training.micro_batch_size=2", "--set", "workload.checkpointing=true")
    (row,) = [found for found in reported("hand.yaml", "--memory", "300B", *given)["rows"] if found["fit"] == "auto"]
    assert (row["micro_batch_size"], row["checkpointing"]) == (None, False)


def test_ways_to_fit_are_an_axis() -> None:
    report = reported("hand.yaml", "--memory", "300B", "--methods", "fedavg,neulite", "--fit", "none,auto",
                      "--micro-batch", "2")  # fmt: skip
    assert [(row["variant"], row["fit"]) for row in report["rows"]] == [
        ("fedavg", "none"), ("fedavg, fit auto", "auto"), ("fedavg, micro-batch 2", "none"),
        ("neulite", "none"), ("neulite, fit auto", "auto"), ("neulite, micro-batch 2", "none"),
    ]  # fmt: skip


def test_a_method_may_have_a_fit_of_its_own() -> None:
    chosen = "fedavg,{kind: fedavg, fit: auto},neulite,{kind: neulite, sigma: 4, fit: auto},{kind: fedavg, memory_limit: false}"
    report = reported("hand.yaml", "--memory", "300B", "--methods", chosen)
    assert [(row["variant"], row["fit"]) for row in report["rows"]] == [
        ("fedavg", "none"), ("fedavg, fit auto", "auto"), ("neulite", "none"), ("neulite-sigma-4, fit auto", "auto"),
        ("fedavg-memory_limit-false", "none"),
    ]  # fmt: skip
    plain = reported("hand.yaml", "--memory", "300B", "--methods", "fedavg", "--fit", "none,auto")
    assert report["rows"][:2] == plain["rows"]
    both = reported("hand.yaml", "--memory", "300B", "--methods", "neulite,{kind: fedavg, fit: none}", "--fit", "auto",
                    "--batch-sizes", "2,4")  # fmt: skip
    assert [row["variant"] for row in both["rows"]] == [
        "neulite, batch 2, fit auto", "neulite, batch 4, fit auto", "fedavg, batch 2", "fedavg, batch 4",
    ]  # fmt: skip


@pytest.mark.parametrize("kinds", ["", "some", "auto,auto", "none,,auto"])
def test_other_ways_to_fit_are_refused(kinds: str) -> None:
    found = asked("hand.yaml", "--memory", "300B", "--fit", kinds)
    assert found.exit_code == 2
    assert f"--fit: must be none, auto or none,auto, found '{kinds}'" in found.stderr.replace("\n", " ")


def test_methods_may_have_options_and_are_named_by_them() -> None:
    found = reported("hand.yaml", "--memory", "1B", "--methods", "neulite,{kind: fedavg, memory_limit: false}")
    assert [row["method"] for row in found["rows"]] == ["neulite", "fedavg-memory_limit-false"]
    assert [row["participation_rate"] for row in found["rows"]] == [0.0, 1.0]


def test_ways_to_train_stand_beside_the_scenarios_own() -> None:
    report = reported("hand.yaml", "--memory", "300B", "--methods", "fedavg", "--micro-batch", "2,9", "--checkpointing")
    rows = [(row["variant"], row["batch_size"], row["micro_batch_size"], row["checkpointing"])
            for row in report["rows"]]  # fmt: skip
    assert rows == [
        ("fedavg", 5, None, False),
        ("fedavg, checkpointing", 5, None, True),
        ("fedavg, micro-batch 2", 5, 2, False),
        ("fedavg, micro-batch 2, checkpointing", 5, 2, True),
    ]
    assert report["not_applicable"]["fedavg, micro-batch 9"] == (
        "micro-batches of 9 are larger than the batch of 5; use 1 to 5, or a larger batch with --batch-sizes"
    )


def test_batch_sizes_are_those_that_devices_are_charged_for() -> None:
    studied = ("hand.yaml", "--memory", "300B", "--methods", "fedavg", "--batch-sizes", "2,4")
    for overrides in ((), ("--set", "workload.batch_size=3")):
        assert [row["batch_size"] for row in reported(*studied, *overrides)["rows"]] == [2, 4]


def test_the_table_has_a_line_per_method_and_a_column_per_budget() -> None:
    found = asked("hand.yaml", "--memory", "300B,500B,900B", "--methods", "neulite,fedavg", "--details")
    assert (found.exit_code, found.stderr) == (0, "")
    lines = [line.split() for line in found.stdout.splitlines()]
    assert found.stdout.startswith("hand: who can take part (lenet, 6 devices)\n")
    assert ["neulite", "300", "B", "500", "B", "100", "100", "100"] in lines
    assert ["fedavg", "900", "B", "900", "B", "0", "0", "100"] in lines
    assert ["neulite", "stage-1", "200", "B", "-", "-"] in lines
    assert ["fedavg", "full", "600", "B", "full", "400", "B", "-"] in lines
    assert ["neulite", "stage-1", "500", "B", "0", "100", "100"] in lines
    split = reported("hand.yaml", "--memory", "300B", "--methods", "neulite,fedavg")["submodels"]
    assert all(sum(row["memory"].values()) == row["peak_memory_bytes"] for row in split)


def test_csv_has_the_same_rows() -> None:
    report = reported("hand.yaml", "--scale-memory", "0.5,1", "--methods", "neulite", "--csv", "rows.csv")
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["scale"]) for row in rows] == [0.5, 1.0]
    assert [float(row["participation_rate"]) for row in rows] == [row["participation_rate"] for row in report["rows"]]
    printed = asked("hand.yaml", "--scale-memory", "0.5,1", "--methods", "neulite", "--csv", "-").stdout
    assert printed == Path("rows.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [("--memory", "200B,400B"), ("--scale-memory", "0.5,2", "--methods", "neulite,fedavg"), ("--cap-memory", "400B")],
)
def test_a_plot_is_written_beside_the_table(option: tuple[str, str]) -> None:
    assert asked("hand.yaml", *option, "--plot", "a.png").exit_code == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--memory", "1B", "--cap-memory", "2B"), "give only one of --memory, --scale-memory, --cap-memory; found "
                                                   "--memory and --cap-memory"),
        (("--memory", "1B,big"), "--memory: 'big' is not a size; write for example 512MB or 512MiB (units: B, kB, KB, "
                                 "MB, GB, TB, KiB, MiB, GiB, TiB)"),
        (("--memory", "0"), "--memory: '0' is not above zero; leave it out"),
        (("--memory", "1kB,1000"), "--memory: '1000' is given twice; remove one"),
        (("--scale-memory", "half"), "--scale-memory: 'half' is not a factor; write for example 0.5"),
        (("--scale-memory", "inf"), "--scale-memory: 'inf' is not a factor; write for example 0.5"),
        (("--memory", "1B", "--micro-batch", "2.5"), "--micro-batch: '2.5' is not a whole number of samples; write for "
                                                     "example 32"),
        (("--memory", "1B", "--json", "--csv", "-"), "--csv -: prints to standard output, and so does --json; choose "
                                                     "one, or name a file"),
        (("--memory", "1B", "--jobs", "2"), "--jobs: acts only with --train, found 2; remove it, or add --train"),
        (("--memory", "1B", "--out", "x"), "--out: acts only with --train, found x; remove it, or add --train"),
        (("--memory", "1B", "--plot", "x.gif"), "--plot: 'x.gif' is none of .png, .svg, .pdf; call the figure one of them"),
        (("--memory", "1B", "--methods", "neulte"), "--methods: method.kind: 'neulte' is not a known method; did you "
         f"mean 'neulite'? (choices: {', '.join(sorted(names('method')))})"),
        (("--memory", "1B", "--methods", "fedavg,fedavg"), '--methods: has the value "fedavg" twice; remove one'),
        (("--memory", "1B", "--methods", "fedavg", "--set", "training.batch_size=1", "--micro-batch", "2",
          "--batch-sizes", "x"), "--batch-sizes: 'x' is not a whole number of samples; write for example 32"),
        (("--memory", "1B", "--methods", "{kind: fedavg, speed: 2}"), "--methods: method.speed: unknown key (choices: "
         "kind, memory_limit, weighting, proximal_mu)"),
        (("--memory", "1B", "--methods", "{kind: fedavg, fit: best}"), "--methods: fit of fedavg must be none or auto, "
                                                                       "found 'best'"),
        (("--memory", "1B", "--methods", "fedavg,{kind: fedavg, fit: none}"), "--methods: two rows are called 'fedavg'; "
         "give each of these methods a fit of its own, one none and one auto"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(arguments: tuple[str, ...], message: str) -> None:
    found = asked("hand.yaml", *arguments)
    assert (found.exit_code, found.stderr) == (2, message + "\n")
    assert "--json" in arguments or found.stdout == ""


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_training_adds_accuracy_and_is_not_done_twice() -> None:
    """One budget holds the model, under the other nobody can train, which is a result."""
    arguments = (
        "whatif",
        "tiny.yaml",
        "--memory",
        "10B,10MB",
        "--methods",
        "fedavg",
        "--train",
        "--jobs",
        "2",
        "--json",
    )
    first = CliRunner().invoke(app, list(arguments), prog_name="neulite-sim")
    assert first.exit_code == 0, first.stderr
    rows = json.loads(first.stdout)["rows"]
    assert [row["tail_accuracy"] is None for row in rows] == [True, False]
    learned = read_run(Path(rows[1]["run_dir"])).summary
    assert rows[1]["final_accuracy"] == learned["final_accuracy"]
    assert rows[1]["time_to_accuracy_s"] == learned["time_to_accuracy_s"]
    assert learned["participation_rate"] == rows[1]["participation_rate"] == 1.0
    again = CliRunner().invoke(app, list(arguments), prog_name="neulite-sim")
    assert again.stderr == "nothing to run in runs/tiny-whatif: all 2 finished before\n"
    assert json.loads(again.stdout)["rows"] == rows


@pytest.mark.slow
@pytest.mark.usefixtures("forked_sweeps")
def test_training_on_tokens_adds_perplexity() -> None:
    data = {"kind": "synthetic-text", "samples": 60, "test_samples": 20, "sequence_length": 8, "authors": 6}
    model = {"kind": "gpt", "depth": 2, "dim": 16, "heads": 2, "hidden": 32}
    texts = {**TINY, "name": "texts", "data": data, "model": model, "stop": {"rounds": 1}}
    Path("texts.yaml").write_text(yaml.safe_dump(texts))
    arguments = ["whatif", "texts.yaml", "--memory", "10B,1GB", "--methods", "fedavg", "--train"]
    found = CliRunner().invoke(app, [*arguments, "--json"], prog_name="neulite-sim")
    assert found.exit_code == 0, found.stderr
    Path("study.json").write_text(found.stdout)
    denied, trained = json.loads(found.stdout)["rows"]
    assert denied["final_perplexity"] is None
    assert trained["final_perplexity"] == read_run(Path(trained["run_dir"])).summary["final_perplexity"]
    shown = CliRunner().invoke(app, arguments, prog_name="neulite-sim").stdout
    table = shown.split("perplexity\n")[1].splitlines()
    assert table[2].split() == ["fedavg", "NA", f"{trained['final_perplexity']:.2f}"]
    assert table[3] == "Test perplexity at the end of real runs; lower is better."
    made = CliRunner().invoke(app, ["report", "study.json", "--out", "study.html"], prog_name="neulite-sim")
    assert made.exit_code == 0, made.output
    page = Path("study.html").read_text()
    assert "Perplexity of real runs" in page
    assert f"{trained['final_perplexity']:.2f}" in page
