"""What a corpus of expansions says: how common a word is in them, and which words go with which queries.

Learned by counting from the training rows, never from an evaluation set; seconds for 100,000 rows, and nothing to store.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from finetune.rewards.qmd_text import detect_only_mode
from finetune.rewards.words import content_stems

UNKNOWN = 0.6
"""Weight of a word that the corpus does not know: it may be the right rare word, or nonsense."""
RARE, COMMON = 0.01, 0.04
"""Shares of the rows: a word in fewer than the first says much, in more than the second nothing, of any of them."""
FEW = 2
"""Rows that a word may always stand in: of a small corpus nothing can be learned about what is common."""
LIFT = 3.0
"""A word goes with one of a query when they stand together so many times more often than by chance."""


@dataclass(frozen=True)
class Background:
    """The rows (query and lines together) in which each stem stands, and the queries."""

    rows: int
    postings: dict[str, frozenset[int]]
    queries: frozenset[frozenset[str]]

    @classmethod
    def fit(cls, examples: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> Background:
        """Count ``(query, [(type, text), …])``. Raises ValueError where there are none."""
        postings: dict[str, set[int]] = {}
        queries: list[frozenset[str]] = []
        for number, (query, lines) in enumerate(examples):
            queries.append(query_stems(query))
            stems = {stem for _, text in lines for stem in content_stems(text)}
            for stem in stems | queries[-1]:
                postings.setdefault(stem, set()).add(number)
        if not queries:
            raise ValueError("a background needs at least one expansion")
        return cls(len(queries), {stem: frozenset(rows) for stem, rows in postings.items()}, frozenset(queries))

    def weight(self, stem: str) -> float:
        """How much a word says, 0 to 1, by the share of the rows that it stands in."""
        count = len(self.postings.get(stem, ()))
        if not count:
            return UNKNOWN
        if count <= max(FEW, RARE * self.rows):
            return 1.0
        return min(1.0, max(0.0, math.log(COMMON * self.rows / count) / math.log(COMMON / RARE)))

    def support(self, query: Collection[str], new: Collection[str]) -> float | None:
        """Share of the stems ``new`` that go with a stem of a query; None where the corpus knows none of the latter.

        Together more often than by chance is what makes association in pointwise mutual information (Church and Hanks
        1990); words of the query that stand in too many rows lead everywhere and are left out.
        """
        most = max(FEW, COMMON * self.rows)
        near = [rows for stem in query if (rows := self.postings.get(stem)) and len(rows) <= most]
        if not near or not new:
            return None
        together = 0
        for stem in new:
            rows = self.postings.get(stem, frozenset())
            chance = LIFT * len(rows) / self.rows
            together += any(len(rows & others) > chance * len(others) for others in near)
        return together / len(new)


def query_stems(query: str) -> frozenset[str]:
    """The content stems of a query without its ``/only:TYPE``: what makes it the same query as another.

    >>> query_stems("How to configure auth? /only:lex") == query_stems("auth configuration")
    True
    """
    return frozenset(content_stems(detect_only_mode(query)[1]))
