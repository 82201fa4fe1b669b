"""CSV and TSV: row by row, whatever the delimiter, with nothing dropped."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping

from harness.errors import InputError
from harness.readers.columns import find, fold
from harness.readers.source import Record, Table
from harness.readers.text import MAX_RECORD, SMALL, Text

_DELIMITERS = {"csv": ",;\t|", "tsv": "\t,;|"}
_NONE = "\x1f"
"""Delimiter of a file with one column: a comma in its unquoted text separates nothing."""
_MAX_COLUMNS = 10_000
_HEADER_CELL = 60
"""Characters of a column name; running text between two commas is soon longer."""
_SEP_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


class _Feed:
    """Lines for ``csv.reader`` that counts what the row in progress has taken and knows when they ran out."""

    def __init__(self, text: Text) -> None:
        self._name = text.name
        self._lines = text.lines()
        self._row_size = 0
        self.line = 0
        self.ended = False

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.line += 1
        self._row_size += len(line)
        if self._row_size > MAX_RECORD:
            raise InputError(
                f"{self._name}: the row that reaches line {self.line} is longer than {MAX_RECORD >> 20} million characters",
                "look for a quote that is opened and never closed",
            )
        return line

    def next_row(self) -> int:
        """Forget the size of the last row; the line at which the next one starts."""
        self._row_size = 0
        return self.line + 1


def _rows(text: Text, delimiter: str) -> Iterator[tuple[int, list[str], bool]]:
    """First line, cells, and whether the file ended inside a quoted cell, of every row that is not blank."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))
    feed = _Feed(text)
    reader = csv.reader(feed, delimiter=delimiter)
    while True:
        start = feed.next_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{text.name}: line {feed.line} cannot be read as CSV ({error})") from error
        if cells:
            yield start, cells, feed.ended


def read(text: Text, kind: str, given: Mapping[str, str], notes: list[str]) -> Table:
    """The table in ``text``; ``given`` column names help to tell the delimiter. Raises InputError where there is none."""
    first = next((line for line in text.lines() if line.strip()), None)
    if first is None:
        raise InputError(f"{text.name} has no rows")
    declared = _SEP_LINE.fullmatch(first)
    delimiter, header = _sniff(text, declared[1] if declared else "", kind, given)
    fieldnames = _unique(header)
    if list(fieldnames) != header:
        notes.append(f"{text.name}: columns without a name or with one that is taken were renamed (NAME_2, column_3)")
    skip = 2 if declared else 1

    def records() -> Iterator[Record]:
        return _records(text, delimiter, skip, fieldnames, notes)

    total = sum(1 for _ in records()) if text.size <= SMALL else None
    return Table(text.name, kind, fieldnames, records, total)


def _sniff(text: Text, declared: str, kind: str, given: Mapping[str, str]) -> tuple[str, list[str]]:
    """Delimiter and header: the delimiter that shows an abstract column, then the one that makes most columns."""
    best: tuple[tuple[bool, int], str, list[str]] | None = None
    for delimiter in declared or _DELIMITERS[kind]:
        rows = (cells for _, cells, _ in _rows(text, delimiter))
        if declared:
            next(rows, None)
        header = next(rows, [])
        if len(header) > _MAX_COLUMNS:
            raise InputError(f"{text.name} has {len(header):,} columns", "a table of papers has a few")
        folded = {fold(name) for name in header}
        known = find(header, "abstract") is not None or any(fold(name) in folded for name in given.values())
        score = (known, len(header))
        if best is None or score > best[0]:
            best = (score, delimiter, header)
    if best is None or not best[2]:
        raise InputError(f"{text.name} has no header row")
    return (best[1] if len(best[2]) > 1 else _NONE), best[2]


def _records(text: Text, delimiter: str, skip: int, fieldnames: tuple[str, ...], notes: list[str]) -> Iterator[Record]:
    rows = _rows(text, delimiter)
    for _ in range(skip):
        next(rows, None)
    width, told = len(fieldnames), False
    for number, (start, cells, unclosed) in enumerate(rows, start=1):
        if any(cells[width:]):  # a delimiter in an unquoted cell, most likely in the last: put the text together again
            cells[width - 1 :] = [delimiter.join(cells[width - 1 :])]
            note = f"{text.name}: line {start} has more cells than the header; they were joined to the last column"
            if not told and note not in notes:  # every walk from the top meets the same line first
                notes.append(note)
            told = True
        error = None
        if unclosed:
            error = f"{text.name} row {number}: the quote opened at or after line {start} is never closed"
        row = dict(zip(fieldnames, cells + [""] * (width - len(cells)), strict=False))
        yield Record(number, row, error=error)


def _unique(header: list[str]) -> tuple[str, ...]:
    """Column names that differ: the second ``x`` is ``x_2``, an empty one ``column_N``."""
    taken = set(header)
    names: dict[str, None] = {}
    for position, name in enumerate(header, start=1):
        base = unique = name if name.strip() else f"column_{position}"
        count = 1
        while unique in names or (unique != name and unique in taken):
            count += 1
            unique = f"{base}_{count}"
        names[unique] = None
    return tuple(names)


def looks_like_table(first_line: str, given: Mapping[str, str]) -> bool:
    """Whether a text's first line is the header of a table of papers."""
    wanted = fold(given.get("abstract", ""))
    for delimiter in _DELIMITERS["csv"]:
        cells = [cell.strip(' "\r\n') for cell in first_line.split(delimiter)]
        short = max(map(len, cells)) <= _HEADER_CELL
        if short and ((len(cells) > 1 and find(cells, "abstract")) or (wanted and wanted in map(fold, cells))):
            return True
    return False
