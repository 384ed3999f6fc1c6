"""Uniform selection."""

import numpy as np

from neulite_sim.methods.contract import Offers
from neulite_sim.seeding import stream
from neulite_sim.selection.uniform import Uniform


def offers(count):
    devices = np.arange(count) * 3
    return Offers(devices=devices, submodel_index=np.zeros(count, np.int16), submodels=("full",),
                  expected_s=np.ones(count))  # fmt: skip


def test_all_are_taken_where_there_are_no_more_than_asked_for():
    assert list(Uniform().choose(offers(3), 10, stream(0, "selection"))) == [0, 1, 2]
    assert len(Uniform().choose(offers(0), 10, stream(0, "selection"))) == 0


def test_positions_are_ascending_and_different():
    chosen = Uniform().choose(offers(100), 10, stream(0, "selection"))
    assert len(set(chosen)) == 10
    assert list(chosen) == sorted(chosen)


def test_every_offer_is_equally_likely():
    """2000 draws of 2 out of 8: each is expected 500 times, with a standard deviation of 19.4."""
    counts = np.zeros(8)
    for draw in range(2000):
        counts[Uniform().choose(offers(8), 2, stream(1, "selection", draw))] += 1
    assert np.abs(counts - 500).max() < 4 * 19.4


def test_an_offer_is_a_value_of_its_columns():
    offer = offers(3)[2]
    assert (offer.device, offer.submodel, offer.expected_s) == (6, "full", 1.0)


def test_one_of_many_is_the_one_that_a_draw_without_replacement_takes():
    for number in range(200):
        size = 2 + number * number * 7919 % 1_000_000
        drawn = stream(3, "one", number).choice(size, size=1, replace=False)
        found = Uniform().choose(_Sized(size), 1, stream(3, "one", number))
        assert (found.tolist(), found.dtype) == (drawn.tolist(), np.int64)


class _Sized:
    """Offers of which nothing is known but how many there are."""

    def __init__(self, size):
        self._size = size

    def __len__(self):
        return self._size
