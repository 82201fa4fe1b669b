"""RM3 pseudo-relevance feedback over the store's own index: the classic way to expand a query without any model.

The tokens are read out of FTS5 (fts5vocab), so stems and counts are those that BM25 ranks by, and the formula is FTS5's:
with no feedback the scores are the same. RM3 is Abdul-Jaleel et al., TREC 2004, with the settings that Anserini made
usual: ten documents, ten terms, half of the weight for the query's own words.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.search.bm25 import WEIGHTS, parse

DOCUMENTS = 10
TERMS = 10
ORIGINAL = 0.5
_K1, _B = 1.2, 0.75
_MOST = 0.1
"""Terms in more than this share of the documents are no feedback."""
_TOKENIZER = "tokenize='porter unicode61 remove_diacritics 2'"
Floats = NDArray[np.float64]


class Feedback:
    """BM25 with and without RM3 over the body of an index. Documents are its chunks."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("CREATE VIRTUAL TABLE temp.tokens USING fts5vocab('main', 'body', 'instance')")
        self._db.execute(f"CREATE VIRTUAL TABLE temp.queries USING fts5(text, {_TOKENIZER})")
        self._db.execute("CREATE VIRTUAL TABLE temp.stems USING fts5vocab('temp', 'queries', 'instance')")
        self.papers = dict(self._db.execute("SELECT c.id, d.paper FROM chunks c JOIN documents d ON d.id = c.document"))
        self._ids = sorted(self.papers)
        place = {chunk: at for at, chunk in enumerate(self._ids)}
        self._lengths = np.zeros(len(self._ids))
        counts: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for term, chunk, column in self._db.execute("SELECT term, doc, col FROM tokens"):
            at = place[chunk]
            self._lengths[at] += 1
            counts[term][at] += WEIGHTS[0] if column == "header" else WEIGHTS[1]
        self._postings = {term: (np.fromiter(row, int), np.fromiter(row.values(), float)) for term, row in counts.items()}
        self._terms_of: list[dict[str, float]] = [{} for _ in self._ids]
        for term, (places, weights) in self._postings.items():
            for at, weight in zip(places, weights, strict=True):
                self._terms_of[at][term] = float(weight)

    def stems(self, text: str) -> list[str]:
        """The words of a query, as FTS5 stems them."""
        words = " ".join(word for word in parse(text).words if re.fullmatch(r"[^\W_]+", word))
        self._db.execute("DELETE FROM temp.queries")
        self._db.execute("INSERT INTO temp.queries (rowid, text) VALUES (1, ?)", (words,))
        return [term for (term,) in self._db.execute("SELECT term FROM temp.stems ORDER BY offset")]

    def scores(self, weights: dict[str, float]) -> Floats:
        """BM25 of every document for weighted terms."""
        total = np.zeros(len(self._ids))
        norm = _K1 * (1 - _B + _B * self._lengths / self._lengths.mean())
        for term, weight in weights.items():
            if term in self._postings:
                places, counts = self._postings[term]
                total[places] += weight * self._idf(len(places)) * counts * (_K1 + 1) / (counts + norm[places])
        return total

    def plain(self, text: str) -> list[str]:
        """Papers by BM25."""
        return self._ranked(self.scores(dict.fromkeys(self.stems(text), 1.0)))

    def rm3(self, text: str) -> list[str]:
        """Papers by BM25 of the query mixed with the terms of what it found first."""
        own = dict.fromkeys(self.stems(text), 1.0)
        first = self.scores(own)
        best = [int(at) for at in np.argsort(-first, kind="stable")[:DOCUMENTS] if first[at] > 0]
        model: dict[str, float] = defaultdict(float)
        for at in best:
            counts = {term: n for term, n in self._terms_of[at].items() if self._is_telling(term)}
            for term, count in counts.items():
                model[term] += first[at] * count / sum(counts.values())
        expansion = dict(sorted(model.items(), key=lambda item: (-item[1], item[0]))[:TERMS])
        mixed: dict[str, float] = defaultdict(float)
        for weights, share in ((own, ORIGINAL), (expansion, 1 - ORIGINAL)):
            for term, weight in weights.items():
                mixed[term] += share * weight / sum(weights.values())
        return self._ranked(self.scores(mixed))

    def _idf(self, documents: int) -> float:
        return max(float(np.log((len(self._ids) - documents + 0.5) / (documents + 0.5))), 1e-6)

    def _is_telling(self, term: str) -> bool:
        return len(term) > 1 and len(self._postings[term][0]) <= _MOST * len(self._ids)

    def _ranked(self, scores: Floats) -> list[str]:
        order = np.argsort(-scores, kind="stable")[:300]
        return list(dict.fromkeys(self.papers[self._ids[at]] for at in order if scores[at] > 0))
