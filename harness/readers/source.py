"""What every reader hands back, and the table that most of them go through first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.readers.paper import Paper

MOST_REMARKS = 4
"""So many different remarks on several files are told in their one line."""


@dataclass
class PaperSource:
    """Papers of one input. ``papers`` can be walked once and reads as it goes.

    ``kind`` is one of csv, tsv, jsonl, json, parquet, bibtex, tagged, pdf, text, stdin, arxiv, typed, topic, or ``mixed``
    for several files of different kinds. ``fieldnames`` are the input's own columns in order; empty where it has none.
    ``total`` is the number of papers where it is cheap to know. ``notes`` are one-line remarks for the user; counts
    (rows without an abstract, ids that occur twice) join them when ``papers`` has been walked to its end.
    """

    name: str
    kind: str
    papers: Iterator[Paper]
    fieldnames: tuple[str, ...] = ()
    total: int | None = None
    notes: list[str] = field(default_factory=list)
    files: int = 1
    """How many files it was made of; none counts as one."""

    def remarks(self, *, verbose: bool = False) -> list[str]:
        """The notes as they are shown: those on several files as one line, unless all are wanted."""
        return self.notes if verbose or self.files < 2 or len(self.notes) < 2 else [self._summary()]

    def _summary(self) -> str:
        """Each remark without its file and how many files it was made of; rows are added up."""
        files, rows = Counter[str](), Counter[str]()
        for note in self.notes:
            remark = note.partition(": ")[2] or note
            if counted := re.match(r"(\d+) rows? ", remark):
                rows[remark[counted.end() :]] += int(counted[1])
            else:
                files[remark] += 1
        parts = [f"{remark} ({count} file{'s' * (count > 1)})" for remark, count in files.most_common()]
        parts += [f"{count} row{'s' * (count > 1)} {remark}" for remark, count in rows.items()]
        more = f"; {len(parts) - MOST_REMARKS} other remarks" if len(parts) > MOST_REMARKS else ""
        return f"{self.name}: {'; '.join(parts[:MOST_REMARKS])}{more} (-v tells which)"


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
