import sys
import types

import pytest
import torch

from neulite_sim.errors import NeuliteError
from neulite_sim.results.cells import record
from neulite_sim.results.memory import MemorySink, Rows
from neulite_sim.results.rows import DenialRow, FlightRow, RoundRow, columns


def test_rows_are_kept_by_kind_as_plain_dictionaries(make_row):
    sink = MemorySink()
    rows = [
        make_row(RoundRow, round=1),
        make_row(FlightRow, flight=4),
        make_row(DenialRow),
        make_row(RoundRow, round=2),
    ]
    for row in rows:
        sink.write(row)
    assert sink.rounds == [record(rows[0]), record(rows[3])]
    assert sink.flights == [record(rows[1])]
    assert sink.denials == [record(rows[2])]


def test_weights_are_kept_as_they_were_at_the_end():
    sink, weight = MemorySink(), torch.zeros(2)
    sink.finish({"rounds": 3}, {"w": weight})
    weight += 1
    assert sink.summary == {"rounds": 3}
    assert sink.weights["w"].tolist() == [0.0, 0.0]


def test_pandas_gets_all_columns_also_without_rows(monkeypatch):
    asked = types.ModuleType("pandas")
    asked.DataFrame = lambda rows, columns: (rows, columns)
    monkeypatch.setitem(sys.modules, "pandas", asked)
    assert Rows(columns=columns(DenialRow)).to_pandas() == ([], list(columns(DenialRow)))


def test_missing_pandas_is_answered_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NeuliteError, match="to_pandas needs pandas; install it with: python -m pip install pandas"):
        Rows(columns=("a",)).to_pandas()
