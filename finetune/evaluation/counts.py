"""Confusion counts per paper and move, and what follows from them: F1, intervals, paired differences.

Everything works on ``[papers, moves, 3]`` whole numbers: for each paper and move how many sentences were rightly marked
(tp), wrongly marked (fp) and missed (fn). They add up over papers, so a bootstrap over papers (Efron 1979; papers are the
clusters, because sentences of one paper are not independent) is a product with a matrix of multiplicities, and a
comparison made later needs no model: two models scored on the same papers are compared from their stored counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.metrics import Floats, Ints

ROUNDS = 2000
"""Bootstrap resamples; the Monte Carlo error of a 95% bound is then about a twentieth of the interval's width."""
_AT_ONCE = 256
"""Resamples computed together: what bounds memory."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def rounded(self, digits: int = 4) -> list[float]:
        """``[value, low, high]`` for files."""
        return [round(self.value, digits), round(self.low, digits), round(self.high, digits)]


def confusion(
    papers: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Sequence[int]]], moves: Sequence[str]
) -> Ints:
    """``[papers, moves, 3]`` counts of true positives, false positives and misses over sentences.

    ``found`` gives for each paper the sentence numbers of each move; a paper without an annotation is an empty mapping: all
    that gold states is missed. Moves that gold did not judge (``judged``, where it is given) count nothing.
    """
    counts = np.zeros((len(papers), len(moves), 3), dtype=np.int64)
    for row, (paper, cells) in enumerate(zip(papers, found, strict=True)):
        judged = paper.get("judged", moves)
        for column, move in enumerate(moves):
            if move in judged:
                truth, said = set(paper["moves"].get(move) or ()), set(cells.get(move, ()))
                counts[row, column] = len(truth & said), len(said - truth), len(truth - said)
    return counts


def f1(counts: Ints | Floats) -> Floats:
    """F1 of each move from ``[..., moves, 3]`` summed counts; a move with nothing stated and nothing found scores 1."""
    hits, wrong, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    size = 2 * hits + wrong + missed
    return np.where(size > 0, 2 * hits / np.maximum(size, 1), 1.0)


def resampled_f1(counts: Ints, *, rounds: int = ROUNDS, seed: int = 0) -> Floats:
    """``[rounds, moves]``: F1 per move of papers drawn with replacement. The same seed draws the same papers for every
    model, which is what makes differences paired."""
    papers, moves = counts.shape[:2]
    rng = np.random.default_rng(seed)
    flat = counts.reshape(papers, moves * 3).astype(np.float64)
    parts = []
    for start in range(0, rounds, _AT_ONCE):
        drawn = [rng.integers(0, papers, papers) for _ in range(min(_AT_ONCE, rounds - start))]
        multiplicities = np.stack([np.bincount(index, minlength=papers) for index in drawn]).astype(np.float64)
        parts.append(f1((multiplicities @ flat).reshape(-1, moves, 3)))
    return np.concatenate(parts)


def _estimate(value: float, samples: Floats) -> Estimate:
    low, high = np.quantile(samples, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def scores(counts: Ints, moves: Sequence[str], *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Estimate]:
    """``macro_f1`` and the F1 of each move, with percentile intervals."""
    values, samples = f1(counts.sum(0)), resampled_f1(counts, rounds=rounds, seed=seed)
    found = {"macro_f1": _estimate(values.mean(), samples.mean(1))}
    return found | {move: _estimate(values[i], samples[:, i]) for i, move in enumerate(moves)}


def difference(first: Ints, second: Ints, *, rounds: int = ROUNDS, seed: int = 0) -> Estimate:
    """Macro-F1 of ``first`` minus ``second`` on the same papers, with its paired 95% interval. ValueError for other shapes.

    The same figures as ``metrics.bootstrap_difference`` gives on arrays of sentences, in a hundredth of the time.
    """
    if first.shape != second.shape:
        raise ValueError(f"counts of {first.shape} and {second.shape} are not of the same papers and moves")
    one, other = (resampled_f1(counts, rounds=rounds, seed=seed).mean(1) for counts in (first, second))
    return _estimate(f1(first.sum(0)).mean() - f1(second.sum(0)).mean(), one - other)


def verdict(found: Estimate) -> str:
    """``better``, ``worse`` or ``no difference beyond noise``: whether the interval of a difference excludes 0."""
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "no difference beyond noise"
