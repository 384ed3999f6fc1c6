"""Tables on a terminal of any width: nothing is lost, nothing is broken, nothing stands over the edge."""

from __future__ import annotations

import io
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from neulite_sim.reports.console import print_table
from neulite_sim.reports.table import TextTable

CELL = st.lists(st.text("abcdefghij0123456789.-", min_size=1, max_size=10), min_size=1, max_size=2).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> TextTable:
    """Tables whose columns 60 characters hold one by one beside those that name the rows."""
    columns = draw(st.integers(2, 12))
    rows = draw(st.lists(st.tuples(*[CELL] * columns), max_size=4))
    headers = draw(st.lists(CELL, min_size=columns, max_size=columns))
    keys = draw(st.integers(1, min(columns - 1, 2)))
    return TextTable(headers=tuple(headers), rows=tuple(rows), num_keys=keys)


def printed(table: TextTable, width: int) -> list[str]:
    """Return the lines of a table on a terminal."""
    file: Any = io.StringIO()
    print_table(Console(width=width, file=file, force_terminal=True, color_system=None, legacy_windows=False), table)
    return str(file.getvalue()).splitlines()


@given(table=tables(), width=st.sampled_from([80, 100, 140]))
def test_no_line_is_wider_than_the_terminal_and_no_cell_is_broken(table: TextTable, width: int) -> None:
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    for place, head in enumerate(table.headers):
        column = [head, *(row[place] for row in table.rows)]
        # The head and all cells of a column stand in one block, below each other, as they are written.
        starts = [start for start in range(len(lines)) if head in lines[start]]
        assert any(
            all(cell in line for cell, line in zip(column[1:], lines[start + 2 :], strict=False)) for start in starts
        )


@given(table=tables(), width=st.integers(80, 200))
def test_every_block_names_its_rows_and_holds_as_many_columns_as_it_can(table: TextTable, width: int) -> None:
    blocks = table.blocks(width)
    keys = table.num_keys
    assert [head for block in blocks for head in block.headers[keys:]] == list(table.headers[keys:])
    assert all(block.headers[:keys] == table.headers[:keys] for block in blocks)
    for block, following in itertools.pairwise(blocks):
        more = TextTable(
            headers=(*block.headers, following.headers[keys]),
            rows=tuple((*row, other[keys]) for row, other in zip(block.rows, following.rows, strict=True)),
            num_keys=keys,
        )
        assert len(more.blocks(width)) == 2


@given(table=tables())
def test_a_pipe_has_a_line_for_each_row(table: TextTable) -> None:
    file = io.StringIO()
    print_table(Console(width=40, file=file), table)
    assert len(file.getvalue().splitlines()) == 2 + len(table.rows)
