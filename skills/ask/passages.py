"""Passages read for a question: their sentences, what of the question each has, and how strongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from skills.ask.record import Passage
from skills.ask.terms import Stemmer, Terms

if TYPE_CHECKING:
    from harness.search.search import Hit

K1 = 1.2
B = 0.75
"""BM25's usual constants."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage."""

    n: int
    """The number of the passage."""
    at: int
    """Its place among the sentences of the passage, from 0."""
    text: str
    """Verbatim."""
    page: int
    stems: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """A passage with its words."""

    passage: Passage
    header: frozenset[str]
    """Stems of title and section."""
    sentences: tuple[Sentence, ...]

    @property
    def paper(self) -> tuple[str, str, str]:
        """What the passages of one paper share: a file is one paper, or has one in each row."""
        one = self.passage
        return one.file, one.title, "" if one.page else one.where

    @property
    def stems(self) -> list[str]:
        """Of the text, in order."""
        return [stem for sentence in self.sentences for stem in sentence.stems]


def passages_of(hits: Iterable[Hit]) -> list[Passage]:
    """What a search found as numbered evidence, the best first."""
    return [
        Passage(
            n=number,
            file=hit.chunk.file,
            title=hit.chunk.title,
            page=hit.chunk.page,
            where=hit.chunk.where,
            header=hit.chunk.header,
            text=hit.chunk.text,
            sentences=hit.chunk.sentences,
            score=hit.score,
        )
        for number, hit in enumerate(hits, 1)
    ]


def read(passages: Sequence[Passage], stemmer: Stemmer) -> list[Evidence]:
    """The passages with the stems of their headers and sentences."""
    found = []
    for passage in passages:
        sentences = tuple(
            Sentence(passage.n, at, text, page, tuple(stemmer.stems(text)))
            for at, (start, end, page) in enumerate(passage.sentences)
            if (text := passage.text[start:end])
        )
        header = passage.header.removesuffix(f"p. {passage.page}")  # a page's number answers no question about numbers
        found.append(Evidence(passage, frozenset(stemmer.stems(header)), sentences))
    return found


def strengths(evidence: Sequence[Evidence], terms: Terms) -> list[float]:
    """BM25 of each passage as a share of the most that the question could get, 0 to 1: comparable between questions.

    Words of the header count as words of the text.
    """
    texts = [Counter([*one.stems, *one.header]) for one in evidence]
    lengths = [counts.total() for counts in texts]
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    return [bm25(counts, length / mean if mean else 1.0, terms) for counts, length in zip(texts, lengths, strict=True)]


def bm25(counts: Counter[str], length: float, terms: Terms) -> float:
    """BM25 of a text over the question's highest; ``length`` is relative to the mean."""
    if not terms.total:
        return 0.0
    norm = K1 * (1 - B + B * length)
    points = sum(idf * counts[stem] * (K1 + 1) / (counts[stem] + norm) for stem, idf in terms.idf.items() if counts[stem])
    return points / (terms.total * (K1 + 1))


def pair_coverage(sentences: Iterable[Sequence[str]], terms: Terms) -> float:
    """The share of the question's neighbouring words (by idf) that stand in one sentence together, at best."""
    pairs = list(pairwise(terms.stems))
    weights = [terms.idf[one] + terms.idf[other] for one, other in pairs]
    if not pairs:
        return 0.0
    there = [set(stems) for stems in sentences]
    points = sum(w for (one, other), w in zip(pairs, weights, strict=True) if any({one, other} <= some for some in there))
    return points / sum(weights)
