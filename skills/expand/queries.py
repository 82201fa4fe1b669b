"""The queries of a task: what was typed, a file of them (one a line, or a table), or what was piped in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import InputError, MarginaliaError, UsageError
from harness.readers import jsonfile, tables
from harness.readers.columns import fold
from harness.readers.locate import not_found
from harness.readers.source import Table
from harness.readers.text import Text, from_path, from_string, shown
from harness.task import unquote
from skills.expand.options import ExpandOptions
from skills.expand.prompt import Query, parse_query, split_only

SUFFIXES = {".txt": "text", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
NAMES = ("query", "searchquery", "question", "q", "topic")
"""Folded names of columns that hold queries, the likeliest first."""
INTENT = "intent"
COMMENT = "# "
"""Begins a line of a text file that is no query."""


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
        return _read(given, _sniffed(given, options.column), options, only, [])
    if path := named_file(text):
        notes: list[str] = []
        return _read(from_path(path, notes), SUFFIXES[path.suffix.lower()], options, only, notes)
    query = parse_query(text, options.intent, only)
    return QuerySource("", [QueryRow(query.text, query, {"query": query.text})])


def named_file(text: str) -> Path | None:
    """The file that a task names, None where its text is a query.

    A file counts where it exists and its suffix is one of queries. InputError where a single word looks like such a file
    and there is none; ``robots.txt`` and ``package.json`` may be meant as words.
    """
    suffix = text[text.rfind(".") :].lower()
    if suffix not in SUFFIXES or "\n" in text:
        return None
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, the home of nobody
        return None
    one_word = len(text.split()) == 1
    if one_word and (suffix not in (".txt", ".json") or "/" in text or "\\" in text):
        raise not_found(text)
    return None


def _read(text: Text, kind: str, options: ExpandOptions, only: tuple[str, ...], notes: list[str]) -> QuerySource:
    rows: Iterator[QueryRow]
    if kind == "text":
        fieldnames: tuple[str, ...] = ("query",)
        lines = (line.strip() for line in text.lines())
        queries = (line for line in lines if line and line != COMMENT.strip() and not line.startswith(COMMENT))
        rows = (_row({"query": line}, "query", "", options, only) for line in queries)
    else:
        table = _table(text, kind, options.column, notes)
        fieldnames, column = table.fieldnames, _column(table, options.column)
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


def _table(text: Text, kind: str, column: str, notes: list[str]) -> Table:
    if kind == "json":
        return jsonfile.read_document(text, notes)
    if kind == "jsonl":
        return jsonfile.read_lines(text)
    # The delimiter is the one that shows a column of queries.
    given = {name: name for name in ((column,) if column else NAMES)}
    return tables.read(text, kind, given, notes)


def _column(table: Table, wanted: str) -> str:
    """The column with the queries. Raises InputError where it is missing."""
    for name in (fold(wanted),) if wanted else NAMES:
        if found := next((field for field in table.fieldnames if fold(field) == name), None):
            return found
    if not wanted and len(table.fieldnames) == 1:
        return table.fieldnames[0]
    columns = ", ".join(shown(name, 30) for name in table.fieldnames)
    raise InputError(
        f"{table.name}: no column is called {shown(wanted or 'query')} (columns: {columns})",
        "say which one holds the queries with --column NAME",
    )


def _sniffed(text: Text, column: str) -> str:
    """What was piped in: JSON Lines, a table with a column of queries among others, or one query a line."""
    first = next((line for line in text.lines() if line.strip()), "").strip()
    if first.startswith("{"):
        return "jsonl"
    wanted = {fold(column)} if column else {"query"}
    for kind, delimiters in (("csv", ",;"), ("tsv", "\t")):
        for delimiter in delimiters:
            cells = [fold(cell.strip(' "')) for cell in first.split(delimiter)]
            if len(cells) > 1 and wanted & set(cells):
                return kind
    return "text"
