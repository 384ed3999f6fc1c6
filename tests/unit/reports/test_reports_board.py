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


def test_board_stays_small_however_long_the_run(board):
    for number in range(5000):
        board.notify(replace(ROW, round=number, test_accuracy=0.5))
        board.notify(Notice(message=f"notice {number}"))
    assert len(board.rounds) <= 60
    assert len(board.curve.values()) <= 512
    assert len(board.notices) <= 20
    assert (board.num_rounds, board.num_notices, board.notices[-1]) == (5000, 5000, "notice 4999")
