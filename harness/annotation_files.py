"""Annotation records read back from a file that /annotate or the corpus wrote, each one checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.readers.text import Text, from_path

_REMEDY = "give a .jsonl or .json that /annotate saved"


def read_annotations(path: Path) -> Iterator[dict[str, Any]]:
    """The annotation records of a .jsonl or .json file. Raises InputError naming file, line and remedy."""
    for where, value in rows(path):
        if problem := problem_with(value):
            raise InputError(f"{where}: {problem}", _REMEDY)
        yield value


def rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a file of JSON lines, or of one JSON list, and where each stands. Raises InputError."""
    text = from_path(path, [])
    first = next((line for line in text.lines() if line.strip()), "")
    if first.lstrip().startswith("["):
        for number, value in enumerate(_parse(text.whole(), text.name), 1):
            yield f"{text.name} entry {number}", value
        return
    yield from _from_lines(text)


def _from_lines(text: Text) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.lines(), 1):
        if line.strip():
            where = f"{text.name} line {number}"
            yield where, _parse(line, where)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: is no JSON", _REMEDY) from None


def problem_with(record: object) -> str | None:
    """Why something is no annotation record; None where it is one."""
    if not isinstance(record, Mapping):
        return "is no JSON object"
    if not isinstance(record.get("id"), str) or not record["id"].strip():
        return "has no id"
    moves = record.get("moves")
    if record.get("status") == "error":
        return None
    if not isinstance(moves, Mapping):
        return "has no moves"
    for name, move in moves.items():
        if move is None:
            continue
        if not isinstance(move, Mapping) or not isinstance(move.get("text"), str):
            return f"has a move {name!r} without a text"
        if not are_numbers(move.get("sentences")):
            return f"has a move {name!r} whose sentences are no numbers"
    return None


def are_numbers(value: object) -> bool:
    """Whether this is a list of sentence numbers, which count from 1."""
    return isinstance(value, list) and all(type(number) is int and number > 0 for number in value)
