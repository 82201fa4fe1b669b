"""The linear baseline of the annotator: TF-IDF of a sentence and its neighbours, position, logistic regression a move.

It is the peer that a small language model has to beat, and the fallback that would ship if it did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune import metrics
from finetune.mark_data import sentence_sets


def rows_of(papers: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str], list[str], metrics.Floats]:
    """For each sentence: its text, the one before, the one after, and position features ``[sentences, 6]``."""
    own, before, after, places = [], [], [], []
    for paper in papers:
        sentences = paper["sentences"]
        count = len(sentences)
        for i, sentence in enumerate(sentences):
            own.append(sentence)
            before.append(sentences[i - 1] if i else "")
            after.append(sentences[i + 1] if i + 1 < count else "")
            place = i / max(1, count - 1)
            places.append([place, place**2, i == 0, i == 1, i == count - 1, count / 10])
    return own, before, after, np.array(places, dtype=np.float64)


def gold_of(papers: Sequence[Mapping[str, Any]], moves: Sequence[str]) -> metrics.Bools:
    """``[sentences, moves]``, true where the sentence states the move."""
    return np.array(
        [[move in stated for move in moves] for paper in papers for stated in sentence_sets(paper, moves)], dtype=bool
    )


class LinearAnnotator:
    """Fit on gold papers, predict probabilities ``[sentences, moves]``."""

    def __init__(self, moves: Sequence[str], seed: int = 0) -> None:
        self.moves, self.seed = list(moves), seed

    def _features(self, papers: Sequence[Mapping[str, Any]], fit: bool) -> Any:
        from scipy.sparse import csr_matrix, hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        own, before, after, places = rows_of(papers)
        if fit:
            self.own = TfidfVectorizer(ngram_range=(1, 3), min_df=2, sublinear_tf=True)
            self.near = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True)
            self.own.fit(own)
            self.near.fit(own)
        parts = [self.own.transform(own), 0.5 * self.near.transform(before), 0.5 * self.near.transform(after)]
        return hstack([*parts, csr_matrix(places)]).tocsr()

    def fit(self, papers: Sequence[Mapping[str, Any]]) -> LinearAnnotator:
        """One regression a move."""
        from sklearn.linear_model import LogisticRegression

        features, gold = self._features(papers, fit=True), gold_of(papers, self.moves)
        self.models = [
            LogisticRegression(C=4.0, max_iter=400, solver="liblinear", random_state=self.seed).fit(features, gold[:, i])
            for i in range(len(self.moves))
        ]
        return self

    def predict(self, papers: Sequence[Mapping[str, Any]]) -> metrics.Floats:
        """Probabilities ``[sentences, moves]``."""
        features = self._features(papers, fit=False)
        return np.column_stack([model.predict_proba(features)[:, 1] for model in self.models])
