"""Rows with any cells changed, for tests that care about a few of them."""

import pytest

from neulite_sim.results.cells import column_types


def make(kind, **changes):
    usual = {int: 1, float: 0.5, str: "text"}
    cells = {name: "" if name == "pauses" else usual[cast] for name, (cast, _) in column_types(kind).items()}
    return kind(**cells | changes)


@pytest.fixture
def make_row():
    return make
