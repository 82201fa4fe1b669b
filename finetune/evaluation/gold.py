"""Gold papers from whatever the data-set builder reads: gold rows, decisions of a review, CSV as ``/annotate`` writes it.

A gold paper is a mapping with ``id``, ``title``, ``abstract``, ``sentences``, ``moves`` (move → sentence numbers from 1,
best first, empty where it is not stated) and ``judged``, the moves that somebody decided: only those are scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune.dataset.contracts import NOTHING, UNREADABLE, Unusable, labelled, sentences_of
from finetune.dataset.inputs import Abstracts, open_input
from finetune.dataset.rows import Row
from harness.errors import InputError
from harness.sentences import locate
from skills.annotate.moves import Framework

Gold = dict[str, Any]


def read_gold(
    path: Path, framework: Framework, *, limit: int = 0, abstracts: Sequence[str] = (), offline: bool = True
) -> tuple[list[Gold], list[str]]:
    """The gold papers of a file, the first ``limit`` of them (0: all), and remarks for the user, a line each.

    Rows whose annotation failed are left out. A move whose text is found in no sentence is not judged. ``abstracts`` names
    where labels without abstracts (``data/gold_labels.csv``) find theirs. Raises InputError naming file, row and remedy; a
    file without papers is one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", "give gold as .csv or .jsonl")
    papers: list[Gold] = []
    notes: Counter[str] = Counter()
    found = open_input("gold", path, framework.names, Abstracts([Path(name) for name in abstracts], offline=offline))
    for row in found.rows(lambda size: None):
        if isinstance(row, InputError):
            raise row
        if row.problem:
            notes[f"rows left out: {row.problem}"] += 1
            continue
        paper = _paper(row, framework, len(papers) + 1, notes)
        if paper:
            papers.append(paper)
        if limit and len(papers) == limit:
            break
    if not papers:
        raise InputError(f"{path}: holds no gold papers", "give rows with an abstract and labels of moves")
    return papers, [f"{path}: {count} {what}" for what, count in notes.items()]


def _paper(row: Row, framework: Framework, number: int, notes: Counter[str]) -> Gold | None:
    """One gold paper; None where there is nothing to annotate."""
    sentences = sentences_of(row)
    row = replace(row, sentences=sentences)
    moves: dict[str, list[int]] = {}
    judged = [move for move in framework.names if row.decided is None or move in row.decided]
    for move in framework.names:
        cells = {move: row.cells[move]} if move in row.cells else {}
        try:
            answer = labelled(replace(row, cells=cells), framework, "mark").answer
            moves[move] = answer[move][1]
        except Unusable as error:
            if str(error) == UNREADABLE:
                notes[f"rows left out: {error}"] += 1
                return None
            moves[move] = []
            if str(error) != NOTHING:
                judged = [name for name in judged if name != move]
                notes[f"cells not scored: {error}"] += 1
    texts = list(sentences)
    abstract = row.abstract if locate(row.abstract, texts) else " ".join(texts)
    identity = row.id or f"row-{number}"
    return {
        "id": identity,
        "title": row.title,
        "abstract": abstract,
        "sentences": texts,
        "moves": moves,
        "judged": judged,
    }
