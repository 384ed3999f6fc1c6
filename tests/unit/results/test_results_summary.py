import pytest

from neulite_sim.results.rows import DenialRow, FlightRow, RoundRow
from neulite_sim.results.summary import Identity, Tally

IDENTITY = Identity(
    name="job", seed=1, method="neulite", selection="uniform", model="resnet18", dataset="digits", backend="ray"
)
KEYS = (
    "name seed method selection model dataset backend compared_with_memory rounds virtual_time_s final_accuracy "
    "tail_accuracy best_accuracy time_to_accuracy_s participation_rate data_share peak_memory_bytes bytes_down bytes_up flights_arrived "
    "flights_dropped energy_j wasted_energy_j proxy wall_time_s digest"
)


def summary(tally):
    return tally.summary(IDENTITY, participation_rate=0.75, proxy=None, wall_time_s=2.5, digest="ab")


@pytest.fixture
def play(make_row):
    def play(*accuracies, targets=()):
        tally = Tally([10], targets=targets)
        for number, accuracy in enumerate(accuracies, start=1):
            tally.add(make_row(RoundRow, round=number, virtual_time_s=100.0 * number, test_accuracy=accuracy))
        return summary(tally)

    return play


def test_summary_has_the_keys_that_scripts_rely_on():
    found = summary(Tally([10, 20]))
    assert list(found) == KEYS.split()
    assert found["name"] == "job"
    assert found["participation_rate"] == 0.75
    assert found["digest"] == "ab"


def test_run_without_tests_has_no_accuracy(play):
    found = play(None, None, targets=(0.5,))
    assert (found["final_accuracy"], found["tail_accuracy"], found["best_accuracy"]) == (None, None, None)
    assert found["time_to_accuracy_s"] == {"0.5": None}
    assert (found["rounds"], found["virtual_time_s"]) == (2, 200.0)


def test_tail_is_the_mean_of_the_last_three_tests(play):
    found = play(0.9, 0.1, None, 0.2, 0.6, None)
    assert found["tail_accuracy"] == pytest.approx(0.3)
    assert found["final_accuracy"] == 0.6
    assert found["best_accuracy"] == 0.9


def test_target_counts_when_it_is_reached_first(play):
    found = play(0.4, 0.5, 0.3, 0.72, targets=(0.5, 0.6, 0.9))
    assert found["time_to_accuracy_s"] == {"0.5": 200.0, "0.6": 400.0, "0.9": None}


def test_data_share_counts_samples_of_devices_that_arrived_once(make_row):
    tally = Tally([10, 30, 60])
    for device, outcome in ((0, "arrived"), (0, "arrived"), (1, "arrived"), (2, "dropped")):
        tally.add(make_row(FlightRow, device=device, outcome=outcome))
    found = summary(tally)
    assert found["data_share"] == 0.4
    assert (found["flights_arrived"], found["flights_dropped"]) == (3, 1)


def test_fleet_without_samples_shares_nothing():
    assert summary(Tally([0, 0]))["data_share"] == 0.0


def test_traffic_adds_up_and_memory_is_the_largest_flight(make_row):
    tally = Tally([10])
    for down, up, peak in ((100, 10, 7), (200, 0, 9), (300, 30, 8)):
        tally.add(
            make_row(FlightRow, device=0, outcome="arrived", bytes_down=down, bytes_up=up, peak_memory_bytes=peak)
        )
    tally.add(make_row(RoundRow))
    tally.add(make_row(DenialRow))
    found = summary(tally)
    assert (found["bytes_down"], found["bytes_up"], found["peak_memory_bytes"]) == (600, 40, 9)
