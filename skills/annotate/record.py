"""The annotation record of DESIGN.md, made from a draft and the spans of its sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import MarginaliaError
from harness.models.base import ModelInfo
from harness.readers.paper import Paper
from harness.sentences import Sentence, locate, split
from skills.annotate.annotator import Cell, Draft
from skills.annotate.moves import Framework

Record = dict[str, Any]


def sentences_of(paper: Paper) -> list[Sentence]:
    """The paper's sentences: the input's own where they stand in the abstract, else split."""
    own = locate(paper.abstract, paper.sentences) if paper.sentences else None
    return own or split(paper.abstract)


def moves_of(draft: Draft, sentences: Sequence[Sentence], framework: Framework) -> dict[str, Any]:
    """The ``moves`` part of a record, with verbatim quotes (or the written prose) and spans."""
    moves: dict[str, Any] = {}
    for name in framework.names:
        cell = draft.cells.get(name, Cell())
        if not cell.sentences:
            moves[name] = None
            continue
        chosen = [sentences[number - 1] for number in cell.sentences]
        move: dict[str, Any] = {
            "text": cell.text or " ".join(sentence.text for sentence in chosen),
            "sentences": cell.sentences,
            "spans": [[sentence.start, sentence.end] for sentence in chosen],
        }
        if cell.confidence is not None:
            move["confidence"] = cell.confidence
        moves[name] = move
    return moves


def result_of(draft: Draft, sentences: Sequence[Sentence], framework: Framework) -> Record:
    """What the journal keeps of one abstract: all that follows from its text, nothing that belongs to the row."""
    absent = {
        name: cell.confidence for name, cell in draft.cells.items() if not cell.sentences and cell.confidence is not None
    }
    return {
        "moves": moves_of(draft, sentences, framework),
        "absent": absent,
        "problem": draft.problem,
        "usage": [draft.prompt_tokens, draft.completion_tokens, draft.context_used],
    }


def record_of(
    paper: Paper, outcome: Record | MarginaliaError | None, info: ModelInfo, style: str, framework: Framework
) -> Record:
    """The record of one row; ``outcome`` is the journal's result, the error that stopped it, or None when not reached.

    ``absent`` gives for each move that is not stated how sure that is; ``sentences`` are the input's own, if any.
    """
    record: Record = {"id": paper.id, "title": paper.title, "status": "ok"}
    error: str | None = None
    if isinstance(outcome, Mapping):
        record["moves"] = outcome["moves"]
        if outcome["absent"]:
            record["absent"] = outcome["absent"]
        if outcome["problem"]:
            record["status"], error = "partial", outcome["problem"]
    else:
        record["moves"] = dict.fromkeys(framework.names)
        record["status"] = "error"
        error = str(outcome) if outcome is not None else "not reached"
    record |= {"style": style, "model": info.record(), "error": error, "abstract": paper.abstract}
    if paper.sentences:
        record["sentences"] = list(paper.sentences)
    return record
