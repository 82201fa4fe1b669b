"""How well passages are found: BM25 by FTS5, what three model-free expansions make of it, and what vectors add.

    python benchmarks/retrieval.py [--sets scifact cranfield cisi] [--embed minilm-f16.gguf] [--json scores.json]

With ``--embed`` (a model of Ollama or a .gguf file; ``minilm.py`` makes one) its vectors alone and fused with BM25 stand in
the table, too. Vectors alone are FAISS's exact index where faiss is installed. What fusion must beat to be worth it is the
better of the two: a second table has its paired differences to each, on all three measures. Nothing of the fusion was
chosen on any of the sets. Vectors are kept between runs (``kept_vectors.py``).

SciFact's figures depend on the judgements: "scifact" is the 300 queries of BEIR's test set; "scifact, evidence" those of
them for which annotators marked evidence, judged by it alone (BEIR also counts documents that are merely cited).

The peers run in the same process on the same documents: FTS5 as it comes (no weights, no stop words), our search over
chunks of 1,000 characters instead of whole abstracts, rank_bm25 where it is installed, RM3, and a fixed template, fused
as /expand's lines are. Intervals are 95% by bootstrap over queries; "against ours" is the paired difference of nDCG@10
to our BM25.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, need, report
from kept_vectors import open_kept
from relevance_feedback import Feedback
from rich.console import Console

from harness.search import evaluate
from harness.search.bm25 import LexicalQuery, parse
from harness.search.embedders import embed_new
from harness.search.evaluate import Collection, Floats, Rank
from harness.search.fusion import Ranking
from harness.search.search import DEPTH, Line, Plan, is_sure, search
from harness.search.sqlite_store import SqliteStore
from harness.search.store import Scope
from harness.search.vectors import Embedder

TEMPLATE = ("{query} overview", "{query} methods and results", "guide to {query}")
"""Lines that know nothing of the query."""
SETS = ("scifact", "cranfield", "cisi")
METRICS = ("ndcg@10", "recall@5", "recall@100")
BM25, FUSED = "BM25 (ours)", "BM25 + vectors (ours)"


def load(name: str) -> dict[str, Collection]:
    """The collections of a set, by their label: SciFact makes two."""
    folder = need(DATA / "retrieval" / name)
    if name != "scifact":
        return {name: evaluate.load(folder)}
    test = evaluate.load(folder, "qrels_beir_test.trec")
    marked = evaluate.read_qrels(folder / "qrels.tsv")
    evidence = {query: marked[query] for query in test.qrels if query in marked}
    return {"scifact": test, "scifact, evidence": replace(test, qrels=evidence)}


def every_word(text: str) -> LexicalQuery:
    """A query of all its words, stop words and all, as FTS5 is mostly used."""
    return LexicalQuery(tuple(dict.fromkeys(re.findall(r"[^\W_]+", text.lower()))))


def unweighted(path: Path, depth: int = 300) -> Rank:
    """FTS5 as it comes: its default ranking of any of the words."""
    import sqlite3

    db = sqlite3.connect(path)
    paper = dict(db.execute("SELECT c.id, d.paper FROM chunks c JOIN documents d ON d.id = c.document"))

    def rank(text: str) -> list[str]:
        sql = "SELECT rowid FROM body WHERE body MATCH ? ORDER BY rank, rowid LIMIT ?"
        return [paper[chunk] for (chunk,) in db.execute(sql, (every_word(text).match, depth))]

    return rank


def templated(store: SqliteStore) -> Rank:
    """Our search with the lines of the fixed template."""

    def rank(text: str) -> list[str]:
        lines = [Line("lex", template.format(query=text)) for template in TEMPLATE]
        found = search(store, text, lines=lines, plan=Plan(limit=300, depth=300, sure_ratio=0))
        return [hit.chunk.paper for hit in found.hits]

    return rank


def rank_bm25(collection: Collection) -> Rank | None:
    """The package of that name on lower-case words without stemming; None where it is not installed."""
    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        return None
    names = list(collection.corpus)
    index = BM25Okapi([re.findall(r"\w+", f"{title} {text}".lower()) for title, text in collection.corpus.values()])

    def rank(text: str) -> list[str]:
        scores = np.asarray(index.get_scores(re.findall(r"\w+", text.lower())))
        return [names[at] for at in np.argsort(-scores, kind="stable")[:300]]

    return rank


def flat(store: SqliteStore, embedder: Embedder, depth: int) -> tuple[str, Rank]:
    """Vectors alone, by FAISS's exact index where it is installed, else by ours."""
    try:
        import faiss
    except ImportError:
        return "vectors (ours)", lambda text: evaluate.papers(
            store, [chunk for chunk, _ in store.dense(embedder, embedder.query(text), depth, Scope())]
        )
    chunks = [chunk for file in store.files() for chunk in store.chunks_of_file(file)]
    matrix = embedder.passages([chunk.indexed for chunk in chunks])
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(matrix)

    def rank(text: str) -> list[str]:
        _, places = index.search(embedder.query(text)[None, :], min(depth, len(chunks)))
        return list(dict.fromkeys(chunks[place].paper for place in places[0]))

    return "vectors (FAISS flat)", rank


def fused(store: SqliteStore, embedder: Embedder, depth: int) -> Rank:
    """Our search: BM25 and vectors."""

    def rank(text: str) -> list[str]:
        found = search(store, text, embedder=embedder, plan=Plan(limit=depth, depth=depth))
        return [hit.chunk.paper for hit in found.hits]

    return rank


def systems(collection: Collection, folder: Path, embedder: Embedder | None) -> Iterator[tuple[str, Rank]]:
    """Ours first, then its peers."""
    store = SqliteStore(folder / "whole.db")
    evaluate.put(store, collection)
    yield BM25, evaluate.lexical(store)
    if embedder is not None:
        embed_new(store, embedder, Console(stderr=True))
        yield flat(store, embedder, depth=300)
        yield FUSED, fused(store, embedder, depth=300)
    yield "FTS5 as it comes", unweighted(folder / "whole.db")
    cut = SqliteStore(folder / "cut.db")
    evaluate.put(cut, collection, abstracts=False)
    yield "ours, chunks of 1,000", evaluate.lexical(cut)
    if peer := rank_bm25(collection):
        yield "rank_bm25", peer
    feedback = Feedback(folder / "whole.db")
    yield "BM25 by words (RM3's own)", feedback.plain
    yield "RM3", feedback.rm3
    yield "fixed template", templated(store)


def timed(rank: Rank, times: list[float]) -> Rank:
    """``rank``, that notes its CPU seconds."""

    def measured(text: str) -> Any:
        started = time.process_time()
        try:
            return rank(text)
        finally:
            times.append(time.process_time() - started)

    return measured


def sure(store: SqliteStore, collection: Collection, ndcg: np.ndarray) -> dict[str, float]:
    """On which share of the queries an expansion is left out, and BM25's nDCG@10 on them and on the others."""
    flags = []
    for query, _ in evaluate.judged(collection):
        found = store.lexical(parse(collection.queries[query]), DEPTH, Scope())
        ranking = Ranking("bm25", "original", "", [chunk for chunk, _ in found], [score for _, score in found])
        flags.append(is_sure(store, ranking, Plan().sure_ratio))
    mask = np.array(flags)
    means = [float(ndcg[part].mean()) if part.any() else float("nan") for part in (mask, ~mask)]
    return {"share": round(float(mask.mean()), 3), "ndcg_sure": round(means[0], 3), "ndcg_others": round(means[1], 3)}


Scores = dict[str, dict[str, dict[str, Floats]]]
"""Label of the collection → system → measure → a value a query."""


def gains(scores: Scores) -> tuple[list[list[str]], dict[str, Any]]:
    """What fusion adds to BM25 and to vectors, each alone: rows and result; none where nothing was fused."""
    rows, result = list[list[str]](), dict[str, Any]()
    for label, of in scores.items():
        for alone in [name for name in of if FUSED in of and (name == BM25 or name.startswith("vectors"))]:
            found = {metric: evaluate.difference(of[FUSED][metric], of[alone][metric]) for metric in METRICS}
            rows.append([label, alone, *(f"{one.mean:+.3f} [{one.low:+.3f} {one.high:+.3f}]" for one in found.values())])
            bounds = {metric: [round(bound, 4) for bound in (one.mean, one.low, one.high)] for metric, one in found.items()}
            result.setdefault(label, {})[alone] = bounds
    return rows, result


def on(name: str, folder: Path, embedder: Embedder | None) -> tuple[list[list[str]], dict[str, Any], Scores]:
    """The rows, the result and the scores of one set."""
    rows: list[list[str]] = []
    result: dict[str, Any] = {}
    collections = load(name)
    whole = next(iter(collections.values()))
    ours: dict[str, Any] = {}
    everything: Scores = {}
    for system, rank in systems(whole, folder, embedder):
        times: list[float] = []
        for label, collection in collections.items():
            scores = evaluate.measure(timed(rank, times), collection)
            ours.setdefault(label, scores)
            everything.setdefault(label, {})[system] = scores
            cells = [str(evaluate.interval(scores[metric])) for metric in METRICS]
            against = evaluate.difference(scores["ndcg@10"], ours[label]["ndcg@10"])
            rows.append(
                [label, system, *cells, f"{1000 * np.median(times):.1f}", "" if scores is ours[label] else str(against)]
            )
            means = {metric: round(float(scores[metric].mean()), 4) for metric in METRICS}
            result.setdefault(label, {})[system] = {**means, "ms": round(1000 * float(np.median(times)), 2)}
    with SqliteStore(folder / "whole.db") as store:
        for label, collection in collections.items():
            result[label]["sure"] = sure(store, collection, ours[label]["ndcg@10"])
            result[label]["queries"] = len(evaluate.judged(collection))
    return sorted(rows, key=lambda row: list(collections).index(row[0])), result, everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--embed", metavar="NAME", help="an embedding model of Ollama, or a .gguf file")
    parser.add_argument("--json", type=Path, help="write the scores")
    args = parser.parse_args()

    embedder = open_kept(args.embed) if args.embed else None
    rows: list[list[str]] = []
    result: dict[str, Any] = {}
    everything: Scores = {}
    for name in args.sets:
        with tempfile.TemporaryDirectory() as folder:
            more, scores, values = on(name, Path(folder), embedder)
        rows += more
        result |= scores
        everything |= values
    if embedder is not None:
        embedder.close()
    header = ["set", "system", *METRICS, "CPU ms", "nDCG@10 against ours"]
    report("retrieval", header, rows, result)
    more, added = gains(everything)
    if more:
        report("what fusion adds", ["set", "to", *METRICS], more, added)
        result["fusion adds"] = added
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
