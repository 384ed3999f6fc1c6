from dataclasses import replace

import pytest

from neulite_sim.reports import rehearsal
from neulite_sim.reports.board import Board
from neulite_sim.reports.lines import (
    number,
    proxy_note,
    round_line,
    short_stages,
    start_lines,
    stopped_line,
    summary_facts,
    summary_text,
)
from neulite_sim.results.rows import RoundRow

ROWS = [event for event in rehearsal.events(8) if isinstance(event, RoundRow)]


@pytest.fixture
def board():
    board = Board(clock=iter(range(10**6)).__next__)
    board.notify(rehearsal.started(8))
    return board


def test_missing_number_is_a_dash():
    assert [number(None), number(0.25), number(0.25, 1)] == ["-", "0.250", "0.2"]


def test_loss_of_a_diverged_model_is_no_longer_than_others():
    assert [number(99_999.0), number(57_841_992_249_686_104.0), number(-1e5, 1)] == [
        "99999.000",
        "5.78e+16",
        "-1.00e+05",
    ]


def test_start_says_what_runs_on_what_and_who_can_take_part(board):
    lines = start_lines(board, board.started)
    assert lines[0] == (
        "rehearsal: neulite, uniform selection, synchronous, ray, seed 42, 100 devices, "
        "until 8 rounds or 48h 00m virtual or accuracy 85 %"
    )
    assert lines[1] == "accuracy is of a proxy: resnet18 at width 0.25 on 16x16 images"
    assert lines[2].startswith("memory: stage-3 198.9 MB: 100 devices fit; stage-4 250 MB: ")
    assert lines[2].endswith("devices fit; 100 % can take part")
    assert lines[3] == "results go to runs/rehearsal-42"


def test_proxy_is_told_without_saying_twice_that_it_is_what_is_trained():
    assert proxy_note("trained: lenet; charged: vit") == "accuracy is of a proxy: lenet; charged: vit"


def test_start_without_proxy_limits_and_folder_is_two_lines():
    board = Board()
    plain = {"proxy": None, "run_dir": None, "max_virtual_time_s": None, "stop_accuracy": None}
    board.notify(replace(rehearsal.started(8), **plain))
    lines = start_lines(board, board.started)
    assert lines[0].endswith("until 8 rounds")
    assert len(lines) == 2


def test_round_line_says_where_the_run_stands(board):
    board.notify(replace(ROWS[3], virtual_time_s=5400.0, test_accuracy=0.5))
    parts = round_line(board, board.rounds[-1]).split(" | ")
    assert parts[:4] == ["round 4/8", "virtual 1h 30m", "stage-4", "10 of 10 arrived"]
    assert parts[4] == "accuracy 50.0 % (best 50.0 %)"
    assert parts[5].startswith("wall ")


@pytest.mark.parametrize(
    ("stages", "short"),
    [("stage-1+stage-2+stage-4", "stage-1+2+4"), ("stage-12", "stage-12"), ("full", "full"), ("", ""),
     ("depth-1+width-0.5", "depth-1+width-0.5"), ("a+b", "a+b")],
)  # fmt: skip
def test_stages_of_a_round_share_the_beginning_of_their_names(stages, short):
    assert short_stages(stages) == short


def test_round_line_has_short_stages(board):
    board.notify(replace(ROWS[3], stage="stage-1+stage-3"))
    assert "| stage-1+3 |" in round_line(board, board.rounds[-1])


def test_round_line_of_an_untested_run_shows_the_loss(board):
    board.notify(replace(ROWS[0], test_accuracy=None, train_loss=1.5))
    assert "| loss 1.500 |" in round_line(board, board.rounds[-1])


def test_stopped_run_says_how_far_it_came(board):
    board.notify(replace(ROWS[3], virtual_time_s=5400.0, test_accuracy=0.5))
    assert stopped_line(board).startswith("stopped after 4 rounds, virtual 1h 30m, accuracy 50.0 %, wall ")


def test_summary_says_everything_in_reading_order():
    facts = dict(summary_facts(rehearsal.summary(40), run_dir="runs/x"))
    assert list(facts) == [
        "accuracy", "time to", "virtual time", "wall time", "participation", "data share", "memory", "traffic",
        "flights", "proxy", "digest", "results",
    ]  # fmt: skip
    assert facts["accuracy"] == "82.1 % final, 82.0 % tail, 83.0 % best (of the proxy)"
    assert facts["time to"] == "50 % in 8h 16m; 60 % in 12h 31m; 70 % in 18h 40m\n80 % in 33h 36m; never 90 %"
    assert facts["memory"] == "424.1 MB of tensors at the peak of one device"
    assert facts["traffic"] == "180 GB down, 48 GB up"
    assert facts["flights"] == "3,961 arrived, 39 dropped"
    assert facts["results"] == "runs/x"


def test_summary_of_a_run_that_trained_nothing_says_so():
    untested = {"final_accuracy": None, "tail_accuracy": None, "best_accuracy": None, "proxy": None}
    facts = dict(summary_facts(rehearsal.summary(1) | untested))
    assert facts["accuracy"] == "not measured"
    assert "proxy" not in facts
    assert "results" not in facts
    assert facts["virtual time"].endswith("in 1 round")


def test_summary_of_a_run_on_a_cluster_says_what_each_node_did():
    own = {"address": "10.0.0.1", "is_driver": True, "actors": 1, "jobs": 9, "bytes_sent": 0, "bytes_back": 0}
    other = {
        **own,
        "address": "10.0.0.2",
        "is_driver": False,
        "jobs": 1500,
        "bytes_sent": 2_000_000,
        "bytes_back": 3000,
    }
    facts = dict(summary_facts({**rehearsal.summary(1), "nodes": [own, {**other, "actors": 2}]}))
    assert facts["nodes"] == (
        "10.0.0.1: 1 actor, 9 jobs, nothing sent\n10.0.0.2: 2 actors, 1,500 jobs, 2 MB there, 3 kB back"
    )


def test_summary_text_aligns_facts_and_their_second_lines():
    lines = summary_text(rehearsal.summary(40)).splitlines()
    assert lines[0] == "rehearsal, neulite, seed 42"
    assert lines[1] == "  accuracy       82.1 % final, 82.0 % tail, 83.0 % best (of the proxy)"
    assert lines[3] == "                 80 % in 33h 36m; never 90 %"


def test_all_lines_are_plain_ascii(board):
    texts = [*start_lines(board, board.started), round_line(board, ROWS[0]), summary_text(rehearsal.summary(4))]
    assert all(text.isascii() for text in texts)
