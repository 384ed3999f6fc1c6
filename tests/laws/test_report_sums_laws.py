"""Law of the report: title, text, figure, table and summary say one number, however a run ends and rounds come."""

from __future__ import annotations

import re

import pytest
from html_pages import of_run, text_of
from tiny_scenarios import tiny

from neulite_sim.engine.simulation import simulate
from neulite_sim.population.hardware.power import powers_in
from neulite_sim.reports.html.blocks import Figure, Grid
from neulite_sim.reports.html.energy import drawn_by_class, energy_blocks
from neulite_sim.reports.html.rounds_time import first_rounds, time_blocks
from neulite_sim.reports.html.run_story import read_story
from neulite_sim.reports.html.taking_part import part_blocks
from neulite_sim.reports.html.wording import percent, size
from neulite_sim.units import format_joules

GROUPS = "population.groups=[{device: jetson-nano-4gb, share: 1}, {device: raspberry-pi-4-2gb, share: 1}]"
LINK = "population.link={downlink: 200kbps, uplink: 100kbps}"
USUAL = (GROUPS, LINK, "backend=dry-run", "population.devices=10", "stop.rounds=9")
TIME = "stop.virtual_time={}s"
CHURN = "churn={{failures_per_hour: 1500, timeout: {}s}}"
ENDINGS = {
    "by rounds": (),
    "by virtual time": (TIME.format(1.9),),
    "by virtual time in the middle of a round": (TIME.format(1.5), "population.speed_jitter=0.0"),
    "by target": ("backend=inprocess", "stop.target_accuracy=0.3", "population.speed_jitter=0.5"),
    "with churn": (CHURN.format(0.38),),
    "with churn, by virtual time": (CHURN.format(0.38), TIME.format(2.1)),
    "with a battery": ("energy={power: {jetson-nano-4gb: {send_watts: 900}}, battery: {capacity_watt_hours: 0.05, level: 0.6, charging_watts: 4, minimum: 0.4}}",),
    "with a deadline": ("protocol={kind: deadline, maximum_wait: 0.3s, minimum_wait: 0s}", TIME.format(2.2)),
    "with rounds in which nothing arrives": ("protocol={kind: deadline, maximum_wait: 0.2s, minimum_wait: 0s, minimum_updates: 3, too_few: abort}", "stop.rounds=3"),
    "asynchronous": ("protocol={kind: fedbuff, concurrency: 6, buffer_size: 2}",),
    "asynchronous, by virtual time": ("protocol={kind: fedbuff, concurrency: 6, buffer_size: 2}", TIME.format(0.9)),
    "asynchronous, by target": ("protocol={kind: fedasync, concurrency: 6}", "backend=inprocess",
                                "stop.target_accuracy=0.3"),
    "asynchronous, with churn and stale updates": ("protocol={kind: fedbuff, concurrency: 6, buffer_size: 1, maximum_staleness: 1}",
                                                   CHURN.format(0.6), TIME.format(1.5)),
    "before the first round": ("protocol={kind: fedbuff, concurrency: 6, buffer_size: 1}", CHURN.format(0.3),
                               TIME.format(1.5)),
}  # fmt: skip


@pytest.fixture(scope="module", params=ENDINGS)
def run(request, tmp_path_factory):
    return simulate(tiny(*USUAL, *ENDINGS[request.param]), out=tmp_path_factory.mktemp("sums") / "run")


def about(figure):
    found = re.search(r'aria-label="([^"]*)"', str(figure.drawing))
    return found[1]


def cells(figure, column):
    table = figure.data.table
    return [row[table.headers.index(column)] for row in table.rows]


def test_the_energy_of_title_text_table_and_summary_is_one_sum_over_all_flights(run):
    story = read_story(run.run_dir)
    flights = list(run.flights)
    (figure,) = energy_blocks(story)
    total = format_joules(run.summary["energy_j"])
    assert figure.title == f"What {total} went into"
    assert about(figure).startswith(f"Where the {total} of {len(flights)} flight")
    assert cells(figure, "energy")[0] == total
    assert f"energy {total} of all flights" in text_of(of_run(run.run_dir))
    by_class = drawn_by_class(run.run_dir, powers_in(story.run.scenario))
    assert sum(drawn.units for drawn in by_class.values()) / 2**36 == run.summary["energy_j"]
    assert sum(float(drawn.by_state.sum()) for drawn in by_class.values()) == pytest.approx(run.summary["energy_j"])
    numbers = [int(cell.replace(",", "")) for cell in cells(figure, "flights")]
    assert numbers[0] == len(flights) == sum(numbers[1:] or numbers)
    beyond = sum(row["round"] > run.summary["rounds"] for row in flights)
    assert (f"{beyond} flight" in figure.caption) == (beyond > 0) == ("They count until then." in figure.caption)


def test_figures_of_rounds_count_the_flights_of_rounds_and_say_how_many_are_of_none(run):
    story, flights = read_story(run.run_dir), list(run.flights)
    if not run.summary["rounds"]:
        assert (*time_blocks(story), *part_blocks(story), *first_rounds(run.run_dir, story)) == ()
        return
    of_rounds = [row for row in flights if row["round"] <= run.summary["rounds"]]
    beyond = len(flights) - len(of_rounds)
    blocks = (*time_blocks(story), *part_blocks(story))
    figures = {block.title: block for block in blocks if isinstance(block, Figure)}
    parts = figures["The fleet, round by round"]
    said = [parts.caption]
    if "What devices did during rounds" in figures:
        times = figures["What devices did during rounds"]
        counts = [int(cell) for cell in cells(times, "flights")]
        assert counts[0] == len(of_rounds) == sum(counts[1:] or counts)
        assert f"the {len(of_rounds)} flight" in about(times)
        said.append(times.caption)
    for caption in said:
        assert (f"{beyond} flight" in caption) == (beyond > 0) == ("They are not in this figure." in caption)
    means = dict(zip(cells(parts, "devices"), cells(parts, "mean per round"), strict=True))
    rounds = list(run.rounds)
    for name in ("arrived", "dropped"):
        total = sum(row[name] for row in rounds)
        assert means.get(name, "0.0") == f"{total / len(rounds):,.1f}"
        assert total == sum((row["outcome"] == "arrived") == (name == "arrived") for row in of_rounds)
    for name, mean in means.items():
        assert f"{name} {mean}" in about(parts)


def test_participation_drops_bytes_and_memory_are_those_of_the_summary(run):
    story, flights, summary = read_story(run.run_dir), list(run.flights), run.summary
    page = text_of(of_run(run.run_dir))
    arrived = {row["device"] for row in flights if row["outcome"] == "arrived"}
    num_devices = len(list(run.devices))
    blocks = part_blocks(story, num_samples=sum(row["samples"] for row in run.devices))
    for shares in blocks[:1]:
        assert f"share of the devices {percent(len(arrived) / num_devices)}" in about(shares)
        assert f"share of the data {percent(summary['data_share'])}" in about(shares)
    assert f"on {len(arrived)} of {num_devices} devices" in page
    lost = len(flights) - summary["flights_arrived"]
    assert summary["flights_dropped"] == lost
    for grid in (block for block in blocks if isinstance(block, Grid)):
        assert sum(int(row[1]) for row in grid.table.rows) == lost
        assert f"{len(flights)} flights left, {summary['flights_arrived']} arrived." in grid.table.notes
    assert summary["bytes_down"] == sum(row["bytes_down"] for row in flights)
    assert f"traffic {size(summary['bytes_down'])} down, {size(summary['bytes_up'])} up" in page
    peak = max(row["peak_memory_bytes"] for row in flights)
    assert summary["peak_memory_bytes"] == peak
    assert f"The largest training step needs {size(peak)} on a device." in page
    tested = [row for row in run.rounds if row["test_accuracy"] is not None]
    if tested:
        assert f"accuracy ends at {100 * tested[-1]['test_accuracy']:.1f} %" in of_run(run.run_dir)


def test_the_picture_of_the_first_rounds_counts_what_it_draws(run):
    if not run.summary["rounds"]:
        return
    (figure,) = first_rounds(run.run_dir, read_story(run.run_dir))
    last = list(run.rounds)[:3][-1]
    drawn = [
        row for row in run.flights if row["round"] <= last["round"] or row["dispatched_s"] < last["virtual_time_s"]
    ]
    text = about(figure)
    assert f": {len(drawn)} flight" in text
    assert f"of {len({row['device'] for row in drawn})} device" in text
    lost = sum(row["outcome"] != "arrived" and row["ended_s"] <= last["virtual_time_s"] for row in drawn)
    assert f", {lost} drop" in text
