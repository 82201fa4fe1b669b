"""Files of short texts, such as queries and questions: one a line, or a column of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.errors import InputError
from harness.readers import jsonfile, tables
from harness.readers.columns import fold
from harness.readers.source import Table
from harness.readers.text import Text, shown

SUFFIXES = {".txt": "text", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
"""Kinds of files by suffix."""
COMMENT = "# "
"""Begins a line of a text file that is none of its texts."""


def suffix_of(task: str) -> str:
    """The suffix of one of these files that a task ends with; "" where it ends otherwise."""
    suffix = task[task.rfind(".") :].lower()
    return suffix if suffix in SUFFIXES and "\n" not in task else ""


def file_of(task: str) -> Path | None:
    """The file that a whole task is the path of, if there is one."""
    try:
        path = Path(task).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, the home of nobody
        return None


def lines(text: Text) -> Iterator[str]:
    """The lines of a text file that are texts."""
    for line in map(str.strip, text.lines()):
        if line and line != COMMENT.strip() and not line.startswith(COMMENT):
            yield line


def table(text: Text, kind: str, column: str, names: Sequence[str], notes: list[str]) -> Table:
    """A file that is no plain text; ``column`` is the user's, ``names`` are those that such a column has elsewhere."""
    if kind == "json":
        return jsonfile.read_document(text, notes)
    if kind == "jsonl":
        return jsonfile.read_lines(text)
    given = {name: name for name in ((column,) if column else names)}  # the delimiter is the one that shows such a column
    return tables.read(text, kind, given, notes)


def column_of(found: Table, wanted: str, names: Sequence[str], what: str) -> str:
    """The column with the texts. Raises InputError where it is missing; ``what`` says what it should hold."""
    for name in (fold(wanted),) if wanted else names:
        if column := next((field for field in found.fieldnames if fold(field) == name), None):
            return column
    if not wanted and len(found.fieldnames) == 1:
        return found.fieldnames[0]
    columns = ", ".join(shown(name, 30) for name in found.fieldnames)
    raise InputError(
        f"{found.name}: no column is called {shown(wanted or names[0])} (columns: {columns})",
        f"say which one holds the {what} with --column {fold(names[0])}=NAME",
    )


def piped_kind(text: Text, wanted: Collection[str]) -> str:
    """What was piped in: JSON Lines, a table with a ``wanted`` column (folded names) among others, or a text a line."""
    first = next((line for line in text.lines() if line.strip()), "").strip()
    if first.startswith("{"):
        return "jsonl"
    for kind, delimiters in (("csv", ",;"), ("tsv", "\t")):
        for delimiter in delimiters:
            cells = [fold(cell.strip(' "')) for cell in first.split(delimiter)]
            if len(cells) > 1 and not set(cells).isdisjoint(wanted):
                return kind
    return "text"
