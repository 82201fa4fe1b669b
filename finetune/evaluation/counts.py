"""Confusion counts per paper and move, and what follows from them: F1, intervals, paired differences.

Everything works on ``[papers, moves, 3]`` whole numbers: for each paper and move how many sentences were rightly marked
(tp), wrongly marked (fp) and missed (fn). A comparison made later needs no model: two models scored on the same papers are
compared from their stored counts, by the bootstrap of ``harness.bootstrap``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.metrics import Floats, Ints
from harness import bootstrap
from harness.bootstrap import ROUNDS, f1, resampled_f1


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
    return Estimate(*bootstrap.difference(first, second, rounds=rounds, seed=seed))


def verdict(found: Estimate) -> str:
    """``better``, ``worse`` or ``no difference beyond noise``: whether the interval of a difference excludes 0."""
    if found.low > 0:
        return "better"
    return "worse" if found.high < 0 else "no difference beyond noise"
