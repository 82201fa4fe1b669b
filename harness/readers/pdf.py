"""The abstract of a PDF, by pypdfium2: lines with their place and size first, then pure functions over them."""

from __future__ import annotations

import ctypes
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.readers.paper import Paper
from harness.readers.plain import ends_abstract, is_part, sentence_count, starts_abstract
from harness.readers.text import unreadable, writable

_PAGES = 4
"""An abstract ends within the first pages; a cover page may come before it."""
_MAX_CHARS = 20_000
"""Characters looked at on one page; the densest real page has 9,000."""
_LONGEST = 6_000
"""Characters after which text under an abstract's heading is no abstract any more."""
_HYPHENS = "\u00ad\u2010\ufffe-"
_LINE_END = (10, 13)
_HYPHEN_MARK = (2, 0xFFFE)
"""How PDFium marks a hyphen at a line's end; the next character starts the next line."""
_SUPERSCRIPTS = dict(zip("0123456789-−+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻⁺", strict=True))
_LOCK = threading.Lock()
"""PDFium is not safe to be used from several threads."""


@dataclass(frozen=True)
class Line:
    """One line of a page: its text, its place in points (y grows upwards), its type size."""

    text: str
    page: int
    left: float
    right: float
    bottom: float
    size: float


def read(path: Path, notes: list[str]) -> Paper:
    """The paper in ``path``. Raises InputError for a PDF that is encrypted, scanned, damaged or without an abstract."""
    lines, title = _extract(path)
    if not lines:
        raise InputError(f"{path} has no text (scanned pages?)", "run it through OCR first")
    body = abstract_lines(lines)
    if sum(len(line.text) for line in body) > _LONGEST:
        notes.append(f"{path}: no end of the abstract found; cut after {_LONGEST:,} characters")
    if not body and (body := first_prose(lines)):
        notes.append(f"{path}: no heading 'Abstract'; took the first paragraph of running text")
    abstract = join(body, lines)
    if not abstract:
        raise InputError(f"{path}: no abstract found on its first pages", "copy it into a text file")
    return Paper(writable(path.stem), title or largest(lines), abstract, writable(str(path)), 1)


def abstract_lines(lines: Sequence[Line]) -> list[Line]:
    """The lines under the heading "Abstract" or "Summary" up to the next heading, in the heading's column only."""
    for index, line in enumerate(lines):
        match = starts_abstract(line.text)
        if not match:
            continue
        behind = line.text[match.end() :].strip()
        start = [Line(behind, line.page, line.left, line.right, line.bottom, line.size)] if behind else []
        body = _column(lines[index + 1 :], start, line)
        if sum(len(part.text) for part in body) >= 80:
            return body
    return []


def first_prose(lines: Sequence[Line]) -> list[Line]:
    """The first block of lines of one size, one below the other, that holds at least three sentences."""
    block: list[Line] = []
    for line in [*lines, None]:
        if block and (line is None or not _follows(block[-1], line)):
            text = " ".join(part.text for part in block)
            if sentence_count(text) >= 3 and len(text) >= 200:
                return block
            block = []
        if line is not None and not ends_abstract(line.text):
            block.append(line)
    return []


def join(lines: Sequence[Line], around: Sequence[Line]) -> str:
    """Lines as one paragraph: ligatures spelled out, words that were broken at a line's end put together.

    A word keeps its hyphen where the text ``around`` has it hyphenated, or has both halves as words of their own but
    never the whole.
    """
    return join_by(lines, whole_words(around))


def join_by(lines: Sequence[Line], words: set[str]) -> str:
    """As ``join``, by the ``whole_words`` of the text around, which many paragraphs share."""
    text = ""
    for line in lines:
        part = _spelled(line.text).strip()
        if _is_broken(text) and part[:1].isalpha():
            head, tail = re.split(r"[^\w-]", text[:-1])[-1], re.split(r"\W", part, maxsplit=1)[0]
            text = text[:-1] + _hyphen(head.casefold(), tail.casefold(), words) + part
        else:
            text = f"{text} {part}" if text else part
    text = re.sub("[\u00ad\ufffe]", "-", text)
    return re.sub(r"\s+([,.;:])(?=\s|$)", r"\1", " ".join(text.split()))


def _is_broken(text: str) -> bool:
    return len(text) > 1 and text[-1] in _HYPHENS and text[-2].isalpha()


def whole_words(lines: Sequence[Line]) -> set[str]:
    """Words, also hyphenated ones, that stand whole in ``lines``: not the halves of those broken at a line's end."""
    words: set[str] = set()
    broken = False
    for line in lines:
        text = _spelled(line.text).casefold().replace("\u2010", "-")
        found = re.findall(r"\w+(?:-\w+)*", text)
        before, broken = broken, _is_broken(text)
        words.update(found[before : len(found) - broken])
    return words


def largest(lines: Sequence[Line]) -> str:
    """The title: the lines in the largest type on the first page."""
    first = [line for line in lines if line.page == 0 and len(line.text) > 3]
    size = max((line.size for line in first), default=0.0)
    title = [line for line in first if line.size > size - 0.5]
    return join(title, title) if sum(len(line.text) for line in title) <= 300 else ""


def _hyphen(head: str, tail: str, words: set[str]) -> str:
    *compound, last = head.split("-")
    if f"{head}-{tail}" in words or (compound and last in words):  # state-of-the-art breaks at its own hyphen
        return "-"
    halves = head in words and tail in words and min(len(head), len(tail)) > 2
    return "-" if halves and head + tail not in words else ""


def _column(lines: Sequence[Line], body: list[Line], heading: Line) -> list[Line]:
    """``body`` and what goes on below it, also at the top of the next column; lines beside it are passed over."""
    first = body[0] if body else None
    structured, length = False, 0
    for line in lines:
        if first is None:
            structured = structured or is_part(line.text)
            if line.text.isdigit() or _is_noise(heading, line):
                continue
            first = line
        elif _jumps(body[-1], line):
            if re.search(r"[.!?]\W*$", body[-1].text):
                break
            first = line
        elif not _beside(first, line) or line.size < 0.85 * first.size or line.text.isdigit():
            continue
        elif _is_gap(body[-1], line) and length > 200:
            break
        if ends_abstract(line.text, structured) or _is_heading(first, line) or length > _LONGEST:
            break
        body.append(line)
        length += len(line.text)
    return body


def _jumps(last: Line, line: Line) -> bool:
    """Whether ``line`` opens a new column or page: text goes on there only in the middle of a sentence."""
    up_right = line.left > last.left + 50 and line.bottom > last.bottom + 2 * last.size and line.left > last.right - 20
    return line.page != last.page or up_right


def _is_gap(last: Line, line: Line) -> bool:
    return line.page == last.page and not -1 < last.bottom - line.bottom < 4.5 * last.size


def _is_noise(heading: Line, line: Line) -> bool:
    """A line that comes after the heading and lies above or beside it is something else (a sidebar, a column)."""
    return line.page == heading.page and line.bottom > heading.bottom - 0.5 * heading.size


def _beside(first: Line, line: Line) -> bool:
    """Whether ``line`` lies in the column of ``first``: their widths overlap."""
    overlap = min(first.right, line.right) - max(first.left, line.left)
    return overlap > 0.3 * min(first.right - first.left, line.right - line.left)


def _is_heading(body: Line, line: Line) -> bool:
    """Larger type than the body's, or a short numbered or bolder line that is no sentence."""
    if line.size > body.size * 1.12 and len(line.text) > 3:
        return True
    numbered = re.match(r"(?:\d{1,2}|[IVX]{1,4})[.)]?\s+[A-Z]", line.text)
    return bool(numbered) and len(line.text) < 60 and not line.text.endswith((".", ",", ";"))


def _follows(line: Line, after: Line) -> bool:
    """Whether two lines are neighbours in one paragraph."""
    near = line.page == after.page and -1 < line.bottom - after.bottom < 2.2 * max(line.size, after.size)
    return near and abs(line.size - after.size) < 0.12 * line.size and _beside(line, after)


def _spelled(text: str) -> str:
    """Ligatures as letters; other characters stay."""
    return "".join(unicodedata.normalize("NFKC", c) if "\ufb00" <= c <= "\ufb06" else c for c in text)


def _extract(path: Path) -> tuple[list[Line], str]:
    """Lines of the first pages in the order of the file, and the title from its metadata."""
    import pypdfium2 as pdfium

    try:
        if not path.stat().st_size:
            raise InputError(f"{path} is empty")
    except OSError as error:
        raise unreadable(path, error) from error
    with _LOCK:
        try:
            document = pdfium.PdfDocument(path)
        except pdfium.PdfiumError as error:
            locked = "password" in str(error).lower()
            why = "is encrypted with a password" if locked else "is not a PDF that can be read (damaged or cut short)"
            raise InputError(f"{path} {why}", "save a copy without one" if locked else "download it again") from error
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            title = stated_title(document)
            lines = [line for page in range(min(_PAGES, len(document))) for line in page_lines(document, page)]
        except pdfium.PdfiumError as error:
            raise InputError(f"{path} has a page that cannot be read ({error})") from error
        finally:
            document.close()
    return lines, title


def stated_title(document: Any) -> str:
    """The title in the metadata of an opened document; "" where there is none that can be one."""
    try:
        title = " ".join(document.get_metadata_value("Title").split())
    except UnicodeDecodeError:  # metadata is written by anything
        return ""
    return title if _is_title(title) else ""


def page_lines(document: Any, number: int, most: int = _MAX_CHARS) -> list[Line]:
    """The lines of a page (``number`` from 0) in the order of the file, out of its first ``most`` characters.

    Raises PdfiumError for a page that cannot be read. PDFium is not safe to be used from several threads.
    """
    return list(_merged(_lines(document, number, most)))


def _is_title(text: str) -> bool:
    """Metadata often holds a file name or a template's name instead of the title."""
    return len(text) > 8 and " " in text and not re.search(r"\.(docx?|tex|dvi|pdf|indd)$|^(microsoft|untitled)", text, re.I)


def _merged(lines: Iterator[Line]) -> Iterator[Line]:
    """Lines, with those put together that PDFium breaks in the middle (behind a superscript)."""
    last: Line | None = None
    for line in lines:
        if last and abs(last.bottom - line.bottom) < 1 and -2 < line.left - last.right < 0.6 * last.size:
            space = "" if line.text[0] in ",.;:)" else " "
            last = replace(last, text=last.text + space + line.text, right=line.right)
            continue
        if last:
            yield last
        last = line
    if last:
        yield last


def _lines(document: Any, number: int, most: int) -> Iterator[Line]:
    page = document[number]
    textpage = page.get_textpage()
    try:
        count = min(textpage.count_chars(), most)
        start = 0
        for index in range(count + 1):
            code = _code(textpage, index) if index < count else 10
            if code in _LINE_END or code in _HYPHEN_MARK or (code == 32 and _is_gutter(textpage, index, count)):
                text = "".join(_character(textpage, at, start) for at in range(start, index))
                if text.strip():
                    yield _line(textpage, text + "\ufffe" * (code in _HYPHEN_MARK), number, start, index - 1)
                start = index + 1
    finally:
        textpage.close()
        page.close()


def _is_gutter(textpage: Any, space: int, count: int) -> bool:
    """Whether the space is as wide as that between columns, whose lines PDFium may give as one."""
    if not 0 < space < count - 1:
        return False
    _, bottom, left, top = textpage.get_charbox(space - 1, loose=True)
    right, below, _, _ = textpage.get_charbox(space + 1, loose=True)
    return bool(right - left > 1.2 * (top - bottom) and abs(below - bottom) < 0.5 * (top - bottom))


def _code(textpage: Any, index: int) -> int:
    import pypdfium2.raw as raw

    return int(raw.FPDFText_GetUnicode(textpage.raw, index))


def _character(textpage: Any, index: int, start: int) -> str:
    """One character; a raised digit as a superscript, or ``10`` to the sixth would read as 106."""
    code = _code(textpage, index)
    if 0xD800 <= code < 0xE000 or code >= 0x110000:
        return "\ufffd"
    character = chr(code)
    if character in _SUPERSCRIPTS and index > start and _is_raised(textpage, index, start):
        return _SUPERSCRIPTS[character]
    return character


def _is_raised(textpage: Any, index: int, start: int) -> bool:
    import pypdfium2.raw as raw

    size = raw.FPDFText_GetFontSize(textpage.raw, start)
    return bool(
        raw.FPDFText_GetFontSize(textpage.raw, index) < 0.85 * size
        and _baseline(textpage, index) > _baseline(textpage, start) + 0.15 * size
    )


def _baseline(textpage: Any, index: int) -> float:
    import pypdfium2.raw as raw

    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(textpage.raw, index, x, y)
    return y.value


def _line(textpage: Any, text: str, page: int, first: int, last: int) -> Line:
    first += len(text) - len(text.lstrip())
    left, bottom, _, top = textpage.get_charbox(first, loose=True)
    _, _, right, _ = textpage.get_charbox(max(first, last), loose=True)
    return Line(text.strip(), page, left, max(right, left), bottom, top - bottom)
