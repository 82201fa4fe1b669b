"""Terms of the corpus in a search: which ones, with what weight, and what they change in the ranking."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_helpers import put

from harness.cli import main
from harness.search.bm25 import LexicalQuery, parse
from harness.search.feedback import Feedback, Term, corpus_terms, cut, expansion_line, parts, shown
from harness.search.search import Line, Plan, explain, search
from harness.search.sqlite_store import SqliteStore, index_path
from harness.search.sqlite_terms import Stemmer
from harness.search.store import Ranked, Scope

ABOUT_TIDES = (
    "Tides rise twice a day because the moon pulls at the sea.",
    "The tides in this bay follow the moon and reach four metres.",
    "Spring tides come with a new moon, neap tides with a half moon.",
)
HIDDEN = "The moon drags the ocean along as the earth turns below it."
"""Of the same subject, without the word that is looked for."""
OTHERS = tuple(f"Bread number {n} is baked from flour, water and salt in an oven." for n in range(40))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "i.db") as opened:
        put(opened, "/p.csv", *ABOUT_TIDES, HIDDEN, *OTHERS)
        yield opened


def found_for(store: SqliteStore, text: str) -> Ranked:
    return store.lexical(parse(text), 100, Scope())


def texts(store: SqliteStore, query: str, feedback: Feedback | None = None) -> list[str]:
    return [hit.chunk.text for hit in search(store, query, plan=Plan(feedback=feedback)).hits]


def test_terms_are_what_the_best_chunks_have_in_common(store: SqliteStore) -> None:
    terms = corpus_terms(store, found_for(store, "tides"), Feedback())
    words = [term.word for term in terms]
    assert set(words) == {"tides", "moon"}  # every other word stands in one of them, or is a function word
    assert terms[0].weight == 1.0
    assert all(term.weight in (1.0, 0.5, 0.25, 0.125) for term in terms)


def test_a_chunk_without_the_word_is_found_by_its_subject(store: SqliteStore) -> None:
    assert HIDDEN not in texts(store, "tides")
    assert texts(store, "tides", Feedback()) == [*texts(store, "tides"), HIDDEN]


def test_common_words_are_no_terms(store: SqliteStore) -> None:
    assert corpus_terms(store, found_for(store, "flour"), Feedback()) == []
    assert {term.word for term in corpus_terms(store, found_for(store, "flour"), Feedback(common=1.0))} >= {"flour", "salt"}


def test_a_single_chunk_has_nothing_in_common_with_itself(store: SqliteStore) -> None:
    found = search(store, "neap", plan=Plan(feedback=Feedback()))
    assert [hit.chunk.text for hit in found.hits] == [ABOUT_TIDES[2]]
    assert found.notes == ("terms of the corpus left out: what was found has none in common",)


def test_the_terms_can_be_seen(store: SqliteStore) -> None:
    found = search(store, "tides", plan=Plan(feedback=Feedback()))
    assert all(step.type == "corpus" for hit in found.hits for step in hit.steps)
    assert re.search(r"bm25  corpus .*tides \+ (moon tides|tides moon)", "\n".join(explain(found)))


def test_exclusions_and_phrases_of_the_question_hold(store: SqliteStore) -> None:
    wide = texts(store, "tides", Feedback())
    assert texts(store, "tides -ocean", Feedback()) == [text for text in wide if "ocean" not in text]
    assert texts(store, 'tides "new moon"', Feedback()) == [ABOUT_TIDES[2]]


def test_a_scope_holds(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "two.db") as store:
        put(store, "/a.csv", *ABOUT_TIDES, *OTHERS)
        put(store, "/b.csv", HIDDEN)
        only = Plan(scope=Scope(("/a.csv",)), feedback=Feedback())
        assert all(hit.chunk.file == "/a.csv" for hit in search(store, "tides", plan=only).hits)


def test_a_store_that_does_not_know_its_words_is_searched_without(store: SqliteStore) -> None:
    class Plain:
        """Only what ``Store`` asks for."""

        lexical, chunks = store.lexical, store.chunks

    found = search(Plain(), "tides", plan=Plan(feedback=Feedback()))  # type: ignore[arg-type]
    assert [hit.chunk.text for hit in found.hits] == texts(store, "tides")
    assert "does not know its words" in found.notes[0]


def test_the_same_index_gives_the_same_terms(store: SqliteStore, tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "again.db") as again:
        put(again, "/p.csv", *ABOUT_TIDES, HIDDEN, *OTHERS)
        first, second = (corpus_terms(one, found_for(one, "tides moon"), Feedback()) for one in (store, again))
    assert first == second


def test_own_words_share_one_and_the_terms_their_share() -> None:
    terms = [Term("a", 1.0), Term("b", 0.5), Term("c", 0.5)]
    made = parts(LexicalQuery(("x", "y"), without=("z",)), terms, Feedback(share=0.4))
    assert [(part.words, part.without) for part, _ in made] == [
        (("x", "y"), ("z",)),
        (("a",), ("z",)),
        (("b", "c"), ("z",)),
    ]
    assert [weight for _, weight in made] == pytest.approx([0.5, 0.2, 0.1])
    assert parts(LexicalQuery(("x",)), [], Feedback()) == [(LexicalQuery(("x",)), 1.0)]


def test_a_question_of_exclusions_alone_is_answered_by_its_lines(store: SqliteStore) -> None:
    found = search(store, "-oven", lines=[Line("lex", "ocean")], plan=Plan(feedback=Feedback()))
    assert [hit.chunk.text for hit in found.hits] == [HIDDEN]
    assert search(store, "-oven", plan=Plan(feedback=Feedback())).hits == ()


def test_lex_lines_join_by_score_with_little_weight(store: SqliteStore) -> None:
    plan = Plan(feedback=Feedback(), sure_ratio=0)
    found = search(store, "tides", lines=[Line("lex", "oven flour")], plan=plan)
    own = search(store, "tides", plan=plan)
    shown_first = [hit.chunk.text for hit in found.hits][: len(own.hits)]
    assert shown_first == [hit.chunk.text for hit in own.hits]  # a line that has drifted moves nothing
    helped = search(store, "neap", lines=[Line("lex", "ocean moon")], plan=plan)
    assert HIDDEN in [hit.chunk.text for hit in helped.hits]
    assert {step.type for hit in helped.hits for step in hit.steps} == {"corpus"}
    assert "neap + ocean moon" in helped.hits[0].steps[0].query


def test_a_weighted_sum_is_the_sum_of_the_rankings(store: SqliteStore) -> None:
    made = [(parse("tides"), 0.7), (parse("moon sea"), 0.2)]
    sums: dict[int, float] = {}
    for query, weight in made:
        for chunk, score in store.lexical(query, 100, Scope()):
            sums[chunk] = sums.get(chunk, 0.0) + weight * score
    ranked = store.weighted(made, list(sums), Scope())
    assert dict(ranked) == pytest.approx(sums)
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)
    some = sorted(sums)[:2]
    assert dict(store.weighted(made, some, Scope())) == pytest.approx({chunk: sums[chunk] for chunk in some})
    assert dict(store.weighted(made[:1], list(sums), Scope())) == pytest.approx(
        {chunk: 0.7 * score for chunk, score in store.lexical(made[0][0], 100, Scope())}
    )
    assert store.weighted(made, list(sums), Scope(("/q.csv",))) == []
    assert store.weighted([(LexicalQuery(()), 1.0)], some, Scope()) == []


def test_stems_are_those_of_the_index() -> None:
    stemmer = Stemmer()
    assert stemmer.stems(["tides", "tide", "naïve", "", "co-op", "tides"]) == ["tide", "tide", "naiv", "", "", "tide"]
    stemmer.close()
    assert stemmer.stems(["moons"]) == ["moon"]


def test_expand_can_have_the_terms_as_a_line(store: SqliteStore) -> None:
    assert set(expansion_line(store, "tides", 120).split()) == {"tides", "moon"}
    assert expansion_line(store, "tides", 120, Scope(("/q.csv",))) == ""


@given(st.lists(st.sampled_from("moon tide bay spring metres ocean".split()), max_size=12), st.integers(0, 60))
def test_a_line_for_expand_is_as_long_as_it_may_be(words: Sequence[str], longest: int) -> None:
    terms = [Term(word, 1.0) for word in words]
    line = cut(terms, longest)
    assert len(line) <= longest
    assert shown(terms).startswith(line)


def test_index_takes_a_flag_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    index_path().parent.mkdir(parents=True)
    with SqliteStore(index_path()) as store:
        put(store, "/p.csv", *ABOUT_TIDES, HIDDEN, *OTHERS)
    assert main(["/index --find tides"]) == 0
    assert "ocean" not in capsys.readouterr().out
    assert main(["/index --find tides --corpus --explain"]) == 0
    shown_ = capsys.readouterr().out
    assert "ocean" in shown_
    assert "corpus" in shown_
    assert main(["/index --list --corpus"]) == 2
