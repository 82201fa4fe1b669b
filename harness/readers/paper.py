"""The one record that every reader yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Paper:
    """One paper as a reader found it.

    ``abstract`` is the text as given, not cleaned: spans of an annotation point into it. ``row`` holds the input's own
    columns in their order, for outputs that repeat them. ``error`` says why a row cannot be used; such a row is kept.
    """

    id: str
    title: str
    abstract: str
    source: str
    """The file (or ``stdin``, ``arXiv``, ``typed``) it came from."""
    number: int
    """Row or entry in the source, from 1."""
    sentences: tuple[str, ...] | None = None
    """The input's own sentences, where it has them; they are used as they are."""
    row: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
