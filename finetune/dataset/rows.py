"""Annotated papers as the builder reads them: one ``Row`` a paper, whatever file it stands in.

Three shapes become rows: a table as ``/annotate`` writes it (the move columns, and ``<move>_sentences`` where it has
them), an annotation record (``moves`` of objects), and a gold row or decision of a review (``moves`` of lists of sentence
numbers). Nothing is matched or checked against the sentences here; that is done once it is known which row counts.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from harness.errors import InputError
from harness.readers.columns import find, fold
from harness.readers.source import Record, Table
from harness.readers.text import shown, writable

FAILED = "the annotation failed"
PARTIAL = "the annotation holds only in part"
_MADE_UP_ID = re.compile(r"row-\d+")
"""What the readers call a paper without an id: no identity, since every file has one of these."""
_NUMBERS = "write them as 5;7, counted from 1"


@dataclass(frozen=True, slots=True)
class Cell:
    """One stated move: its text, and the numbers of its sentences (from 1, best first) where the file gives them."""

    text: str = ""
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One annotated paper as a file has it."""

    place: str
    """``agent.csv row`` or ``gold.jsonl line``."""
    number: int
    """Row or line of the file, from 1, rising."""
    id: str
    """Empty where the file gives none."""
    title: str
    abstract: str
    sentences: tuple[str, ...] | None = None
    """The sentences that the numbers count; None where they are those that the splitter finds."""
    written: str = ""
    """Sentences as a table may have them, as JSON; read when the row is chosen."""
    cells: Mapping[str, Cell] = field(default_factory=dict)
    """The moves that are stated."""
    decided: frozenset[str] | None = None
    """The moves that a person has decided; None: all of them are as the row says."""
    problem: str | None = None
    """Why the row cannot be used although it is written correctly."""

    @property
    def where(self) -> str:
        """File and row, for messages."""
        return f"{self.place} {self.number}"


def row_of(value: object, moves: Sequence[str], place: str, number: int) -> Row:
    """The row that a JSON object is (or a mapping with the columns of a table). Raises InputError naming file and row."""
    where = f"{place} {number}"
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: is no JSON object", "give one paper a line")
    failed = value.get("status") == "error"
    stated = value.get("moves")
    if not isinstance(stated, Mapping) and not failed:
        flat = {key: text for key, text in value.items() if isinstance(text, str | list)}
        if not any(move in flat for move in moves):
            raise InputError(f"{where}: has no moves", "give annotations of /annotate, or gold rows")
        columns = MoveColumns.of(tuple(flat), moves, where)
        cells = columns.cells({key: _cell_text(text) for key, text in flat.items()}, where)
    else:
        cells = {} if failed else _cells(stated or {}, moves, where)
    sentences = _sentences(value.get("sentences"), where)
    abstract = _text(value, "abstract") or " ".join(sentences or ())
    problem = FAILED if failed else PARTIAL if value.get("status") == "partial" else None
    return Row(
        place,
        number,
        _identity(_text(value, "arxiv_id") or _text(value, "id")),
        " ".join(_text(value, "title").split()),
        abstract,
        sentences,
        cells=cells,
        decided=_decided(value.get("reviewed"), moves, where),
        problem=problem,
    )


def _cell_text(value: str | list[Any]) -> str:
    return value if isinstance(value, str) else ";".join(map(str, value))


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return writable(str(found)) if found is not None else ""


def _identity(text: str) -> str:
    """An id as the file gives it; nothing where a reader made it up."""
    text = text.strip()
    return "" if _MADE_UP_ID.fullmatch(text) else text


def _cells(stated: Mapping[str, Any], moves: Sequence[str], where: str) -> dict[str, Cell]:
    """The stated moves of a record: an object with text and sentences, a list of numbers, or a text. Raises InputError."""
    if unknown := [name for name in stated if name not in moves]:
        raise InputError(f"{where}: there is no move {shown(str(unknown[0]))!r}", f"the moves are {', '.join(moves)}")
    if missing := [move for move in moves if move not in stated]:
        raise InputError(f"{where}: says nothing of {', '.join(missing)}", "give an empty list where it is not stated")
    cells = {}
    for move in moves:
        value = stated[move]
        text, numbers = "", value
        if isinstance(value, Mapping):
            text, numbers = str(value.get("text") or ""), value.get("sentences")
        elif isinstance(value, str):
            text, numbers = value, None
        if numbers is not None and not (isinstance(numbers, list) and all(type(n) is int for n in numbers)):
            raise InputError(f"{where}: the sentences of {move} are no list of numbers", "count sentences from 1")
        if numbers or (text.strip() and numbers is None):
            cells[move] = Cell(writable(text), tuple(numbers) if numbers else None)
    return cells


def _sentences(value: object, where: str) -> tuple[str, ...] | None:
    """The row's own sentences, None where it has none. Raises InputError where the list holds anything else."""
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise InputError(f"{where}: its sentences are no list of texts", "leave them out to have them found")
    return tuple(map(writable, value))


def _decided(value: object, moves: Sequence[str], where: str) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(name in moves for name in value):
        raise InputError(f"{where}: `reviewed` is no list of moves", f"the moves are {', '.join(moves)}")
    return None if len(set(value)) == len(moves) else frozenset(value)


@dataclass(frozen=True)
class MoveColumns:
    """Where a table keeps each move: the column of its text, and that of its sentence numbers or None."""

    columns: Mapping[str, tuple[str, str | None]]

    @classmethod
    def of(cls, fieldnames: Sequence[str], moves: Sequence[str], name: str) -> MoveColumns:
        """Find the columns by name. Raises InputError where a move has none, or a column is that of no move."""
        texts = {move: _last(fieldnames, move) for move in moves}
        if missing := [move for move, column in texts.items() if column is None]:
            near = difflib.get_close_matches(missing[0], [column for column in fieldnames if column not in moves], 1, 0.75)
            remedy = f"is it {shown(near[0])!r}? rename it" if near else "give a table that /annotate saved"
            raise InputError(f"{name}: has no column for {', '.join(missing)}", remedy)
        for column in fieldnames:
            owner = column.removesuffix("_sentences")
            known = owner in moves or fold(owner) in ("abstract", "title")
            if owner != column and owner in fieldnames and not known:
                raise InputError(f"{name}: there is no move {shown(owner)!r}", f"the moves are {', '.join(moves)}")
        return cls({move: (text, _last(fieldnames, f"{move}_sentences")) for move, text in texts.items() if text})

    def cells(self, row: Mapping[str, str], where: str) -> dict[str, Cell]:
        """The moves that a row states. Raises InputError for sentence numbers that are none."""
        cells = {}
        for move, (text_column, numbers_column) in self.columns.items():
            text, written = row[text_column], row[numbers_column] if numbers_column else ""
            if written and (numbers := parse_numbers(written, where)):
                cells[move] = Cell(text, numbers)
            elif text and not text.isspace():
                cells[move] = Cell(text)
        return cells


def _last(fieldnames: Sequence[str], name: str) -> str | None:
    """The column ``name``, or the last of ``name_2``, ``name_3`` …: what /annotate adds gives way to the input's own."""
    own = re.compile(rf"{re.escape(name)}(?:_\d+)?", re.IGNORECASE)
    return next((column for column in reversed(fieldnames) if own.fullmatch(column.strip())), None)


def parse_numbers(text: str, where: str) -> tuple[int, ...]:
    """``5;7`` as numbers. Raises InputError.

    >>> parse_numbers("5; 7", "here")
    (5, 7)
    """
    try:
        return _parsed_numbers(text)
    except ValueError:
        raise InputError(f"{where}: {shown(text)!r} is no list of sentence numbers", _NUMBERS) from None


@lru_cache(4096)
def _parsed_numbers(text: str) -> tuple[int, ...]:
    """A million papers have few different lists of sentences."""
    return tuple(int(part) for part in text.replace(",", ";").split(";") if part.strip())


def table_rows(table: Table, moves: Sequence[str]) -> Iterator[Row | InputError]:
    """The rows of a table. Raises InputError for wrong columns; a wrong row comes as the InputError that says why."""
    columns = MoveColumns.of(table.fieldnames, moves, table.name)
    abstract, title, identity = (find(table.fieldnames, meaning) for meaning in ("abstract", "title", "id"))
    if abstract is None:
        raise InputError(f"{table.name}: no column holds the abstract", "give a table with a column `abstract`")
    place = f"{table.name} row"
    for record in table.records():
        try:
            yield _table_row(record, place, columns, (abstract, title, identity))
        except InputError as error:
            yield error


def _table_row(record: Record, place: str, columns: MoveColumns, known: tuple[str, str | None, str | None]) -> Row:
    if record.error:
        raise InputError(record.error, "correct the file")
    row, (abstract, title, identity) = record.row, known
    where = f"{place} {record.number}"
    status = row.get("annotation_status", "")
    return Row(
        place,
        record.number,
        _identity(row[identity]) if identity else "",
        " ".join(row[title].split()) if title else "",
        row[abstract],
        written=row.get("sentences", ""),
        cells=columns.cells(row, where),
        problem=FAILED if status == "error" else PARTIAL if status == "partial" else None,
    )


def written_sentences(cell: str, abstract: str) -> tuple[str, ...] | None:
    """Sentences that an input of JSON lines had, as they stand in the table that /annotate made of it.

    /annotate used them where they stand in the abstract, and so must we; else its numbers count the splitter's.
    """
    if not cell.startswith("["):
        return None
    try:
        value = json.loads(cell)
    except ValueError:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item.strip() for item in value):
        return None
    if " ".join(value) == abstract:  # as a rule
        return tuple(value)
    position = 0
    for sentence in value:
        at = abstract.find(sentence, position)
        if at < 0:
            return None
        position = at + len(sentence)
    return tuple(value)
