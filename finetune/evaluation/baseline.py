"""The linear baseline in a comparison: trained in the same run, on gold that shares no paper with what is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune import metrics
from finetune.dataset.leaks import LeakCheck
from finetune.linear import LinearAnnotator, gold_of
from harness.errors import InputError

VALID, SEED = 0.1, 1
LINEAR = "linear baseline"
"""What it is called in a report."""


def check_leaks(train: Sequence[Mapping[str, Any]], papers: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raises InputError where papers to train on stand among those that are scored."""
    check = LeakCheck(papers)
    if leaks := [paper for paper in train if check.reason(paper)]:
        first = leaks[0].get("arxiv_id") or leaks[0].get("id") or leaks[0].get("title")
        raise InputError(f"{where}: {len(leaks)} papers stand in the evaluation set, first {first}", "leave them out")


def linear(train: Sequence[Mapping[str, Any]], papers: Sequence[Mapping[str, Any]], moves: Sequence[str]) -> metrics.Bools:
    """``[sentences, moves]`` of the baseline: thresholds from a tenth of the training gold, then fitted on all of it."""
    from finetune.mark_train import split

    fit, held = split([dict(paper) for paper in train], VALID, SEED)
    probabilities = LinearAnnotator(moves).fit(fit).predict(held)
    thresholds = metrics.best_thresholds(gold_of(held, moves), probabilities)
    return np.asarray(LinearAnnotator(moves).fit(train).predict(papers) >= thresholds)


def as_found(
    predicted: metrics.Bools, papers: Sequence[Mapping[str, Any]], moves: Sequence[str]
) -> list[dict[str, list[int]]]:
    """``[sentences, moves]`` as the sentence numbers of each move for each paper."""
    edges = np.cumsum([len(paper["sentences"]) for paper in papers])[:-1]
    return [
        {move: (np.flatnonzero(part[:, column]) + 1).tolist() for column, move in enumerate(moves)}
        for part in np.split(predicted, edges)
    ]


def as_array(
    found: Sequence[Mapping[str, Sequence[int]]], papers: Sequence[Mapping[str, Any]], moves: Sequence[str]
) -> metrics.Bools:
    """``[sentences, moves]``, true where the annotation rests on the sentence: the inverse of ``as_found``."""
    return np.array(
        [
            [number in cells.get(move, ()) for move in moves]
            for paper, cells in zip(papers, found, strict=True)
            for number in range(1, len(paper["sentences"]) + 1)
        ],
        dtype=bool,
    )
