"""What is read out of a file: documents of paragraphs, each with its section and its pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Block:
    """One paragraph under a heading."""

    text: str
    section: str = ""
    """The path of headings, ``Methods › Data``."""
    pages: tuple[tuple[int, int], ...] = ()
    """Where each page begins in ``text``, as (offset, page from 1); empty where the file has no pages."""
    references: bool = False
    """It is an entry of the list of references, not what the paper says itself."""

    def page_at(self, offset: int) -> int:
        """The page of the character at ``offset``; 0 where the file has no pages."""
        return max((page for start, page in self.pages if start <= offset), default=0)


@dataclass(frozen=True)
class Document:
    """One paper: a whole file, or one row of a table."""

    title: str
    blocks: tuple[Block, ...]
    id: str = ""
    """The paper's own id, where the file has one."""
    place: str = ""
    """``row 12`` where the file holds several papers."""
    abstract: bool = False
    """It is an abstract alone, which is best kept in one piece."""
    pages: int = 0
    """Pages that were read; 0 where the file has none."""

    @property
    def characters(self) -> int:
        """Length of its text."""
        return sum(len(block.text) for block in self.blocks)


@dataclass
class Reading:
    """The documents of one file, walked once, and remarks for the user; some come only at the end of the walk."""

    documents: Iterator[Document]
    notes: list[str] = field(default_factory=list)


def to_json(document: Document) -> dict[str, Any]:
    """A document as plain values, for the pipe between two processes."""
    blocks = [[block.text, block.section, block.pages, block.references] for block in document.blocks]
    return {"title": document.title, "blocks": blocks, "pages": document.pages}


def from_json(value: Mapping[str, Any]) -> Document:
    """The document of ``to_json``."""
    blocks = tuple(
        Block(text, section, tuple((offset, page) for offset, page in pages), references)
        for text, section, pages, references in value["blocks"]
    )
    return Document(value["title"], blocks, pages=value["pages"])
