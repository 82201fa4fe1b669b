"""The telling words of a question, stemmed as the index stems them and weighted by how rare they are there."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.search import sqlite_terms
from harness.search.bm25 import STOP_WORDS, parse

_WORD = re.compile(r"[^\W_]+")
PRIOR_CHUNKS, PRIOR_COUNT = 100, 1
"""Chunks that are thought to stand beside the index, and how many of them have any given word: in an index of one short
paper a word that it has would else weigh next to nothing, and one that it lacks nearly everything."""
ASKING = frozenset(
    "paper papers article articles author authors study studies researcher researchers work works please explain describe"
    " discuss summarize summarise tell say says said mean means compare compared comparison differ differs difference"
    " differences different example examples give list name any many much between use uses used using make makes made get"
    " gets do done whole".split()
)
"""Words that ask rather than say what about; they count only in a question that has no others."""


class Counting(Protocol):
    """The part of a store that knows how many chunks have a word."""

    def frequencies(self, words: Sequence[str]) -> tuple[int, list[int]]: ...


class Stemmer:
    """Texts to stems as the index makes them, so that what matches there matches here; safe from several threads."""

    def __init__(self) -> None:
        self._words = sqlite_terms.Stemmer()
        self._lock = threading.Lock()

    def stems(self, text: str) -> list[str]:
        """The stems of the words in a text that are no stop words, in their order.

        >>> Stemmer().stems("How is rye cut, and by whom were the fields cutting?")
        ['rye', 'cut', 'field', 'cut']
        """
        words = [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]
        with self._lock:
            return [stem or word for stem, word in zip(self._words.stems(words), words, strict=True)]


@dataclass(frozen=True)
class Terms:
    """The telling words of one question."""

    words: Mapping[str, str]
    """Stem to the word as it was asked, in the order of the question."""
    idf: Mapping[str, float]
    """Stem to its inverse document frequency in the index (Lucene's, always above 0)."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Each once, in the order of the question."""
        return tuple(self.words)

    @property
    def total(self) -> float:
        """The idf of all."""
        return sum(self.idf.values())

    def coverage(self, stems: Iterable[str]) -> float:
        """The share of the question's idf that these stems have, 0 to 1."""
        there = set(stems)
        return sum(value for stem, value in self.idf.items() if stem in there) / self.total if self.total else 0.0

    def missing(self, stems: Iterable[str]) -> list[str]:
        """The words of the question that these stems lack, the rarest first."""
        there = set(stems)
        lacking = [stem for stem in self.words if stem not in there]
        return [self.words[stem] for stem in sorted(lacking, key=lambda stem: -self.idf[stem])]


def terms_of(question: str, store: Counting, stemmer: Stemmer) -> Terms:
    """The telling words of a question, with their weights in this index. None for a question of stop words alone."""
    query = parse(question)
    found = [word for word in _WORD.findall(" ".join([*query.words, *query.phrases]).lower()) if word not in STOP_WORDS]
    telling = [word for word in found if word not in ASKING] or found
    words: dict[str, str] = {}
    for word in telling:
        words.setdefault("".join(stemmer.stems(word)), word)
    total, counts = store.frequencies(list(words.values()))
    return Terms(words, {stem: idf(count, total) for stem, count in zip(words, counts, strict=True)})


def idf(count: int, total: int) -> float:
    """Inverse document frequency (Lucene's, always above 0) of a word that ``count`` of ``total`` chunks have."""
    count, total = count + PRIOR_COUNT, total + PRIOR_CHUNKS
    return math.log(1 + (total - count + 0.5) / (count + 0.5))
