"""Which rounds and flights a look at a run reads."""

import pytest
from timeline_runs import aggregation, flight, two_rounds, write_rows

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.reports.timeline_window import read_window


def numbers(window):
    return [row.flight for row in window.flights]


def test_the_first_rounds_have_their_flights_by_number(tmp_path):
    window = read_window(two_rounds(tmp_path / "run"), count=1)
    assert [row.round for row in window.rounds] == [1]
    assert (window.start_s, window.end_s, numbers(window)) == (0.0, 10.0, [1, 2, 3])


def test_a_later_round_begins_where_the_one_before_ended(tmp_path):
    window = read_window(two_rounds(tmp_path / "run"), first=2, count=5)
    assert (window.start_s, window.end_s, numbers(window)) == (10.0, 34.0, [4, 5])


def overlapping(path):
    """Asynchronous: flight 2 left in round 1 and is merged in round 3; flight 4 left after round 2."""
    flights = [
        flight(1, 1, 0, 0.0, (1, 1, 1)),
        flight(3, 2, 1, 3.0, (1, 1, 1)),
        flight(4, 3, 0, 6.5, (1, 1, 1)),
        flight(2, 3, 2, 0.5, (3, 3, 3)),
    ]
    return write_rows(path, flights, [aggregation(1, 3.0), aggregation(2, 6.0), aggregation(3, 9.5)])


def test_a_flight_that_is_out_meanwhile_is_shown_although_a_later_round_merges_it(tmp_path):
    window = read_window(overlapping(tmp_path / "run"), count=2)
    assert numbers(window) == [1, 2, 3]
    assert [row.flight for row in window.of(2)] == [3]


def test_reading_stops_when_every_flight_of_the_rounds_is_known(tmp_path):
    path = overlapping(tmp_path / "run")
    # As long as a run goes on, its rows have no sums yet.
    (path / "COMPLETE").unlink()
    with (path / "flights.csv").open("a") as file:
        file.write("these,are,no,cells\nnor,these\n")
    assert numbers(read_window(path, count=2)) == [1, 2, 3]
    with pytest.raises(DataNotFoundError, match=r"flights\.csv:6: has 4 cells, not"):
        read_window(path, count=3)


@pytest.mark.parametrize(("key", "given"), [("--rounds", {"count": 0}), ("--from", {"first": 0})])
def test_less_than_one_round_is_refused(tmp_path, key, given):
    with pytest.raises(ScenarioError, match=f"{key}: must be at least 1, found 0"):
        read_window(two_rounds(tmp_path / "run"), **given)


def test_a_round_beyond_the_last_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="--from: 3 is beyond the last round, 2; name a round from 1 to 2"):
        read_window(two_rounds(tmp_path / "run"), first=3)


def test_a_run_without_a_round_has_nothing_to_show(tmp_path):
    path = write_rows(tmp_path / "run", [], [])
    with pytest.raises(DataNotFoundError, match=r"run: no round was aggregated \(yet\), so there is nothing to show"):
        read_window(path)
