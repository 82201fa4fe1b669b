"""The lines of a PDF's pages put into reading order and made into paragraphs under headings. Pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from harness.readers.pdf import Line, join_by, whole_words
from harness.search.documents import Block
from harness.search.sections import LONGEST_HEADING, Outline, depth, is_known, without_number

_ENDED = re.compile(r"[.!?:][\"'”’)\]]*\s*(?:\[?\d{1,3}\]?|[⁰¹²³⁴⁵⁶⁷⁸⁹]+)?$")
"""A sentence is over at the end of this line (a footnote's mark may follow)."""
_PAGE_NUMBER = re.compile(r"(?:page\s+)?[-–]?\s*(?:\d{1,4}|[ivxl]{1,6})\s*[-–]?(?:\s*(?:/|of)\s*\d{1,4})?", re.IGNORECASE)
_CAPTION = re.compile(r"(?:fig(?:ure|\.)?|table|algorithm|listing|scheme|equation|box)\s*[A-Z]?\d", re.IGNORECASE)
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]")
_EDGE_LINES = 3
"""Running heads and feet stand among this many lines at the top and at the bottom of a page."""
_GUTTERS = [0.15 + 0.01 * step for step in range(71)]
"""Where between two columns the gap is looked for, as shares of the width of the text."""
_CROSSING = 0.35
"""Share of a page's characters that may cross the gap between its columns (title, wide figures and tables)."""
_BESIDE = 6
"""Lines that each of two columns has at least."""


@dataclass
class _Paragraph:
    """Lines that belong together, and the heading path above them."""

    lines: list[Line]
    section: str
    references: bool


def blocks_of(pages: Sequence[Sequence[Line]], title: str = "") -> list[Block]:
    """The paragraphs of a paper in reading order, without running heads, feet and page numbers.

    ``pages`` hold the lines of each page as the file has them; ``title`` is what the lines of the title say.
    """
    kept = without_furniture(pages)
    words = whole_words([line for page in kept for line in page])
    ordered = [line for page in kept for line in in_reading_order(page)]
    blocks = []
    for paragraph in _paragraphs(ordered, title):
        if block := _block(paragraph, words):
            blocks.append(block)
    return blocks


def without_furniture(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """The pages without lines that repeat at the same edge of many pages (numbers aside) and without page numbers."""
    seen: Counter[tuple[str, int]] = Counter()
    for page in pages:
        seen.update({_mark(line) for line in _edges(page)})
    often = max(2, round(0.25 * len(pages)))
    kept = []
    for page in pages:
        gone = {
            id(line)
            for line in _edges(page)
            if _PAGE_NUMBER.fullmatch(line.text.strip()) or (len(pages) > 1 and seen[_mark(line)] >= often)
        }
        kept.append([line for line in page if id(line) not in gone])
    return kept


def _edges(page: Sequence[Line]) -> list[Line]:
    by_height = sorted(page, key=lambda line: line.bottom)
    return by_height if len(page) <= 2 * _EDGE_LINES else [*by_height[:_EDGE_LINES], *by_height[-_EDGE_LINES:]]


def _mark(line: Line) -> tuple[str, int]:
    """What a running head has in common from page to page: its words and, within a few points, its height."""
    return re.sub(r"\d+", "#", line.text.casefold()).strip(), round(line.bottom / 8)


def in_reading_order(page: Sequence[Line]) -> list[Line]:
    """The lines of one page, column by column; what runs across the columns divides them into bands.

    Lines of one column stay in the order of the file unless that goes up and down.
    """
    gutter = _gutter(page)
    if gutter is None:
        return _downwards(page)
    across = sorted((line for line in page if line.left < gutter < line.right), key=lambda line: -line.bottom)
    heights = [float("inf"), *(line.bottom for line in across), float("-inf")]
    ordered: list[Line] = []
    for number, (top, bottom) in enumerate(pairwise(heights)):
        band = [line for line in page if bottom < line.bottom <= top and not line.left < gutter < line.right]
        left = [line for line in band if line.right <= gutter]
        ordered += in_reading_order(left) if len(left) < len(page) else left
        ordered += in_reading_order([line for line in band if line.left >= gutter])
        if number < len(across):
            ordered.append(across[number])
    return ordered


def _gutter(page: Sequence[Line]) -> float | None:
    """Where the gap between two columns lies (x in points); None where the page has one column."""
    if len(page) < 2 * _BESIDE:
        return None
    start, end = min(line.left for line in page), max(line.right for line in page)
    total = sum(len(line.text) for line in page)
    best: tuple[int, float, float] | None = None
    for share in _GUTTERS:
        x = start + share * (end - start)
        crossing = sum(len(line.text) for line in page if line.left < x < line.right)
        if crossing <= _CROSSING * total and _are_columns(page, x):
            candidate = (crossing, abs(share - 0.5), x)
            best = candidate if best is None or candidate < best else best
    return best[2] if best else None


def _are_columns(page: Sequence[Line], x: float) -> bool:
    """Whether both sides of ``x`` are columns: enough lines, beside each other, most of them of the column's width."""
    left = [line for line in page if line.right <= x]
    right = [line for line in page if line.left >= x]
    if min(len(left), len(right)) < _BESIDE:
        return False
    low = max(min(line.bottom for line in left), min(line.bottom for line in right))
    high = min(max(line.bottom for line in left), max(line.bottom for line in right))
    beside = [sum(low <= line.bottom <= high for line in side) for side in (left, right)]
    return min(beside) >= _BESIDE and all(_is_full(side) for side in (left, right))


def _is_full(lines: Sequence[Line]) -> bool:
    """Whether these lines look like running text: most characters stand in lines nearly as wide as the widest."""
    width = max(line.right for line in lines) - min(line.left for line in lines)
    full = sum(len(line.text) for line in lines if line.right - line.left > 0.6 * width)
    return full > 0.5 * sum(len(line.text) for line in lines)


def _downwards(lines: Sequence[Line]) -> list[Line]:
    """The lines of one column from top to bottom, pieces of one line put together."""
    up = sum(after.bottom > line.bottom + line.size for line, after in pairwise(lines))
    ordered = list(lines)
    if up > 0.1 * len(lines):
        ordered.sort(key=lambda line: (-round(line.bottom / 2), line.left))
    merged: list[Line] = []
    for line in ordered:
        last = merged[-1] if merged else None
        if last and abs(last.bottom - line.bottom) < 0.3 * last.size and line.left >= last.right - 1:
            merged[-1] = replace(last, text=f"{last.text} {line.text}", right=line.right)
        else:
            merged.append(line)
    return merged


@dataclass(frozen=True)
class _Typography:
    """What is usual in this paper."""

    size: float
    """Type size of the running text, in points."""
    leading: float
    """From line to line within a paragraph, in points."""


def _typography(lines: Sequence[Line]) -> _Typography:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[round(line.size * 2) / 2] += len(line.text)
    size = sizes.most_common(1)[0][0] if sizes else 10.0
    steps = Counter(
        round(a.bottom - b.bottom) for a, b in pairwise(lines) if a.page == b.page and 0 < a.bottom - b.bottom < 3 * size
    )
    leading = float(steps.most_common(1)[0][0]) if steps else 1.2 * size
    return _Typography(size, leading)


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _paragraphs(lines: Sequence[Line], title: str) -> Iterator[_Paragraph]:
    """Lines grouped into paragraphs, each with the heading in force; the lines of title and headings are taken out."""
    usual, outline = _typography(lines), Outline()
    titles = _title_lines(lines, title, usual)
    begin = max(titles, default=-1)
    open_: list[_Paragraph] = []
    headings: list[Line] = []
    last: Line | None = None
    for index, (line, after) in enumerate(zip(lines, [*lines[1:], None], strict=True)):
        if index in titles:
            last = line
            continue
        level = _heading_level(line, last, after, usual) if index > begin else 0
        if level and headings and _same_heading(headings[-1], line):
            headings.append(line)
        else:
            if headings:
                outline.enter(_level_of(headings, usual), " ".join(one.text for one in headings))
            headings = [line] if level else []
        if not level:
            headings = []
            _add(open_, line, last, usual, outline)
        last = line
    yield from open_


def _title_lines(lines: Sequence[Line], title: str, usual: _Typography) -> set[int]:
    """Which lines of the first page say the title."""
    whole = _letters(title)
    return {
        index
        for index, line in enumerate(lines)
        if line.page == 0 and line.size > 1.1 * usual.size and len(part := _letters(line.text)) > 3 and part in whole
    }


def _add(open_: list[_Paragraph], line: Line, last: Line | None, usual: _Typography, outline: Outline) -> None:
    """Put a line to the paragraph that it continues, or begin one."""
    current = open_[-1] if open_ and open_[-1].section == outline.path else None
    if current and last is current.lines[-1] and _continues(last, line, usual):
        current.lines.append(line)
        return
    # Text goes on behind a figure, a footnote or a page's end where its last sentence is not over.
    for earlier in reversed(open_[-4:]):
        if earlier.section != outline.path:
            break
        end = earlier.lines[-1]
        moved = end.page != line.page or end.bottom < line.bottom
        if moved and abs(end.size - line.size) < 0.06 * line.size and not _ENDED.search(end.text) and _starts_inside(line):
            if 0 <= line.page - end.page <= 1:
                earlier.lines.append(line)
                return
            break
    open_.append(_Paragraph([line], outline.path, outline.in_references))


def _starts_inside(line: Line) -> bool:
    return line.text[:1].islower() or not line.text[:1].isalpha()


def _continues(last: Line, line: Line, usual: _Typography) -> bool:
    """Whether ``line`` belongs to the paragraph that ``last`` ends so far."""
    if last.page != line.page or not -1 < last.bottom - line.bottom < 1.45 * max(usual.leading, last.size):
        return False
    if abs(last.size - line.size) > 0.12 * last.size:
        return False
    indented = line.left > last.left + 0.8 * line.size
    return not (indented and bool(_ENDED.search(last.text)))


def _heading_level(line: Line, last: Line | None, after: Line | None, usual: _Typography) -> int:
    """1 or more for a heading, 0 for other lines."""
    text = line.text.strip()
    if not 3 <= len(text) <= LONGEST_HEADING or not any(c.isalpha() for c in text) or text[-1] in ",;:-\ufffe\u00ad":
        return 0
    if _CAPTION.match(text) or _SUPERSCRIPT.search(text):  # authors and their affiliations
        return 0
    name, number = without_number(text)
    larger = line.size > 1.1 * usual.size and not _runs_on(line, after)
    if is_known(text) and line.size > 0.85 * usual.size and (larger or number or text[0].isupper()):
        return depth(number) if number else 1
    mostly_letters = sum(c.isalpha() for c in text) >= 0.5 * len(text.replace(" ", ""))
    if not name[0].isupper() or not mostly_letters or not re.search(r"[^\W\d]{3}", name):
        return 0
    if text[-1] in ".!" or (text[-1] == "?" and not number):
        return 0
    apart = line.size > 0.95 * usual.size and _stands_apart(line, last, after, usual)
    if number and len(text) <= 80 and (larger or apart):
        return depth(number)
    is_label = after is not None and bool(_CAPTION.match(after.text))  # of an axis, above the figure's caption
    return 1 if larger and not is_label and len(name) > 3 else 0


def _runs_on(line: Line, after: Line | None) -> bool:
    """Whether the text below goes on in the middle of this line's sentence: a heading that runs into its paragraph."""
    near = after is not None and after.page == line.page and 0 < line.bottom - after.bottom < 2 * line.size
    if after is None or not near or abs(after.size - line.size) < 0.05 * line.size:
        return False
    return not (after.text[:1].isupper() or after.text[:1].isdigit())


def _stands_apart(line: Line, last: Line | None, after: Line | None, usual: _Typography) -> bool:
    """Whether there is more space above than between lines of a paragraph, and text below."""
    if after is None:
        return False
    above = last is None or last.page != line.page or not -1 < last.bottom - line.bottom <= 1.2 * usual.leading
    return above and (last is None or bool(_ENDED.search(last.text)) or last.size != line.size)


def _same_heading(first: Line, line: Line) -> bool:
    """Whether a heading goes on in the next line."""
    near = first.page == line.page and 0 < first.bottom - line.bottom < 1.6 * line.size
    return near and abs(first.size - line.size) < 0.5 and not without_number(line.text)[1] and not is_known(first.text)


def _level_of(headings: Sequence[Line], usual: _Typography) -> int:
    _, number = without_number(headings[0].text)
    if number:
        return depth(number)
    return 1 if headings[0].size > 1.3 * usual.size or is_known(headings[0].text) else 2


def _block(paragraph: _Paragraph, words: set[str]) -> Block | None:
    """The text of a paragraph and where each page begins in it; None where nothing readable is in it."""
    pages: list[tuple[int, int]] = []
    done: list[Line] = []
    for page, group in groupby(paragraph.lines, key=lambda line: line.page):
        before = join_by(done, words)
        pages.append((len(before) + 1 if before else 0, page + 1))
        done += group
    text = join_by(done, words)
    if not any(c.isalnum() for c in text):
        return None
    return Block(text, paragraph.section, tuple(pages), paragraph.references)
