"""What every test of a command needs: the signal handlers that a command takes are given back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back the handlers of this process."""
    taken = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for name, handler in taken.items():
        signal.signal(name, handler)
