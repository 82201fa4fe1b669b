"""Measures against figures worked out by hand, intervals that behave, and collections in BEIR's shape."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.search import evaluate
from harness.search.sqlite_store import SqliteStore

DATA = Path(__file__).parents[2] / "shared" / "data" / "retrieval"


def test_ndcg_and_recall_by_hand() -> None:
    grades = {"a": 3, "b": 1, "c": 0, "d": -1}
    ideal = 3 + 1 / math.log2(3)
    assert evaluate.ndcg(["a", "b"], grades, 10) == pytest.approx(1)
    assert evaluate.ndcg(["x", "b", "d", "a"], grades, 10) == pytest.approx((1 / math.log2(3) + 3 / math.log2(5)) / ideal)
    assert evaluate.ndcg(["x", "a"], grades, 1) == 0
    assert evaluate.ndcg(["c"], {"c": 0}, 10) == 0
    assert evaluate.recall(["a", "c", "x"], grades, 2) == 0.5
    assert evaluate.recall(["a"], {}, 5) == 0


def test_intervals_hold_the_mean_and_repeat() -> None:
    values = np.random.default_rng(1).random(200)
    one = evaluate.interval(values)
    assert one.low < one.mean < one.high
    assert one.mean == pytest.approx(values.mean())
    assert one == evaluate.interval(values)
    better = evaluate.difference(values + 0.1, values)
    assert (better.low, better.high) == pytest.approx((0.1, 0.1))


def write(folder: Path, qrels: str) -> Path:
    rows = [
        {"_id": "d1", "title": "Wheat", "text": "Wheat grows in fields."},
        {"_id": "d2", "title": "", "text": "Barley grows by the sea."},
        {"_id": "d3", "title": "Empty", "text": ""},
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": "q1", "text": "wheat fields"}, {"_id": "q2", "text": "rye"}, {"_id": "q3", "text": "unjudged"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels.tsv").write_text(qrels)
    return folder


@pytest.mark.parametrize(
    "qrels",
    ["query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\nq3\td2\t0\n", "q1 0 d1 1\nq2 0 d2 2\nq3 0 d2 0\n"],
)
def test_a_collection_is_loaded_indexed_and_measured(tmp_path: Path, qrels: str) -> None:
    collection = evaluate.load(write(tmp_path, qrels))
    assert collection.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2}, "q3": {"d2": 0}}
    assert [query for query, _ in evaluate.judged(collection)] == ["q1", "q2"]
    with SqliteStore(tmp_path / "i.db") as store:
        evaluate.put(store, collection)
        scores = evaluate.measure(evaluate.lexical(store), collection)
    assert scores["ndcg@10"].tolist() == [1, 0]
    assert scores["recall@5"].tolist() == [1, 0]


@pytest.mark.parametrize("line", ["q1 d1", "q1 0 d1 x", "a b c d 1"])
def test_bad_judgements_name_their_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.tsv").write_text(f"q1 0 d1 1\n{line}\n")
    with pytest.raises(InputError, match=r"q\.tsv line 2: is no judgement"):
        evaluate.read_qrels(tmp_path / "q.tsv")


def test_bad_rows_name_their_line(tmp_path: Path) -> None:
    folder = write(tmp_path, "q1 0 d1 1\n")
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "x"}\n{"_id": "d2"}\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl line 2: lacks _id or text"):
        evaluate.load(folder)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data, which is not in the repository")
def test_cranfield_with_its_empty_documents_in_a_small_sample(tmp_path: Path) -> None:
    whole = evaluate.load(DATA / "cranfield")
    assert len(whole.corpus) == 1400
    kept = {name: text for name, text in whole.corpus.items() if int(name) <= 200 or name in ("471", "995")}
    queries = dict(list(whole.queries.items())[:20])
    qrels = {query: {doc: grade for doc, grade in whole.qrels[query].items() if doc in kept} for query in queries}
    sample = evaluate.Collection("cranfield", kept, queries, qrels)
    with SqliteStore(tmp_path / "i.db") as store:
        evaluate.put(store, sample)
        assert store.files()["cranfield"].documents == 200
        assert evaluate.measure(evaluate.lexical(store), sample)["ndcg@10"].mean() > 0.5
