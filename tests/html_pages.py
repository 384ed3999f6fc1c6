"""Reports as tests read them: their outline, their text, and what every one of them has to be."""

from __future__ import annotations

import html
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

from neulite_sim.reports.html.page import MOST_BYTES, html_of
from neulite_sim.reports.html.run_page import run_page

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "input"}


class Outline(HTMLParser):
    """Reads a page: balanced elements, headings, texts, ids and everything that would fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.scripts += tag == "script"
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            is_outside = name in ("src", "srcset", "href", "data", "action") and not (value or "").startswith(
                ("#", "data:,")
            )
            self.fetched += [value or ""] if is_outside else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


def of_run(path: Path) -> str:
    return html_of(run_page(path, most_rows=100, shown_as=path.name))


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def check_sound(page: str) -> None:
    found = outline(page)
    assert found.fetched == []
    assert found.scripts == 1
    assert len(found.ids) == len(set(found.ids))
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(found.headings))
    assert len(page.encode()) <= MOST_BYTES
