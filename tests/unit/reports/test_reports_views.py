"""Quality under a budget, cost to a target and robustness, from runs whose numbers are written down."""

import json

import pytest
from pdf_words import needs_pdftotext, pdf_text
from stored_runs import write_run
from tiny_scenarios import tiny

from neulite_sim.api.loading import load_run
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import ScenarioError
from neulite_sim.reports.budget_views import cost_to_target, parse_budget, parse_target, quality_under_budget
from neulite_sim.reports.churn_view import robustness
from neulite_sim.reports.comparison import lines_of
from neulite_sim.reports.html.asking import asked
from neulite_sim.reports.intervals import paired_difference
from neulite_sim.reports.plot_options import PlotOptions
from neulite_sim.reports.view_plot import draw_view, view_figure
from neulite_sim.reports.view_table import view_tables
from neulite_sim.results.stored import read_run
from neulite_sim.scenario.churn import Churn
from neulite_sim.scenario.energy import Energy
from neulite_sim.studies.sweeps import write_not_applicable

RISING = [(10.0, 0.4), (20.0, 0.6), (30.0, 0.8)]
"""Three rounds of 150 bytes each, with a peak of 2 MB."""
MARKOV = "population.availability={kind: markov, mean_on: 2h, mean_off: 1h}"


@pytest.fixture
def grouped(tmp_path):
    """Return a function that writes runs from (name, seed, curve, overrides) and returns their groups."""

    def written(*runs):
        stored = [write_run(tmp_path / f"{name}-{seed}", curve, f"seed={seed}", *overrides)
                  for name, seed, curve, *overrides in runs]  # fmt: skip
        return lines_of(stored, grouped=True)[0]

    return written


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("memory=300MB,time=2h,traffic=1GB", {"memory": 3e8, "time": 7200.0, "traffic": 1e9}),
        (" time = 90s ", {"time": 90.0}),
        ("memory=1GiB", {"memory": 2.0**30}),
    ],
)
def test_a_budget_has_bounds_with_units(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy=5kg", "--budget: energy: '5kg' is not a number of joules; write for example 500kJ or 15Wh"),
        (
            "memory=1MB,speed=3",
            "--budget: 'speed=3' is no bound of memory, time, traffic or energy; write for example memory",
        ),
        ("memory", "--budget: 'memory' is no bound of memory, time, traffic or energy"),
        ("", "--budget: '' is no bound"),
        ("time=1h,time=2h", "--budget: time is bounded twice; remove one"),
        ("memory=2h", "--budget: memory: '2h' is not a size; write for example 512MB"),
        ("time=0s", "--budget: time of 0s leaves nothing; use a bound above zero"),
    ],
)
def test_what_is_no_budget_is_refused(text, message):
    with pytest.raises(ScenarioError, match=message):
        parse_budget(text)


@pytest.mark.parametrize(("text", "target"), [("0.9", 0.9), ("90%", 0.9), (" 97.5 % ", 0.975), ("1", 1.0)])
def test_a_target_is_a_share_or_a_percentage(text, target):
    assert parse_target(text) == pytest.approx(target)


@pytest.mark.parametrize("text", ["90", "0", "-0.1", "nan", "high", "101%"])
def test_what_is_no_accuracy_is_refused(text):
    with pytest.raises(ScenarioError, match=r"--target: '.*' is no accuracy above 0 and at most 1; write for example"):
        parse_target(text)


@pytest.mark.parametrize(
    ("budget", "best"),
    [({"time": 20.0}, 0.6), ({"time": 29.9, "traffic": 1e9}, 0.6), ({"traffic": 300.0}, 0.6), ({"traffic": 299}, 0.4),
     ({"memory": 2e6}, 0.8)],
)  # fmt: skip
def test_quality_is_the_best_accuracy_while_every_cost_is_within_its_bound(grouped, budget, best):
    view = quality_under_budget(grouped(("a", 1, RISING)), budget)
    assert view.rows()[0]["accuracy_within_budget"] == best
    assert view.rows()[0]["accuracy_within_budget_low"] is None


def test_the_best_within_the_budget_is_not_the_last(grouped):
    lines = grouped(("a", 1, [(10.0, 0.7), (20.0, 0.5), (30.0, 0.9)]))
    assert quality_under_budget(lines, {"time": 20.0}).rows()[0]["accuracy_within_budget"] == 0.7


def test_a_run_beyond_the_budget_is_named_with_what_is_beyond(grouped):
    lines = grouped(("a", 1, RISING), ("a", 2, [(5.0, 0.3)]), ("a", 3, []))
    view = quality_under_budget(lines, {"time": 6.0, "memory": 3e6})
    (row,) = view.rows()
    assert row["accuracy_within_budget_by_seed"] == {"2": 0.3}
    assert row["accuracy_within_budget_absent"] == {"1": "at its first test time 10s", "3": "never tested"}
    assert view.notes == ("a: not in the mean: seed 1: at its first test time 10s; seed 3: never tested.",)
    (table,) = view_tables(view)
    assert table.rows == (("a", "fedavg", "30.0", "1/3"),)


def test_costs_are_those_of_the_first_test_at_the_target(grouped):
    lines = grouped(("a", 1, [(10.0, 0.4), (20.0, 0.61), (30.0, 0.5)]), ("a", 2, RISING))
    (row,) = cost_to_target(lines, 0.61).rows()
    assert row["time_to_target_s_by_seed"] == {"1": 20.0, "2": 30.0}
    assert (row["time_to_target_s"], row["bytes_to_target"], row["memory_to_target_bytes"]) == (25.0, 375.0, 2e6)
    assert row["time_to_target_s_count"] == 2
    # Two values of mean 25: half of the interval is 12.706 x 5.
    assert row["time_to_target_s_high"] == pytest.approx(25 + 12.7062 * 5, abs=1e-3)


def test_seeds_that_never_reach_it_are_named_counted_and_not_compared(grouped):
    other = "stop.rounds=9"
    lines = grouped(("a", 1, RISING), ("a", 2, RISING), ("b", 1, RISING, other), ("b", 2, [(10.0, 0.55)], other))
    view = cost_to_target(lines, 0.6, baseline=lines[0])
    a, b = view.rows()
    assert (a["time_to_target_s_count"], b["time_to_target_s_count"]) == (2, 1)
    assert b["time_to_target_s_absent"] == {"2": "never reached it (best 55.0 %)"}
    assert b["time_to_target_s_difference_verdict"] == "not compared"
    assert "b: not in the mean: seed 2: never reached it (best 55.0 %)." in view.notes
    table = view_tables(view)[0]
    cells = dict(zip(table.headers, table.rows[1], strict=True))
    assert (cells["seeds"], cells["compared"]) == ("1/2", "not compared")


def test_without_a_target_it_is_the_highest_that_was_reached(grouped):
    assert cost_to_target(grouped(("a", 1, RISING))).asked == {"target": 0.8}
    with pytest.raises(ScenarioError, match="--target: is not given, and no run reached a target of its scenario; say"):
        cost_to_target(grouped(("b", 1, [(10.0, 0.1)])))


def test_what_could_not_be_trained_or_was_cut_off_is_in_no_mean_and_is_named(tmp_path):
    write_not_applicable(tiny("seed=1"), "NA: too big", out=tmp_path / "n-1")
    runs = [write_run(tmp_path / "a-1", RISING, "seed=1", "stop.rounds=9"), read_run(tmp_path / "n-1"),
            write_run(tmp_path / "c-1", RISING, "seed=1", is_complete=False)]  # fmt: skip
    view = cost_to_target(lines_of(runs, grouped=True)[0], 0.6)
    assert [line.name for line in view.lines] == ["a", "n"]
    assert view.notes == (
        "Not complete, so in no mean: c-1.",
        "n: not in the mean: seed 1: never reached it.",
    )


def churned(grouped, *, seeds=(1, 2, 3), losses=(0.10, 0.12, 0.11)):
    calm = [("calm", seed, [(10.0, 0.5 + 0.1 * seed)], "name=calm") for seed in (1, 2, 3)]
    shaken = [("churn", seed, [(15.0 + seed, 0.5 + 0.1 * seed - loss)], "name=churn", MARKOV, "churn.failures_per_hour=1")
              for seed, loss in zip(seeds, losses, strict=False)]  # fmt: skip
    return grouped(*calm, *shaken)


def test_churn_is_measured_against_the_same_seed_without_it(grouped):
    view = robustness(churned(grouped))
    (row,) = view.rows()
    assert (row["twin"], row["churn"]) == ("calm", "availability markov, failures per hour 1")
    assert row["accuracy_change"] == pytest.approx(-0.11)
    wanted = paired_difference({1: -0.10, 2: -0.12, 3: -0.11}, dict.fromkeys((1, 2, 3), 0.0))
    assert row["accuracy_change_low"] == pytest.approx(wanted.low)
    assert (row["accuracy_change_verdict"], row["accuracy_change_count"]) == ("worse", 3)
    assert row["virtual_time_change_s"] == 7.0
    assert "Not the same study" not in "".join(view_tables(view)[0].notes)


BATTERY = "{capacity_watt_hours: 0.05, charging_watts: 9, minimum: 0.4%s}"
SHAKING = {
    "churn.failures_per_hour": "churn.failures_per_hour=2",
    "churn.timeout": "churn.timeout=1s",
    "churn.outages": "churn.outages={mean_between: 1h, mean_length: 10min}",
    "churn.battery": f"churn.battery={BATTERY % ', idle_watts: 1, working_watts: 8'}",
    "energy.battery": f"energy={{battery: {BATTERY % ''}}}",
    "population.availability": MARKOV,
    "population.memory_motion": "population.memory_motion={kind: walk, step: 0.1, every: 10min}",
}
"""Each option that makes devices come and go, memory move or flights fail, as it acts."""


def test_every_option_of_churn_and_of_energy_is_known_to_shake_or_to_be_calm():
    fields = {f"churn.{name}" for name in Churn.model_fields} | {f"energy.{name}" for name in Energy.model_fields}
    assert fields - {"churn.offline", "energy.power"} <= SHAKING.keys()


@pytest.mark.parametrize("key", SHAKING)
def test_a_run_in_which_anything_shakes_is_no_twin_without_churn(tmp_path, key):
    calm = write_run(tmp_path / "calm-1", RISING, "seed=1")
    shaken = write_run(tmp_path / "shaken-1", RISING, "seed=1", SHAKING[key])
    lines, _ = lines_of([calm, shaken], grouped=True)
    (row,) = robustness(lines).rows()
    assert row["twin"] == "calm"
    assert key.rpartition(".")[2].replace("_", " ") in row["churn"]
    both = write_run(tmp_path / "both-1", RISING, "seed=1", SHAKING[key], "name=both")
    with pytest.raises(ScenarioError, match=r"population.memory_motion or energy.battery only; run a scenario with"):
        robustness(lines_of([shaken, both], grouped=True)[0])


@pytest.mark.parametrize("calm", ["energy={}", "energy={power: {jetson-nano-4gb: {idle_watts: 2}}}"])
def test_what_only_writes_more_down_is_a_twin_without_churn(tmp_path, calm):
    runs = [
        write_run(tmp_path / "calm-1", RISING, "seed=1", calm),
        write_run(tmp_path / "shaken-1", RISING, "seed=1", MARKOV),
    ]
    assert robustness(lines_of(runs, grouped=True)[0]).rows()[0]["twin"] == "calm"


def test_a_twin_without_churn_loses_no_flight_and_denies_nobody_as_offline(tmp_path):
    usual = ("backend=dry-run", "stop.rounds=12", "workload.epochs=20", "seed=1")
    for key, override in SHAKING.items():
        folder = tmp_path / key
        found = [simulate(tiny(*usual, override, f"name={key}"), out=folder / "one-1"),
                 simulate(tiny(*usual, "name=calm"), out=folder / "two-1")]  # fmt: skip
        view = robustness(lines_of([read_run(each.run_dir) for each in found], grouped=True)[0])
        for line in view.twins:
            assert list(load_run(line.runs[0].path).denials) == []
            assert line.runs[0].summary["flights_dropped"] == 0


def test_the_page_of_a_run_says_that_batteries_gate_its_devices():
    for key in ("churn.battery", "energy.battery"):
        told = dict(asked(tiny(SHAKING[key]).dump()))
        assert told["Online"] == "All devices, as far as their batteries go."
        assert "devices train with batteries of 40.0 % and more" in told["Churn"]
    assert dict(asked(tiny("energy={}").dump()))["Online"] == "All devices, all the time."


def test_a_loss_whose_interval_holds_zero_is_not_told_apart(grouped):
    (row,) = robustness(churned(grouped, losses=(0.10, -0.12, 0.11))).rows()
    assert row["accuracy_change_verdict"] == "not told apart"


def test_a_seed_without_its_twin_is_named_and_not_paired(grouped):
    view = robustness(churned(grouped, seeds=(1, 2, 4)))
    assert view.rows()[0]["accuracy_change_count"] == 2
    assert "churn: seed 3 missing in churn, so not paired." in view.notes
    assert "churn: seed 4 missing in calm, so not paired." in view.notes
    assert "churn: not in the mean: seed 4: no such number without churn." in view.notes


def test_runs_that_differ_in_more_than_churn_are_no_twins(grouped):
    lines = grouped(("calm", 1, RISING), ("churn", 1, RISING, MARKOV, "training.epochs=2"))
    message = "--view robustness: needs runs that differ in churn, population.availability, population.memory_motion"
    with pytest.raises(ScenarioError, match=message):
        robustness(lines)


def test_groups_without_a_twin_and_second_ones_are_named(grouped):
    lines = churned(grouped) + grouped(
        ("more", 1, RISING, "training.epochs=2"), ("odd", 1, RISING, MARKOV, "training.epochs=3"),
        ("again", 1, RISING, "name=again"),
    )  # fmt: skip
    notes = robustness(lines).notes
    assert "more: no run with churn to compare with." in notes
    assert "odd: no twin without churn." in notes
    assert "again: also without churn, and not used beside calm." in notes


def test_the_losses_of_two_methods_are_paired_as_well(grouped):
    lines = churned(grouped) + grouped(
        *[("calm-b", seed, [(10.0, 0.9)], "name=calm", "training.epochs=2") for seed in (1, 2, 3)],
        *[("churn-b", seed, [(10.0, 0.9)], "name=churn", "training.epochs=2", MARKOV) for seed in (1, 2, 3)],
    )
    view = robustness(lines, baseline=lines[0])
    _, second = view.rows()
    assert second["accuracy_change_difference"] == pytest.approx(0.11)
    assert second["accuracy_change_difference_verdict"] == "better"
    assert view.baseline is lines[1]


def test_rows_of_a_view_are_plain_values(grouped):
    view = cost_to_target(grouped(("a", 1, RISING), ("a", 2, RISING)), 0.6, kind="bca")
    assert json.loads(json.dumps(view.rows())) == view.rows()


def marks(axes, gid):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == gid]


def test_a_view_is_drawn_with_its_means_intervals_and_seeds(grouped):
    other = "stop.rounds=9"
    lines = grouped(("a", 1, RISING), ("a", 2, RISING), ("b", 1, RISING, other), ("b", 2, [(10.0, 0.55)], other))
    figure = view_figure(cost_to_target(lines, 0.6), PlotOptions(labels={"a": "Ours", "b": "Theirs"}))
    memory, time, traffic = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["peak memory (MB)", "virtual time (s)", "traffic (B)"]
    assert marks(time, "mean") == [[[20.0, 0.0]], [[20.0, 1.0]]]
    assert len(marks(time, "interval")) == 1
    assert [tick.get_text() for tick in memory.get_yticklabels()] == ["Ours", "Theirs"]
    assert "hollow" in figure.legends[0].get_texts()[-1].get_text()
    assert marks(traffic, "mean")[0] == [[300.0, 0.0]]


@needs_pdftotext
def test_the_text_of_a_view_as_pdf_is_found(grouped, tmp_path):
    draw_view(cost_to_target(grouped(("a", 1, RISING)), 0.6), tmp_path / "x.pdf", PlotOptions(style="paper"))
    text = pdf_text(tmp_path / "x.pdf")
    for words in ("cost until 60 % accuracy", "FedAvg", "virtual time (s)", "mean and 95 % interval"):
        assert words in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.svg", "x.pdf"])
def test_equal_views_give_equal_files(grouped, tmp_path, name):
    view = quality_under_budget(grouped(("a", 1, RISING), ("b", 1, RISING, "stop.rounds=9")), {"time": 1.0})
    written = []
    for style in ("paper", "paper"):
        draw_view(view, tmp_path / name, PlotOptions(style=style))
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
