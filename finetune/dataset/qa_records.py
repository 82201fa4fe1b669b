"""Records of QASA and QASPER as pairs: what each field is, and one line for a record that is not as documented.

QASA: ``{"0": {"paper_id", "title", "question_id", "question", "evidential_info": [{"context", "rationale"}], "composition",
"arxiv_id", …}, …}``; a record without evidence, or with ``"answerable": false``, is a question that the paper does not
answer.

QASPER: ``{"ARXIV ID": {"title", "full_text": [{"section_name", "paragraphs"}], "qas": [{"question", "question_id",
"answers": [{"answer": {"unanswerable", "extractive_spans", "yes_no", "free_form_answer", "evidence",
"highlighted_evidence"}}]}]}, …}``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.dataset.qa_rows import Pair
from harness.errors import InputError
from harness.readers.text import shown, writable

LARGEST = 512 * 1024 * 1024
"""Bytes of a file, which is read whole."""
FIGURE = "FLOAT SELECTED:"
"""How QASPER marks evidence that is a table or a figure: its text is only the caption."""


class _Bad(Exception):
    """A record that is not as documented; the text says why."""


def read(path: Path, *, by_context: bool, skip_bad: bool, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of a file, whichever of the two it is; what is left out is counted by reason.

    Raises InputError for a file that is neither, and for a bad record unless ``skip_bad``.
    """
    for name, record in _records(path):
        try:
            if isinstance(record, Mapping) and "qas" in record:
                yield from _qasper(name, record, by_context, left_out)
            elif (pair := _qasa(name, record, by_context)) is not None:
                yield pair
            else:
                left_out["neither evidence nor answer"] += 1
        except _Bad as error:
            if not skip_bad:
                remedy = "give QASA or QASPER as it is published, or --skip-bad"
                raise InputError(f"{path}: record {shown(name)}: {error}", remedy) from None
            left_out[str(error)] += 1


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """The records with their keys, or the numbers of their lines."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: has more than {LARGEST >> 20} MB", "split it")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: cannot be read", "give a JSON file of QASA or QASPER") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        yield from _lines(path, text)
        return
    if isinstance(data, Mapping) and "question" in data:  # JSON Lines of a single record
        yield "1", data
    elif isinstance(data, Mapping):
        yield from ((str(key), value) for key, value in data.items())
    elif isinstance(data, list):
        yield from ((str(number), value) for number, value in enumerate(data, 1))
    else:
        raise InputError(f"{path}: holds no records", "give a JSON file of QASA or QASPER")


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield str(number), json.loads(line)
            except (ValueError, RecursionError):
                message = f"{path}: line {number} is no JSON"
                raise InputError(message, "give a JSON file of QASA or QASPER") from None


def _qasa(name: str, record: Any, by_context: bool) -> Pair | None:
    """A record of QASA; None where it has neither evidence nor an answer."""
    if not isinstance(record, Mapping):
        raise _Bad("is no object")
    question, answer = _text(record, "question"), _text(record, "composition")
    evidence = record.get("evidential_info")
    if not isinstance(evidence, list) or not all(isinstance(one, Mapping) for one in evidence):
        raise _Bad("'evidential_info' is no list of objects")
    if not question:
        raise _Bad("'question' is empty")
    contexts = tuple(dict.fromkeys(context for one in evidence if (context := _text(one, "context"))))
    rationales = [rationale for one in evidence if (rationale := _text(one, "rationale"))]
    if not answer and not contexts:
        return None
    if contexts and not answer:
        raise _Bad("'composition' is empty")
    answered = bool(contexts) and record.get("answerable") is not False
    paper = str(record.get("arxiv_id") or record.get("paper_id") or record.get("title") or name)
    return Pair(
        id=f"qasa-{paper}-{record.get('question_id', name)}-{name}",
        question=question,
        reasoning=" ".join(contexts if by_context else rationales or contexts) if answered else answer,
        answer=answer,
        contexts=contexts,
        paper=paper,
        title=_text(record, "title"),
        source="QASA",
        answered=answered,
    )


def _qasper(name: str, paper: Mapping[str, Any], by_context: bool, left_out: Counter[str]) -> Iterator[Pair]:
    """The questions of a paper of QASPER, each with its first annotator's answer."""
    questions = paper["qas"]
    if not isinstance(questions, list) or not all(isinstance(one, Mapping) for one in questions):
        raise _Bad("'qas' is no list of objects")
    for asked in questions:
        question, answers = _text(asked, "question"), asked.get("answers")
        if not question or not isinstance(answers, list) or not answers or not isinstance(answers[0], Mapping):
            raise _Bad("a question without text or answers")
        given = answers[0].get("answer")
        if not isinstance(given, Mapping):
            raise _Bad("an answer that is no object")
        contexts = tuple(text for text in _texts(given, "evidence") if not text.startswith(FIGURE))
        answered = not given.get("unanswerable")
        if answered and not contexts:
            left_out["its evidence is a table or a figure"] += 1
            continue
        marked = [text for text in _texts(given, "highlighted_evidence") if not text.startswith(FIGURE)]
        reasoning = " ".join(contexts if by_context else marked or contexts)
        yield Pair(
            id=f"qasper-{name}-{asked.get('question_id') or question}",
            question=question if question.endswith("?") else f"{question}?",
            reasoning=reasoning if answered else "The paper does not say.",
            answer=_qasper_answer(given) if answered else "The paper does not answer this.",
            contexts=contexts if answered else (),
            paper=name,
            title=_text(paper, "title"),
            source="QASPER",
            answered=answered,
        )


def _qasper_answer(given: Mapping[str, Any]) -> str:
    free, spans, verdict = _text(given, "free_form_answer"), _texts(given, "extractive_spans"), given.get("yes_no")
    if free:
        return free
    if spans:
        return "; ".join(spans)
    if isinstance(verdict, bool):
        return "Yes." if verdict else "No."
    raise _Bad("an answer that is empty")


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise _Bad(f"{name!r} is no text")
    return writable(value or "").strip()


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    value = record.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _Bad(f"{name!r} is no list of texts")
    return [text for one in value if (text := writable(one).strip())]
