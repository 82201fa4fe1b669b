"""Annotated papers for the tests of the data-set builder, written for this project, in every shape that it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.outputs import write_records
from harness.sentences import split
from skills.annotate.moves import load_framework

MOVES = load_framework().names
SUBJECTS = (
    "sorting of river stones by rolling robots",
    "forgetting in memories of talking agents",
    "colouring of sparse graphs that arrive late",
    "translation between two invented dialects",
    "auditing of wide tables by short questions",
    "prediction of tides from old harbour logs",
    "compression of maps for slow radios",
    "scheduling of shared telescopes at dusk",
    "repair of torn scans of handwritten scores",
    "counting of swifts in noisy recordings",
    "planning of bus routes in hilly towns",
    "proofs of termination for tiny programs",
)


def abstract(number: int) -> str:
    """Five sentences about a subject, different for every number."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return (
        f"Much has been written about the {subject}. "
        f"We introduce Method{number}, a new procedure for the {subject}. "
        f"It splits each case into {number + 2} parts and joins them by weighted votes. "
        f"On {number + 3} data sets it is {number + 5}% better than earlier methods for the {subject}. "
        f"It fails where fewer than {number + 7} cases are known."
    )


def numbers(number: int) -> dict[str, list[int]]:
    """Sentence numbers of every move, best first; they differ a little between papers."""
    stated = {"claim": [2], "evidence": [4], "method": [3, 2] if number % 2 else [3], "comparison": [4, 1]}
    stated |= {"limitation": [5], "novelty": [2]} if number % 3 else {"novelty": [2]}
    return {move: stated.get(move, []) for move in MOVES}


def arxiv_id(number: int, version: int = 0) -> str:
    """An id that looks like arXiv's."""
    return f"2401.{number:05d}" + (f"v{version}" if version else "")


def gold(number: int, **changes: Any) -> dict[str, Any]:
    """A gold row as in the project's gold JSONL."""
    text = abstract(number)
    row = {
        "arxiv_id": arxiv_id(number),
        "title": f"On the {SUBJECTS[number % len(SUBJECTS)]}, part {number}",
        "abstract": text,
        "sentences": [sentence.text for sentence in split(text)],
        "moves": numbers(number),
    }
    return row | changes


def record(number: int, moves: Mapping[str, Sequence[int]] | None = None, **changes: Any) -> dict[str, Any]:
    """An annotation record as /annotate writes it."""
    row = gold(number)
    sentences = split(row["abstract"])
    stated: dict[str, Any] = {}
    for move, chosen in (moves or row["moves"]).items():
        spans = [sentences[n - 1] for n in chosen]
        text = " ".join(span.text for span in spans)
        cell = {"text": text, "sentences": list(chosen), "spans": [[span.start, span.end] for span in spans]}
        stated[move] = cell if chosen else None
    made = {
        "id": row["arxiv_id"],
        "title": row["title"],
        "status": "ok",
        "moves": stated,
        "style": "quote",
        "model": {"name": "tiny", "backend": "embedded", "digest": None},
        "error": None,
        "abstract": row["abstract"],
    }
    return made | changes


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """Values as JSON lines; strings as they are, to write broken ones."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Records as the CSV that /annotate writes for an input with arxiv_id, title and abstract, by its own writer."""
    rows = [{"arxiv_id": r["id"], "title": r["title"], "abstract": r["abstract"]} for r in records]
    write_records(path, list(records), moves=MOVES, rows=rows, fieldnames=("arxiv_id", "title", "abstract"))
    return path
