"""Questions with their evidence and answers, as ``finetune/eval.py ask`` is given them.

A file is QASA or QASPER as published (``finetune/dataset/qa_records.py``), or JSON lines of ours: ``question``, ``answer``,
``contexts`` (or ``evidence``: a text or a list of texts) and, where the papers do not answer it, ``"answered": false`` (or
``"answerable": false``); ``reasoning``, ``id``, ``paper`` and ``title`` are welcome. That is what ``qasa.py`` and
``synthesize_qa.py`` write with ``-o``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.dataset.qa_records import read
from finetune.dataset.qa_rows import Pair
from harness.errors import InputError
from harness.readers.text import from_path, writable

LONGEST = 2000
"""Characters of a question, as /ask takes it."""
_NEEDED = 'needed: "question", "answer", "contexts": [texts]; or "question" and "answered": false'


def read_questions(paths: Sequence[Path], *, limit: int = 0) -> tuple[list[Pair], list[str]]:
    """The questions of some files, the first ``limit`` of them (0: all), each once, and remarks for the user.

    Raises InputError naming file and line, or where there are none.
    """
    found: dict[tuple[str, str], Pair] = {}
    left_out: Counter[str] = Counter()
    for path in paths:
        for pair in _of_file(path, left_out):
            key = pair.paper, " ".join(pair.question.casefold().split())
            if key in found:
                left_out["asked twice"] += 1
            elif len(pair.question) > LONGEST:
                left_out[f"longer than {LONGEST:,} characters"] += 1
            else:
                found[key] = pair
    if not found:
        raise InputError(f"{paths[0]}: holds no questions", _NEEDED)
    remarks = [f"questions left out: {reason}: {count}" for reason, count in left_out.most_common()]
    return list(found.values())[: limit or None], remarks


def _of_file(path: Path, left_out: Counter[str]) -> list[Pair]:
    if not path.is_file():
        raise InputError(f"{path}: no such file", "give questions as .jsonl, or QASA or QASPER as .json")
    rows = _rows(path)
    if rows is None:
        return list(read(path, by_context=False, skip_bad=False, left_out=left_out))
    return [_pair(row, f"{path} line {number}", f"{path.name}:{number}") for number, row in rows]


def _rows(path: Path) -> list[tuple[int, Any]] | None:
    """The rows of a file of ours with the numbers of their lines; None where it is QASA or QASPER."""
    rows = list[tuple[int, Any]]()
    for number, line in enumerate(from_path(path, []).lines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if not rows:
                return None  # one object over many lines: its reader will say what is wrong with it
            raise InputError(f"{path} line {number}: is no JSON", "one JSON object a line") from None
        if not rows and (not isinstance(row, Mapping) or "question" not in row or "evidential_info" in row):
            return None
        rows.append((number, row))
    return rows


def _pair(row: Any, where: str, name: str) -> Pair:
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: is no JSON object", _NEEDED)
    question, answer = _text(row, "question", where), _text(row, "answer", where)
    contexts = _texts(row, where)
    answered = row.get("answered", row.get("answerable", bool(answer and contexts)))
    if not isinstance(answered, bool):
        raise InputError(f"{where}: 'answered' is neither true nor false", _NEEDED)
    if not question:
        raise InputError(f"{where}: 'question' is empty", _NEEDED)
    if answered and not (answer and contexts):
        lacking = "evidence" if answer else "answer"
        raise InputError(f"{where}: is answered and has no {lacking}", _NEEDED)
    return Pair(
        id=str(row.get("id") or name),
        question=question,
        reasoning=_text(row, "reasoning", where),
        answer=answer,
        contexts=contexts if answered else (),
        paper=str(row.get("paper") or row.get("title") or name),
        title=_text(row, "title", where),
        source=_text(row, "source", where),
        answered=answered,
    )


def _texts(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    given = row.get("contexts", row.get("evidence")) or []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: 'contexts' is no list of texts", _NEEDED)
    return tuple(dict.fromkeys(text for one in texts if (text := writable(one).strip())))


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: {name!r} is no text", _NEEDED)
    return writable(value or "").strip()
