"""Small pure functions of the Qdrant store: numbers for terms and contents, payloads to chunks."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from harness.search.store import StoredChunk

AT_ONCE = 256
"""Points of one request."""


def stored_chunk(number: int, row: dict[str, Any]) -> StoredChunk:
    """A chunk from a point's payload."""
    keys = ("file", "title", "place", "paper", "header", "section", "page", "references", "text")
    spans = tuple((start, end, page) for start, end, page in row["sentences"])
    return StoredChunk(id=number, sentences=spans, **{key: row[key] for key in keys})


def is_value(models: Any, key: str, value: Any) -> Any:
    """The condition that a payload's field has a value; ``models`` is the client's module of that name."""
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def folders_of(path: str) -> Sequence[PurePosixPath | PureWindowsPath]:
    """The folders that a path lies in, the nearest first."""
    kind = PureWindowsPath if "\\" in path and "/" not in path else PurePosixPath
    return list(kind(path).parents)


def term_number(stem: str) -> int:
    """The number of a term; two terms of a corpus hardly ever share one."""
    return int.from_bytes(hashlib.blake2b(stem.encode(), digest_size=4).digest(), "big")


def uuid_of(text: str) -> str:
    """The id of a point that a text names."""
    return uuid_from_hash(hashlib.sha256(text.encode()).hexdigest()[:32])


def uuid_from_hash(digest: str) -> str:
    """The id of a point that 32 hexadecimal digits name."""
    return str(uuid.UUID(hex=digest))


def follows(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether the words of a phrase stand side by side."""
    size = len(phrase)
    return any(list(words[at : at + size]) == list(phrase) for at in range(len(words) - size + 1))


def slices(items: Sequence[Any]) -> Iterator[list[Any]]:
    """Items by as many as one request takes."""
    return (list(items[start : start + AT_ONCE]) for start in range(0, len(items), AT_ONCE))
