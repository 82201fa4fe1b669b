"""Whether query expansion helps to find papers: BM25 alone against all that this project can add to it.

    python benchmarks/expansion_retrieval.py [--model qmd-expand:mini] [--sets cisi] [--embed F.gguf] [--choose]

Systems, all over the same store: RM3 with the settings that Anserini made usual; the fixed template, which knows nothing;
terms of the corpus (harness/search/feedback.py) in the question, or as a lex line of an expansion; and for each ``--model``
(any that finetune/eval.py expand takes: registry name, Ollama tag, GGUF, folder, .jsonl of expansions) its lines alone and
together with terms of the corpus. "used on" is the share of queries on which the ranking was made with the expansion at
all (lines are left out where BM25 is sure); "where used" is the difference on those.

With ``--embed`` (a model of Ollama or a .gguf file; ``minilm.py`` makes one) all is fused with vectors, vec and hyde lines
take part, and what the others are compared with is BM25 fused with vectors.

"scifact" is the 300 queries of BEIR's test set; "scifact, train claims" are the claims of its training set, which nothing
here was chosen on. ``--choose`` repeats the choice of the feedback's settings honestly: for each set, those that are best
on the two other sets are measured on it. Intervals are 95% by bootstrap over queries, differences are paired.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from common import DATA, need, report
from kept_vectors import open_kept
from relevance_feedback import Feedback as Rm3

from finetune.evaluation.counts import Estimate, verdict
from finetune.evaluation.expansion_queries import typed
from finetune.evaluation.expansion_retrieval import lines_for_search, query_of
from finetune.evaluation.expansion_source import How, expansions
from finetune.rewards.adversaries import Gold, wordy_template
from harness.config import home, load_settings
from harness.console import stderr_console
from harness.search import evaluate
from harness.search.embedders import embed_new
from harness.search.evaluate import Collection, Floats, Rank
from harness.search.feedback import Feedback, expansion_line
from harness.search.search import Line, Plan, parse_line, search
from harness.search.sqlite_store import SqliteStore
from harness.search.vectors import Embedder
from skills.expand.expansion import LONGEST

SETS = ("scifact", "cranfield", "cisi")
TRAIN = "scifact, train claims"
METRICS = ("ndcg@10", "recall@5", "recall@100")
DEPTH = 300
GRID = tuple(Feedback(*values) for values in itertools.product((10, 20), (10, 20), (0.2, 0.3, 0.5)))
"""Chunks, terms, share."""
Lines = Mapping[str, Sequence[Line]]


class System:
    """Our search with some lines and settings; it notes on which queries more than the question made its ranking."""

    def __init__(
        self,
        store: SqliteStore,
        lines: Lines | None = None,
        feedback: Feedback | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._store, self._lines, self._embedder = store, lines or {}, embedder
        self._plan = Plan(limit=DEPTH, depth=DEPTH, feedback=feedback)
        self.used: list[bool] = []
        self.seconds: list[float] = []

    def __call__(self, text: str) -> list[str]:
        started = time.process_time()
        found = search(self._store, text, lines=self._lines.get(text, ()), embedder=self._embedder, plan=self._plan)
        self.seconds.append(time.process_time() - started)
        self.used.append(any(step.type != "original" for hit in found.hits for step in hit.steps))
        return [hit.chunk.paper for hit in found.hits]


def collections(name: str) -> dict[str, Collection]:
    """The collections of a set, by label, over the same documents: SciFact makes two."""
    folder = need(DATA / "retrieval" / name)
    if name != "scifact":
        return {name: evaluate.load(folder)}
    test = evaluate.load(folder, "qrels_beir_test.trec")
    cited = evaluate.read_qrels(folder / "qrels_cited.tsv")
    rows = map(json.loads, (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    train = {row["_id"] for row in rows if row.get("split") == "train"} - set(test.qrels)
    return {name: test, TRAIN: replace(test, qrels={query: cited[query] for query in cited if query in train})}


def texts_of(collection: Collection) -> list[str]:
    """The judged queries."""
    return [collection.queries[query] for query, _ in evaluate.judged(collection)]


def template(text: str) -> list[Line]:
    """What the fixed template makes of a query."""
    query = query_of(text)
    written = wordy_template(Gold(typed(query), ()), (), Random(0)) if query else ""
    return [parse_line(line) for line in written.splitlines()]


def corpus_line(store: SqliteStore, text: str) -> list[Line]:
    """Terms of the corpus as a lex line, as /expand can give them to any search."""
    line = expansion_line(store, text, LONGEST["lex"])
    return [Line("lex", line)] if line else []


def lines_by(model: str, texts: Sequence[str]) -> Lines:
    """The lines of a model for the texts of queries."""
    queries = {text: query for text in texts if (query := query_of(text))}
    wanted = list(dict.fromkeys(queries.values()))
    how = How(load_settings({}), stderr_console(), home() / "evaluation.db")
    of = dict(zip(wanted, expansions(model, wanted, how).expanded, strict=True))
    return {text: lines_for_search(of[query].lines) for text, query in queries.items()}


def systems(
    store: SqliteStore, index: Path, models: Sequence[str], texts: Sequence[str], embedder: Embedder | None
) -> Iterator[tuple[str, Rank]]:
    """What the others are compared with first: BM25, with an embedder fused with vectors."""

    def ours(lines: Lines | None = None, feedback: Feedback | None = None) -> System:
        return System(store, lines, feedback, embedder)

    if embedder is not None:
        yield "BM25 + vectors", ours()
    yield "BM25", evaluate.lexical(store, DEPTH)
    if embedder is None:
        yield "RM3", Rm3(index).rm3
    yield "fixed template", ours({text: template(text) for text in texts})
    yield "corpus terms", ours(feedback=Feedback())
    if embedder is None:
        yield "corpus line", ours({text: corpus_line(store, text) for text in texts})
    for model in models:
        lines = lines_by(model, texts)
        yield model, ours(lines)
        yield f"{model} + corpus terms", ours(lines, Feedback())


def on(
    collection: Collection, store: SqliteStore, index: Path, models: Sequence[str], embedder: Embedder | None
) -> Iterator[dict[str, Any]]:
    """The figures of each system on one collection."""
    base: dict[str, Floats] = {}
    for name, rank in systems(store, index, models, texts_of(collection), embedder):
        scores = evaluate.measure(rank, collection)
        base = base or scores
        own = isinstance(rank, System)
        used = np.array(rank.used) if isinstance(rank, System) else np.ones(len(scores["ndcg@10"]), bool)
        row: dict[str, Any] = {metric: _bounds(evaluate.interval(scores[metric])) for metric in METRICS}
        row |= {"system": name, "used": round(float(used.mean()), 3) if own else None}
        row["ms"] = round(1000 * float(np.median(rank.seconds)), 1) if isinstance(rank, System) else None
        if scores is not base:
            gains = scores["ndcg@10"] - base["ndcg@10"]
            row["against"] = _bounds(evaluate.interval(gains))
            row["verdict"] = verdict(Estimate(*row["against"]))
            row["where_used"] = _bounds(evaluate.interval(gains[used])) if used.any() else None
            row["recall@100_against"] = _bounds(evaluate.difference(scores["recall@100"], base["recall@100"]))
        yield row


def chosen_elsewhere(gains: Mapping[str, Sequence[Floats]]) -> dict[str, dict[str, Any]]:
    """For each set the gain with the settings of ``GRID`` that have the best mean gain over the other sets."""
    means = {name: np.array([values.mean() for values in per_setting]) for name, per_setting in gains.items()}
    found = {}
    for name in gains:
        best = int(np.mean([means[other] for other in gains if other != name], axis=0).argmax())
        bounds = _bounds(evaluate.interval(gains[name][best]))
        setting = GRID[best]
        found[name] = {
            "settings": [setting.chunks, setting.terms, setting.share],
            "against": bounds,
            "verdict": verdict(Estimate(*bounds)),
            "worst_of_grid": round(float(means[name].min()), 4),
            "best_of_grid": round(float(means[name].max()), 4),
        }
    return found


def grid_gains(collection: Collection, store: SqliteStore) -> list[Floats]:
    """The gain in nDCG@10 of each query over BM25, for every setting."""
    base = evaluate.measure(evaluate.lexical(store, DEPTH), collection)["ndcg@10"]
    return [evaluate.measure(System(store, feedback=one), collection)["ndcg@10"] - base for one in GRID]


def _bounds(found: evaluate.Interval) -> list[float]:
    return [round(found.mean, 4), round(found.low, 4), round(found.high, 4)]


def _shown(bounds: Sequence[float] | None, form: str) -> str:
    return "" if bounds is None else f"{bounds[0]:{form}} [{bounds[1]:{form}} {bounds[2]:{form}}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="REF", help="whose lines are tried; repeatable")
    parser.add_argument("--embed", metavar="NAME", help="an embedding model of Ollama, or a .gguf file")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--choose", action="store_true", help="choose the settings of feedback on the other sets")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()

    embedder = open_kept(args.embed) if args.embed else None
    base = "BM25 + vectors" if embedder is not None else "BM25"
    table: list[list[str]] = []
    result: dict[str, Any] = {}
    gains: dict[str, Sequence[Floats]] = {}
    for name in args.sets:
        labelled = collections(name)
        with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder) / "index.db") as store:
            evaluate.put(store, next(iter(labelled.values())))
            if embedder is not None:
                embed_new(store, embedder, stderr_console())
            for label, collection in labelled.items():
                result[label] = list(on(collection, store, Path(folder) / "index.db", args.model, embedder))
            if args.choose:
                gains[name] = grid_gains(labelled[name], store)
        for label in labelled:
            for row in result[label]:
                used = "" if row["used"] is None else f"{row['used']:.0%}"
                cells = [_shown(row[metric], ".3f") for metric in METRICS]
                against = [_shown(row.get(key), "+.3f") for key in ("against", "where_used")]
                table.append([label, row["system"], *cells, against[0], row.get("verdict", ""), used, against[1]])
    header = ["set", "system", *METRICS, f"nDCG@10 against {base}", "", "used on", "where used"]
    report("query expansion and retrieval", header, table, {"sets": result})
    if len(gains) > 2:
        chosen = chosen_elsewhere(gains)
        rows = [
            [name, "/".join(map(str, row["settings"])), _shown(row["against"], "+.3f"), row["verdict"],
             f"{row['worst_of_grid']:+.3f} to {row['best_of_grid']:+.3f}"]
            for name, row in chosen.items()
        ]  # fmt: skip
        header = ["set", "chunks/terms/share", "nDCG@10 against BM25", "", "all settings"]
        report("settings of feedback chosen on the two other sets", header, rows, {"chosen": chosen})
        result["chosen"] = chosen
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
