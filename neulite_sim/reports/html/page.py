"""Pages as HTML: the templates, and the one file that they become."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neulite_sim.errors import OutputError
from neulite_sim.reports.html.blocks import Page
from neulite_sim.results.writing import write_whole
from neulite_sim.units import format_bytes
from neulite_sim.version import __version__

MOST_BYTES = 2_000_000
"""A page is never larger, so that it passes as an attachment everywhere."""
MOST_ROWS = (1000, 300, 100)
"""Rows of the longest table, and of how many there are where the page would be too large."""
PACKAGE = "neulite_sim.reports.html"


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def html_of(page: Page) -> str:
    """Return a page as one HTML document that needs no other file."""
    text: str = _template().render(page=page, version=__version__)
    # Half a character, as a file's name may hold, has no place in UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


Builder = Callable[[int], Page]
"""Makes a page whose longest table has at most so many rows."""


def write_page(build: Builder, out: Path) -> int:
    """Write a page that holds at most `MOST_BYTES` and return its bytes; long tables give way first.

    Raises:
        OutputError: it would be larger however short its tables are, or the file cannot be written.
    """
    text = page_text(build, out)
    write_whole(out, text)
    return len(text.encode("utf-8"))


def page_text(build: Builder, out: Path | str = "report.html") -> str:
    """Return a page as HTML of at most `MOST_BYTES`; long tables give way first. `out` is what it is called in errors.

    Raises:
        OutputError: it would be larger however short its tables are.
    """
    num_bytes = 0
    for most_rows in MOST_ROWS:
        text = html_of(build(most_rows))
        num_bytes = len(text.encode("utf-8"))
        if num_bytes <= MOST_BYTES:
            return text
    raise OutputError(
        f"{out}: the report would hold {format_bytes(num_bytes)}, more than {format_bytes(MOST_BYTES)}",
        hint="give fewer runs",
    )
