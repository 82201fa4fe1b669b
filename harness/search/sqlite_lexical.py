"""BM25 by FTS5 over large indexes: frequent terms score the chunks that rarer terms find, they do not find any themselves.

FTS5 scores every chunk in which any term of a query occurs, and in real questions some term occurs in a third of all
chunks. BM25 adds up over terms, and a frequent term adds little: a chunk without any of the rarer terms is hardly ever
among the best. This is the idea of MaxScore (Turtle and Flood, IPM 31, 1995), here with a fixed number of chunks to score
instead of its bounds, which would need more than FTS5 tells. Below that number the ranking is exact. The store takes the
exact way, too, where files are named, or where exclusions leave too little of what is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.search.bm25 import LexicalQuery, any_of

SCORED = 5000
"""About how many chunks are scored for a query, if the frequency of its terms allows it."""

MOST_KEPT = 10_000
"""Counts of terms that are kept."""

Count = Callable[[str, int], int]
"""An FTS5 query and a limit: how many chunks match, counted up to the limit."""


class Counts:
    """Counts of the terms of one index, kept until it changes: frequent words come in many questions, and counting them
    takes as long as finding them. Not safe from several threads by itself."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._state: object = None
        self._known: dict[str, tuple[int, int]] = {}
        """The count of each term and up to where it was counted."""

    def of(self, state: object) -> Counts:
        """The same, without what was counted in another state of the index."""
        if state != self._state or len(self._known) > MOST_KEPT:
            self._state, self._known = state, {}
        return self

    def __call__(self, match: str, most: int) -> int:
        """As ``Count``."""
        count, limit = self._known.get(match, (0, 0))
        if count == limit < most:  # not counted, or not far enough
            count = self._count(match, most)
            self._known[match] = count, most
        return min(count, most)


def matches(query: LexicalQuery, count: Count, least: int, scored: int = SCORED) -> list[str]:
    """FTS5 queries, one or two; a chunk's score is that of the first which it matches.

    The rarest terms find as many chunks as ``scored``, and at least ``least``. The first query scores those of them that
    have a frequent term, too, by all terms; the second one is for the others, which the rare ones score.
    """
    if not query.match:
        return []
    if query.phrases:
        return [query.match]  # they narrow it down already
    finding, others = divided(query.words, count, least, scored)
    found, more, unwanted = any_of(finding), any_of(others), any_of(query.without)
    if not found:
        return []
    by_rare = _without(found, unwanted)
    return [_without(f"({found}) AND ({more})", unwanted), by_rare] if more else [by_rare]


def divided(words: Sequence[str], count: Count, least: int, scored: int) -> tuple[list[str], list[str]]:
    """The words that find chunks, and the more frequent ones that only score; those that occur nowhere are left out."""
    counts = _counts([f'"{word}"' for word in words], count, least, scored)
    known = sorted((number, place) for place, number in enumerate(counts) if number)
    finding, total = 0, 0
    for number, _ in known:
        if total >= least and total + number > scored:
            break
        finding, total = finding + 1, total + number
    order = [words[place] for _, place in known]
    return order[:finding], order[finding:]


def _counts(terms: Sequence[str], count: Count, least: int, limit: int) -> list[int]:
    """In how many chunks each term occurs: exactly where it is at most ``limit``, which is raised until such terms
    suffice for ``least`` chunks. (More frequent ones need no order.)"""
    while True:
        counts = [count(term, limit + 1) for term in terms]
        if max(counts, default=0) <= limit or sum(number for number in counts if number <= limit) >= least:
            return counts
        limit *= 4


def _without(wanted: str, unwanted: str) -> str:
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted
