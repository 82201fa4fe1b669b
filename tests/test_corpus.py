"""The corpus store: what goes in, what is found again, how often moves are stated."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from harness.annotation_files import problem_with
from harness.annotation_tables import confidence
from harness.corpus import Corpus
from harness.corpus_papers import facts_of, identify
from harness.corpus_query import Filters, parse_years, to_fts
from harness.errors import InputError, UsageError


def annotation(paper_id: str, title: str = "", status: str = "ok", **moves: Any) -> dict[str, Any]:
    """A record; a move is a text, (text, confidence), or None for not stated."""
    entries = {}
    for name, move in moves.items():
        text, sure = move if isinstance(move, tuple) else (move, None)
        entry = {"text": text, "sentences": [1], "spans": [[0, 5]]}
        entries[name] = None if move is None else entry if sure is None else {**entry, "confidence": sure}
    return {"id": paper_id, "title": title, "status": status, "moves": entries, "style": "quote", "error": None}


PAPERS = [
    (
        annotation("2402.11651v2", "Small agents", claim="Agents get fast.", limitation=("Latency stays high.", 0.9)),
        {"published": "2024-02-18T17:10:07Z", "categories": "cs.CL cs.AI", "authors": "Ada Nova, Bo Lund"},
    ),
    (
        annotation("2501.00001v1", "Tiny models", claim="We shrink models.", limitation=("High latencies remain.", 0.4)),
        {"published": "2025-01-01", "categories": "cs.LG", "abstract": "A study of on-device privacy and c++."},
    ),
    (
        annotation("W77", "Fields of wheat", claim="Wheat grows.", limitation=None),
        {"Year": "2025", "Keywords": "farming; machine learning", "Summary": "Nothing about machines."},
    ),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    with Corpus(tmp_path / "corpus.db") as opened:
        opened.add((record for record, _ in PAPERS), (row for _, row in PAPERS), source="papers.csv")
        yield opened


def ids(found: Any) -> list[str]:
    return [item.facts.id for item in found]


# ---- what is known of a paper ----


@pytest.mark.parametrize(
    ("text", "expected", "version", "year"),
    [
        ("2402.11651v2", "2402.11651", 2, 2024),
        ("arXiv:2402.11651", "2402.11651", 0, 2024),
        ("http://arxiv.org/pdf/2402.11651v11.pdf", "2402.11651", 11, 2024),
        ("hep-th/9901001v1", "hep-th/9901001", 1, 1999),
        ("https://doi.org/10.1000/ABC", "10.1000/abc", 0, None),
        ("2413.11651v2", "2413.11651v2", 0, None),
        ("row-7", "row-7", 0, None),
    ],
)
def test_identify(text: str, expected: str, version: int, year: int | None) -> None:
    found = identify(text)
    assert (found.id, found.version, found.year) == (expected, version, year)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("cs.CL cs.AI stat.ML", ("cs.CL", "cs.AI", "stat.ML")),
        ("machine learning; wheat", ("machine learning", "wheat")),
        ("machine learning", ("machine learning",)),
        ("a, b, a", ("a", "b")),
        ("['cs.CL', 'cs.AI']", ("cs.CL", "cs.AI")),
        ("cs.CR,; cs.AI", ("cs.CR", "cs.AI")),
        ("", ()),
    ],
)
def test_categories_out_of_a_cell(cell: str, expected: tuple[str, ...]) -> None:
    assert facts_of(annotation("x"), {"categories": cell}).categories == expected


def test_the_input_says_more_than_the_id_about_the_year() -> None:
    assert facts_of(annotation("2402.11651"), {}).year == 2024
    assert facts_of(annotation("2402.11651"), {"Published": "12 March 2025"}).year == 2025
    assert facts_of(annotation("x"), {"pages": "1999", "date": ""}).year is None
    assert facts_of(annotation("x"), {"date": "20240315"}).year == 2024
    assert facts_of(annotation("x"), {"date": "1234520240"}).year is None


def test_ids_that_only_their_input_knows_do_not_make_papers_the_same(tmp_path: Path) -> None:
    with Corpus(tmp_path / "c.db") as corpus:
        corpus.add([annotation("row-1", "One", claim="a"), annotation("row-1", "Other", claim="b")])
        added = corpus.add([annotation("row-1", "One", claim="c")])
        assert (len(corpus), added.new, added.replaced) == (2, 0, 1)
        assert [entry.record["moves"]["claim"]["text"] for entry in corpus.find("row-1")] == ["b", "c"]


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ([], "no JSON object"),
        ({"moves": {}}, "no id"),
        ({"id": 7, "moves": {}}, "no id"),
        ({"id": "x"}, "no moves"),
        ({"id": "x", "moves": {"claim": "text"}}, "'claim' without a text"),
        ({"id": "x", "moves": {"claim": {"text": None}}}, "'claim' without a text"),
        ({"id": "x", "moves": {"claim": {"text": "x", "sentences": "1"}}}, "'claim' whose sentences are no numbers"),
    ],
)
def test_what_is_no_record_is_said(record: object, problem: str) -> None:
    assert problem in (problem_with(record) or "")


def test_a_failed_record_is_a_record() -> None:
    assert problem_with({"id": "x", "status": "error", "moves": None}) is None


# ---- adding ----


def test_the_newest_version_of_a_paper_counts_and_gaps_are_filled(corpus: Corpus) -> None:
    added = corpus.add([annotation("2402.11651v1", "Old title", claim="Old.")])
    assert (added.left_out, len(corpus)) == (1, 3)
    added = corpus.add([annotation("arXiv:2402.11651v3", "", claim="Agents get faster.", scope=None)])
    assert (added.replaced, len(corpus)) == (1, 3)
    (entry,) = corpus.find("2402.11651")
    assert entry.facts.title == "Small agents"
    assert entry.facts.categories == ("cs.CL", "cs.AI")
    assert corpus.search("limitation", "stays") == []
    assert ids(corpus.search("claim", "faster")) == ["2402.11651"]


def test_failed_records_are_left_out_and_do_not_replace_good_ones(corpus: Corpus) -> None:
    failed = {"id": "2402.11651v9", "title": "", "status": "error", "moves": None, "error": "too long"}
    assert corpus.add([failed]).left_out == 1
    assert corpus.find("2402.11651")[0].record["status"] == "ok"


def test_adding_is_all_or_nothing(corpus: Corpus) -> None:
    def records() -> Any:
        yield annotation("new", claim="x")
        raise InputError("line 2 is broken")

    with pytest.raises(InputError, match="line 2"):
        corpus.add(records())
    assert len(corpus) == 3
    assert corpus.add([annotation("new", claim="x")]).new == 1


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    evil = "x'); DROP TABLE papers; -- \ud800 \x00 \x1b[31m"
    with Corpus(tmp_path / "c.db") as corpus:
        corpus.add([annotation(evil, evil, claim=evil)], [{"categories": evil, "authors": evil, "abstract": evil}])
        assert ids(corpus.search(None, "DROP TABLE")) == [identify(evil).id]
        assert corpus.forget(evil)[0].id == identify(evil).id
        assert len(corpus) == 0


def test_forget_removes_every_trace(corpus: Corpus) -> None:
    assert sorted(ids(corpus.search(None, "latency"))) == ["2402.11651", "2501.00001"]
    assert [facts.title for facts in corpus.forget("https://arxiv.org/abs/2402.11651v1")] == ["Small agents"]
    assert ids(corpus.search(None, "latency")) == ["2501.00001"]
    assert corpus.forget("2402.11651") == []
    counts = [
        corpus._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("moves", "categories")
    ]
    assert counts == [4, 3]
    corpus._connection.execute("INSERT INTO moves_fts (moves_fts) VALUES ('integrity-check')")
    corpus._connection.execute("INSERT INTO papers_fts (papers_fts) VALUES ('integrity-check')")


def _add_many(path: Path, name: str) -> None:
    with Corpus(path) as corpus:
        for n in range(20):
            corpus.add([annotation(f"{name}-{n}", f"{name} {n}", claim="Some claim.")])


def test_two_processes_add_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    path = tmp_path / "corpus.db"
    processes = [spawn.Process(target=_add_many, args=(path, name)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with Corpus(path) as corpus:
        assert len(corpus) == 40


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "corpus.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError, match=r"corpus\.db.*move it away"):
        Corpus(tmp_path / "corpus.db")


# ---- searching ----


def test_search_within_a_move_stems_and_ranks(corpus: Corpus) -> None:
    hits = corpus.search("limitation", "latency")
    assert sorted(ids(hits)) == ["2402.11651", "2501.00001"]
    assert {hit.text for hit in hits} == {"Latency stays high.", "High latencies remain."}
    assert (hits[0].move, hits[0].sentences) == ("limitation", (1,))
    assert corpus.search("claim", "latency") == []


def test_search_everywhere_finds_moves_then_abstracts(corpus: Corpus) -> None:
    hits = corpus.search(None, "privacy")
    assert [(hit.facts.id, hit.move) for hit in hits] == [("2501.00001", None)]
    assert "on-device privacy" in hits[0].text
    assert [(hit.facts.id, hit.move) for hit in corpus.search(None, "models")] == [("2501.00001", "claim")]
    assert [hit.move for hit in corpus.search(None, "wheat OR machines")] == ["claim"]
    assert len(corpus.search(None, "wheat OR privacy OR agents", limit=2)) == 2


def test_an_empty_query_lists_a_move_the_surest_first(corpus: Corpus) -> None:
    assert [hit.confidence for hit in corpus.search("limitation", " ")] == [0.9, 0.4]
    with pytest.raises(UsageError):
        corpus.search(None, "")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), ["2402.11651", "2501.00001", "W77"]),
        (Filters(years=(2025, None)), ["2501.00001", "W77"]),
        (Filters(years=(None, 2024)), ["2402.11651"]),
        (Filters(categories=("cs",)), ["2402.11651", "2501.00001"]),
        (Filters(categories=("CS.ai",)), ["2402.11651"]),
        (Filters(categories=("cs.AI", "farming")), ["2402.11651", "W77"]),
        (Filters(categories=("c%",)), []),
        (Filters(terms=("latency",)), ["2402.11651", "2501.00001"]),
        (Filters(terms=("latency", "privacy")), ["2501.00001"]),
        (Filters(terms=('c++ -"wheat"',), years=(2025, 2025), categories=("cs.LG",)), ["2501.00001"]),
    ],
)
def test_filters(corpus: Corpus, filters: Filters, expected: list[str]) -> None:
    assert sorted(ids(corpus.matrix(filters))) == expected
    assert sorted({hit.facts.id for hit in corpus.search("claim", "", filters)}) == expected


def test_unsure_moves_count_as_not_stated(corpus: Corpus) -> None:
    sure = Filters(min_confidence=0.6)
    assert ids(corpus.search("limitation", "latency", sure)) == ["2402.11651"]
    assert corpus.search("claim", "", sure) == []
    (share,) = corpus.share(None, sure)
    assert (share.stated["limitation"], share.of("claim")) == (1, 0)
    entry = corpus.find("2501.00001")[0]
    assert entry.full_record(0.6)["moves"]["limitation"] is None
    assert entry.full_record()["moves"]["limitation"]["confidence"] == 0.4


def test_how_sure_it_is_that_a_move_is_not_stated_is_kept(tmp_path: Path) -> None:
    record = annotation("W9", "Rye", claim=("Rye grows.", 0.8), limitation=None) | {"absent": {"limitation": 0.7}}
    with Corpus(tmp_path / "corpus.db") as corpus:
        corpus.add([record])
        (entry,) = corpus.matrix()
        assert confidence(entry.full_record(), "limitation") == 0.7
        assert corpus.search("limitation", "") == []
        (share,) = corpus.share(None, Filters(min_confidence=0.6))
        assert share.stated == {"claim": 1, "limitation": 0}


NASTY = [
    *('"', "'", '""', "*", "-", "- -", "+", "(", ")", "^a", "{a}", "\\", "%", "\0", "\ud800", "text:x", "a*b*", "日本"),
    *("NEAR(", "a NEAR/3 b", "a AND", "OR OR", "OR latency", "NOT", "-only", "--x y", 'un"closed phrase'),
    *("a" * 5000, "(" * 500 + "a", "a " * 300, "a OR " * 300),
]


@pytest.mark.parametrize("query", NASTY)
def test_no_query_is_a_syntax_error(corpus: Corpus, query: str) -> None:
    for move in (None, "limitation"):
        with contextlib.suppress(UsageError):
            assert isinstance(corpus.search(move, query, Filters(terms=(query,))), list)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("latency high", 2),
        ('"high latency"', 1),
        ('"stays high"', 1),
        ("latency -remain", 1),
        ("stays OR remain", 2),
        ("high stays OR remain", 2),
        ("stays AND remain", 0),
        ('latency -"stays high"', 1),
        ("laten*", 2),
        ("latency ++ --", 2),
        ("LATENCY!", 2),
    ],
)
def test_queries_mean_what_people_mean(corpus: Corpus, query: str, found: int) -> None:
    assert len(corpus.search("limitation", query)) == found


def test_to_fts_keeps_operators_out_of_words() -> None:
    assert to_fts("NEAR(a b)") == '("NEAR(a" AND "b)")'
    assert to_fts('say "NOT this"') == '("say" AND "NOT this")'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024", (2024, 2024)),
        ("2024..2026", (2024, 2026)),
        ("2024..", (2024, None)),
        ("..2026", (None, 2026)),
        ("2024-2026", (2024, 2026)),
    ],
)
def test_year_ranges(text: str, expected: tuple[int | None, int | None]) -> None:
    assert parse_years(text) == expected


@pytest.mark.parametrize("text", ["", "..", "24", "2024 2025", "2026..2024", "last year"])
def test_wrong_year_ranges_are_told(text: str) -> None:
    with pytest.raises(UsageError):
        parse_years(text)


# ---- counting ----


def test_share_of_all_by_year_and_by_category(corpus: Corpus) -> None:
    (all_papers,) = corpus.share()
    assert (all_papers.papers, all_papers.of("claim"), all_papers.stated["limitation"]) == (3, 1, 2)
    by_year = {share.group: (share.papers, share.of("limitation")) for share in corpus.share("year")}
    assert by_year == {"2024": (1, 1), "2025": (2, 0.5)}
    by_category = {share.group: share.papers for share in corpus.share("category")}
    assert by_category == {"cs.AI": 1, "cs.CL": 1, "cs.LG": 1, "farming": 1, "machine learning": 1}
    (some,) = corpus.share(None, Filters(terms=("wheat",)))
    assert (some.papers, some.of("limitation")) == (1, 0)
    (none,) = corpus.share(None, Filters(terms=("zebra",)))
    assert (none.papers, none.of("claim")) == (0, None)


def test_moves_of_another_framework_are_counted_among_their_own_papers(corpus: Corpus) -> None:
    corpus.add([annotation("other", "Other framework", hypothesis="H.", claim=None)])
    assert corpus.moves() == ["claim", "hypothesis", "limitation"]
    (share,) = corpus.share()
    assert share.of("hypothesis") == 1
    assert share.of("claim") == 0.75
    groups = {share.group: share.papers for share in corpus.share("year")}
    assert groups[""] == 1


def test_a_record_with_its_facts_can_be_added_again_in_full(corpus: Corpus, tmp_path: Path) -> None:
    lines = [json.dumps(entry.full_record()) for entry in corpus.matrix()]
    with Corpus(tmp_path / "second.db") as second:
        second.add(json.loads(line) for line in lines)
        assert [entry.facts.row() for entry in second.matrix()] == [entry.facts.row() for entry in corpus.matrix()]
        assert [json.dumps(entry.full_record()) for entry in second.matrix()] == lines
