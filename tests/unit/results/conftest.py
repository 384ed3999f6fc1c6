"""Rows with any cells changed, for tests that care about a few of them."""

import functools

import pytest

from neulite_sim.results.cells import column_types


@functools.cache
def usual_cells(kind):
    usual = {int: 1, float: 0.5, str: "text"}
    return {name: "" if name == "pauses" else usual[cast] for name, (cast, _) in column_types(kind).items()}


def make(kind, **changes):
    return kind(**usual_cells(kind) | changes)


@pytest.fixture
def make_row():
    return make
