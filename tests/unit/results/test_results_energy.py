"""Joules of flights: by hand, whatever the order, and unknown where nobody knows the watts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulite_sim.arrays import Repeated
from neulite_sim.population.hardware.power import Power
from neulite_sim.results.energy import PER_JOULE, EnergyTally, joules_of, joules_of_cells, units_of

BOARD = Power(idle_watts=1.0, compute_watts=8.0, receive_watts=2.0, send_watts=3.0)
PHONE = Power(idle_watts=0.5, compute_watts=4.0, receive_watts=1.0, send_watts=1.5)
BY_NAME = {"board": BOARD, "phone": PHONE}


def cells(*flights: tuple[str, float, float, float, float]):
    """Return columns of flights: class, seconds of download, compute, upload and waiting."""
    names = ("device_class", "download_s", "compute_s", "upload_s", "waiting_s")
    return dict(zip(names, map(list, zip(*flights, strict=True)), strict=True))


def test_a_flight_takes_the_seconds_of_each_state_times_its_watts():
    """10 s at 2 W, 100 s at 8 W, 20 s at 3 W and 30 s away at 1 W: 20 + 800 + 60 + 30 J."""
    assert joules_of_cells(cells(("board", 10.0, 100.0, 20.0, 30.0)), BY_NAME) == pytest.approx(910.0, abs=0)


def test_an_aborted_flight_takes_what_it_used_until_it_stopped():
    """10 s at 1 W and 25 s at 4 W; nothing was sent."""
    assert joules_of_cells(cells(("phone", 10.0, 25.0, 0.0, 0.0)), BY_NAME) == pytest.approx(110.0, abs=0)


def test_each_flight_is_of_its_own_device():
    found = joules_of_cells(cells(("phone", 1.0, 0.0, 0.0, 0.0), ("board", 1.0, 0.0, 0.0, 0.0)), BY_NAME)
    assert found is not None
    assert found.tolist() == [1.0, 2.0]


def test_nobody_knows_the_joules_of_a_device_without_watts():
    assert joules_of_cells(cells(("board", 1.0, 1.0, 1.0, 0.0), ("toaster", 1.0, 1.0, 1.0, 0.0)), BY_NAME) is None
    repeated = {**cells(("board", 1.0, 1.0, 1.0, 0.0)), "device_class": Repeated("toaster", 1)}
    assert joules_of_cells(repeated, BY_NAME) is None
    tally = EnergyTally()
    tally.add(np.array([1.0]), np.array([True]))
    tally.add(None, np.array([True]))
    assert (tally.energy_j, tally.wasted_energy_j) == (None, None)


def test_what_was_not_merged_is_wasted():
    tally = EnergyTally()
    tally.add(np.array([1.0, 2.0, 4.0]), np.array([True, False, True]))
    tally.add(np.array([8.0]), np.array([False]))
    assert (tally.energy_j, tally.wasted_energy_j) == (15.0, 10.0)


def test_totals_beyond_64_bits_are_whole_numbers_still():
    large = np.array([2.0**33, 2.0**33, 1.0])
    assert units_of(large) == (2**34 + 1) * PER_JOULE


@given(
    st.lists(st.tuples(*[st.floats(0, 1e5)] * 4, st.sampled_from([0, 1])), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_a_total_does_not_depend_on_order_or_grouping(flights, random):
    def total(order, step):
        tally = EnergyTally()
        for first in range(0, len(order), step):
            part = order[first : first + step]
            columns = [np.array([flight[place] for flight in part]) for place in range(5)]
            down, compute, up, waits, which = columns
            joules = joules_of(which.astype(np.int64), [BOARD, PHONE], download_s=down, compute_s=compute,
                               upload_s=up, waiting_s=waits)  # fmt: skip
            tally.add(joules, np.zeros(len(part), np.bool_))
        assert tally.energy_j == tally.wasted_energy_j
        return tally.energy_j

    shuffled = random.sample(flights, len(flights))
    assert total(flights, 1) == total(shuffled, 7) == total(shuffled, len(flights))
    by_hand = math.fsum(
        seconds * getattr(PHONE if flight[4] else BOARD, f"{state}_watts")
        for flight in flights
        for seconds, state in zip(flight, ("receive", "compute", "send", "idle"), strict=False)
    )
    assert total(flights, 3) == pytest.approx(by_hand, rel=1e-9, abs=len(flights) / PER_JOULE)
