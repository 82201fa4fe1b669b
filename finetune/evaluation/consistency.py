"""How evenly a model applies the moves over a corpus: all of them, in their order, in like depth.

Three figures that need no gold. *Complete*: the share of abstracts that got an answer for every move, "not stated" being
an answer. *In order*: the share whose written answer names the moves in the framework's order; for models that mark
sentence by sentence there is no order to get wrong. *Depth*: sentences and words of a stated move, its mean and its
spread (the standard deviation, and that over the mean, the coefficient of variation). An annotation that states more
moves is not a better one: gold's own figures, computed alike, say what the corpus holds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answered:
    """One abstract's annotation as far as consistency goes."""

    stated: Mapping[str, tuple[int, int]]
    """Move → sentences and words that it rests on; moves that are not stated are not there."""
    named: tuple[str, ...]
    """The moves as the answer named them, in its order."""


@dataclass(frozen=True)
class Depth:
    """Size of a stated move over a corpus."""

    papers: int
    """Abstracts that state it."""
    sentences: float
    sentences_spread: float
    words: float
    words_spread: float

    @property
    def variation(self) -> float:
        """Coefficient of variation of the words; 0 where nothing is stated."""
        return self.words_spread / self.words if self.words else 0.0

    def record(self) -> dict[str, float]:
        """For files."""
        values = {"sentences": self.sentences, "sentences_sd": self.sentences_spread}
        values |= {"words": self.words, "words_sd": self.words_spread, "words_cv": self.variation}
        return {"papers": self.papers, **{name: round(value, 3) for name, value in values.items()}}


@dataclass(frozen=True)
class Consistency:
    """The figures of one model over one corpus."""

    papers: int
    complete: float
    in_order: float
    all_stated: float
    """Share of abstracts that state every single move. Gold's own share beside it shows how many should."""
    stated: float
    """Moves stated in an abstract, on average."""
    stated_spread: float
    depth: Mapping[str, Depth]
    overall: Depth
    """Of all stated moves together."""

    def record(self) -> dict[str, Any]:
        """For files."""
        plain = ("complete", "in_order", "all_stated", "stated", "stated_spread")
        return {
            "papers": self.papers,
            **{name: round(getattr(self, name), 4) for name in plain},
            "depth": {move: depth.record() for move, depth in self.depth.items()},
            "overall": self.overall.record(),
        }


def answered(cells: Mapping[str, Sequence[int]], sentences: Sequence[str], named: Sequence[str]) -> Answered:
    """From the sentence numbers of each move and the abstract's sentences."""
    sizes = {
        move: (len(numbers), sum(len(sentences[number - 1].split()) for number in numbers))
        for move, numbers in cells.items()
        if numbers
    }
    return Answered(sizes, tuple(named))


def measure(annotations: Sequence[Answered | None], moves: Sequence[str]) -> Consistency:
    """Over a corpus; None is an abstract that got no usable annotation, which is neither complete nor in order."""
    total = max(1, len(annotations))
    there = [annotation for annotation in annotations if annotation is not None]
    complete = [annotation for annotation in there if set(moves) <= set(annotation.named)]
    ordered = [a for a in complete if [name for name in a.named if name in moves] == list(moves)]
    counts = [len(annotation.stated) for annotation in there]
    sizes = {move: [a.stated[move] for a in there if move in a.stated] for move in moves}
    return Consistency(
        papers=len(annotations),
        complete=len(complete) / total,
        in_order=len(ordered) / total,
        all_stated=sum(set(moves) <= set(a.stated) for a in there) / total,
        stated=_mean(counts),
        stated_spread=_spread(counts),
        depth={move: _depth(found) for move, found in sizes.items()},
        overall=_depth([size for found in sizes.values() for size in found]),
    )


def _depth(sizes: Sequence[tuple[int, int]]) -> Depth:
    sentences, words = [size[0] for size in sizes], [size[1] for size in sizes]
    return Depth(len(sizes), _mean(sentences), _spread(sentences), _mean(words), _spread(words))


def _mean(values: Sequence[int]) -> float:
    return statistics.fmean(values) if values else 0.0


def _spread(values: Sequence[int]) -> float:
    """Population standard deviation: the corpus is all there is."""
    return statistics.pstdev(values) if values else 0.0
