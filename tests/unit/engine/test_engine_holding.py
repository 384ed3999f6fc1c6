"""How long rows of brisk rounds wait to be written together."""

from __future__ import annotations

import pytest

from neulite_sim.engine import holding
from neulite_sim.engine.holding import MOST_FLIGHTS_HELD, MOST_HELD, Holding


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> Holding:
    monkeypatch.setattr(holding, "HELD_S", 1e9)
    monkeypatch.setattr(holding, "BRISK_S", 1e9)
    found = Holding(is_wanted=True)
    # How long the first round takes is not known.
    assert found.round_ended(0)
    found.written()
    return found


@pytest.mark.parametrize(
    ("num_flights", "rounds"), [(1, MOST_HELD), (MOST_FLIGHTS_HELD // 4, 4), (MOST_FLIGHTS_HELD + 1, 1), (0, MOST_HELD)]
)
def test_rows_wait_until_there_are_many_rounds_or_many_flights(brisk: Holding, num_flights: int, rounds: int) -> None:
    for _ in range(2):
        assert [brisk.round_ended(num_flights) for _ in range(rounds)] == [False] * (rounds - 1) + [True]
        brisk.written()


def test_nothing_waits_where_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "BRISK_S", 1e9)
    assert Holding(is_wanted=False).round_ended(0)
