"""What every test of a command needs: signal handlers are given back, and nothing is profiled twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _shared(shared_profiles: None) -> None:
    """Profile nothing twice."""


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back the handlers of this process."""
    taken = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for name, handler in taken.items():
        signal.signal(name, handler)
