"""A file of any kind that can be indexed, as documents: picks the reader, and says in one line what it cannot read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.annotation_files import problem_with, rows
from harness.errors import InputError
from harness.readers import open_papers
from harness.readers.locate import KINDS as TABLE_KINDS
from harness.readers.text import MAX_DOCUMENT, from_path, shown, writable
from harness.search import docling, html_text, plain_text
from harness.search.documents import Block, Document, Reading

KINDS: Mapping[str, str] = {
    **TABLE_KINDS,
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
"""Kind of a file by its suffix."""
_DOCLING, _BEGINNING = b"DoclingDocument", 1000
"""What stands at the beginning of a file that Docling wrote, and how many bytes that is."""
ReadPdf = Callable[[Path], tuple[Document, list[str]]]


def read(path: Path, read_pdf: ReadPdf, columns: Mapping[str, str]) -> Reading:
    """The documents of a file. ``columns`` says which column of a table is the abstract, title or id.

    Raises InputError, now or while the documents are walked, for a file that cannot be used.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is of no kind that can be read", f"known are {' '.join(sorted(KINDS))}")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file")
    if kind == "pdf":
        document, notes = read_pdf(path)
        return _single(path, document, notes)
    if kind in ("text", "markdown", "html"):
        return _text(path, kind)
    if kind == "json" and (paper := _by_docling(path)) is not None:
        return _single(path, paper, [])
    if kind in ("json", "jsonl") and _is_annotations(path):
        notes = []
        return Reading(_annotations(path, notes), notes)
    return _table(path, columns)


def _text(path: Path, kind: str) -> Reading:
    notes: list[str] = []
    text = from_path(path, notes).whole(MAX_DOCUMENT)
    document = html_text.read(text) if kind == "html" else plain_text.read(text, markdown=kind == "markdown")
    return _single(path, document, notes)


def _single(path: Path, document: Document, notes: list[str]) -> Reading:
    if not document.blocks:
        raise InputError(f"{path} has no text in it")
    title = document.title or writable(path.stem)
    return Reading(iter([Document(" ".join(title.split()), document.blocks, pages=document.pages)]), notes)


def _table(path: Path, columns: Mapping[str, str]) -> Reading:
    source = open_papers(str(path), columns=columns)
    return Reading(_abstracts(path, source), source.notes)


def _abstracts(path: Path, source: Any) -> Iterator[Document]:
    """One document for each row with an abstract; rows without are counted."""
    failed: list[str] = []
    for paper in source.papers:
        if paper.error is None:
            yield _abstract(paper.title, paper.abstract, paper.id, paper.number)
        else:
            failed.append(paper.error)
    if failed:
        source.notes.append(f"{path}: left out {len(failed)} of its rows, the first: {shown(failed[0], 200)}")


def _abstract(title: str, abstract: str, identity: str, number: int) -> Document:
    block = Block(writable(abstract).strip())
    title = " ".join(writable(title).split())
    return Document(title, (block,), writable(identity), f"row {number}", abstract=True)


def _by_docling(path: Path) -> Document | None:
    """The paper in a JSON file that Docling wrote; None for any other file, whatever is wrong with it."""
    with path.open("rb") as stream:
        if _DOCLING not in stream.read(_BEGINNING):
            return None
    try:
        data = json.loads(from_path(path, []).whole(MAX_DOCUMENT))
    except (ValueError, RecursionError):
        return None
    return docling.document_of(data, str(path)) if docling.is_document(data) else None


def _is_annotations(path: Path) -> bool:
    """Whether this is a file that /annotate saved, by its first record."""
    try:
        first = next(rows(path), ("", None))[1]
    except InputError:
        return False
    return isinstance(first, Mapping) and isinstance(first.get("moves"), Mapping) and problem_with(first) is None


def _annotations(path: Path, notes: list[str]) -> Iterator[Document]:
    """One document for each annotated paper, a section for each move that it states."""
    left_out = 0
    for number, (where, record) in enumerate(rows(path), 1):
        if problem := problem_with(record):
            raise InputError(f"{where}: {problem}", "give a .jsonl or .json that /annotate saved")
        moves = record.get("moves") or {}
        blocks = tuple(Block(writable(move["text"]), name) for name, move in moves.items() if move and move["text"].strip())
        if not blocks:
            left_out += 1
            continue
        title = " ".join(writable(str(record.get("title") or "")).split())
        yield Document(title, blocks, writable(record["id"]), f"row {number}")
    if left_out:
        notes.append(f"{path}: left out {left_out} records that state no move")
