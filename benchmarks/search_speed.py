"""How fast a search is in 100,000 chunks: BM25, vectors and both fused, beside rank_bm25, bm25s and FAISS's flat index.

    python benchmarks/search_speed.py [--chunks 100000] [--queries 200] [--folder /tmp/speed] [--json speed.json]

The text is generated with a seed: function words and invented content words, each by a law of Zipf and Mandelbrot that
makes lists of postings as long as in abstracts. "load" says how long: in how many chunks the terms of a question occur,
summed over its terms, as a share of all chunks; SciFact's questions have 0.73 in SciFact, Cranfield's 1.26. Questions are
function words and nine content words out of one chunk each, so a frequent word is in many questions. Vectors are random
unit vectors of 384 numbers: exact search takes as long on any. The time of embedding a question belongs to the model and
is not in it. All run in this process, one query after another, on the same chunks; a peer that is not installed is left
out. "found@10" and "found@100" are the shares of the best chunks by plain BM25 (every term, every chunk) that ours has.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import report

from harness.search.bm25 import STOP_WORDS, parse
from harness.search.documents import Block, Document
from harness.search.search import DEPTH, Plan, search
from harness.search.sqlite_store import SqliteStore
from harness.search.store import IndexedFile, Scope, Stamp
from harness.search.vectors import Embedder, Matrix

VOCABULARY = 60_000
FUNCTION = 0.45
"""The share of function words in a text."""
WORDS = 150
"""Words of a chunk: about 1,000 characters."""
ROWS = 1000
"""Chunks of one file."""
DIMENSIONS = 384
CONTENT = 9
"""Content words of a question, as SciFact's have."""


def invented(random: np.random.Generator) -> list[str]:
    """Content words, the rarer the longer."""
    syllables = [
        consonant + vowel for consonant in "bcdfglmnprstv" for vowel in ("a", "e", "i", "o", "u", "an", "or", "is")
    ]
    words = dict[str, None]()
    while len(words) < VOCABULARY:
        count = 2 + len(str(len(words))) // 2 + int(random.integers(0, 2))
        words["".join(random.choice(syllables, count))] = None
    return list(words)


def texts(count: int, seed: int) -> Iterator[str]:
    """Chunks of sentences of fifteen words."""
    random = np.random.default_rng(seed)
    words = np.array([*sorted(STOP_WORDS, key=lambda word: (len(word), word)), *invented(random)])
    function, content = (1 / (np.arange(size) + 1 + offset) ** slope for size, offset, slope in (
        (len(STOP_WORDS), 1.7, 1.0), (VOCABULARY, 20, 1.1)
    ))  # fmt: skip
    chances = np.concatenate([FUNCTION * function / function.sum(), (1 - FUNCTION) * content / content.sum()])
    ladder = np.cumsum(chances)
    for _ in range(count):
        drawn = words[np.minimum(np.searchsorted(ladder, random.random(WORDS)), len(words) - 1)]
        yield " ".join(" ".join(drawn[start : start + 15]).capitalize() + "." for start in range(0, WORDS, 15))


def questions(chunks: Sequence[str], count: int, seed: int) -> list[str]:
    """Questions that some chunk answers; its frequent words are likelier to be in them."""
    random = np.random.default_rng(seed + 1)
    asked = []
    for place in random.choice(len(chunks), count, replace=False):
        words = [word for word in re.findall(r"\w+", chunks[place].lower()) if word not in STOP_WORDS]
        picked = list(random.choice(words, CONTENT, replace=False))
        asked.append(f"How does the {' '.join(picked[:3])} of {' '.join(picked[3:6])} depend on {' '.join(picked[6:])}?")
    return asked


def load(store: SqliteStore, asked: Sequence[str]) -> float:
    """How many chunks a question's terms occur in, summed over the terms, as a share of all chunks (median)."""
    total = int(store._select("SELECT count(*) FROM chunks")[0][0])
    sql = "SELECT count(*) FROM body WHERE body MATCH ?"
    sums = [sum(store._select(sql, (f'"{word}"',))[0][0] for word in parse(text).words) for text in asked]
    return float(np.median(sums)) / total


def unit(count: int, seed: int) -> Matrix:
    """Random unit vectors."""
    matrix = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), dtype=np.float32)
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), dtype=np.float32)


def build(path: Path, chunks: Sequence[str], vectors: Matrix, embedder: Embedder) -> float:
    """Fill a store; the seconds that took."""
    started = time.perf_counter()
    with SqliteStore(path) as store:
        for first in range(0, len(chunks), ROWS):
            rows = enumerate(chunks[first : first + ROWS], first)
            documents = (Document(f"Paper {n}", (Block(text),), place=f"row {n}", abstract=True) for n, text in rows)
            name = f"/papers/{first // ROWS}.csv"
            store.put(IndexedFile(name, Stamp(1, 1, "1"), name), documents)
        done = 0
        while missing := store.without_vectors(embedder, 10_000):
            store.add_vectors(embedder, [digest for digest, _ in missing], vectors[done : done + len(missing)])
            done += len(missing)
    return time.perf_counter() - started


def ours(store: SqliteStore, embedder: Embedder) -> dict[str, Callable[[str], Any]]:
    """Our searches."""
    plan = Plan(limit=10)
    return {
        "ours: BM25": lambda text: store.lexical(parse(text), DEPTH, Scope()),
        "ours: vectors": lambda text: store.dense(embedder, embedder.query(text), DEPTH, Scope()),
        "ours: BM25 + vectors, fused": lambda text: search(store, text, embedder=embedder, plan=plan),
    }


def peers(chunks: Sequence[str], vectors: Matrix, embedder: Embedder) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Theirs, each built when its turn comes and freed after it."""
    yield from _bm25s(chunks)
    yield from _faiss(vectors, embedder)
    yield from _rank_bm25(chunks)


def _bm25s(chunks: Sequence[str]) -> Iterator[tuple[str, Callable[[str], Any]]]:
    try:
        import bm25s
    except ImportError:
        return print("bm25s is not installed: left out")
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(chunks), stopwords="en", show_progress=False), show_progress=False)

    def find(text: str) -> Any:
        tokens = bm25s.tokenize(text, stopwords="en", show_progress=False)
        return index.retrieve(tokens, k=DEPTH, show_progress=False)

    yield "bm25s", find


def _faiss(vectors: Matrix, embedder: Embedder) -> Iterator[tuple[str, Callable[[str], Any]]]:
    try:
        import faiss
    except ImportError:
        return print("faiss is not installed: left out")
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(vectors)
    yield "FAISS flat", lambda text: index.search(embedder.query(text)[None, :], DEPTH)


def _rank_bm25(chunks: Sequence[str]) -> Iterator[tuple[str, Callable[[str], Any]]]:
    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        return print("rank_bm25 is not installed: left out")
    index = BM25Okapi([re.findall(r"\w+", text.lower()) for text in chunks])
    yield "rank_bm25", lambda text: index.get_top_n(re.findall(r"\w+", text.lower()), range(len(chunks)), DEPTH)


def times(find: Callable[[str], Any], asked: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of each query by the clock and of the processor, after three that warm up."""
    for text in asked[:3]:
        find(text)
    spent = []
    for text in asked:
        started = time.perf_counter(), time.process_time()
        find(text)
        spent.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    clock, processor = 1000 * np.array(spent).T
    return clock, processor


def found(store: SqliteStore, asked: Sequence[str], depth: int) -> float:
    """The share of the best chunks by the BM25 of all terms over all chunks that our BM25 has among as many."""
    sql = "SELECT rowid FROM body WHERE body MATCH ? ORDER BY bm25(body, 2.0, 1.0), rowid LIMIT ?"
    shares = []
    for text in asked:
        wanted = {chunk for (chunk,) in store._select(sql, (parse(text).match, depth))}
        got = {chunk for chunk, _ in store.lexical(parse(text), DEPTH, Scope())[:depth]}
        shares.append(len(got & wanted) / len(wanted))
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--slow-queries", type=int, default=10, help="for peers that take long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the store here, and use the one that is there")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()

    chunks = list(texts(args.chunks, args.seed))
    asked = questions(chunks, args.queries, args.seed)
    vectors = unit(args.chunks, args.seed)
    of_questions = dict(zip(asked, unit(len(asked), args.seed + 2), strict=True))
    embedder = Embedder("random", lambda some: np.array([of_questions[text] for text in some]))
    result: dict[str, Any] = {"chunks": args.chunks, "queries": args.queries}
    rows = []

    def measure(name: str, find: Callable[[str], Any], some: Sequence[str]) -> None:
        clock, processor = times(find, some)
        figures = (*np.percentile(clock, [50, 95]), clock.min(), np.median(processor))
        keys = ("p50_ms", "p95_ms", "least_ms", "cpu_p50_ms")
        result[name] = {key: round(float(figure), 2) for key, figure in zip(keys, figures, strict=True)}
        rows.append([name, *(f"{figure:.1f}" for figure in figures), len(some)])
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        path = (args.folder or Path(temporary)) / "index.db"
        if not path.exists():
            result["build_s"] = round(build(path, chunks, vectors, embedder), 1)
        with SqliteStore(path) as store:
            for name, find in ours(store, embedder).items():
                measure(name, find, asked)
            result["load"] = round(load(store, asked[:50]), 3)
            for depth in (10, 100):
                result[f"found@{depth}"] = round(found(store, asked[:50], depth), 3)
    if not args.no_peers:
        for name, find in peers(chunks, vectors, embedder):
            measure(name, find, asked[: args.slow_queries] if name == "rank_bm25" else asked)
    report(
        f"search in {args.chunks:,} chunks",
        ["system", "p50 ms", "p95 ms", "least ms", "CPU ms, p50", "queries"],
        rows,
        result,
    )
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
