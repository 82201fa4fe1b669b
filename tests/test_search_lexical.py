"""BM25 over large indexes: which terms find chunks, and that what they find is scored by all terms."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from search_helpers import put

from harness.search import sqlite_lexical, sqlite_store
from harness.search.bm25 import LexicalQuery, parse
from harness.search.sqlite_lexical import Counts, divided, matches
from harness.search.sqlite_store import SqliteStore
from harness.search.store import Scope

COUNTS = {"rare": 3, "scarce": 40, "common": 900, "usual": 2000, "everywhere": 60_000}


def count(match: str, most: int) -> int:
    return min(COUNTS.get(match.strip('"'), 0), most)


@pytest.mark.parametrize(
    ("words", "least", "scored", "finding", "others"),
    [
        ("usual rare common", 10, 5000, ["rare", "common", "usual"], []),
        ("usual rare common", 10, 1000, ["rare", "common"], ["usual"]),
        ("usual rare unknown common", 10, 100, ["rare", "common"], ["usual"]),
        ("rare scarce common", 40, 100, ["rare", "scarce"], ["common"]),
        ("everywhere usual", 10, 100, ["usual"], ["everywhere"]),
        ("everywhere", 10, 100, ["everywhere"], []),
        ("unknown", 10, 100, [], []),
    ],
)
def test_the_rarest_terms_find(words: str, least: int, scored: int, finding: list[str], others: list[str]) -> None:
    assert divided(words.split(), count, least, scored) == (finding, others)


def test_frequencies_are_counted_no_further_than_needed() -> None:
    asked: list[int] = []

    def counting(match: str, most: int) -> int:
        asked.append(most)
        return count(match, most)

    divided(["everywhere", "usual"], counting, 10, 100)
    assert asked == [101, 101, 401, 401, 1601, 1601, 6401, 6401]
    asked.clear()
    divided(["everywhere", "scarce", "usual"], counting, 10, 100)
    assert asked == [101, 101, 101]


def test_counts_are_kept_until_the_index_changes() -> None:
    asked: list[tuple[str, int]] = []

    def counting(match: str, most: int) -> int:
        asked.append((match, most))
        return count(match, most)

    counts = Counts(counting)
    assert [counts.of(1)('"common"', 100) for _ in range(3)] == [100] * 3
    assert counts.of(1)('"common"', 50) == 50
    assert len(asked) == 1
    assert counts.of(1)('"common"', 5000) == counts.of(1)('"common"', 9000) == 900  # it had not been counted to the end
    assert counts.of(1)('"unknown"', 10) == counts.of(1)('"unknown"', 10) == 0
    assert len(asked) == 3
    assert counts.of(2)('"common"', 5000) == 900
    assert asked[-1] == ('"common"', 5000)


def test_a_changed_index_is_counted_anew(store: SqliteStore) -> None:
    assert not store.lexical(parse("zebra"), 10, Scope())
    put(store, "/z.csv", "A zebra stands alone.")
    assert len(store.lexical(parse("zebra"), 10, Scope())) == 1


def test_queries_as_fts5_takes_them() -> None:
    query = LexicalQuery(("usual", "rare"), without=("bad",))
    assert matches(query, count, 1, 100) == [
        '(("rare") AND ("usual")) NOT ("bad")',
        '("rare") NOT ("bad")',
    ]
    assert matches(query, count, 1, 5000) == ['("rare" OR "usual") NOT ("bad")']
    phrased = LexicalQuery(("usual",), phrases=("rare thing",))
    assert matches(phrased, count, 1, 1) == [phrased.match]
    assert matches(LexicalQuery(()), count, 1, 1) == []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Six hundred chunks of words whose frequency falls with their number."""
    numbers = random.Random(0)
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}x" for n in range(200)]
    chances = [1 / (n + 2) for n in range(200)]
    texts = [" ".join(numbers.choices(words, chances, k=numbers.randint(20, 60))) + "." for _ in range(600)]
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a.csv", *texts)
        put(store, "/b.csv", *texts[:50], references=True)
        yield store


@pytest.mark.parametrize("scored", [1, 30, 100, 300])
@pytest.mark.parametrize("references", [False, True])
def test_what_is_found_has_the_score_of_all_terms(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, scored: int, references: bool
) -> None:
    scope = Scope(references=references)
    numbers = random.Random(1)
    same = total = 0
    for _ in range(20):
        words = " ".join(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}x" for n in numbers.sample(range(200), 5))
        query = parse(f"{words} -wordabx")
        monkeypatch.setattr(sqlite_store, "matches", partial(sqlite_lexical.matches, scored=10**9))
        exact = store.lexical(query, 1000, scope)
        monkeypatch.setattr(sqlite_store, "matches", partial(sqlite_lexical.matches, scored=scored))
        ours = store.lexical(query, 5, scope)
        assert len({chunk for chunk, _ in ours}) == len(ours) == min(5, len(exact))
        assert ours == sorted(ours, key=lambda item: (-item[1], item[0]))
        scores = dict(exact)
        everywhere = Scope(("/a.csv", "/b.csv"), references)  # naming files takes the exact way
        assert [chunk for chunk, _ in store.lexical(query, 5, everywhere)] == [chunk for chunk, _ in exact[:5]]
        assert [score for _, score in ours] == pytest.approx([scores[chunk] for chunk, _ in ours])
        same += len({chunk for chunk, _ in ours} & {chunk for chunk, _ in exact[:5]})
        total += len(ours)
    assert same / total > (0.95 if scored == 300 else 0.5)
