"""From a question to passages: fusion by rank and type, expansions, gating, and an account of every score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from search_helpers import embedder, put

from harness.errors import UsageError
from harness.search.fusion import K, Ranking, fuse
from harness.search.index import embed
from harness.search.search import Line, Plan, explain, is_sure, parse_line, record, search
from harness.search.sqlite_store import SqliteStore

TEXTS = (
    "Cache eviction drops tokens that were not used lately.",
    "Sparse attention looks at few tokens of the input.",
    "Wheat is sown in spring and cut in late summer.",
    "Attention over graphs takes nodes for tokens.",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "i.db") as opened:
        put(opened, "/p.csv", *TEXTS)
        embed(opened, embedder())
        yield opened


def texts(found: object) -> list[str]:
    return [hit.chunk.text for hit in found.hits]  # type: ignore[attr-defined]


def test_fusion_adds_weighted_reciprocal_ranks() -> None:
    own = Ranking("bm25", "original", "q", [1, 2], [9.0, 8.0])
    lex = Ranking("bm25", "lex", "r", [2, 3], [5.0, 4.0])
    fused = {item.id: item for item in fuse([own, lex])}
    assert fused[1].score == pytest.approx(2 / (K + 1))
    assert fused[2].score == pytest.approx(2 / (K + 2) + 1 / (K + 1))
    assert [item.id for item in fuse([own, lex])] == [2, 1, 3]
    assert [(step.type, step.rank, step.score) for step in fused[2].steps] == [("original", 2, 8.0), ("lex", 1, 5.0)]
    assert [item.id for item in fuse([lex, own])] == [2, 1, 3]
    assert fuse([]) == []


def test_the_original_outweighs_an_expansion_wherever_it_stands() -> None:
    own = Ranking("bm25", "original", "q", [1], [1.0])
    other = Ranking("dense", "hyde", "h", [2], [1.0])
    assert fuse([other, own])[0].id == fuse([own, other])[0].id == 1


def test_bm25_alone_needs_no_model(store: SqliteStore) -> None:
    found = search(store, "Which tokens does cache eviction drop?")
    assert texts(found)[0] == TEXTS[0]
    assert {step.stage for hit in found.hits for step in hit.steps} == {"bm25"}


def test_dense_finds_what_shares_no_term_and_both_are_fused(store: SqliteStore) -> None:
    found = search(store, "wheat", embedder=embedder(), plan=Plan(limit=4))
    assert texts(found)[0] == TEXTS[2]
    assert [step.stage for step in found.hits[0].steps] == ["bm25", "dense"]
    assert len(found.hits) == 4


def test_lines_join_by_their_type(store: SqliteStore) -> None:
    lines = [Line("lex", "graph nodes"), Line("vec", "attention on graphs"), Line("hyde", TEXTS[3])]
    found = search(store, "attention", lines=lines, embedder=embedder(), plan=Plan(sure_ratio=0))
    assert texts(found)[0] == TEXTS[3]
    steps = {(step.stage, step.type) for step in found.hits[0].steps}
    assert steps == {("bm25", "original"), ("bm25", "lex"), ("dense", "original"), ("dense", "vec"), ("dense", "hyde")}
    hyde = next(step for step in found.hits[0].steps if step.type == "hyde")
    assert (hyde.rank, hyde.weight) == (1, 1.0)
    assert hyde.score == pytest.approx(1, abs=1e-3)


def test_without_a_model_dense_lines_are_left_out_and_told(store: SqliteStore) -> None:
    found = search(store, "attention", lines=[Line("vec", "x"), Line("lex", "graphs")], plan=Plan(sure_ratio=0))
    assert found.notes == ("vec and hyde lines left out: there is no embedding model",)
    assert texts(found)[0] == TEXTS[3]


def test_phrases_and_exclusions_hold_for_vectors_too(store: SqliteStore) -> None:
    found = search(store, 'tokens "sparse attention"', embedder=embedder())
    assert texts(found) == [TEXTS[1]]
    lines = [Line("lex", "graphs")]
    found = search(store, "attention tokens -graphs", embedder=embedder(), lines=lines, plan=Plan(sure_ratio=0))
    assert TEXTS[3] not in texts(found)
    assert len(found.hits) == 3
    dense = next(step for hit in found.hits for step in hit.steps if step.stage == "dense")
    assert dense.query == "attention tokens -graphs"


def test_expansions_are_left_out_where_bm25_is_sure(store: SqliteStore) -> None:
    lines = [Line("lex", "attention")]
    sure = search(store, "cache eviction tokens", lines=lines)
    assert sure.notes == ("expansion left out: BM25 is sure",)
    assert {step.type for hit in sure.hits for step in hit.steps} == {"original"}
    assert search(store, "attention", lines=lines).notes == ()
    assert not is_sure(store, Ranking("bm25", "original", "q", [1], [9.0]), 1.5)


def test_every_score_is_explained(store: SqliteStore) -> None:
    found = search(store, "attention", embedder=embedder(), plan=Plan(limit=2))
    lines = explain(found)
    assert len(lines) == 2 + sum(len(hit.steps) for hit in found.hits)
    for hit in found.hits:
        assert hit.score == pytest.approx(sum(step.points for step in hit.steps))
    assert f"2/({K} + 1)" in "\n".join(lines)
    facts = record(found.hits[0], 1, True)
    assert facts["where"] == found.hits[0].chunk.place
    assert facts["page"] is None
    assert {step["stage"] for step in facts["steps"]} == {"bm25", "dense"}
    assert "steps" not in record(found.hits[0], 1, False)


def test_lines_are_parsed_strictly() -> None:
    assert parse_line(" LEX : cache eviction ") == Line("lex", "cache eviction")
    for text in ("cache", "lex:", "other: x", ""):
        with pytest.raises(UsageError, match="is no line of an expansion"):
            parse_line(text)


def test_an_empty_index_and_an_empty_question(tmp_path: Path, store: SqliteStore) -> None:
    with SqliteStore(tmp_path / "empty.db") as empty:
        assert search(empty, "anything", embedder=embedder()).hits == ()
    assert search(store, "?!").hits == ()
