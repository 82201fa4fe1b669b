"""Text and Markdown as paragraphs under headings; a form feed begins a page, as pdftotext writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.readers.plain import sentence_count
from harness.search.documents import Block, Document
from harness.search.sections import LONGEST_HEADING, Outline, depth, is_known, without_number

_MARKED = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_UNDERLINE = re.compile(r"(=+|-{3,})\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_FRONT_MATTER = re.compile(r"---\s*\n(.*?)\n(?:---|\.\.\.)\s*(?:\n|$)", re.DOTALL)
_STATED_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)

Piece = tuple[int, str, int]
"""Level of a heading or 0 for a paragraph, its text, its page (0 where there are none)."""


def read(text: str, *, markdown: bool) -> Document:
    """The document in a text: its title is the first heading, or a short first line with a blank one below."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    title = ""
    if markdown and (front := _FRONT_MATTER.match(text)):
        stated = _STATED_TITLE.search(front[1])
        title, text = stated[1] if stated else "", text[front.end() :]
    paged = "\f" in text
    pieces = [
        (level, piece, number * paged)
        for number, page in enumerate(text.split("\f"), 1)
        for level, piece in (_markdown(page) if markdown else _plain(page, first=number == 1))
    ]
    if not title and pieces and pieces[0][0]:
        title = pieces.pop(0)[1]
    outline, blocks = Outline(), list[Block]()
    for level, piece, number in pieces:
        if level:
            outline.enter(level, piece)
        else:
            pages = ((0, number),) if paged else ()
            blocks.append(Block(piece, outline.path, pages, outline.in_references))
    return Document(title, tuple(blocks), pages=max((number for *_, number in pieces), default=0))


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _plain(page: str, *, first: bool) -> Iterator[tuple[int, str]]:
    """Paragraphs between blank lines; a line alone is a heading if it has a number or a usual name."""
    for number, lines in enumerate(_paragraphs(page.split("\n"))):
        head = lines[0].strip()
        title = first and number == 0 and len(lines) == 1 and len(head) <= 2 * LONGEST_HEADING and not sentence_count(head)
        level = 1 if title else _heading_level(head, alone=len(lines) == 1)
        if level:
            yield level, head
            lines = lines[1:]
        if lines:
            yield 0, "\n".join(lines).strip()


def _heading_level(line: str, *, alone: bool) -> int:
    name, number = without_number(line)
    if is_known(line) and line[0].isupper() | line[0].isdigit():
        return depth(number) if number else 1
    numbered = bool(number) and name[0].isupper() and len(line) <= LONGEST_HEADING and not sentence_count(name)
    return depth(number) if alone and numbered else 0


def _markdown(page: str) -> Iterator[tuple[int, str]]:
    """Headings marked by ``#`` or underlined, and the paragraphs between them, whose markup stays as it is."""
    lines, start, fenced = page.split("\n"), 0, False
    for index, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        marked = None if fenced else _MARKED.match(line)
        underlined = not fenced and index > start and _UNDERLINE.match(line) and _is_single(lines, start, index - 1)
        if not marked and not underlined:
            continue
        end = index if marked else index - 1
        yield from ((0, "\n".join(paragraph).strip()) for paragraph in _paragraphs(lines[start:end]))
        if marked:
            if marked[2]:
                yield len(marked[1]), marked[2]
        else:
            yield (1 if line.startswith("=") else 2), lines[index - 1].strip()
        start = index + 1
    yield from ((0, "\n".join(paragraph).strip()) for paragraph in _paragraphs(lines[start:]))


def _is_single(lines: list[str], start: int, index: int) -> bool:
    """Whether a line stands alone below a blank one, so that what underlines it makes it a heading."""
    line = lines[index].strip()
    above = lines[index - 1].strip() if index > start else ""
    return bool(line) and not above and len(line) <= LONGEST_HEADING and not line.startswith(("-", "*", "|", ">"))
