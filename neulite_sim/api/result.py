"""What the public functions return: the object that a command prints, as text, rows, a page, a figure and JSON."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulite_sim.reports.table_html import tables_html
from neulite_sim.results.row_table import Rows

if TYPE_CHECKING:
    from neulite_sim.notebook.figure import Figure
    from neulite_sim.reports.html.page import Builder
    from neulite_sim.reports.plot_options import PlotOptions
    from neulite_sim.reports.table import TextTable

FilePath = str | os.PathLike[str]


class Result(ABC):
    """Base of the results: `str(result)` is the text that the command prints into a pipe.

    `rows` are plain dictionaries, `frame()` a data frame, `to_json()` the object of `--json`, `to_html()` a page,
    `plot()` a figure. A notebook shows the tables.
    """

    @abstractmethod
    def tables(self, *, width: int | None = None) -> list[TextTable]:
        """Return the tables that the command prints, in blocks of `width` characters where that is given."""

    @abstractmethod
    def to_json(self, path: FilePath | None = None) -> dict[str, Any]:
        """Return the object that the command prints with `--json`, written into a file too if one is named."""

    @abstractmethod
    def to_html(self, path: FilePath | None = None) -> str:
        """Return a page that needs no other file as HTML, written into a file too if one is named."""

    def plot(
        self,
        path: FilePath | None = None,
        *,
        style: str | None = None,
        size: str | None = None,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Figure:
        """Return the result as a figure, written into a file too if one is named.

        `style`, `size`, `title` and `labels` (names in the figure) are those of every `--plot`.

        Raises:
            ScenarioError: an option is not understood, or the file has another ending than .png, .svg and .pdf.
            OutputError: the file cannot be written.
            NeuliteError: matplotlib is not installed.
        """
        return self.drawn(*asked_figure(path, style=style, size=size, title=title, labels=labels))

    @abstractmethod
    def drawn(self, file: Path | None, options: PlotOptions) -> Figure:
        """Return the figure as `plot` does, for options that have been checked."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """The rows of `--json` as plain dictionaries."""

    def frame(self) -> Any:
        """Return the rows as a `pandas.DataFrame`, as `--csv` has them: mappings and lists made flat.

        Raises:
            NeuliteError: pandas is not installed.
        """
        return flat_rows(self.rows).to_pandas()

    def text(self) -> str:
        """Return what the command prints where there is no terminal."""
        return "\n".join(table.text() for table in self.tables())

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        titles = ", ".join(table.title for table in self.tables() if table.title)
        return f"<{type(self).__name__}: {titles}; print it to see it>"

    def _repr_html_(self) -> str:
        """Show the tables in a notebook."""
        return tables_html(self.tables())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the tables at IPython's prompt."""
        del cycle
        printer.text(self.text())


def rows_of(found: Sequence[Mapping[str, Any]]) -> Rows:
    """Return mappings as rows with all of their keys as columns."""
    return Rows(map(dict, found), columns=tuple(dict.fromkeys(key for row in found for key in row)))


def flat_rows(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Return rows without mappings and lists."""
    from neulite_sim.reports.comparison import flat

    return rows_of([flat(row) for row in rows])


def as_json(content: Mapping[str, Any], path: FilePath | None) -> dict[str, Any]:
    """Return the content, written into a file if one is named.

    Raises:
        ScenarioError: the file lies in a run folder.
        OutputError: the file cannot be written.
    """
    if path is not None:
        from neulite_sim.results.outputs import check_outputs

        check_outputs({"path": os.fspath(path)}, [])
        _write(path, json.dumps(content, indent=2) + "\n")
    return dict(content)


def as_html(build: Builder, path: FilePath | None) -> str:
    """Return a page as HTML, written into a file if one is named.

    Raises:
        ScenarioError: the file lies in a run folder.
        OutputError: the file cannot be written, or would be larger than pages may be.
    """
    from neulite_sim.reports.html.page import page_text
    from neulite_sim.results.outputs import check_outputs

    if path is not None:
        check_outputs({"path": os.fspath(path)}, [])
    text = page_text(build)
    if path is not None:
        _write(path, text)
    return text


def _write(path: FilePath, text: str) -> None:
    from neulite_sim.results.writing import ROOM, advising, write_whole

    with advising(f"{ROOM}, or name another file"):
        write_whole(Path(path), text)


def asked_figure(
    path: FilePath | None, *, style: str | None, size: str | None, title: str | None, labels: Mapping[str, str] | None
) -> tuple[Path | None, PlotOptions]:
    """Return how a figure is asked for, after checking that it can be drawn at all.

    Raises:
        ScenarioError: an option is not understood, or the file has another ending or lies in a run folder.
        NeuliteError: matplotlib is not installed.
    """
    from neulite_sim.reports.plot_options import check_plot, plot_options, require_matplotlib
    from neulite_sim.results.outputs import check_outputs

    file = None if path is None else Path(path)
    if file is None:
        require_matplotlib("plot")
    else:
        check_plot(file)
        check_outputs({"path": file}, [])
    texts = [f"{name}={label}" for name, label in (labels or {}).items()]
    return file, plot_options(style=style, size=size, title=title, labels=texts)
