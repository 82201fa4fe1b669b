"""Expansions as text, JSON, JSON Lines and CSV: for the terminal and for files, by suffix."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from harness.console import json_line
from harness.outputs import atomic_write
from skills.expand.expansion import TYPES, Line, render
from skills.expand.queries import QuerySource

Record = Mapping[str, Any]


def text_of(records: Sequence[Record]) -> str:
    """One ``type: text`` line each; of several queries each block begins with its query, and blank lines are between.

    >>> text_of([{"query": "auth", "lines": [{"type": "lex", "text": "auth settings"}], "error": None}])
    'lex: auth settings'
    """
    blocks = []
    for record in records:
        lines = render(Line(**line) for line in record["lines"]) or f"error: {record['error']}"
        blocks.append(lines if len(records) == 1 else f"query: {record['query']}\n{lines}")
    return "\n\n".join(blocks)


def jsonl_of(records: Sequence[Record]) -> str:
    """One record a line."""
    return "\n".join(map(json_line, records))


def _write_text(handle: IO[str], records: Sequence[Record], source: QuerySource) -> None:
    handle.write(text_of(records) + "\n")


def _write_jsonl(handle: IO[str], records: Sequence[Record], source: QuerySource) -> None:
    handle.write(jsonl_of(records) + "\n")


def _write_json(handle: IO[str], records: Sequence[Record], source: QuerySource) -> None:
    """One array, one record a line."""
    handle.write("[\n" + ",\n".join(map(json_line, records)) + "\n]\n")


def _write_csv(handle: IO[str], records: Sequence[Record], source: QuerySource, delimiter: str = ",") -> None:
    """The input's columns, one for each type with its lines one below the other, then status, error, model, removed."""
    own: Sequence[tuple[str, Callable[[Record], str]]] = (
        *((kind, _cell_of(kind)) for kind in TYPES),
        ("expansion_status", lambda record: str(record["status"])),
        ("expansion_error", lambda record: record["error"] or ""),
        ("expansion_model", lambda record: str(record["model"]["name"])),
        ("expansion_removed", lambda record: json.dumps(record["removed"]) if record["removed"] else ""),
    )
    taken = set(source.fieldnames)
    names = [name if name not in taken else f"expansion_{name}" for name, _ in own]
    writer = csv.writer(handle, delimiter=delimiter, lineterminator="\n")
    writer.writerow([*source.fieldnames, *names])
    for record, row in zip(records, source.rows, strict=True):
        writer.writerow([*(row.row.get(name, "") for name in source.fieldnames), *(cell(record) for _, cell in own)])


def _write_tsv(handle: IO[str], records: Sequence[Record], source: QuerySource) -> None:
    """The same with tabs between the cells."""
    _write_csv(handle, records, source, "\t")


def _cell_of(kind: str) -> Callable[[Record], str]:
    return lambda record: "\n".join(line["text"] for line in record["lines"] if line["type"] == kind)


WRITERS: Mapping[str, Callable[[IO[str], Sequence[Record], QuerySource], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".jsonl": _write_jsonl,
    ".tsv": _write_tsv,
    ".txt": _write_text,
}


def save(path: Path, records: Sequence[Record], source: QuerySource, *, overwrite: bool) -> None:
    """Write the records in the format of the suffix, all of them or nothing. Raises InputError."""
    out = io.StringIO()
    WRITERS[path.suffix.lower()](out, records, source)
    with atomic_write(path, overwrite=overwrite) as handle:
        handle.write(out.getvalue())
