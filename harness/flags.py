"""Flags that several skills have: the same word, the same meaning, the same form everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import UsageError
from harness.task import Flag

MOST_SECONDS = 600

COLUMN = Flag(
    "column", "which column of a table holds what, e.g. --column abstract=body", metavar="FIELD=NAME", repeat=True
)


def rerank_flag(condition: str = "") -> Flag:
    """``--rerank``; ``condition`` says with what it goes."""
    what = "have the chat model put the best passages in order, for at most so many seconds"
    return Flag("rerank", condition + what, metavar="SECONDS")


def rerank_seconds(text: str) -> float:
    """The value of ``--rerank``. Raises UsageError for what is no number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_SECONDS:
        raise UsageError(f"--rerank {text}: is not a number of seconds up to {MOST_SECONDS}", "for example --rerank 5")
    return value


def columns_of(pairs: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The values of ``--column`` as field and name. Raises UsageError for one of another form."""
    columns = []
    for pair in pairs:
        field, equals, name = pair.partition("=")
        if not (equals and field and name):
            raise UsageError(f"--column {pair}: not of the form FIELD=NAME", "for example --column abstract=body")
        columns.append((field, name))
    return tuple(columns)


def column_flag(field: str) -> Flag:
    """``--column`` of a skill that reads one field of a table."""
    return Flag("column", f"the column of a table that holds it, e.g. --column {field}=text", metavar=f"{field}=NAME")


def column_of(text: str, field: str) -> str:
    """The column that ``--column FIELD=NAME`` names for the only field there is.

    A bare NAME, as it was written before, still works. Raises UsageError where the name is missing.

    >>> column_of("question=text", "question"), column_of("text", "question"), column_of("a=b", "question")
    ('text', 'text', 'a=b')
    """
    given, equals, name = text.partition("=")
    if not equals or given.strip().casefold() != field:
        return text
    if not name:
        raise UsageError(f"--column {text}: names no column", f"for example --column {field}=text")
    return name
