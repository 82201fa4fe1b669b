"""The linear baseline learns what a cue word says, and where a sentence stands."""

from __future__ import annotations

import numpy as np
import pytest

from finetune import metrics
from finetune.linear import LinearAnnotator, gold_of, rows_of

pytest.importorskip("sklearn", reason="needs the finetune extra")

MOVES = ("claim", "evidence")


def paper(number: int) -> dict[str, object]:
    topics = ("graphs", "tables", "queries", "memories")
    topic = topics[number % len(topics)]
    sentences = [
        f"Large {topic} are slow to read.",
        f"We introduce a method for {topic}.",
        f"Accuracy rises to {number} percent on {topic}.",
    ]
    return {"sentences": sentences, "moves": {"claim": [2], "evidence": [3]}}


def test_features_know_neighbours_and_positions() -> None:
    own, before, after, places = rows_of([paper(1), {"sentences": ["Alone."]}])
    assert (before[0], before[1], after[2]) == ("", own[0], "")
    assert after[0] == own[1]
    assert (before[3], after[3]) == ("", "")
    assert places.shape == (4, 6)
    assert places[3].tolist() == [0, 0, 1, 0, 1, 0.1]
    assert places[1].tolist() == [0.5, 0.25, 0, 1, 0, 0.3]


def test_gold_is_a_table_of_sentences_and_moves() -> None:
    assert gold_of([paper(0)], MOVES).tolist() == [[False, False], [True, False], [False, True]]


def test_it_learns_cues_and_is_the_same_in_every_run() -> None:
    train, test = [paper(n) for n in range(12)], [paper(n) for n in range(40, 46)]
    first = LinearAnnotator(MOVES).fit(train).predict(test)
    assert first.shape == (18, 2)
    assert metrics.macro_f1(gold_of(test, MOVES), first >= 0.5) == 1.0
    assert np.array_equal(first, LinearAnnotator(MOVES).fit(train).predict(test))
