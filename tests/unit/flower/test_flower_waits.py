"""Waiting in virtual time: which polls are passed over, and when waiting is in vain."""

from __future__ import annotations

import math
import time

import pytest

from neulite_sim.errors import SimulationError
from neulite_sim.flower.waits import MOST_IDLE_S, PATIENCE, Patience, virtual_sleep


def worn(num_devices: int = 5, *, seen: int = 2) -> Patience:
    patience = Patience(num_devices)
    for poll in range(PATIENCE):
        patience.saw(seen)
        assert patience.until_s(float(poll), 1.0, math.inf) == poll + 1.0
    return patience


def test_polls_that_bring_nothing_are_passed_over_up_to_the_news() -> None:
    patience = worn()
    assert patience.is_worn()
    assert patience.until_s(3.0, 2.0, 9.5) == 11.0


def test_whatever_happens_makes_patient_again() -> None:
    patience = worn()
    patience.acted()
    assert not patience.is_worn()
    assert patience.until_s(3.0, 2.0, math.inf) == 5.0


def test_waiting_for_what_never_comes_ends_with_numbers() -> None:
    patience = worn()
    patience.wanted = 4
    with pytest.raises(SimulationError, match=r"waits for 4 nodes .* of 5 devices at most 2 were online at once"):
        patience.until_s(3.0, 1.0, math.inf)


def test_waiting_for_more_nodes_than_there_are_ends_although_devices_come_and_go() -> None:
    patience = worn()
    patience.wanted = 6
    with pytest.raises(SimulationError, match="ask for fewer"):
        patience.until_s(3.0, 1.0, 7.0)


def test_waiting_for_very_long_ends() -> None:
    patience = worn()
    with pytest.raises(SimulationError, match="would wait for ever"):
        patience.until_s(MOST_IDLE_S + 10, 1.0, MOST_IDLE_S + 20)


def test_sleep_is_virtual_inside_only() -> None:
    slept: list[float] = []
    real = time.sleep
    with virtual_sleep(slept.append):
        time.sleep(10_000)
    assert slept == [10_000.0]
    assert time.sleep is real
