import fcntl
import io
import itertools
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import warnings
from dataclasses import replace

import pytest
from rich.console import Console

from neulite_sim.reports import rehearsal
from neulite_sim.reports.board import Board
from neulite_sim.reports.console import LiveConsole, print_table, rich_table, run_console, summary_panel
from neulite_sim.reports.dashboard import dashboard
from neulite_sim.reports.lines import how_to_stop
from neulite_sim.reports.plain import PlainConsole, QuietConsole
from neulite_sim.reports.screen import screen
from neulite_sim.reports.table import TextTable
from neulite_sim.results.rows import Notice, RoundRow


def board_after(rounds, **changes):
    board = Board(clock=iter(range(10**9)).__next__)
    for event in rehearsal.events(rounds):
        board.notify(replace(event, **changes) if hasattr(event, "thresholds") else event)
    return board


def drawn(content, width=80, height=24):
    file = io.StringIO()
    Console(file=file, width=width, height=height, legacy_windows=False).print(content)
    return file.getvalue()


def terminal(width=80, height=24):
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)


@pytest.mark.parametrize("rounds", [0, 24])
def test_view_fits_terminals_of_any_size(rounds):
    board = board_after(rounds)
    for width, height in itertools.product((20, 40, 75, 76, 110, 200), (5, 10, 16, 24, 32, 50)):
        lines = drawn(dashboard(board, width=width, height=height), width, height).splitlines()
        assert len(lines) == height
        assert max(map(len, lines)) <= width


def test_view_before_the_start_says_that_it_prepares():
    assert "preparing the run" in drawn(dashboard(Board(), width=80, height=24))


def test_small_view_shows_every_panel():
    text = drawn(dashboard(board_after(60), width=80, height=24))
    for part in ("rehearsal", "round 60", "accuracy", "devices", "memory of the fleet", "last rounds", "60 / 60"):
        assert part in text
    assert "stage-1 424.1 MB: 72 devices fit" in text
    assert "full 711.8 MB: 28 devices fit" in text
    assert "accuracy is of a proxy: resnet18 at width 0.25 on 16x16 images" in text
    assert "! round 20: a training actor stopped and was replaced" in text


def test_view_without_proxy_does_not_speak_of_one():
    assert "proxy" not in drawn(dashboard(board_after(8, proxy=None), width=80, height=24))


def test_view_of_a_run_without_targets_and_limits_has_no_bars_for_them():
    board = board_after(8, targets=(), stop_accuracy=None, max_virtual_time_s=None)
    text = drawn(dashboard(board, width=80, height=24))
    assert "every target reached" in text
    assert "48h" not in text
    assert "at most" not in text


def test_view_of_a_fleet_of_a_million_shortens_its_counts():
    board = board_after(8, available_memory_bytes=tuple(range(240_000_000, 900_000_000, 660)), num_devices=10**6)
    text = drawn(dashboard(board, width=80, height=24))
    assert "1M devices, 100 % can train" in text
    assert "rehearsal  neulite · uniform · synchronous · ray" in text
    assert "stage-1 424.1 MB: 721k" in text


def test_view_of_a_run_that_trains_nothing_has_no_test():
    board = Board(clock=iter(range(10**9)).__next__)
    for event in rehearsal.events(8):
        board.notify(replace(event, test_accuracy=None, train_loss=None) if isinstance(event, RoundRow) else event)
    for height in (16, 24, 40):
        text = drawn(dashboard(board, width=80, height=height), 80, height)
        assert text.count("no test yet") == 1
        assert "in sight" not in text


def test_target_that_the_curve_does_not_rise_to_is_not_in_sight():
    board = Board(clock=iter(range(10**9)).__next__)
    for event in rehearsal.events(24):
        board.notify(replace(event, test_accuracy=0.3) if isinstance(event, RoundRow) else event)
    assert "50 % not in sight" in drawn(dashboard(board, width=80, height=24))


def test_view_of_a_dry_run_says_that_it_tests_nothing():
    text = drawn(dashboard(board_after(8, backend="dry-run"), width=80, height=24))
    assert "a dry run trains and tests nothing" in text
    assert "not in sight" not in text


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (140, "neulite · uniform · synchronous · ray · seed 42"),
        (84, "neulite · uniform · synchronous · ray"),
        (75, "neulite · uniform · synchronous"),
        (66, "neulite · synchronous"),
        (50, "neulite"),
    ],
)
def test_head_leaves_out_the_least_before_it_leaves_out_who_can_train(width, head):
    first = drawn(dashboard(board_after(1), width=width, height=24), width).splitlines()[0].rstrip()
    assert first.startswith(f" rehearsal  {head} ")
    assert first.endswith("100 devices, 100 % can train")
    assert first.removesuffix("100 devices, 100 % can train").split("  ")[1] == head


def test_head_of_a_narrow_terminal_has_no_room_for_a_share():
    first = drawn(dashboard(board_after(1), width=36, height=24), 36).splitlines()[0].rstrip()
    assert first.split() == ["rehearsal", "neulite", "100", "devices"]


def test_rounds_of_many_stages_leave_room_for_the_other_columns():
    board = board_after(8)
    stages = "stage-1+stage-2+stage-3+stage-4"
    board.notify(replace(board.rounds[-1], round=9, stage=stages, staleness_mean=2.25, discarded=3))
    text = drawn(dashboard(board, width=80, height=24))
    assert "stage-1+2+3+4" in text
    for head in ("round", "virtual", "arrived", "denied", "loss", "accuracy", "stale", "discarded"):
        assert f" {head} " in text


def test_a_notice_that_comes_again_takes_one_place_with_its_count():
    board = board_after(8)
    for number in range(1, 19):
        board.notify(Notice(message=f"round {number}: training diverged on {number} of 40 devices"))
    text = drawn(dashboard(board, width=80, height=24))
    assert text.count("diverged") == 1
    assert " ! 18th time: round 18: training diverged on 18 of 40 devices" in text


def test_long_notice_takes_the_lines_that_are_left_and_ends_in_dots():
    board = board_after(8)
    board.notify(Notice(message=" ".join(f"word{number}" for number in range(60))))
    tall = drawn(dashboard(board, width=80, height=40), 80, 40).splitlines()
    assert tall[-3].startswith(" results go to ")
    assert tall[-2].startswith(" ! word0 ")
    assert tall[-1].startswith("   word")
    assert tall[-1].rstrip().endswith("…")
    board.notify(Notice(message="another"))
    assert [line.split()[:2] for line in drawn(dashboard(board, width=80, height=40), 80, 40).splitlines()[-2:]] == [
        ["!", "word0"], ["!", "another"],
    ]  # fmt: skip
    board.notify(Notice(message="yet another"))
    text = drawn(dashboard(board, width=80, height=40), 80, 40)
    assert text.splitlines()[-3].startswith(" results go to ")
    assert ("word0" in text, " ! another" in text, " ! yet another" in text) == (False, True, True)


def test_summary_panel_fits_eighty_columns_without_breaking_a_fact():
    text = drawn(summary_panel(rehearsal.summary(40), run_dir="runs/rehearsal-42"))
    assert max(map(len, text.splitlines())) <= 80
    assert "│ results        runs/rehearsal-42 " in text
    assert "│ digest         5f5f5f5f5f5f5f5f... " in text


def test_long_folder_is_never_cut():
    text = drawn(summary_panel(rehearsal.summary(40), run_dir="runs/" + "x" * 100), width=60)
    assert text.count("x") >= 100


def test_console_is_chosen_by_where_it_writes():
    assert isinstance(run_console(terminal(), quiet=False), LiveConsole)
    assert isinstance(run_console(Console(file=io.StringIO()), quiet=False), PlainConsole)
    assert isinstance(run_console(terminal(), quiet=True), QuietConsole)


def test_terminal_that_cannot_draw_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(run_console(terminal(), quiet=False), PlainConsole)


def test_plain_lines_survive_an_output_of_ascii():
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii")
    run_console(Console(file=output), quiet=False).notify(Notice(message="größe [bold]x[/bold]"))
    assert raw.getvalue() == b"! gr??e [bold]x[/bold]\n"


def test_live_console_leaves_notices_and_the_summary_on_the_screen():
    console = terminal()
    with LiveConsole(console) as live:
        for event in rehearsal.events(24):
            live.notify(event)
    live.finish(rehearsal.summary(24), run_dir="runs/rehearsal-42")
    text = console.file.getvalue()
    left = text[text.index("\x1b[?1049l") :]
    assert "! round 20: a training actor stopped and was replaced" in left
    assert "82.1 % final" in left
    assert "stopped after" not in left


def test_live_console_of_a_failed_run_says_how_far_it_came():
    console = terminal()

    def fail():
        with LiveConsole(console) as live:
            for event in rehearsal.events(3):
                live.notify(event)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "stopped after 3 rounds, virtual " in console.file.getvalue().split("\x1b[?1049l")[1]


def test_text_that_others_print_under_the_live_view_becomes_a_notice():
    console, before = terminal(), (sys.stdout, sys.stderr)
    with LiveConsole(console):
        print("half a line, ", end="")
        print("\x1b[31mthen the rest\x1b[0m")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            sys.stderr.write("a warning\n")
    assert (sys.stdout, sys.stderr) == before
    left = console.file.getvalue().split("\x1b[?1049l")[1]
    assert "! half a line, then the rest" in left
    assert "! a warning" in left


def test_streams_under_the_live_view_still_have_their_file_number(capfd):
    with LiveConsole(terminal()):
        assert isinstance(sys.stderr.fileno(), int)


def test_table_is_drawn_on_a_terminal_and_plain_elsewhere():
    table = TextTable(headers=("name", "peak"), rows=(("[x]", "9 MB"),), numeric=frozenset({"peak"}), notes=("a note",))
    pipe, screen = Console(file=io.StringIO(), width=10), terminal()
    print_table(pipe, table)
    print_table(screen, table)
    assert pipe.file.getvalue() == table.text() + "\n"
    assert "─" in screen.file.getvalue()
    assert "[x]" in screen.file.getvalue()
    assert "a note" in drawn(rich_table(table))


@pytest.mark.slow
def test_rehearsal_runs_as_a_program_on_a_real_terminal_and_in_a_pipe():
    command = [sys.executable, "-m", "neulite_sim.reports.console", "2"]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    assert "\x1b" not in piped.stdout
    assert "round 2/2 | virtual " in piped.stdout
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
    # A frame at each event: how many there would be otherwise depends on what else the machine does.
    drawn_at_once = "from neulite_sim.reports import console; console._FRAME_S, console._DRAWING_SHARE = 0.0, 1e9; "
    command = [sys.executable, "-c", f"{drawn_at_once}console._rehearse(2, 0.01)"]
    # Read while it runs: a terminal takes in only so much that nobody has read.
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1 << 16):
            shown += piece
    except OSError:
        pass
    os.close(ours)
    assert program.wait() == 0
    assert b"\x1b[?1049h" in shown
    assert b"memory of the fleet" in shown
    assert b"82.1 % final" in shown.split(b"\x1b[?1049l")[1]


def test_view_of_a_replay_names_it_and_tells_no_pace():
    board = board_after(8, replays_until=20)
    text = drawn(dashboard(board, width=80, height=24))
    assert "replaying rounds 1 to 20" in text
    assert "a round" not in text
    assert board.wall_left_s is None


def test_pace_of_a_resumed_run_begins_where_its_replay_ended():
    now_s = [0.0]
    board = Board(clock=lambda: now_s[0])
    for event in rehearsal.events(20):
        is_row = isinstance(event, RoundRow)
        now_s[0] += 10.0 if is_row and event.round > 16 else 0.0
        board.notify(replace(event, replays_until=16, max_rounds=30) if hasattr(event, "thresholds") else event)
    # Sixteen rounds came at once from the journal, where they had taken 6.4 s; each of the next four took 10 s.
    assert (board.round_wall_s, board.wall_left_s) == (10.0, 100.0)
    text = drawn(dashboard(board, width=80, height=24))
    assert "replaying" not in text
    assert "46.4s (6.4s before)" in text


def test_late_and_discarded_updates_have_columns_where_there_are_any():
    board = board_after(8)
    assert not {"stale", "discarded"} & set(drawn(dashboard(board, width=80, height=24)).split())
    board.notify(replace(board.rounds[-1], round=9, staleness_mean=2.25, discarded=3))
    text = drawn(dashboard(board, width=80, height=24))
    assert {"stale", "discarded"} <= set(text.split())
    newest = [line.split() for line in text.splitlines() if line.startswith("│ ")][-1]
    assert newest[1] == "9"
    assert newest[-3:-1] == ["2.2", "3"]


def test_devices_add_up_to_the_fleet_even_where_those_in_flight_are_away():
    board = board_after(8)
    for training, trained in ((26, 0), (25, 1)):
        counts = {"online": 30, "offline": 70, "training": training, "trained": trained, "denied_by_memory": 9}
        board.notify(replace(board.progress, round=9, **counts))
    text = drawn(dashboard(board, width=80, height=24))
    assert "in flight 25, back 1" in text
    assert "idle 0" in text
    assert "denied by memory 9" in text
    assert "offline 66" in text


@pytest.mark.parametrize("place", ["runs/rehearsal-42", "/home/somebody/with a long/folder of results/rehearsal-42"])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140, 200])
def test_foot_says_at_every_width_how_to_stop_and_cuts_no_word(width, place):
    board = board_after(8, run_dir=place)
    for height in (12, 24, 40):
        foot = [
            line.strip() for line in drawn(dashboard(board, width=width, height=height), width, height).splitlines()
        ]
        how = next(line for line in foot if line.startswith("Ctrl-C stops"))
        assert how in how_to_stop(place)
        assert "goes on" in how or width < 29


def test_foot_names_the_folder_of_the_results_at_every_width_that_holds_it():
    board = board_after(8, run_dir="/home/somebody/results/rehearsal-42")
    for width, told in (
        (140, "Ctrl-C stops; `neulite-sim resume /home/somebody/results/rehearsal-42` goes on"),
        (60, "results go to /home/somebody/results/rehearsal-42"),
        (40, "/home/somebody/results/rehearsal-42"),
        (30, "…/results/rehearsal-42"),
    ):
        assert f" {told} " in drawn(dashboard(board, width=width, height=24), width).replace("\n", " ")


@pytest.mark.parametrize(
    ("method", "why"),
    [("neulite", "NeuLite subtracts its nHSIC terms"), ("other", "this method subtracts a term")],
)
def test_losses_below_zero_are_explained_where_there_are_some(method, why):
    board = board_after(8, method=method)
    assert "below zero" not in drawn(dashboard(board, width=80, height=24))
    board.notify(replace(board.rounds[-1], round=9, train_loss=-0.25))
    assert f"losses below zero are no mistake: {why}" in drawn(dashboard(board, width=80, height=24))
    assert "below zero" in drawn(dashboard(board, width=60, height=24), 60)


def test_curve_has_an_axis_of_percentages_and_one_of_rounds():
    lines = drawn(dashboard(board_after(60), width=100, height=40), 100, 40).splitlines()
    assert [line[:9] for line in lines if " % " in line[:9]] == ["│   50 % ", "│   30 % ", "│   10 % ", "│ 50 % in"]
    assert any("        round 4 " in line and "round 60 (6h 39m)" in line for line in lines)
    small = drawn(dashboard(board_after(60), width=80, height=24))
    assert "│ 14 to 46 % ▁▂▂" in small


def test_rounds_on_a_narrow_terminal_have_fewer_columns_and_whole_words():
    board = board_after(60)
    for width, heads in (
        (60, ["round", "virtual", "stage", "arrived", "denied", "loss", "accuracy"]),
        (40, ["round", "stage", "arrived", "loss", "accuracy"]),
        (20, ["round", "accuracy"]),
    ):
        lines = drawn(dashboard(board, width=width, height=24), width).splitlines()
        table = next(place for place, line in enumerate(lines) if "last" in line)
        assert lines[table + 1].strip("│ ").split() == heads
        assert "…" not in "".join(lines[table + 1 : table + 4])


class Screen:
    """The cells of a terminal, read from what was written to it; a resize keeps the cells that it does not cut."""

    def __init__(self, width, height):
        self.cells = [[" "] * width for _ in range(height)]
        self.row = self.column = 0

    def resize(self, width, height):
        kept = [[*line[:width], *" " * (width - len(line))] for line in self.cells[:height]]
        self.cells = [*kept, *([" "] * width for _ in range(height - len(kept)))]

    def write(self, text):
        for sequence, character in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", text):
            if sequence == "H":
                self.row = self.column = 0
            elif sequence == "2J":
                self.cells = [[" "] * len(line) for line in self.cells]
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self.row = min(self.row + 1, len(self.cells) - 1)
            elif character:
                if self.column < len(self.cells[0]):
                    self.cells[self.row][self.column] = character
                self.column += 1

    @property
    def lines(self):
        return ["".join(line).rstrip() for line in self.cells]


def read_until(master, shown, wanted, at_most_s=30.0):
    """Put what is written into `shown`, whole writes at a time, until it shows the `wanted` lines and all is quiet."""
    ends_s, written = time.monotonic() + at_most_s, b""
    while time.monotonic() < ends_s:
        if select.select([master], [], [], 0.2)[0]:
            written += os.read(master, 1 << 16)
            continue
        shown.write(written.decode("utf-8"))
        written = b""
        if shown.lines == wanted:
            return


@pytest.fixture
def pseudo_terminal():
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield master, stream
    os.close(master)


def resize(stream, width, height):
    fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


@pytest.mark.slow
def test_a_resized_terminal_shows_one_whole_frame_and_nothing_of_the_one_before(pseudo_terminal, monkeypatch):
    monkeypatch.setattr("neulite_sim.reports.console._FRAME_S", 3600.0)
    monkeypatch.setenv("COLUMNS", "100")  # exported by some shells, and then never up to date
    monkeypatch.setenv("LINES", "24")
    master, stream = pseudo_terminal
    shown, sizes = Screen(100, 24), [(80, 24), (140, 24), (60, 24), (60, 12), (100, 40), (100, 24)]
    resize(stream, 100, 24)
    console = Console(file=stream, force_terminal=True, color_system=None, legacy_windows=False)
    with LiveConsole(console, clock=lambda: 0.0) as live:
        for event in rehearsal.events(8):
            live.notify(event)
        for width, height in sizes:
            resize(stream, width, height)
            shown.resize(width, height)
            whole = [
                line.rstrip()
                for line in drawn(dashboard(live._board, width=width, height=height), width, height).splitlines()
            ]
            read_until(master, shown, whole)
            assert shown.lines == whole, (width, height)


def test_neither_a_pipe_nor_a_notebook_nor_a_forced_colour_brings_control_codes(pseudo_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert isinstance(run_console(screen(), quiet=False), PlainConsole)
    monkeypatch.setattr(sys, "stdout", pseudo_terminal[1])
    assert isinstance(run_console(screen(), quiet=False), LiveConsole)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert isinstance(run_console(screen(), quiet=False), PlainConsole)


def test_no_color_leaves_the_live_view_without_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system="truecolor")
    with LiveConsole(console) as live:
        for event in rehearsal.events(8):
            live.notify(event)
    colours = [code for codes in re.findall(r"\x1b\[([0-9;]*)m", console.file.getvalue()) for code in codes.split(";")]
    assert {code for code in colours if code.isdecimal() and 30 <= int(code) <= 107} == set()
