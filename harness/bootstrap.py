"""F1 from confusion counts, and its bootstrap over papers (Efron 1979): what the registry's gate and the evaluation share.

Counts are ``[papers, moves, 3]`` whole numbers: of each paper and move, how many sentences were rightly marked, wrongly
marked and missed. They add up over papers, so a resample is a row of multiplicities times the counts. Papers are drawn, not
sentences: those of one paper are not independent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

ROUNDS = 2000
"""Resamples; the Monte Carlo error of a 95% bound is then about a twentieth of the interval's width."""
_AT_ONCE = 256
"""Resamples computed together: what bounds memory."""


def f1(counts: Counts | Floats) -> Floats:
    """F1 of each move from ``[..., moves, 3]`` summed counts; a move with nothing stated and nothing found scores 1."""
    hits, wrong, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    size = 2 * hits + wrong + missed
    return np.where(size > 0, 2 * hits / np.maximum(size, 1), 1.0)


def resampled_f1(counts: Counts, *, rounds: int = ROUNDS, seed: int = 0) -> Floats:
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


def difference(first: Counts, second: Counts, *, rounds: int = ROUNDS, seed: int = 0) -> tuple[float, float, float]:
    """Macro-F1 of ``first`` minus ``second`` on the same papers, and the ends of its paired 95% interval."""
    one, other = (resampled_f1(counts, rounds=rounds, seed=seed).mean(1) for counts in (first, second))
    low, high = np.quantile(one - other, [0.025, 0.975])
    return float(f1(first.sum(0)).mean() - f1(second.sum(0)).mean()), float(low), float(high)
