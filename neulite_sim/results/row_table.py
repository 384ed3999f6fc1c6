"""Rows as plain values, and as a table of a notebook: the first and the last of them, every text escaped."""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neulite_sim.errors import NeuliteError

_SHOWN = 5
_MOST_LETTERS = 60


class Rows(list[dict[str, Any]]):
    """Rows of one kind as plain dictionaries, in the order in which they happened."""

    def __init__(self, rows: Iterable[dict[str, Any]] = (), *, columns: tuple[str, ...]) -> None:
        super().__init__(rows)
        self.columns = columns

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one column per cell, also where there are no rows.

        Raises:
            NeuliteError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise NeuliteError("to_pandas needs pandas; install it with: python -m pip install pandas") from None
        return pandas.DataFrame(list(self), columns=list(self.columns))

    def _repr_html_(self) -> str:
        """Show the rows as a table in a notebook."""
        return rows_html(self, self.columns)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Say at IPython's prompt what these rows are; each of them is shown where it is asked for."""
        del cycle
        printer.text(f"{len(self)} rows of {', '.join(self.columns)}")


def rows_html(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as an HTML table: all of them up to ten, or the first five and the last five."""
    is_cut = len(rows) > 2 * _SHOWN
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    shown = [*rows[:_SHOWN], None, *rows[-_SHOWN:]] if is_cut else rows
    body = "".join(
        f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>"
        if row is not None
        else f'<tr><td colspan="{len(columns)}" style="text-align:center">...</td></tr>'
        for row in shown
    )
    count = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}, {len(columns)} columns"
    return (
        f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"<div>{count}</div>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    cut = text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."
    align = "left" if isinstance(value, str) else "right"
    return f'<td style="text-align:{align}">{html.escape(cut)}</td>'
