"""The rows of an annotated file: what /annotate wrote (CSV, JSONL, JSON), or any table with the moves as columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.annotation import Annotation
from harness.annotation_files import rows as json_rows
from harness.errors import InputError, UsageError
from harness.outputs import atomic_write
from harness.readers import columns, tables
from harness.readers.text import from_path, shown, writable
from harness.sentences import split

KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".json": "json"}
OUT = {"csv": ".csv", "tsv": ".csv", "jsonl": ".jsonl", "json": ".json"}
_ABSENT = re.compile(
    r"\W*(?:not (?:stated|mentioned|specified|provided|applicable|given)|n/?a|none|null|nan|nil)?\W*", re.IGNORECASE
)
"""What stands in a cell for a move that is not stated."""
_FAILED = frozenset(("error", "failed"))


@dataclass(frozen=True)
class Row:
    """One row: what is judged, and the input's own value, which is written again as it is when the row is kept."""

    number: int
    id: str
    annotation: Annotation
    value: Mapping[str, Any]
    error: str | None = None
    """Why it cannot be judged."""


@dataclass
class Source:
    """An annotated file, read."""

    path: Path
    kind: str
    rows: list[Row]
    fieldnames: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def read_rows(path: Path, moves: Sequence[str], given: Mapping[str, str]) -> Source:
    """The rows of a file; ``given`` says which column (or key) is the ``abstract``, ``title`` or ``id``.

    Raises UsageError for a format that cannot be read, InputError naming the file and the remedy where it has no moves.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"{path}: cannot curate {path.suffix or 'a file without a suffix'}", f"use one of {' '.join(KINDS)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file", "give the file that /annotate saved")
    source = _table(path, kind, moves, given) if kind in ("csv", "tsv") else _records(path, kind, moves, given)
    if not source.rows:
        raise InputError(f"{path}: has no rows", "give the file that /annotate saved")
    return source


def write_rows(path: Path, source: Source, kept: Sequence[Row], *, overwrite: bool) -> None:
    """Write the kept rows in the input's format, with its columns or keys and values. Raises InputError."""
    with atomic_write(path, overwrite=overwrite) as handle:
        if source.kind in ("csv", "tsv"):
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(source.fieldnames)
            writer.writerows([row.value.get(name, "") for name in source.fieldnames] for row in kept)
            return
        lines = [writable(json.dumps(row.value, ensure_ascii=False)) for row in kept]
        if source.kind == "jsonl":
            handle.writelines(f"{line}\n" for line in lines)
        else:
            handle.write("[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n")


# ---- tables ----


def _table(path: Path, kind: str, moves: Sequence[str], given: Mapping[str, str]) -> Source:
    notes: list[str] = []
    table = tables.read(from_path(path, notes), kind, given, notes)
    folded = {columns.fold(name): name for name in reversed(table.fieldnames)}
    if missing := [move for move in moves if columns.fold(move) not in folded]:
        there = ", ".join(shown(name, 30) for name in table.fieldnames[:12])
        raise InputError(
            f"{path}: has no column {', '.join(missing)} (columns: {there})",
            "curate what /annotate saved; other moves need --framework",
        )
    where = columns.resolve(table, given)
    rows = [_table_row(record.row, record.number, record.error, where, moves, folded) for record in table.records()]
    return Source(path, kind, rows, table.fieldnames, notes)


def _table_row(
    row: Mapping[str, str],
    number: int,
    error: str | None,
    where: columns.Columns,
    moves: Sequence[str],
    folded: Mapping[str, str],
) -> Row:
    def cell(name: str) -> str:
        return row.get(folded.get(columns.fold(name), ""), "")

    abstract = row.get(where.abstract or "", "")
    texts = {move: cell(move) for move in moves if is_stated(cell(move))}
    numbers = {move: tuple(map(int, re.findall(r"\d+", cell(f"{move}_sentences")))) for move in texts}
    annotation = Annotation(abstract, row.get(where.title or "", ""), texts, numbers)
    status, why = cell("annotation_status"), cell("annotation_error")
    return _row(number, row.get(where.id or "", ""), annotation, row, error, status, why)


# ---- records ----


def _records(path: Path, kind: str, moves: Sequence[str], given: Mapping[str, str]) -> Source:
    rows, any_moves = [], False
    for number, (where, value) in enumerate(json_rows(path), 1):
        if not isinstance(value, dict):
            raise InputError(f"{where}: is no JSON object", "give a .jsonl or .json that /annotate saved")
        row, has_moves = _record_row(value, number, moves, given)
        rows.append(row)
        any_moves = any_moves or has_moves
    if rows and not any_moves:
        raise InputError(f"{path}: no row has any of the moves {', '.join(moves)}", "curate what /annotate saved")
    return Source(path, kind, rows)


def _record_row(value: dict[str, Any], number: int, moves: Sequence[str], given: Mapping[str, str]) -> tuple[Row, bool]:
    def text(meaning: str) -> str:
        name = given.get(meaning) or columns.find(list(value), meaning)
        return str(value.get(name) or "") if name else ""

    own = value.get("sentences")
    sentences = tuple(own) if isinstance(own, list) and all(isinstance(item, str) for item in own) else ()
    abstract = text("abstract") or " ".join(sentences)
    stated = value.get("moves") if isinstance(value.get("moves"), dict) else value
    has_moves = stated is not None and any(move in stated for move in moves)
    texts, numbers, problem = {}, {}, None
    lines = sentences or tuple(sentence.text for sentence in split(abstract))
    for move in moves:
        try:
            words, rests = _move((stated or {}).get(move), lines)
        except ValueError as error:
            problem = f"move {move} {error}"
            continue
        if is_stated(words):
            texts[move], numbers[move] = words, rests
    style = value.get("style") if value.get("style") in ("quote", "prose") else ""
    annotation = Annotation(abstract, text("title"), texts, numbers, sentences, str(style))
    if not has_moves and value.get("status") not in _FAILED:
        problem = "has no moves"
    row = _row(
        number, text("id"), annotation, value, problem, str(value.get("status") or ""), str(value.get("error") or "")
    )
    return row, has_moves


def _move(value: object, sentences: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """Text and sentence numbers of a move in any of its JSON shapes. Raises ValueError saying what is wrong."""
    if value is None or isinstance(value, str):
        return value or "", ()
    if isinstance(value, list):
        value = {"sentences": value}
    if not isinstance(value, Mapping):
        raise ValueError("is neither a text nor an object")
    numbers = value.get("sentences") or []
    if not isinstance(numbers, list) or not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError("has sentences that are no numbers")
    text = value.get("text")
    if text is None:
        if any(number > len(sentences) for number in numbers):
            raise ValueError(f"names sentence {max(numbers)} of {len(sentences)}")
        text = " ".join(sentences[number - 1] for number in numbers)
    return str(text), tuple(numbers)


# ---- both ----


def is_stated(text: str) -> bool:
    """Whether a cell states its move; ``N/A`` and the like do not."""
    return _ABSENT.fullmatch(text) is None


def _row(
    number: int, id: str, annotation: Annotation, value: Mapping[str, Any], error: str | None, status: str, why: str
) -> Row:
    if error is None and status.strip().lower() in _FAILED:
        error = f"the annotation failed: {why or 'no reason given'}"
    if error is None and not annotation.abstract.strip():
        error = "the abstract is empty"
    return Row(number, id.strip() or f"row-{number}", annotation, value, error)
