"""The questions of a task: what was typed, a file of them (one a line, or a table), or what was piped in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import InputError, UsageError
from harness.readers import short_texts
from harness.readers.columns import fold
from harness.readers.locate import not_found
from harness.readers.text import Text, from_path, from_string, shown
from harness.search.reading import KINDS
from harness.task import unquote

NAMES = ("question", "query", "q")
"""Folded names of columns that hold questions, the likeliest first."""
LONGEST = 2000
"""Characters of a question."""


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
        kind = short_texts.piped_kind(given, {fold(column)} if column else NAMES)
        if kind == "text" and len(stdin.strip().splitlines()) == 1:
            return Questions("", [_asked({"question": stdin.strip()}, "question")])
        return _read(given, kind, column, [])
    if path := named_file(text):
        notes: list[str] = []
        return _read(from_path(path, notes), short_texts.SUFFIXES[path.suffix.lower()], column, notes)
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
    if not short_texts.suffix_of(text):
        return None
    if path := short_texts.file_of(text):
        return path
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
        rows = (_asked({"question": line}, "question") for line in short_texts.lines(text))
    else:
        table = short_texts.table(text, kind, column, NAMES, notes)
        fieldnames, name = table.fieldnames, short_texts.column_of(table, column, NAMES, "questions")
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
