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

LIGHT = frozenset(
    "able again ago all almost already always another away back bad become becomes begin best better big bring call "
    "certain come comes common day days done early easy else end enough even ever far few find finds first full "
    "further general go goes good great half happen happens hard help helps high just keep kind know known large last "
    "late later least less let like likely little long look lot low main make many matter mean more most much must "
    "near need needs never new next now number often old once one only other others own part place possible put quite "
    "rather real really right same see seem seems several short show shown side simple since small sort soon still "
    "such sure take takes thing things think three time times together try turn two type usual usually various very "
    "want way ways well went without worse worst yet".split()
)
"""Words too common to be worth telling a reader that they are missing. They count in searches and scores all the same."""

ENOUGH_CHUNKS = 100
"""Of an index. In a smaller one a word that is nowhere is no surprise, and others weigh little beside it."""


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
    unknown: frozenset[str] = frozenset()
    """Stems that no chunk of the index has; none where the index is so small that this says nothing."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Each once, in the order of the question."""
        return tuple(self.words)

    @property
    def total(self) -> float:
        """The idf of all."""
        return sum(self.idf.values())

    @property
    def known(self) -> float:
        """The share of the question's idf that anything in the index has, 0 to 1; 0 for a question without words."""
        return self.coverage(self.words.keys() - self.unknown)

    def coverage(self, stems: Iterable[str]) -> float:
        """The share of the question's idf that these stems have, 0 to 1."""
        there = set(stems)
        return sum(value for stem, value in self.idf.items() if stem in there) / self.total if self.total else 0.0

    def missing(self, stems: Iterable[str]) -> list[str]:
        """The words of the question that these stems lack, the rarest first."""
        there = set(stems)
        lacking = [stem for stem in self.words if stem not in there]
        return [self.words[stem] for stem in sorted(lacking, key=lambda stem: -self.idf[stem])]

    def lacking(self, stems: Iterable[str]) -> list[str]:
        """The same without words that say little by themselves: what a reader should hear of."""
        return [word for word in self.missing(stems) if word not in LIGHT]


def terms_of(question: str, store: Counting, stemmer: Stemmer) -> Terms:
    """The telling words of a question, with their weights in this index. None for a question of stop words alone."""
    query = parse(question)
    found = [word for word in _WORD.findall(" ".join([*query.words, *query.phrases]).lower()) if word not in STOP_WORDS]
    telling = [word for word in found if word not in ASKING] or found
    words: dict[str, str] = {}
    for word in telling:
        words.setdefault("".join(stemmer.stems(word)), word)
    total, counts = store.frequencies(list(words.values()))
    counted = dict(zip(words, counts, strict=True))
    unknown = frozenset(stem for stem, count in counted.items() if count <= 0 and total >= ENOUGH_CHUNKS)
    return Terms(words, {stem: idf(count, total) for stem, count in counted.items()}, unknown)


def idf(count: int, total: int) -> float:
    """Inverse document frequency (Lucene's, always above 0) of a word that ``count`` of ``total`` chunks have."""
    count, total = count + PRIOR_COUNT, total + PRIOR_CHUNKS
    return math.log(1 + (total - count + 0.5) / (count + 0.5))
