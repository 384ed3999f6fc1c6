"""Tables as a notebook shows them: plain HTML with every text escaped, no script and no file beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence

from neulite_sim.reports.table import TextTable


def tables_html(tables: Sequence[TextTable]) -> str:
    """Return tables below each other, each with its title above and its notes below."""
    return "".join(_table(table) for table in tables)


def _table(table: TextTable) -> str:
    title = f'<div style="font-weight:bold;margin:6px 0">{html.escape(table.title)}</div>' if table.title else ""
    head = "".join(_cell("th", name, table, name) for name in table.headers)
    body = "".join(
        f"<tr>{''.join(_cell('td', cell, table, name) for name, cell in zip(table.headers, row, strict=True))}</tr>"
        for row in table.rows
    )
    notes = "".join(f'<div style="opacity:.7;font-size:90%">{html.escape(note)}</div>' for note in table.notes)
    return (
        f'<div style="overflow-x:auto;margin-bottom:10px">{title}<table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{notes}</div>"
    )


def _cell(tag: str, text: str, table: TextTable, header: str) -> str:
    side = "right" if header in table.numeric else "left"
    return f'<{tag} style="text-align:{side};white-space:nowrap">{html.escape(text)}</{tag}>'
