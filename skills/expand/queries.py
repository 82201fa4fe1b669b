"""The queries of a task: what was typed, a file of them (one a line, or a table), or what was piped in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import InputError, MarginaliaError, UsageError
from harness.readers import short_texts
from harness.readers.columns import fold
from harness.readers.locate import not_found
from harness.readers.text import Text, from_path, from_string, shown
from harness.task import unquote
from skills.expand.options import ExpandOptions
from skills.expand.prompt import Query, parse_query, split_only

NAMES = ("query", "searchquery", "question", "q", "topic")
"""Folded names of columns that hold queries, the likeliest first."""
INTENT = "intent"


@dataclass(frozen=True)
class QueryRow:
    """One row of the input; ``error`` says why it cannot be expanded."""

    text: str
    query: Query | None
    row: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class QuerySource:
    """The queries of one input, in its order."""

    name: str
    """Of the file; empty for a query that was typed."""
    rows: Sequence[QueryRow]
    fieldnames: tuple[str, ...] = ("query",)
    notes: tuple[str, ...] = ()


def open_queries(text: str, piped: Callable[[], str | None], options: ExpandOptions) -> QuerySource:
    """The queries that a task asks for; ``piped`` gives standard input and is called only where it is meant.

    Raises UsageError where there is none, InputError for a file that cannot be used and for a typed query that is wrong.
    """
    text, only = split_only(text)
    text, only = unquote(text), only or options.only
    if text in ("", "-"):
        if (stdin := piped()) is None:
            raise UsageError("/expand: nothing to expand", "for example /expand auth config")
        given = from_string("standard input", stdin)
        wanted = fold(options.column) if options.column else NAMES[0]  # a line with "topic, …" is rather a query
        return _read(given, short_texts.piped_kind(given, {wanted}), options, only, [])
    if path := named_file(text):
        notes: list[str] = []
        return _read(from_path(path, notes), short_texts.SUFFIXES[path.suffix.lower()], options, only, notes)
    query = parse_query(text, options.intent, only)
    return QuerySource("", [QueryRow(query.text, query, {"query": query.text})])


def named_file(text: str) -> Path | None:
    """The file that a task names, None where its text is a query.

    A file counts where it exists and its suffix is one of queries. InputError where a single word looks like such a file
    and there is none; ``robots.txt`` and ``package.json`` may be meant as words.
    """
    if not (suffix := short_texts.suffix_of(text)):
        return None
    if path := short_texts.file_of(text):
        return path
    one_word = len(text.split()) == 1
    if one_word and (suffix not in (".txt", ".json") or "/" in text or "\\" in text):
        raise not_found(text)
    return None


def _read(text: Text, kind: str, options: ExpandOptions, only: tuple[str, ...], notes: list[str]) -> QuerySource:
    rows: Iterator[QueryRow]
    if kind == "text":
        fieldnames: tuple[str, ...] = ("query",)
        rows = (_row({"query": line}, "query", "", options, only) for line in short_texts.lines(text))
    else:
        table = short_texts.table(text, kind, options.column, NAMES, notes)
        fieldnames, column = table.fieldnames, short_texts.column_of(table, options.column, NAMES, "queries")
        intent = next((name for name in table.fieldnames if fold(name) == INTENT), "")
        rows = (
            QueryRow(record.row.get(column, ""), None, record.row, record.error)
            if record.error
            else _row(record.row, column, intent, options, only)
            for record in table.records()
        )
    found = list(rows)
    if not found:
        raise InputError(f"{text.name}: holds no queries")
    return QuerySource(text.name, found, fieldnames, tuple(notes))


def _row(row: Mapping[str, str], column: str, intent: str, options: ExpandOptions, only: tuple[str, ...]) -> QueryRow:
    text = row.get(column, "").strip()
    try:
        query = parse_query(text, row.get(intent, "").strip() or options.intent, only)
    except MarginaliaError as error:
        return QueryRow(shown(text, 200), None, row, str(error))
    return QueryRow(query.text, query, row)
