"""Laws of the timeline file: it says what the rows say, to the microsecond, whatever the protocol."""

import math
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_scenarios import waves
from trace_rules import read

from neulite_sim.engine.simulation import simulate
from neulite_sim.results.cells import column_types
from neulite_sim.results.flight_events import DEVICES_PID, FIRST_DEVICE_TID, spans
from neulite_sim.results.memory import read_rows
from neulite_sim.results.places import TIMELINE
from neulite_sim.results.rows import FlightRow, RoundRow
from neulite_sim.results.trace_events import ROUNDS_TID, SERVER_PID, STAGES_TID, TimelineFile, rebuild

PHASES = ("download", "compute", "upload")
pytestmark = pytest.mark.usefixtures("shared_profiles")

PROTOCOLS = {
    "synchronous": "protocol=synchronous",
    "deadline": "protocol={kind: deadline, over_selection: 1.5, maximum_wait: 1s}",
    "fedasync": "protocol=fedasync",
    "fedbuff": "protocol={kind: fedbuff, buffer_size: 3, maximum_staleness: 1}",
}
SECONDS = st.floats(0, 1e4).map(lambda value: round(value, 6))


USUAL = {name: {int: 1, float: 0.0, str: ""}[cast] for name, (cast, _) in column_types(FlightRow).items()}


def flight_row(**cells):
    return FlightRow(**USUAL | cells)


@st.composite
def flights(draw):
    """A flight with pauses: where in its work each begins, and how long it is."""
    phases = [draw(SECONDS) for _ in PHASES]
    now_s = began_s = draw(st.floats(0, 1e6))
    places = sorted(draw(st.lists(st.floats(0, 1), max_size=4, unique=True)))
    pauses, done_s = [], 0.0
    for place in places:
        now_s += place * sum(phases) - done_s
        done_s = place * sum(phases)
        length_s = draw(st.floats(1e-3, 1e3))
        pauses.append((now_s, now_s + length_s))
        now_s += length_s
    return flight_row(
        dispatched_s=began_s,
        **{f"{phase}_s": seconds for phase, seconds in zip(PHASES, phases, strict=True)},
        waiting_s=sum(end_s - start_s for start_s, end_s in pauses),
        ended_s=now_s + sum(phases) - done_s,
        pauses=";".join(f"{start_s!r}-{end_s!r}" for start_s, end_s in pauses),
        outcome="arrived",
    )


@given(flights())
def test_spans_follow_each_other_without_gaps_and_add_up_to_the_phases(row):
    """Within a microsecond per pause: shorter rests of a phase are rounding, and are not shown."""
    found = spans(row)
    assert all(before.end_s == after.start_s for before, after in pairwise(found))
    assert all(span.start_s < span.end_s for span in found)
    if found:
        assert found[0].start_s == row.dispatched_s
        assert found[-1].end_s == pytest.approx(row.ended_s, abs=1e-5)
    for phase in (*PHASES, "waiting"):
        seconds = math.fsum(span.end_s - span.start_s for span in found if span.phase == phase)
        assert seconds == pytest.approx(getattr(row, f"{phase}_s"), abs=1e-5), phase


@given(st.lists(flights(), max_size=5))
def test_any_flights_of_one_device_make_a_file_that_viewers_take(tmp_path_factory, several):
    path = tmp_path_factory.mktemp("laws") / "timeline.json.gz"
    timeline, later_s = TimelineFile(path), 0.0
    for row in several:
        cells = {name: getattr(row, name) for name in ("download_s", "compute_s", "upload_s")}
        timeline.add(
            flight_row(dispatched_s=later_s, ended_s=later_s + sum(cells.values()), outcome="arrived", **cells)
        )
        later_s += sum(cells.values())
    timeline.close()
    lasting = sum(event["dur"] for event in read(path) if event["ph"] == "X")
    # Each phase may lose or win half a microsecond at either end, and a shorter one is not shown.
    assert lasting == pytest.approx(later_s * 1e6, abs=3 * len(several) + 1)


@pytest.fixture(scope="module", params=PROTOCOLS)
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "run"
    simulate(waves(PROTOCOLS[request.param], "backend=dry-run", "stop.rounds=12"), out=path)
    return path


def tracked(events, pid, letter="X"):
    return [event for event in events if (event["ph"], event["pid"]) == (letter, pid)]


def test_every_flight_of_a_run_has_spans_that_add_up_to_its_phases(run):
    seconds = defaultdict(float)
    for event in tracked(read(run / TIMELINE), DEVICES_PID):
        assert event["args"].keys() >= {"flight", "round", "submodel"}
        seconds[event["args"]["flight"], event["name"]] += event["dur"] / 1e6
    rows = read_rows(run / "flights.csv", FlightRow)
    assert len(rows) > 12
    for row in rows:
        for phase in (*PHASES, "waiting"):
            assert seconds.pop((row["flight"], phase), 0.0) == pytest.approx(row[f"{phase}_s"], abs=2e-6)
    assert not seconds


def test_every_drop_of_a_run_is_one_instant_with_its_reason(run):
    rows = [row for row in read_rows(run / "flights.csv", FlightRow) if row["outcome"] != "arrived"]
    assert rows
    expected = sorted((row["flight"], FIRST_DEVICE_TID + row["device"], row["reason"], row["outcome"]) for row in rows)
    instants = tracked(read(run / TIMELINE), DEVICES_PID, "i")
    assert sorted((item["args"]["flight"], item["tid"], item["name"], item["cat"]) for item in instants) == expected
    ends_us = {row["flight"]: row["ended_s"] * 1e6 for row in rows}
    assert all(item["ts"] == pytest.approx(ends_us[item["args"]["flight"]], abs=1) for item in instants)


def test_rounds_and_stages_tile_the_time_of_a_run(run):
    events = tracked(read(run / TIMELINE), SERVER_PID)
    rounds = read_rows(run / "rounds.csv", RoundRow)
    for tid in (ROUNDS_TID, STAGES_TID):
        track = [(event["ts"], event["ts"] + event["dur"]) for event in events if event["tid"] == tid]
        assert track[0][0] == 0
        assert track[-1][1] == pytest.approx(rounds[-1]["virtual_time_s"] * 1e6, abs=1)
        assert all(end == start for (_, end), (start, _) in pairwise(track))
    named = [event["args"]["round"] for event in events if event["tid"] == ROUNDS_TID]
    at_once = [event["args"]["round"] for event in tracked(read(run / TIMELINE), SERVER_PID, "i")]
    assert sorted(named + at_once) == [row["round"] for row in rounds]


def test_the_last_counters_are_those_of_the_rows(run):
    events, rounds = tracked(read(run / TIMELINE), SERVER_PID, "C"), read_rows(run / "rounds.csv", RoundRow)
    sums = {"down": sum(row["bytes_down"] for row in rounds), "up": sum(row["bytes_up"] for row in rounds)}
    assert [event["args"] for event in events if event["name"] == "bytes"][-1] == sums
    online = [event["args"]["online"] for event in events if event["name"] == "online devices"]
    assert online == [row["online"] for row in rounds]


def test_a_timeline_made_from_the_rows_has_the_same_bytes(run, tmp_path):
    rebuild(run, tmp_path / "again.json.gz")
    assert (tmp_path / "again.json.gz").read_bytes() == (run / TIMELINE).read_bytes()


def test_equal_runs_that_train_have_equal_timelines(tmp_path):
    for name in ("one", "two"):
        simulate(waves(), out=tmp_path / name)
    written = [(tmp_path / name / TIMELINE).read_bytes() for name in ("one", "two")]
    assert written[0] == written[1]
    accuracies = [event["args"]["accuracy"] for event in read(tmp_path / "one" / TIMELINE)
                  if event["name"] == "test accuracy"]  # fmt: skip
    rows = read_rows(tmp_path / "one" / "rounds.csv", RoundRow)
    assert accuracies == [row["test_accuracy"] for row in rows if row["test_accuracy"] is not None] != []
