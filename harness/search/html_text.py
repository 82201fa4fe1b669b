"""HTML as paragraphs under headings, by the standard library's parser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from harness.search.documents import Block, Document
from harness.search.sections import Outline

_SKIPPED = frozenset("script style noscript template nav header footer aside form button select svg head iframe".split())
"""Elements whose text is not the page's. ``head`` is skipped but for its title."""
_PARAGRAPHS = frozenset(
    "p div section article main li dt dd tr table ul ol blockquote figure figcaption pre br hr address details "
    "summary".split()
)
"""Elements that end the paragraph before them."""
_CELLS = frozenset({"td", "th"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def read(html: str) -> Document:
    """The document in a page: its title, and its paragraphs under their headings."""
    page = _Page()
    page.feed(html)
    page.close()
    page.flush()
    return Document(page.title, tuple(page.blocks))


class _Page(HTMLParser):
    """Collects paragraphs while the parser walks through a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._titles: list[str] = []
        self._first_heading = ""
        self._outline = Outline()
        self._text: list[str] = []
        self._skipped: list[str] = []
        self._heading = 0
        self._in_title = False

    @property
    def title(self) -> str:
        """The text of ``title``, else the first heading of the first level."""
        return " ".join("".join(self._titles).split()) or self._first_heading

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self._titles and (not self._skipped or self._skipped == ["head"]):
            self._in_title = True
        elif tag in _SKIPPED and (not self._skipped or tag == self._skipped[0]):
            self.flush()
            self._skipped.append(tag)
        elif tag == "body":
            self._skipped.clear()  # a head that was never closed
        elif self._skipped:
            return
        elif tag in _HEADINGS:
            self.flush()
            self._heading = _HEADINGS[tag]
        elif tag in _PARAGRAPHS:
            self.flush()
        elif tag in _CELLS:
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif self._skipped:
            if tag == self._skipped[-1]:
                self._skipped.pop()
        elif tag in _HEADINGS or tag in _PARAGRAPHS:
            self.flush()
        elif tag in _CELLS:
            self._text.append(" ")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._titles.append(data)
        elif not self._skipped:
            self._text.append(data)

    def flush(self) -> None:
        """End the paragraph, or the heading, that is open."""
        text = re.sub(r"\s+", " ", "".join(self._text)).strip()
        self._text.clear()
        level, self._heading = self._heading, 0
        if not text:
            return
        if not level:
            self.blocks.append(Block(text, self._outline.path, references=self._outline.in_references))
            return
        if level == 1 and not self._first_heading:
            self._first_heading = text
            return
        self._outline.enter(level, text)
