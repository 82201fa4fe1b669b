"""Documents cut into chunks of whole sentences, each under a header that says where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.readers.text import writable
from harness.search.documents import Block, Document
from harness.search.sections import SEPARATOR, is_methods
from harness.sentences import split

TARGET = 1000
"""Characters of a chunk, if its sentences allow it."""
METHODS_TARGET = 1500
"""In sections on methods, whose steps are understood only together."""
ABSTRACT_TARGET = 3000
"""An abstract that stands alone stays whole: cut in two, each half would lose the other's terms."""
OVERLAP = 200
"""Characters of whole sentences that the next chunk repeats."""
_STRETCH = 1.25
"""How far the last chunk of a section may pass the target, rather than leave a crumb behind it."""

Span = tuple[int, int, int]
"""Start, end and page (from 1, or 0) of one sentence."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive sentences of one section. ``text`` is verbatim; ``header`` is indexed with it."""

    header: str
    text: str
    section: str
    page: int
    """The first sentence's page; 0 where the file has no pages."""
    references: bool
    sentences: tuple[Span, ...]
    """Offsets into ``text``, with the page of each."""

    @property
    def indexed(self) -> str:
        """What an embedding is made of."""
        return f"{self.header}\n{self.text}" if self.header else self.text

    @property
    def hash(self) -> str:
        """The identity of its content: chunks that read the same share their vectors."""
        return hashlib.sha256(self.indexed.encode()).hexdigest()[:32]


def chunks_of(document: Document, target: int = TARGET, overlap: int = OVERLAP) -> Iterator[Chunk]:
    """The chunks of a document in order. No chunk crosses a heading; two neighbours share up to ``overlap`` characters.

    ``target`` is the size in characters for running text; sections on methods and lone abstracts get more in proportion.
    """
    for (section, references), group in groupby(document.blocks, key=lambda block: (block.section, block.references)):
        text, spans = _joined(list(group))
        limit = round(target * _scale(document, section))
        spans = [piece for span in spans for piece in _pieces(text, span, limit)]
        for first, last in _packed(spans, limit, overlap):
            yield _chunk(document, section, references, text, spans[first:last])


def header_of(title: str, section: str, page: int) -> str:
    """``title › section › page``, of what there is.

    >>> header_of("Small stores", "Methods", 3)
    'Small stores › Methods › p. 3'
    """
    return SEPARATOR.join(part for part in (title, section, f"p. {page}" if page else "") if part)


def _scale(document: Document, section: str) -> float:
    if document.abstract:
        return ABSTRACT_TARGET / TARGET
    return METHODS_TARGET / TARGET if is_methods(section) else 1.0


def _joined(blocks: Sequence[Block]) -> tuple[str, list[Span]]:
    """The paragraphs of one section as one text, and the sentences in it."""
    text, spans = "", list[Span]()
    for block in blocks:
        text += "\n\n" if text else ""
        base = len(text)
        text += writable(block.text)
        spans += [(base + one.start, base + one.end, block.page_at(one.start)) for one in split(block.text)]
    return text, spans


def _pieces(text: str, span: Span, limit: int) -> Iterator[Span]:
    """A sentence, cut at white space where it is far too long to be one (tables, listings)."""
    start, end, page = span
    while end - start > _STRETCH * limit:
        cut = max(text.rfind(" ", start + limit // 2, start + limit), text.rfind("\n", start + limit // 2, start + limit))
        cut = cut if cut > start else start + limit
        yield start, cut, page
        start = cut + (len(text[cut:end]) - len(text[cut:end].lstrip()))
    if start < end:
        yield start, end, page


def _packed(spans: Sequence[Span], limit: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Which sentences ``[first, last)`` make up each chunk; every chunk has one that its predecessor has not."""
    first = last = 0
    while last < len(spans):
        last += 1
        while last < len(spans) and spans[last][1] - spans[first][0] <= limit:
            last += 1
        if spans[-1][1] - spans[first][0] <= _STRETCH * limit:
            last = len(spans)
        yield first, last
        before, first = first, last
        while first - 1 > before and spans[last - 1][1] - spans[first - 1][0] <= overlap:
            first -= 1


def _chunk(document: Document, section: str, references: bool, text: str, spans: Sequence[Span]) -> Chunk:
    base = spans[0][0]
    return Chunk(
        header=writable(header_of(document.title, section, spans[0][2])),
        text=text[base : spans[-1][1]],
        section=section,
        page=spans[0][2],
        references=references,
        sentences=tuple((start - base, end - base, page) for start, end, page in spans),
    )
