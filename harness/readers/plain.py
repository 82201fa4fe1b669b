"""One paper as text: a .txt or .md file, or what was typed or piped in. Also what a section heading looks like."""

from __future__ import annotations

import re

from harness.errors import InputError
from harness.readers.paper import Paper
from harness.readers.text import MAX_RECORD, Text

_NUMBER = r"(?:#{1,6}\s*)?(?:(?:\d{1,2}|[ivx]{1,4})(?:\.\d{1,2})*[.):]?\s+)?[*_]{0,2}"
ABSTRACT = re.compile(
    rf"^\s*{_NUMBER}(abstract|a\s?b\s?s\s?t\s?r\s?a\s?c\s?t|summary|zusammenfassung|résumé|resumen)\b[*_]{{0,2}}"
    r"(?P<mark>\s*[.:—–-]+\s*[*_]{0,2}|\s*$|\s+(?=[A-Z]))",
    re.IGNORECASE,
)
"""The heading of an abstract, alone on its line or with the text behind it (``Abstract—We …``)."""
_END = re.compile(
    rf"^\s*{_NUMBER}(?:(?:introduction|statement of need|related work|contents|table of contents|acknowledge?ments?|"
    r"references)[*_]{0,2}\s*[.:]?\s*$"
    r"|(?:(?:author\s)?key\s?-?words?(?:\s+and\s+phrases)?|index terms|ccs concepts|acm reference format|"
    r"categories and subject descriptors|general terms|jel classification|msc)\b)",
    re.IGNORECASE,
)
_PART = re.compile(
    rf"^\s*{_NUMBER}(?:background|motivation|objectives?|aims?|methods?|materials and methods|results|findings|"
    r"conclusions?|discussion)[*_]{0,2}\s*[.:]?\s*$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[\w)\]}$%])[.!?][\"'”’)\]]*(?=\s|$)")
_MARKDOWN_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_MAX_TITLE = 250


def sentence_count(text: str) -> int:
    """A rough count of sentences, for telling prose from headings and topics."""
    return len(_SENTENCE_END.findall(text))


def starts_abstract(line: str) -> re.Match[str] | None:
    """The match of an abstract's heading. Running text (``Summary statistics are …``) does not count as one."""
    match = ABSTRACT.match(line)
    if not match:
        return None
    word, behind = match[1], line[match.end() :]
    if match["mark"].strip() or not behind.strip():
        return match
    return match if word[:1].isupper() and word.lower().replace(" ", "") == "abstract" else None


def ends_abstract(line: str, structured: bool = False) -> bool:
    """Whether ``line`` ends an abstract: a line of keywords or the next section's heading.

    A ``structured`` abstract goes on through headings such as Methods and Results, which are parts of it.
    """
    return bool(_END.match(line)) or (not structured and is_part(line))


def is_part(line: str) -> bool:
    """Whether ``line`` is a heading that a structured abstract may have inside (Background, Methods …)."""
    return bool(_PART.match(line))


def split(text: str) -> tuple[str, str]:
    """Title and abstract of one paper's text.

    The title is the first heading (or a short first line with a blank one below). The abstract is what stands under a
    heading "Abstract", else what follows the title, in both cases up to the next heading; its inner lines are verbatim.
    """
    lines = text.splitlines(keepends=True)
    title, start = _title(lines)
    for index in range(start, len(lines)):
        if match := starts_abstract(lines[index].rstrip()):
            return title, _section([lines[index].rstrip("\r\n")[match.end() :] + "\n", *lines[index + 1 :]])
    return title, _section(lines[start:])


def paper(text: Text, identity: str) -> Paper:
    """The one paper in ``text``. Raises InputError where there is no text or far too much."""
    whole = text.whole(MAX_RECORD)
    if not whole.strip():
        raise InputError(f"{text.name} is empty")
    title, abstract = split(whole)
    if not abstract:
        raise InputError(f"{text.name} has a heading and no text")
    return Paper(identity, title, abstract, text.name, 1)


def _title(lines: list[str]) -> tuple[str, int]:
    """The title and the index of the line behind it."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    if not filled:
        return "", 0
    first = filled[0]
    line = lines[first].strip()
    if starts_abstract(line):
        return "", first
    if heading := _MARKDOWN_HEADING.match(line):
        return heading[1], first + 1
    alone = len(filled) > 1 and filled[1] > first + 1
    if alone and len(line) <= _MAX_TITLE and not sentence_count(line):
        return line, first + 1
    return "", first


def _section(lines: list[str]) -> str:
    filled = [line for line in lines if line.strip()]
    structured = bool(filled) and is_part(filled[0])
    taken: list[str] = []
    for line in lines:
        part = structured and is_part(line)
        heading = not part and (_MARKDOWN_HEADING.match(line.strip()) or ends_abstract(line, structured))
        if heading and "".join(taken).strip():
            break
        if not heading:
            taken.append(line)
    return "".join(taken).strip()
