"""Decisions of a person about annotations, kept as gold rows that the data-set builder reads.

A gold row is one paper: ``{"id", "title", "abstract", "sentences", "moves": {move: [numbers]}, "reviewed": [moves],
"annotators": 1}``, sentence numbers from 1, best first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.annotation_files import are_numbers, read_annotations, rows
from harness.annotation_tables import confidence
from harness.errors import InputError
from harness.outputs import atomic_write
from harness.sentences import Sentence, locate, split

UNKNOWN = 0.5
"""Where a cell whose model gave no confidence stands in the queue: neither first nor last."""

Key = tuple[str, str]
"""Which paper it is: its id and abstract, for inputs may use an id twice."""


@dataclass(frozen=True)
class Question:
    """One cell to decide: a move of a paper, with the annotation's proposal."""

    row: int
    move: str
    proposal: tuple[int, ...]
    confidence: float | None


def read(path: Path) -> list[dict[str, Any]]:
    """The annotation records of a file that can be reviewed. Raises InputError naming file, paper and remedy."""
    records = [record for record in read_annotations(path) if record.get("status") != "error"]
    for record in records:
        where = f"{path}: {record['id']}"
        if not isinstance(record.get("abstract"), str):
            raise InputError(f"{where} has no abstract", "give a .jsonl that /annotate saved")
        count = len(numbered(record))
        for move, cell in record["moves"].items():
            if cell and max(cell["sentences"], default=0) > count:
                raise InputError(f"{where}: {move} rests on a sentence that is not there", "annotate the paper again")
    return records


def queue(records: Sequence[Mapping[str, Any]], gold: Mapping[Key, Mapping[str, Any]]) -> list[Question]:
    """All cells that nobody has decided yet, least confident first."""
    questions = []
    for row, record in enumerate(records):
        done = set(gold.get(key_of(record), {}).get("reviewed", ()))
        for move, cell in record["moves"].items():
            if move not in done:
                questions.append(Question(row, move, tuple(cell["sentences"]) if cell else (), confidence(record, move)))
    return sorted(questions, key=lambda question: UNKNOWN if question.confidence is None else question.confidence)


def key_of(row: Mapping[str, Any]) -> Key:
    """The paper of an annotation record or gold row."""
    return str(row["id"]), str(row["abstract"])


class GoldFile:
    """The gold rows of one file; every decision is on disk when ``decide`` returns."""

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that is there and holds something else."""
        self.path = path
        self.rows: dict[Key, dict[str, Any]] = {}
        if path.exists() and path.stat().st_size:
            for where, row in rows(path):
                if not _is_gold(row):
                    raise InputError(f"{where}: is no gold row of a review", "name another file with --gold")
                self.rows[key_of(row)] = row

    def decide(self, record: Mapping[str, Any], move: str, numbers: Sequence[int]) -> None:
        """Keep one decision; an empty list says that the move is not stated."""
        row = self.rows.setdefault(key_of(record), new_row(record))
        row["moves"][move] = list(numbers)
        row["reviewed"] = list(dict.fromkeys([*row["reviewed"], move]))
        self._write()

    def undo(self, record: Mapping[str, Any], move: str) -> bool:
        """Take a decision back; False where there is none."""
        row = self.rows.get(key_of(record))
        if row is None or move not in row["reviewed"]:
            return False
        row["reviewed"].remove(move)
        row["moves"][move] = new_row(record)["moves"].get(move, [])
        self._write()
        return True

    def _write(self) -> None:
        with atomic_write(self.path) as handle:
            for row in self.rows.values():
                if row["reviewed"]:
                    handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def _is_gold(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("id"), str)
        and isinstance(row.get("abstract"), str)
        and isinstance(row.get("reviewed"), list)
        and isinstance(row.get("moves"), dict)
        and all(map(are_numbers, row["moves"].values()))
    )


def new_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A gold row that starts from the annotation's proposals."""
    moves = {move: list(cell["sentences"]) if cell else [] for move, cell in record["moves"].items()}
    return {
        "id": record["id"],
        "title": record.get("title", ""),
        "abstract": record["abstract"],
        "sentences": [sentence.text for sentence in numbered(record)],
        "moves": moves,
        "reviewed": [],
        "annotators": 1,
    }


def numbered(record: Mapping[str, Any]) -> list[Sentence]:
    """The sentences that the record's numbers count: the input's own where it had them."""
    own = record.get("sentences")
    usable = isinstance(own, list) and all(isinstance(sentence, str) for sentence in own)
    return (locate(record["abstract"], own) if own and usable else None) or split(record["abstract"])


def parse_numbers(text: str, count: int) -> list[int] | None:
    """Sentence numbers as typed (``3 5`` or ``3,5``); None where one of them is not from 1 to ``count``."""
    parts = text.replace(",", " ").replace(";", " ").split()
    if not all(part.isdecimal() and 1 <= int(part) <= count for part in parts):
        return None
    return list(dict.fromkeys(int(part) for part in parts))
