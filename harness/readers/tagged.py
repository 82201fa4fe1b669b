"""Tagged references: RIS, MEDLINE as PubMed saves it (.nbib), and the plain text of Web of Science.

RIS and MEDLINE share their layout: a tag padded to four characters, a hyphen, the value. Web of Science has two
characters, a space, the value. A line without a tag goes on with the value above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.errors import InputError
from harness.readers.source import Record, Table
from harness.readers.text import Text

_HYPHEN = re.compile(r"([A-Z][A-Z0-9](?:  |[A-Z0-9] |[A-Z0-9]{2}))-(?: (.*)|\s*$)")
_SPACE = re.compile(r"([A-Z][A-Z0-9])(?: (.*)|\s*$)")
_FIRST = re.compile(r"(?:TY  - |PMID- |FN (?:Clarivate|Thomson|ISI)\b)")
_STARTS = {_HYPHEN: ("TY", "PMID"), _SPACE: ("PT",)}
_NAMES = {
    "TI": "title", "T1": "title", "AB": "abstract", "N2": "abstract", "PY": "year", "Y1": "year", "DP": "year",
    "AU": "author", "A1": "author", "KW": "keywords", "OT": "keywords", "DE": "keywords", "DO": "doi", "DI": "doi",
    "PMID": "pmid",
}  # fmt: skip
"""Columns of the tags that mean the same in every format; all others keep their tag as the name."""
_WRAPPED = re.compile(r"^(?: {6}| {3}|\t)")
_ONCE = frozenset({"title", "abstract"})


def is_tagged(line: str) -> bool:
    """Whether ``line`` begins a file of tagged references.

    >>> is_tagged("TY  - JOUR"), is_tagged("PMID- 123"), is_tagged("We present …")
    (True, True, False)
    """
    return bool(_FIRST.match(line))


def read(text: Text) -> Table:
    """The references, one a row. Raises InputError where there are none."""
    records = [Record(number, row) for number, row in enumerate(_rows(text.whole()), start=1)]
    if not records:
        raise InputError(f"{text.name} has no references", "RIS begins each with 'TY  - ', PubMed's format with 'PMID- '")
    fieldnames = tuple(dict.fromkeys(name for record in records for name in record.row))
    return Table(text.name, "tagged", fieldnames, lambda: iter(records), len(records))


def _rows(source: str) -> Iterator[dict[str, str]]:
    lines = source.splitlines()
    layout = _SPACE if any(line.startswith("FN ") for line in lines[:5]) else _HYPHEN
    fields: list[tuple[str, list[str]]] = []
    inside = False
    for line in lines:
        match = layout.match(line)
        tag = match[1].strip() if match else ""
        if tag in (*_STARTS[layout], "ER", "EF"):
            if inside:
                yield _row(fields)
            fields, inside = [], tag in _STARTS[layout]
        if match and inside:
            fields.append((tag, [(match[2] or "").strip()]))
        elif inside and fields and line.strip():
            fields[-1][1].append(line)
    if inside:
        yield _row(fields)


def _row(fields: list[tuple[str, list[str]]]) -> dict[str, str]:
    """Values by column. What occurs more than once is joined by semicolons, but an abstract is never mixed with another."""
    row: dict[str, str] = {}
    owner: dict[str, str] = {}
    for tag, lines in fields:
        name = _NAMES.get(tag, tag)
        if name in _ONCE and owner.setdefault(name, tag) != tag:
            name = tag
        value = _joined(lines, "; " if name == "author" else " ")
        row[name] = (f"{row[name]} {value}" if name in _ONCE else f"{row[name]}; {value}") if name in row else value
    return row


def _joined(lines: list[str], between: str) -> str:
    """A value of several lines: those that were only wrapped run on, others stay lines."""
    value = lines[0]
    for line in lines[1:]:
        value += (between if _WRAPPED.match(line) else "\n") + line.strip()
    return value
