from dataclasses import replace

import pytest

from neulite_sim.reports import rehearsal
from neulite_sim.reports.board import Board
from neulite_sim.results.rows import Notice, Progress, RoundRow


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    return Board(clock=clock)


ROW = next(event for event in rehearsal.events(1) if isinstance(event, RoundRow))


def play(board, clock, *accuracies, seconds=2.0):
    for number, accuracy in enumerate(accuracies, start=1):
        clock.now_s += seconds
        board.notify(replace(ROW, round=number, virtual_time_s=100.0 * number, test_accuracy=accuracy))


def test_fresh_board_knows_nothing_yet(board):
    assert (board.virtual_s, board.stage, board.next_target, board.wall_left_s) == (0.0, "", None, None)
    assert board.next_target_in_s is None


def test_budgets_are_sorted_once(board):
    board.notify(replace(rehearsal.started(), available_memory_bytes=(30, 10, 20)))
    assert board.budgets.tolist() == [10, 20, 30]


def test_last_and_best_accuracy_skip_untested_rounds(board, clock):
    play(board, clock, 0.3, 0.6, 0.5, None)
    assert (board.last_accuracy, board.best_accuracy, board.num_tests) == (0.5, 0.6, 3)
    assert board.curve.values() == [0.3, 0.6, 0.5]


@pytest.mark.parametrize("first", [0, 1])
def test_rounds_count_the_same_from_zero_and_from_one(board, first):
    for number in range(5):
        board.notify(replace(ROW, round=first + number))
    assert board.num_rounds == 5


def test_resumed_run_goes_on_counting(board):
    board.notify(replace(ROW, round=58))
    board.notify(replace(ROW, round=59))
    assert board.num_rounds == 59


def test_time_left_is_that_of_the_nearest_limit(board, clock):
    board.notify(replace(rehearsal.started(100), max_virtual_time_s=1000.0))
    play(board, clock, None, None, None)
    assert board.wall_left_s == pytest.approx((1000 - 300) / 100 * 2.0)
    board.notify(replace(rehearsal.started(4), max_virtual_time_s=1000.0))
    assert board.wall_left_s == pytest.approx(2.0)


def test_round_pace_is_the_mean_between_rounds(board, clock):
    play(board, clock, None, seconds=50.0)
    assert board.round_wall_s is None
    play(board, clock, None, None, None, seconds=3.0)
    assert board.round_wall_s == pytest.approx(3.0)


def test_next_target_is_the_smallest_that_is_not_reached(board, clock):
    board.notify(replace(rehearsal.started(), targets=(0.9, 0.5, 0.7), stop_accuracy=0.65))
    assert board.next_target == 0.5
    play(board, clock, 0.5)
    assert board.next_target == 0.65
    play(board, clock, 0.9)
    assert board.next_target is None


def test_time_to_the_next_target_goes_on_along_the_slope(board, clock):
    board.notify(replace(rehearsal.started(), targets=(0.8,), stop_accuracy=None))
    play(board, clock, 0.2, 0.3, 0.4)
    assert board.next_target_in_s == pytest.approx(400.0)


def test_virtual_clock_follows_progress_within_a_round(board, clock):
    play(board, clock, None)
    board.notify(Progress(round=2, virtual_time_s=130.0, stage="stage-2", online=1, offline=0, training=1, trained=0,
                          denied_by_memory=0))  # fmt: skip
    assert (board.virtual_s, board.stage) == (130.0, "stage-2")


def test_the_pace_of_rounds_that_are_told_together_is_that_of_the_run(board, clock):
    """Fifty rounds every fifth of a second, told in a burst: 4 ms each."""
    board.notify(rehearsal.started())
    for number in range(1, 3001):
        clock.now_s += 0.2 * (number % 50 == 1) + 1e-5
        board.notify(replace(ROW, round=number))
    assert board.round_wall_s == pytest.approx(0.004, rel=0.05)


def told(board, training, trained, number=1):
    board.notify(Progress(round=number, virtual_time_s=0.0, stage="full", online=9, offline=0, training=training,
                          trained=trained, denied_by_memory=0))  # fmt: skip
    return board.num_in_flight


def test_in_flight_of_a_synchronous_round_is_what_has_not_come_back(board):
    for number in (1, 2):
        assert [told(board, 3 - trained, trained, number) for trained in range(4)] == [3, 2, 1, 0]


def test_in_flight_of_an_asynchronous_run_leaves_out_what_has_landed(board):
    # Ten fly. Whenever one lands in the buffer of five another leaves, and what is told counts the buffer too.
    assert [told(board, 10 + buffered, 0) for buffered in range(5)] == [10] * 5
    # The fifth has landed: the results of five are collected one by one, while nine others still fly.
    assert [told(board, 9 + 5 - trained, trained) for trained in range(1, 6)] == [10, 10, 10, 10, 9]
    # Nobody was free to take the place of the one that landed before the next five did.
    assert told(board, 8 + 5 - 1, 1, number=2) == 9
    assert told(board, 10, 0, number=3) == 10


def test_board_stays_small_however_long_the_run(board):
    for number in range(5000):
        board.notify(replace(ROW, round=number, test_accuracy=0.5))
        board.notify(Notice(message=f"notice of stage-{number}"))
    assert len(board.rounds) <= 60
    assert len(board.curve.values()) <= 512
    assert len(board.notices) <= 20
    assert (board.num_rounds, board.notices.latest.message) == (5000, "notice of stage-4999")


def test_wall_time_is_the_runs_own_without_the_preparation_before_it(board, clock):
    clock.now_s += 60.0
    board.notify(rehearsal.started())
    clock.now_s += 2.5
    assert board.wall_s == 2.5
    # The row says when the round was aggregated; it is told after its test.
    board.notify(replace(ROW, wall_time_s=2.0))
    clock.now_s += 10.0
    assert (board.told_wall_s, board.wall_s) == (2.5, 12.5)


def test_wall_time_goes_on_where_the_journal_says_that_a_replayed_round_ended(board, clock):
    board.notify(replace(rehearsal.started(), replays_until=2))
    for number, wall_time_s in ((1, 300.0), (2, 630.0)):
        clock.now_s += 4.0
        board.notify(replace(ROW, round=number, wall_time_s=wall_time_s))
    assert (board.wall_before_s, board.wall_s) == (630.0, 630.0)
    clock.now_s += 30.0
    # The checkpoint was made 20 s after round 2 had been aggregated, and the run's clock stands that much further.
    board.notify(replace(ROW, round=3, wall_time_s=680.0))
    assert (board.wall_before_s, board.wall_s) == (630.0, 680.0)


def test_wall_time_of_a_replay_that_is_slower_than_the_run_was_leaves_the_replay_out(board, clock):
    board.notify(replace(rehearsal.started(), replays_until=1))
    clock.now_s += 50.0
    board.notify(replace(ROW, round=1, wall_time_s=6.0))
    clock.now_s += 1.0
    assert board.wall_s == 7.0
