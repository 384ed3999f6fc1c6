from dataclasses import replace

import pytest

from neulite_sim.reports import rehearsal
from neulite_sim.reports.plain import PlainConsole, QuietConsole
from neulite_sim.results.rows import Notice, RoundRow, RunStarted


class Clock:
    """Gives the time since the run began; every event of the rehearsal takes `step_s`."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


def play(rounds, step_s):
    said, clock = [], Clock()
    with PlainConsole(said.append, clock=clock) as console:
        for event in rehearsal.events(rounds):
            clock.now_s += step_s
            console.notify(event)
    return said


def test_fast_run_says_its_start_its_first_and_its_last_round():
    said = play(8, step_s=0.001)
    assert [line.split(" ")[0] for line in said] == ["rehearsal:", "accuracy", "memory:", "results", "round", "round"]
    assert said[-2].startswith("round 1/8")
    assert said[-1].startswith("round 8/8")


def test_tested_rounds_are_said_at_most_every_five_seconds():
    rounds = [line for line in play(40, step_s=0.1) if line.startswith("round")]
    assert [line.split("/")[0] for line in rounds[:4]] == ["round 1", "round 8", "round 16", "round 24"]


def test_last_round_is_not_said_twice():
    rounds = [line for line in play(8, step_s=5.0) if line.startswith("round 8/8")]
    assert len(rounds) == 1


def test_slow_rounds_give_a_sign_of_life():
    said = play(2, step_s=31.0)
    assert "round 1 | stage-1 | 3 back, 7 in flight" in said


def test_notices_are_said_at_once():
    assert "! round 20: a training actor stopped and was replaced" in play(24, step_s=0.0)


def test_a_notice_that_comes_in_every_round_is_said_now_and_then_and_counted_at_the_end():
    said = []
    with PlainConsole(said.append) as console:
        for event in rehearsal.events(12):
            console.notify(event)
            if hasattr(event, "wall_time_s"):
                devices = ", ".join(map(str, range(event.round)))
                console.notify(Notice(message=f"round {event.round}: training diverged on devices {devices}"))
    assert [line.partition(" on devices")[0] for line in said if line.startswith("!")] == [
        "! round 1: training diverged",
        "! 10th time: round 10: training diverged",
        "! 12th time: round 12: training diverged",
    ]


def test_a_notice_that_came_once_is_not_said_again_at_the_end():
    said = []
    with PlainConsole(said.append) as console:
        console.notify(Notice(message="stage-1 is skipped"))
        console.notify(Notice(message="stage-2 is skipped"))
    assert said == ["! stage-1 is skipped", "! stage-2 is skipped"]


def test_the_last_round_has_the_wall_time_of_when_it_was_told_not_of_when_the_run_was_put_away():
    said, clock = [], Clock()
    with PlainConsole(said.append, clock=clock) as console:
        clock.now_s = 6.0  # of preparation
        for event in rehearsal.events(8):
            console.notify(event)
        clock.now_s = 60.0  # of writing what the run found
    assert [line.rpartition(" | ")[2] for line in said if line.startswith("round")] == ["wall 0.4s", "wall 3.2s"]


def test_failed_run_says_how_far_it_came():
    said = []

    def fail():
        with PlainConsole(said.append) as console:
            for event in rehearsal.events(3):
                console.notify(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert said[-1].startswith("stopped after 3 rounds, virtual ")


def test_summary_comes_last():
    said = []
    PlainConsole(said.append).finish(rehearsal.summary(4), run_dir="runs/x")
    assert said[0].splitlines()[-1].split() == ["results", "runs/x"]


def test_quiet_console_says_nothing(capfd):
    with QuietConsole() as console:
        for event in rehearsal.events(4):
            console.notify(event)
    console.finish(rehearsal.summary(4))
    assert capfd.readouterr() == ("", "")


def test_a_replay_is_one_line_and_no_round_of_it_is_said():
    said = []
    clock = Clock()
    with PlainConsole(said.append, clock=clock) as console:
        for event in rehearsal.events(30):
            clock.now_s += 1.0
            console.notify(replace(event, replays_until=24) if isinstance(event, RunStarted) else event)
    assert "replaying rounds 1 to 24 from the journal, without training" in said
    assert min(int(line.split("/")[0].split()[1]) for line in said if line.startswith("round") and "/" in line) == 24


def test_thousands_of_quick_rounds_are_a_few_lines():
    rounds = [line for line in play(2000, step_s=0.001) if line.startswith("round")]
    assert len(rounds) <= 2000 * 12 * 0.001 / 5.0 + 2


def test_losses_below_zero_are_explained_once():
    said = []
    console = PlainConsole(said.append, clock=Clock())
    for event in rehearsal.events(6):
        console.notify(replace(event, train_loss=-0.2) if isinstance(event, RoundRow) else event)
    with console:
        pass
    assert [line for line in said if "below zero" in line] == [
        "! losses below zero are no mistake: NeuLite subtracts its nHSIC terms"
    ]
