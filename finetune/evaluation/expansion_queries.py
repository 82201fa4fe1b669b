"""The queries that models of /expand are scored on: a text file with headings, and judged ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.dataset.expansion_schema import stem_of
from harness.errors import InputError, MarginaliaError
from harness.readers.text import from_path
from skills.expand.prompt import Query, parse_query

DEFAULT = Path(__file__).resolve().parent.parent / "evals" / "queries.txt"
"""Our own queries, in eleven categories."""
UNSORTED = "unsorted"
"""The category of queries before the first heading."""
_COMMENT = "#"
_HEADING = re.compile(r"#\s*category:\s*(.+)")


@dataclass(frozen=True)
class EvalQuery:
    """A query of an evaluation."""

    query: Query
    category: str = UNSORTED

    @property
    def text(self) -> str:
        """As a user would type it, with its ``/only:TYPE``."""
        return typed(self.query)


@dataclass(frozen=True)
class Judged:
    """A query with what a good expansion of it must keep, should find and must avoid."""

    query: Query
    kind: str
    must_keep: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]


def typed(query: Query) -> str:
    """A query as a user would type it."""
    return f"{query.text} /only:{','.join(query.only)}" if query.only else query.text


def read_queries(path: Path) -> list[EvalQuery]:
    """The queries of a text file, one a line, under headings ``# category: NAME``; other lines with # are comments.

    Raises InputError naming file and line where a query means nothing, stands there twice, or there is none.
    """
    found: dict[Query, EvalQuery] = {}
    category = UNSORTED
    for number, line in enumerate(from_path(path, []).lines(), 1):
        text = line.strip()
        if heading := _HEADING.fullmatch(text):
            category = heading[1].strip()
        elif text and text != _COMMENT and not text.startswith(f"{_COMMENT} "):
            query = _parsed(text, f"{path} line {number}")
            if query in found:
                raise InputError(f"{path} line {number}: {text!r} stands there twice", "leave one of them out")
            found[query] = EvalQuery(query, category)
    if not found:
        raise InputError(f"{path}: holds no queries", "write one a line, under headings '# category: NAME'")
    return list(found.values())


def read_judged(path: Path) -> list[Judged]:
    """Judged queries from JSONL: ``query``, ``must_keep``, ``good_terms``, ``bad_terms``, and maybe ``kind``.

    Raises InputError naming file and line.
    """
    found = []
    for number, line in enumerate(from_path(path, []).lines(), 1):
        if line.strip():
            where = f"{path} line {number}"
            row = _object(line, where)
            keep, good, bad = (_terms(row, key, where) for key in ("must_keep", "good_terms", "bad_terms"))
            found.append(Judged(_parsed(str(row.get("query", "")), where), str(row.get("kind", "")), keep, good, bad))
    if not found:
        raise InputError(f"{path}: holds no judged queries", "write one JSON object a line")
    return found


def in_training(queries: Iterable[EvalQuery], training: Iterable[str]) -> set[Query]:
    """The queries that ask the same as one of training, in other words' forms or order."""
    stems = {stem_of(text) for text in training}
    return {one.query for one in queries if stem_of(one.query.text) in stems}


def _parsed(text: str, where: str) -> Query:
    try:
        return parse_query(text)
    except MarginaliaError as error:
        raise InputError(f"{where}: {error}") from None


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise InputError(f"{where}: is no JSON object", "write one object a line")
    return row


def _terms(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value: Sequence[Any] | None = row.get(key)
    if not isinstance(value, list) or not all(isinstance(term, str) and term.strip() for term in value):
        raise InputError(f"{where}: {key} is no list of terms", f'for example "{key}": ["SWE-bench"]')
    return tuple(value)
