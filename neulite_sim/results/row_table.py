"""Rows as a table of a notebook: the first and the last of them, every text escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = 5
_MOST_LETTERS = 60


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
