"""BibTeX: a small tolerant parser. LaTeX in names, titles and abstracts becomes Unicode, so that quotes can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from harness.errors import InputError
from harness.readers.latex import to_unicode
from harness.readers.source import Record, Table
from harness.readers.text import Text, shown

_START = re.compile(r"^[ \t]*@(?=[ \t]*\w+\s*[{(])", re.MULTILINE)
_ENTRY = re.compile(r"@\s*(\w+)\s*([{(])\s*")
_KEY = re.compile(r"([^,{}()\"#%\s]*)\s*(,|(?=[})]))")
_FIELD = re.compile(r"[\s,]*([^\s=,{}()\"#%]+)\s*=\s*")
_BARE = re.compile(r"[^\s,#{}()\"]+")
_SPACE = re.compile(r"\s*")
_END = re.compile(r"[\s,]*")
_BOUND = re.compile(r'[{}"]')
_UNICODE_FIELDS = frozenset(
    {"title", "author", "editor", "journal", "booktitle", "publisher", "school", "series", "keywords", "abstract"}
)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


class _Malformed(ValueError):
    """The entry cannot be read on; says why."""


@dataclass
class _Parser:
    """One chunk of the file and the ``@string`` macros defined so far."""

    text: str
    macros: dict[str, str]
    at: int = 0

    def skip(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def value(self) -> str:
        """Parts joined by ``#``: braces, quotes, numbers, macros."""
        parts = [self.part()]
        while self.peek() == "#":
            self.at += 1
            self.skip(_SPACE)
            parts.append(self.part())
        return "".join(parts)

    def peek(self) -> str:
        self.skip(_SPACE)
        return self.text[self.at : self.at + 1]

    def part(self) -> str:
        if self.peek() in ("{", '"'):
            return self.enclosed()
        if bare := self.skip(_BARE):
            return self.macros.get(bare[0].casefold(), bare[0])
        raise _Malformed("a value is missing")

    def enclosed(self) -> str:
        """Text between braces, or between quotes with balanced braces inside."""
        opening, start, depth = self.text[self.at], self.at + 1, 0
        for match in _BOUND.finditer(self.text, start):
            if match[0] == '"' and opening == '"' and depth == 0 and self.text[match.start() - 1] != "\\":
                break
            if match[0] == "}" and opening == "{" and depth == 0:
                break
            depth += {"{": 1, "}": -1, '"': 0}[match[0]]
        else:
            raise _Malformed("a brace or quote is never closed")
        self.at = match.end()
        return self.text[start : match.start()]


def read(text: Text) -> Table:
    """The entries under the columns ``id``, ``entry_type`` and their fields. Raises InputError where there are none."""
    entries = list(_entries(text.name, text.whole()))
    if not entries:
        raise InputError(f"{text.name} has no BibTeX entries")
    fieldnames = dict.fromkeys(("id", "entry_type"))
    for entry in entries:
        fieldnames.update(dict.fromkeys(entry.row))
    return Table(text.name, "bibtex", tuple(fieldnames), lambda: iter(entries), len(entries))


def _entries(name: str, source: str) -> Iterator[Record]:
    """Entries in order. A malformed one is a record with an error; the next ``@`` at a line's start is read again."""
    macros = {month[:3].casefold(): month for month in _MONTHS}
    starts = [match.start() for match in _START.finditer(source)]
    number, line, counted = 0, 1, 0
    for start, end in pairwise([*starts, len(source)]):
        line, counted = line + source.count("\n", counted, start), start
        parser = _Parser(source[start:end], macros)
        while match := _ENTRY.search(parser.text, parser.at):
            parser.at, kind = match.end(), match[1].casefold()
            if kind in ("comment", "preamble"):
                break
            try:
                row = _entry(parser, kind, match[2])
            except _Malformed as error:
                number += 1
                key = _KEY.match(parser.text, match.end())
                row = {"id": key[1] if key else "", "entry_type": kind}
                where = f"{name}:{line + parser.text.count(chr(10), 0, match.start())}"
                yield Record(number, row, error=f"{where}: entry '{shown(row['id'])}' is malformed ({error})")
                break
            if row is not None:
                number += 1
                yield Record(number, row)


def _entry(parser: _Parser, kind: str, opening: str) -> dict[str, str] | None:
    """The row of the entry at the parser's place; None for ``@string``, which defines macros."""
    closing = "}" if opening == "{" else ")"
    key = ""
    if kind != "string":
        found = parser.skip(_KEY)
        if not found:
            raise _Malformed("the key is missing")
        key = found[1]
    fields: dict[str, str] = {}
    while name := parser.skip(_FIELD):
        fields.setdefault(name[1].casefold(), parser.value())
    parser.skip(_END)
    if parser.text[parser.at : parser.at + 1] != closing:
        raise _Malformed(f"'{closing}' expected after {f'field {shown(list(fields)[-1])}' if fields else 'the key'}")
    parser.at += 1
    if kind == "string":
        parser.macros.update(fields)
        return None
    row = {"id": key, "entry_type": kind}
    for label, value in fields.items():
        row.setdefault(label, to_unicode(value) if label in _UNICODE_FIELDS else value)
    return row
