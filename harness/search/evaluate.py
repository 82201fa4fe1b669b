"""How good a ranking is: nDCG and recall with bootstrap intervals, on test collections in the shape of BEIR.

Gains are linear and an unjudged document counts as irrelevant, as in trec_eval and BEIR, so figures compare with theirs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.readers.text import from_path
from harness.search.bm25 import LexicalQuery, parse
from harness.search.documents import Block, Document
from harness.search.store import IndexedFile, Scope, Stamp, Store

Qrels = Mapping[str, Mapping[str, int]]
"""Query → document → grade; 0 and less is irrelevant."""
Rank = Callable[[str], Sequence[str]]
"""The text of a query to the ids of documents, best first."""
Floats = NDArray[np.float64]
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Collection:
    """A test collection: documents (id → title and text), queries (id → text), and judgements."""

    name: str
    corpus: Mapping[str, tuple[str, str]]
    queries: Mapping[str, str]
    qrels: Qrels


@dataclass(frozen=True)
class Interval:
    """A mean over queries with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f} {self.high:.3f}]"


def ndcg(ranked: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Normalised discounted cumulative gain of the first ``k``; 0 where nothing is relevant.

    >>> round(ndcg(["x", "a"], {"a": 1}, 10), 3)
    0.631
    """
    gains = (max(0, grades.get(document, 0)) for document in ranked[:k])
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def recall(ranked: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """The share of the relevant documents that stand among the first ``k``."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranked[:k])) / len(relevant) if relevant else 0.0


def _discounted(gains: Iterator[int] | Sequence[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def measure(rank: Rank, collection: Collection) -> dict[str, Floats]:
    """``ndcg@10``, ``recall@5`` and ``recall@100`` for each judged query, in the order of the queries."""
    scores: dict[str, list[float]] = {"ndcg@10": [], "recall@5": [], "recall@100": []}
    for query, grades in judged(collection):
        ranked = list(dict.fromkeys(rank(collection.queries[query])))
        scores["ndcg@10"].append(ndcg(ranked, grades, 10))
        scores["recall@5"].append(recall(ranked, grades, 5))
        scores["recall@100"].append(recall(ranked, grades, 100))
    return {name: np.array(values) for name, values in scores.items()}


def judged(collection: Collection) -> list[tuple[str, Mapping[str, int]]]:
    """The queries that have a relevant document, with their judgements, in the order of the queries."""
    found = [(query, collection.qrels.get(query, {})) for query in collection.queries]
    return [(query, grades) for query, grades in found if any(grade > 0 for grade in grades.values())]


def interval(values: Floats, seed: int = 0) -> Interval:
    """The mean of per-query values with its percentile bootstrap interval over queries."""
    means = _resampled(values, seed)
    return Interval(float(values.mean()), *map(float, np.percentile(means, [2.5, 97.5])))


def difference(ours: Floats, theirs: Floats, seed: int = 0) -> Interval:
    """The mean difference on the same queries with its paired bootstrap interval: beyond 0, one side is better."""
    return interval(ours - theirs, seed)


def _resampled(values: Floats, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    return np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(BOOTSTRAPS)])


def load(folder: Path, qrels: str = "") -> Collection:
    """A collection from ``corpus.jsonl``, ``queries.jsonl`` and judgements, as BEIR lays them out.

    ``qrels`` names the file of judgements in the folder: three columns under a header, or the four of TREC. Without it
    ``qrels/test.tsv`` or ``qrels.tsv`` is taken. Raises InputError naming file and line.
    """
    corpus = {row["_id"]: (row.get("title", ""), row["text"]) for row in _rows(folder / "corpus.jsonl", "_id", "text")}
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl", "_id", "text")}
    usual = [name for name in ("qrels/test.tsv", "qrels.tsv") if (folder / name).exists()]
    name = qrels or (usual[0] if usual else "qrels.tsv")
    return Collection(folder.name, corpus, queries, read_qrels(folder / name))


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements from a file of three columns (query, document, grade) or TREC's four. Raises InputError."""
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(from_path(path, []).lines(), 1):
        cells = line.split()
        if not cells or (number == 1 and not cells[-1].lstrip("-").isdecimal()):
            continue
        if len(cells) not in (3, 4) or not cells[-1].lstrip("-").isdecimal():
            raise InputError(f"{path} line {number}: is no judgement", "write query, document and grade")
        found.setdefault(cells[0], {})[cells[-2]] = int(cells[-1])
    return found


def _rows(path: Path, *needed: str) -> Iterator[dict[str, str]]:
    for number, line in enumerate(from_path(path, []).lines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError(f"{path} line {number}: is no JSON", "one object a line is needed") from None
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in needed):
            raise InputError(f"{path} line {number}: lacks {' or '.join(needed)}", "is this a BEIR folder?")
        yield row


def put(store: Store, collection: Collection, *, abstracts: bool = True) -> None:
    """Index a collection as one file; documents without text are left out.

    With ``abstracts`` each document is kept whole as far as the chunker allows it; else it is cut like running text.
    """
    documents = (
        Document(title, (Block(text),), identity, identity, abstract=abstracts)
        for identity, (title, text) in collection.corpus.items()
        if text.strip()
    )
    store.put(IndexedFile(collection.name, Stamp(0, 0, ""), ""), documents)


def lexical(store: Store, depth: int = 300, parse_query: Callable[[str], LexicalQuery] = parse) -> Rank:
    """Ranks the documents of ``put`` by the BM25 of their best chunk."""

    def rank(query: str) -> list[str]:
        ids = [chunk for chunk, _ in store.lexical(parse_query(query), depth, Scope())]
        return papers(store, ids)

    return rank


def papers(store: Store, ids: Sequence[int]) -> list[str]:
    """The papers of ranked chunks, each at the place of its best chunk."""
    return list(dict.fromkeys(chunk.paper for chunk in store.chunks(ids)))
