"""Whether expansions help to find documents: BM25 with and without their lines, on test collections."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune.evaluation.counts import Estimate, verdict
from harness.errors import InputError, UsageError
from harness.search import evaluate
from harness.search.evaluate import Collection
from harness.search.search import Line, Plan, parse_line, search
from harness.search.sqlite_store import SqliteStore
from skills.expand import expansion
from skills.expand.prompt import LONGEST_QUERY, Query, parse_query

METRICS = ("ndcg@10", "recall@5", "recall@100")
DEPTH = 300
"""Chunks taken from each ranking; a paper may have several."""


def load_collections(folder: Path, limit: int = 0) -> list[Collection]:
    """The collection in a folder, or those in the folders below it, in the shape of BEIR.

    Judgements come from a file named ``qrels*test*`` where there is one. With ``limit`` only the first judged queries are
    kept. Raises InputError where there is no collection.
    """
    places = [path.parent for path in (folder / "corpus.jsonl", *sorted(folder.glob("*/corpus.jsonl"))) if path.is_file()]
    if not places:
        raise InputError(f"{folder}: holds no corpus.jsonl", "give a folder in the shape of BEIR, or one of such folders")
    found = []
    for place in places:
        tests = sorted(path.name for path in place.glob("qrels*test*") if path.is_file())
        collection = evaluate.load(place, tests[0] if tests else "")
        judged = [query for query, _ in evaluate.judged(collection)]
        if not judged:
            raise InputError(f"{place}: none of its queries is judged", "are queries and judgements of the same set?")
        kept = judged[: limit or None]
        found.append(replace(collection, queries={query: collection.queries[query] for query in kept}))
    return found


def query_of(text: str) -> Query | None:
    """A query of a collection as /expand takes it; None where it cannot be expanded (no word in it)."""
    try:
        return parse_query(text[:LONGEST_QUERY])
    except (InputError, UsageError):
        return None


def lines_for_search(lines: Sequence[expansion.Line]) -> tuple[Line, ...]:
    """The lines of an expansion as ``harness.search`` takes them."""
    return tuple(parse_line(str(line)) for line in lines)


def measure(collection: Collection, lines: Mapping[str, Sequence[Line]], plan: Plan, *, seed: int) -> dict[str, Any]:
    """The figures of one collection: BM25 alone, with the lines of each query's text, and the paired differences.

    Beside those on all queries stand those on the queries where the expansion was really used.
    """
    plan = replace(plan, limit=DEPTH, depth=DEPTH)
    used: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder) / "index.db") as store:
        evaluate.put(store, collection)

        def expanded(text: str) -> list[str]:
            found = search(store, text, lines=lines.get(text, ()), plan=plan)
            used[text] = any(step.type != "original" for hit in found.hits for step in hit.steps)
            return [hit.chunk.paper for hit in found.hits]

        without = evaluate.measure(evaluate.lexical(store, DEPTH), collection)
        with_ = evaluate.measure(expanded, collection)
    open_ = np.array([used[collection.queries[query]] for query, _ in evaluate.judged(collection)])
    return {
        "queries": len(open_),
        "expanded": int(open_.sum()),
        **{name: compared(without[name], with_[name], open_, seed=seed) for name in METRICS},
    }


def compared(without: evaluate.Floats, with_: evaluate.Floats, used: Any, *, seed: int) -> dict[str, Any]:
    """One metric without and with expansions, the difference on all queries and on those ``used``, and the verdict."""
    record: dict[str, Any] = {
        "without": _bounds(evaluate.interval(without, seed)),
        "with": _bounds(evaluate.interval(with_, seed)),
        "difference": _bounds(evaluate.difference(with_, without, seed)),
    }
    value, low, high = record["difference"]
    record["verdict"] = verdict(Estimate(value, low, high))
    if used.any():
        record["difference_where_used"] = _bounds(evaluate.difference(with_[used], without[used], seed))
    return record


def _bounds(found: evaluate.Interval) -> list[float]:
    return [round(found.mean, 4), round(found.low, 4), round(found.high, 4)]
