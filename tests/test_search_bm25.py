"""What a user types is a query that FTS5 takes, whatever it is; phrases are required, exclusions excluded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_helpers import put

from harness.search.bm25 import MOST_TERMS, parse
from harness.search.sqlite_store import SqliteStore
from harness.search.store import Scope

SIGNS = '"“”-*^:(){}+., \0ANDORNTEaß中\ud800٣\u0301'
ANYTHING = st.one_of(
    st.text(), st.text(alphabet=SIGNS), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path_factory.mktemp("bm25") / "index.db") as opened:
        put(
            opened, "/papers.csv",
            "Caches in long inputs evict tokens.", "Long and short inputs are compared on graphs.",
            "IL-2 signalling in naïve T cells NEAR the gut.", "Wheat AND barley grow.", "Coordinates fall by -5 units.",
        )  # fmt: skip
        yield opened


def rows(store: SqliteStore, text: str) -> list[int]:
    ids = [chunk for chunk, _ in store.lexical(parse(text), 10, Scope())]
    return [int(chunk.place.removeprefix("row ")) for chunk in store.chunks(ids)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("evicting token caches", [1]),
        ('"long inputs"', [1]),
        ('"long inputs" graphs', [1]),
        ("long inputs -graphs", [1]),
        ('inputs -"long inputs"', [2]),
        ("naive", [3]),
        ("IL-2", [3]),
        ("il", [3]),
        ("NEAR", [3]),
        ("units -5", [5]),
        ("barley AND NOT OR", [4]),
        ("-graphs", []),
        ("header : wheat", [4]),
        ("text:wheat*", [4]),
        ('wheat "', [4]),
        ("“long inputs”", [1]),
        ("", []),
        ('"" - ^ * ( ) { } : + . "', []),
    ],
)
def test_queries(store: SqliteStore, text: str, found: list[int]) -> None:
    assert rows(store, text) == found


def test_function_words_count_only_where_there_is_nothing_else() -> None:
    assert parse("What is the effect of it?").words == ("effect",)
    assert parse("to be or not to be").words == ("to", "be", "or", "not")
    assert parse('the "to be"').words == ()


def test_a_word_with_a_hyphen_is_looked_for_whole_and_in_parts(store: SqliteStore) -> None:
    assert parse("T-cell").words == ("t-cell", "t", "cell")
    assert parse("Alzheimer's").words == ("alzheimer",)
    assert rows(store, "T-cells") == [3]


def test_an_essay_is_cut_to_what_sqlite_can_take(store: SqliteStore) -> None:
    essay = " ".join(f"word{n}" for n in range(50_000)) + ' -no "a phrase"'
    assert len(parse(essay).words) == MOST_TERMS
    assert rows(store, essay) == []
    assert rows(store, "wheat " * 5000) == [4]
    assert rows(store, " ".join(f'"{n} {n}"' for n in range(5000))) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING)
def test_no_text_can_break_a_query(store: SqliteStore, text: str) -> None:
    query = parse(text)
    store.lexical(query, 5, Scope(files=("/papers.csv",), references=True))
    assert store.accepted([1, 2], query) <= {1, 2}


def test_the_rarer_word_counts_more_and_a_title_twice(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a", "Nothing of interest stands here at all.", title="Pruning")
        put(store, "/b", "Pruning is mentioned here in a long text about nothing in particular.", title="Other")
        put(store, "/c", "Here are other words in the text.", title="Third")
        first = store.chunks([chunk for chunk, _ in store.lexical(parse("pruning"), 5, Scope())])
        assert [chunk.file for chunk in first] == ["/a", "/b"]
