"""Every signal that asks to stop raises once; later ones, and those ignored from the start, do nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from tiny_scenarios import tiny

from neulite_sim import simulate
from neulite_sim.results.rows import RoundRow
from neulite_sim.stopping import SIGNALS, ask_again_where_it_was_lost, heed_signals, is_asked_to_stop

NUMBERS = [getattr(signal, name) for name in SIGNALS]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Start from what a new process has, and give back the handlers of this one."""
    taken = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in taken.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_raises_and_later_ones_of_any_kind_do_not(number: signal.Signals) -> None:
    assert not is_asked_to_stop()
    heed_signals()
    assert not is_asked_to_stop()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    for again in NUMBERS:
        os.kill(os.getpid(), again)
    assert is_asked_to_stop()


@pytest.mark.parametrize("number", NUMBERS)
def test_what_was_ignored_from_the_start_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    heed_signals()
    assert signal.getsignal(number) == signal.SIG_IGN
    os.kill(os.getpid(), number)
    assert not is_asked_to_stop()


def test_signals_are_heeded_before_anything_that_takes_long_is_imported() -> None:
    code = (
        "import sys; import neulite_sim.__main__\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'typer', 'click', 'rich', 'pydantic', "
        "'numpy', 'yaml', 'torch', 'ray'}), sorted(name for name in sys.modules if name.startswith('neulite_sim.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = ["neulite_sim.__main__", "neulite_sim.outlet", "neulite_sim.stopping", "neulite_sim.version"]
    assert found.stdout == f"[] {own}\n"


def test_an_interruption_that_was_swallowed_ends_the_run_at_its_next_round() -> None:
    """Libraries catch everything while they are imported, some while they are called."""
    heed_signals()

    rounds = []

    def swallow(event: object) -> None:
        if isinstance(event, RoundRow):
            rounds.append(event.round)
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        simulate(tiny("backend=dry-run", "stop.rounds=20"), observers=[SimpleNamespace(notify=swallow)])
    assert rounds == [1]


def test_one_that_was_swallowed_before_the_run_ends_it_before_its_first_round() -> None:
    stopping = heed_signals()
    stopping.is_asked = True
    with pytest.raises(KeyboardInterrupt):
        simulate(tiny("backend=dry-run", "stop.rounds=20"))


def test_nobody_is_asked_where_no_handler_heeds_signals() -> None:
    ask_again_where_it_was_lost()
    heed_signals()
    ask_again_where_it_was_lost()
