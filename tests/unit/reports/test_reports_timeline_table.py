"""Where the time of rounds goes, worked out by hand for two rounds of three devices."""

import pytest
from timeline_runs import aggregation, flight, two_rounds, write_rows

from neulite_sim.reports.timeline_table import stragglers, timeline_report, timeline_tables
from neulite_sim.reports.timeline_window import read_window


@pytest.fixture
def report(tmp_path):
    return timeline_report(read_window(two_rounds(tmp_path / "run")))


def test_a_round_is_split_into_what_its_flights_did_until_its_end(report):
    """Round 1: 4 + 10 + 1 seconds of flights; the first was over 6 s before the round, the third 9 s: 30 s in all."""
    first = report["rounds"][0]
    assert first["shares"] == pytest.approx(
        {"download": 4 / 30, "compute": 8 / 30, "upload": 3 / 30, "waiting": 0, "idle": 15 / 30}
    )
    assert (first["stage"], first["start_s"], first["end_s"]) == ("stage-1", 0.0, 10.0)
    assert (first["flights"], first["dropped"], first["median_flight_s"]) == (3, 1, 7.0)


def test_waiting_is_a_share_of_its_own(report):
    """Round 2: 24 s of device 7, 14 of them waiting; 4 s of device 2 and 20 s until the round's end."""
    shares = report["rounds"][1]["shares"]
    assert shares == pytest.approx(
        {"download": 3 / 48, "compute": 8 / 48, "upload": 3 / 48, "waiting": 14 / 48, "idle": 20 / 48}
    )
    assert sum(shares.values()) == pytest.approx(1)


def test_the_slowest_flight_is_named_with_what_held_it_up(report):
    slowest = [item["slowest"] for item in report["rounds"]]
    assert slowest == [
        {"flight": 2, "device": 7, "device_class": "a", "seconds": 10.0, "phase": "compute"},
        {"flight": 4, "device": 7, "device_class": "a", "seconds": 24.0, "phase": "waiting"},
    ]


def test_classes_have_the_flights_of_all_rounds(report):
    found = {item["device_class"]: item for item in report["classes"]}
    assert list(found) == ["a", "b"]
    assert (found["a"]["flights"], found["a"]["longest_flight_s"], found["a"]["median_flight_s"]) == (2, 24.0, 17.0)
    assert (found["b"]["flights"], found["b"]["dropped"], found["b"]["longest_flight_s"]) == (3, 1, 4.0)
    assert found["b"]["shares"]["idle"] == pytest.approx(35 / 44)


def test_a_straggler_takes_more_than_twice_the_median_of_those_that_arrived():
    flights = [flight(number, 1, number, 0.0, (0, seconds, 0)) for number, seconds in enumerate((4, 5, 6, 10, 10.5))]
    assert stragglers(flights) == []
    flights[4] = flight(4, 1, 4, 0.0, (0, 12.5, 0), outcome="dropped", reason="missed the deadline")
    assert [row.flight for row in stragglers(flights)] == [4]


def test_a_round_in_which_nothing_arrived_has_no_median_and_no_stragglers(tmp_path):
    lost = flight(1, 1, 0, 0.0, (1, 0, 0), outcome="dropped", reason="went offline during download")
    path = write_rows(tmp_path / "run", [lost], [aggregation(1, 1.0), aggregation(2, 2.0)])
    one, none = timeline_report(read_window(path))["rounds"]
    assert (one["median_flight_s"], one["stragglers"], one["shares"]["download"]) == (None, 0, 1.0)
    assert (none["flights"], none["slowest"], set(none["shares"].values())) == (0, None, {0.0})
    tables = timeline_tables(timeline_report(read_window(path)))
    assert [row[6] for row in tables[0].rows] == ["-", "-"]
    assert tables[0].rows[1][-1] == "-"


def test_the_tables_say_the_same(report):
    rounds, classes = (table.text().splitlines() for table in timeline_tables(report))
    assert rounds[1].split()[:4] == ["round", "stage", "lasted", "flights"]
    assert " ".join(rounds[4].split()).startswith("2 stage-2 24s 2 0 0 14s 6.2 % 16.7 % 6.2 % 29.2 % 41.7 %")
    assert rounds[4].endswith("24s, most of it waiting: device 7, a")
    assert " ".join(classes[3].split()) == "a 2 0 0 17s 11.8 % 35.3 % 11.8 % 41.2 % 0 % 24s"
    assert classes[-2].startswith("Shares of the time from dispatch to aggregation")
