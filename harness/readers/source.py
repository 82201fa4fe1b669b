"""What every reader hands back, and the table that most of them go through first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.readers.paper import Paper


@dataclass
class PaperSource:
    """Papers of one input. ``papers`` can be walked once and reads as it goes.

    ``kind`` is one of csv, tsv, jsonl, json, parquet, bibtex, pdf, text, stdin, arxiv, typed, topic, or ``mixed`` for
    several files of different kinds. ``fieldnames`` are the input's own columns in order; empty where it has none.
    ``total`` is the number of papers where it is cheap to know. ``notes`` are one-line remarks for the user; counts
    (rows without an abstract, ids that occur twice) join them when ``papers`` has been walked to its end.
    """

    name: str
    kind: str
    papers: Iterator[Paper]
    fieldnames: tuple[str, ...] = ()
    total: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """One row of a table before it is known which column means what. ``error`` says why it could not be read."""

    number: int
    row: Mapping[str, str]
    sentences: object = None
    """The raw value of a ``sentences`` key, where the format can hold a list."""
    error: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows under named columns. ``records`` starts from the top at every call."""

    name: str
    kind: str
    fieldnames: tuple[str, ...]
    records: Callable[[], Iterator[Record]]
    total: int | None = None
