"""Where nothing is drawn: a stream that was closed is no terminal."""

from __future__ import annotations

import sys

import pytest

from neulite_sim.reports.screen import is_drawn_on, screen


def test_a_stream_that_python_found_closed_is_no_terminal_and_takes_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert not is_drawn_on(sys.stdout)
    screen().print("nothing")
