"""Several rankings made into one by weighted reciprocal rank, with an account of where every point came from.

Reciprocal rank fusion is Cormack, Clarke and Büttcher, SIGIR 2009. It needs ranks alone, so BM25 scores and cosines
never have to be made comparable. A ranking's weight goes by what its query is: the user's own words, or an expansion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

K = 60
"""The constant of the paper: how little the first ranks differ."""
Stage = Literal["bm25", "dense", "rerank", "late"]
QueryType = Literal["original", "corpus", "lex", "vec", "hyde"]
QUERY_WEIGHTS: Mapping[QueryType, float] = MappingProxyType(
    {"original": 2.0, "corpus": 2.0, "lex": 1.0, "vec": 1.0, "hyde": 1.0}
)
"""``corpus`` is the user's question with terms of the corpus: it stands in the place of the question's own BM25."""


@dataclass(frozen=True)
class Ranking:
    """What one query found in one way, best first."""

    stage: Stage
    type: QueryType
    query: str
    ids: Sequence[int]
    scores: Sequence[float]

    @property
    def weight(self) -> float:
        """By the type of the query."""
        return QUERY_WEIGHTS[self.type]


@dataclass(frozen=True)
class Step:
    """What one ranking did for one chunk."""

    stage: Stage
    type: QueryType
    query: str
    rank: int
    """From 1."""
    score: float
    """BM25 (higher is better), cosine, or the log-odds of a model's *yes*."""
    weight: float
    points: float
    """What it adds to the fused score; a reranking adds nothing, it moves the chunk."""


@dataclass(frozen=True)
class Fused:
    """A chunk in the fused ranking, and how it got there."""

    id: int
    score: float
    steps: tuple[Step, ...]


def fuse(rankings: Sequence[Ranking], k: int = K) -> list[Fused]:
    """The chunks of all rankings, best first; equal ones by their best rank, then by id.

    >>> both = fuse([Ranking("bm25", "original", "q", [1, 2], [9, 8]), Ranking("dense", "original", "q", [2], [0.7])])
    >>> [(item.id, round(item.score, 4)) for item in both]
    [(2, 0.065), (1, 0.0328)]
    """
    steps: dict[int, list[Step]] = {}
    for ranking in rankings:
        for rank, (chunk, score) in enumerate(zip(ranking.ids, ranking.scores, strict=True), 1):
            points = ranking.weight / (k + rank)
            step = Step(ranking.stage, ranking.type, ranking.query, rank, float(score), ranking.weight, points)
            steps.setdefault(chunk, []).append(step)
    fused = [Fused(chunk, sum(step.points for step in made), tuple(made)) for chunk, made in steps.items()]
    return sorted(fused, key=lambda item: (-item.score, min(step.rank for step in item.steps), item.id))
