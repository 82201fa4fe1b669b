"""The questions of a task: what was typed, a file of them (one a line, or a table), or what was piped in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import InputError, UsageError
from harness.readers import jsonfile, tables
from harness.readers.columns import fold
from harness.readers.locate import not_found
from harness.readers.source import Table
from harness.readers.text import Text, from_path, from_string, shown
from harness.search.reading import KINDS
from harness.task import unquote

SUFFIXES = {".txt": "text", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
NAMES = ("question", "query", "q")
"""Folded names of columns that hold questions, the likeliest first."""
LONGEST = 2000
"""Characters of a question."""
COMMENT = "# "
"""Begins a line of a text file that is no question."""


@dataclass(frozen=True)
class Asked:
    """One question; ``error`` says why it cannot be answered."""

    text: str
    row: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Questions:
    """The questions of one input, in its order."""

    name: str
    """Of the file; empty for a question that was typed."""
    rows: Sequence[Asked]
    fieldnames: tuple[str, ...] = ("question",)
    notes: tuple[str, ...] = ()


def open_questions(text: str, piped: Callable[[], str | None], column: str) -> Questions:
    """The questions that a task asks; ``piped`` gives standard input and is called only where nothing was typed.

    What is piped in is one question unless it has several lines. Raises UsageError where there is none, InputError for a
    file that cannot be used.
    """
    text = unquote(text).strip()
    if text in ("", "-"):
        if (stdin := piped()) is None:
            raise UsageError("/ask: no question", 'for example /ask --docs papers/ "How are the agents evaluated?"')
        given = from_string("standard input", stdin)
        kind = _sniffed(given, column)
        if kind == "text" and len(stdin.strip().splitlines()) == 1:
            return Questions("", [_asked({"question": stdin.strip()}, "question")])
        return _read(given, kind, column, [])
    if path := named_file(text):
        notes: list[str] = []
        return _read(from_path(path, notes), SUFFIXES[path.suffix.lower()], column, notes)
    if papers := _path_before(text):
        raise UsageError(f"/ask: {papers} is a file or folder, not a question", f'/ask --docs {papers} "QUESTION"')
    one = _asked({"question": " ".join(text.split())}, "question")
    if one.error:
        raise UsageError(one.error)
    return Questions("", [one])


def named_file(text: str) -> Path | None:
    """The file of questions that a task names; None where its text is a question.

    Raises InputError where a single word looks like such a file and there is none.
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
    if len(text.split()) == 1:
        raise not_found(text)
    return None


def _path_before(text: str) -> str:
    """The first word where it is the path of something, and looks like one; "" else."""
    word = text.split()[0]
    try:
        looks_like_one = "/" in word or "\\" in word or Path(word).suffix.lower() in KINDS
        return word if looks_like_one and Path(word).expanduser().exists() else ""
    except (OSError, ValueError, RuntimeError):
        return ""


def _read(text: Text, kind: str, column: str, notes: list[str]) -> Questions:
    rows: Iterator[Asked]
    if kind == "text":
        fieldnames: tuple[str, ...] = ("question",)
        lines = (line.strip() for line in text.lines())
        rows = (_asked({"question": line}, "question") for line in lines if line and not line.startswith(COMMENT))
    else:
        table = _table(text, kind, column, notes)
        fieldnames, name = table.fieldnames, _column(table, column)
        rows = (
            Asked(shown(record.row.get(name, ""), 200), record.row, record.error)
            if record.error
            else _asked(record.row, name)
            for record in table.records()
        )
    found = list(rows)
    if not found:
        raise InputError(f"{text.name}: holds no questions")
    return Questions(text.name, found, fieldnames, tuple(notes))


def _asked(row: Mapping[str, str], column: str) -> Asked:
    text = " ".join(row.get(column, "").split())
    if not text:
        return Asked("", row, "the question is empty")
    if len(text) > LONGEST:
        return Asked(shown(text, 200), row, f"the question has {len(text)} characters, more than {LONGEST}")
    return Asked(text, row)


def _table(text: Text, kind: str, column: str, notes: list[str]) -> Table:
    if kind == "json":
        return jsonfile.read_document(text, notes)
    if kind == "jsonl":
        return jsonfile.read_lines(text)
    given = {name: name for name in ((column,) if column else NAMES)}  # the delimiter is the one that shows such a column
    return tables.read(text, kind, given, notes)


def _column(table: Table, wanted: str) -> str:
    """The column with the questions. Raises InputError where it is missing."""
    for name in (fold(wanted),) if wanted else NAMES:
        if found := next((field for field in table.fieldnames if fold(field) == name), None):
            return found
    if not wanted and len(table.fieldnames) == 1:
        return table.fieldnames[0]
    columns = ", ".join(shown(name, 30) for name in table.fieldnames)
    raise InputError(
        f"{table.name}: no column is called {shown(wanted or 'question')} (columns: {columns})",
        "say which one holds the questions with --column NAME",
    )


def _sniffed(text: Text, column: str) -> str:
    """What was piped in: JSON Lines, a table with a column of questions among others, or one question a line."""
    first = next((line for line in text.lines() if line.strip()), "").strip()
    if first.startswith("{"):
        return "jsonl"
    wanted = {fold(column)} if column else set(NAMES)
    for kind, delimiters in (("csv", ",;"), ("tsv", "\t")):
        for delimiter in delimiters:
            cells = [fold(cell.strip(' "')) for cell in first.split(delimiter)]
            if len(cells) > 1 and wanted & set(cells):
                return kind
    return "text"
