"""JSON Lines and JSON: objects as rows. Values that are no strings stand in the row as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from harness.errors import InputError
from harness.readers.columns import fold
from harness.readers.json_shapes import flattened, papers_in
from harness.readers.source import Record, Table
from harness.readers.text import SMALL, Text, shown, writable

_PEEK = 100
"""Records looked at for the columns of a file that is too large to be walked beforehand."""


def cell(value: object) -> str:
    """A JSON value as the text of a cell: strings as they are, null as nothing, the rest as JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return writable(text)


def read_lines(text: Text) -> Table:
    """JSON Lines. A line that is no object becomes a record with an error; raises InputError where none is one."""
    return _table(text, "jsonl", lambda: _from_lines(text))


def read_document(text: Text, notes: list[str], given: Collection[str] = ()) -> Table:
    """A list of objects, an object that holds one, or one paper. Raises InputError for anything else.

    ``given`` are names of columns that the user gave.
    """
    try:
        document = json.loads(text.whole())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            notes.append(f"{text.name}: read as JSON Lines")
            return read_lines(text)
        raise InputError(f"{text.name} is not JSON ({error.msg}, line {error.lineno})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{text.name} is not JSON that can be read ({_reason(error)})") from error
    if isinstance(document, dict):
        papers = document.get("papers")
        document, place = (papers, "") if isinstance(papers, list) else papers_in(document, given)
        if place:
            notes.append(f"{text.name}: papers from {shown(place)}")
    if not isinstance(document, list):
        raise InputError(f"{text.name} holds neither a list of papers nor one paper")
    items = document
    return _table(
        text, "json", lambda: (_record(text.name, n, f"entry {n}", item) for n, item in enumerate(items, start=1))
    )


def _from_lines(text: Text) -> Iterator[Record]:
    number = 0
    for at, line in enumerate(text.lines(), start=1):
        if not line.strip():
            continue
        number += 1
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Record(number, {}, error=f"{text.name}:{at}: not JSON ({_reason(error)})")
        else:
            yield _record(text.name, number, f"line {at}", value)


def _record(name: str, number: int, where: str, value: object) -> Record:
    if not isinstance(value, dict):
        return Record(number, {}, error=f"{name}: {where} is not a JSON object")
    value = flattened(value)
    sentences = next((item for key, item in value.items() if fold(key) == "sentences"), None)
    if isinstance(sentences, list):
        sentences = [writable(item) if isinstance(item, str) else item for item in sentences]
    try:
        return Record(number, {cell(key): cell(item) for key, item in value.items()}, sentences)
    except RecursionError:
        return Record(number, {}, error=f"{name}: {where} is nested too deeply")


def _table(text: Text, kind: str, records: Callable[[], Iterator[Record]]) -> Table:
    small = kind == "json" or text.size <= SMALL
    fieldnames: dict[str, None] = {}
    count, broken = 0, ""
    for record in islice(records(), None if small else _PEEK):
        count += 1
        broken = broken or record.error or ""
        fieldnames.update(dict.fromkeys(record.row))
    if not fieldnames:
        raise InputError(broken or f"{text.name} holds no papers")
    return Table(text.name, kind, tuple(fieldnames), records, count if small else None)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else shown(str(error))
