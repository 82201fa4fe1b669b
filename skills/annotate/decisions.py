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

from harness.errors import InputError
from harness.outputs import atomic_write
from harness.sentences import Sentence, split

UNKNOWN = 0.5
"""Confidence of a cell whose model gave none: neither first nor last in the queue."""


@dataclass(frozen=True)
class Question:
    """One cell to decide: a move of a paper, with the annotation's proposal."""

    row: int
    move: str
    proposal: tuple[int, ...]
    confidence: float


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """Annotation records of a .jsonl or .json file. Raises InputError naming file, row and remedy."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "give a .jsonl that /annotate saved") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text", "give a .jsonl that /annotate saved") from None
    records: list[Any] = []
    try:
        whole = json.loads(text)
        records = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}: row {number} is no JSON ({error.msg})", "save it again") from None
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not isinstance(record.get("moves"), dict) or "abstract" not in record:
            raise InputError(f"{path}: row {number} is no annotation record", "give a .jsonl that /annotate saved")
    return records


def queue(records: Sequence[Mapping[str, Any]], gold: Mapping[str, Mapping[str, Any]]) -> list[Question]:
    """All cells that nobody has decided yet, least confident first."""
    questions = []
    for row, record in enumerate(records):
        if record.get("status") == "error":
            continue
        done = set(gold.get(str(record["id"]), {}).get("reviewed", ()))
        for move, cell in record["moves"].items():
            if move in done:
                continue
            proposal = tuple(cell["sentences"]) if cell else ()
            sure = cell.get("confidence") if cell else (record.get("absent") or {}).get(move)
            questions.append(Question(row, move, proposal, UNKNOWN if sure is None else float(sure)))
    return sorted(questions, key=lambda question: question.confidence)


class GoldFile:
    """The gold rows of one file; every decision is on disk when ``decide`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            for row in read_annotations(path):
                self.rows[str(row["id"])] = row

    def decide(self, record: Mapping[str, Any], move: str, numbers: Sequence[int]) -> None:
        """Keep one decision; an empty list says that the move is not stated."""
        row = self.rows.setdefault(str(record["id"]), new_row(record))
        row["moves"][move] = list(numbers)
        row["reviewed"] = list(dict.fromkeys([*row["reviewed"], move]))
        self._write()

    def undo(self, record: Mapping[str, Any], move: str) -> None:
        """Take a decision back."""
        row = self.rows.get(str(record["id"]))
        if row and move in row["reviewed"]:
            row["reviewed"].remove(move)
            row["moves"][move] = new_row(record)["moves"].get(move, [])
            self._write()

    def _write(self) -> None:
        with atomic_write(self.path) as handle:
            for row in self.rows.values():
                if row["reviewed"]:
                    handle.write(json.dumps(row, ensure_ascii=False) + "\n")


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
    """The sentences that the record's numbers count."""
    return split(record["abstract"])


def parse_numbers(text: str, count: int) -> list[int] | None:
    """Sentence numbers as typed (``3 5`` or ``3,5``); None where one of them is not from 1 to ``count``."""
    parts = text.replace(",", " ").replace(";", " ").split()
    if not all(part.isdecimal() and 1 <= int(part) <= count for part in parts):
        return None
    return list(dict.fromkeys(int(part) for part in parts))
