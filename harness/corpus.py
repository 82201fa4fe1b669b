"""Everything annotated so far, in one SQLite file: search within a move, filter, aggregate, compare, export."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.annotation_tables import confidence, found
from harness.config import home
from harness.corpus_papers import Facts, facts_of, identify
from harness.corpus_query import Condition, Filters, to_fts, which_moves, which_papers
from harness.database import open_database, reporting, transaction
from harness.readers.text import writable

if TYPE_CHECKING:
    from sqlite3 import Connection
    from types import TracebackType

VERSION = 1
_FACTS = "p.key, p.id, p.version, p.title, p.year, p.categories, p.authors, p.abstract"
_ORDER = "p.year IS NULL, p.year DESC, p.id, p.number"
_SCHEMA = (
    "CREATE TABLE papers (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, id TEXT NOT NULL,"
    " version INTEGER NOT NULL, title TEXT NOT NULL, year INTEGER, categories TEXT NOT NULL, authors TEXT NOT NULL,"
    " abstract TEXT NOT NULL, source TEXT NOT NULL, record TEXT NOT NULL, added REAL NOT NULL)",
    "CREATE INDEX papers_id ON papers (id)",
    "CREATE TABLE categories (paper INTEGER NOT NULL REFERENCES papers ON DELETE CASCADE, category TEXT NOT NULL)",
    "CREATE INDEX categories_paper ON categories (paper)",
    # A row for each move that was looked for; text is NULL where the paper does not state it.
    "CREATE TABLE moves (number INTEGER PRIMARY KEY, paper INTEGER NOT NULL REFERENCES papers ON DELETE CASCADE,"
    " move TEXT NOT NULL, position INTEGER NOT NULL, text TEXT, sentences TEXT NOT NULL, confidence REAL)",
    "CREATE INDEX moves_paper ON moves (paper)",
    "CREATE INDEX moves_move ON moves (move)",
    "CREATE VIRTUAL TABLE papers_fts USING fts5(title, abstract, content='papers', content_rowid='number',"
    " tokenize='porter unicode61 remove_diacritics 2')",
    "CREATE VIRTUAL TABLE moves_fts USING fts5(text, content='moves', content_rowid='number',"
    " tokenize='porter unicode61 remove_diacritics 2')",
    "CREATE TRIGGER papers_in AFTER INSERT ON papers BEGIN"
    " INSERT INTO papers_fts (rowid, title, abstract) VALUES (new.number, new.title, new.abstract); END",
    "CREATE TRIGGER papers_out AFTER DELETE ON papers BEGIN INSERT INTO papers_fts (papers_fts, rowid, title, abstract)"
    " VALUES ('delete', old.number, old.title, old.abstract); END",
    "CREATE TRIGGER moves_in AFTER INSERT ON moves WHEN new.text IS NOT NULL BEGIN"
    " INSERT INTO moves_fts (rowid, text) VALUES (new.number, new.text); END",
    "CREATE TRIGGER moves_out AFTER DELETE ON moves WHEN old.text IS NOT NULL BEGIN"
    " INSERT INTO moves_fts (moves_fts, rowid, text) VALUES ('delete', old.number, old.text); END",
)

By = Literal["year", "category"]


@dataclass(frozen=True)
class Entry:
    """One paper of the corpus: its facts and its annotation record as it was added."""

    facts: Facts
    record: Mapping[str, Any]

    def move(self, name: str, min_confidence: float | None = None) -> Mapping[str, Any] | None:
        """What the paper says of a move; None where it does not state it, or not surely enough."""
        entry = found(self.record, name)
        if min_confidence is None or entry is None:
            return entry
        sure = confidence(self.record, name)
        return entry if sure is not None and sure >= min_confidence else None

    def full_record(self, min_confidence: float | None = None) -> dict[str, Any]:
        """The annotation record with the facts beside it: what ``corpus import`` reads back in full."""
        facts = self.facts
        moves = {name: self.move(name, min_confidence) for name in self.record.get("moves") or {}}
        about = {"abstract": facts.abstract, "authors": facts.authors, "categories": list(facts.categories)}
        return {**self.record, "title": facts.title, "moves": moves, **about, "year": facts.year}


@dataclass(frozen=True)
class Hit:
    """One finding of a search. ``move`` is None where title or abstract matched; ``text`` is then an excerpt."""

    facts: Facts
    move: str | None
    text: str
    sentences: tuple[int, ...]
    confidence: float | None


@dataclass
class Share:
    """How many papers of a group state each move."""

    group: str
    """The year or category; empty for all papers, and for those of which it is not known."""
    papers: int = 0
    stated: dict[str, int] = field(default_factory=dict)
    annotated: dict[str, int] = field(default_factory=dict)
    """Papers that were asked for the move: frameworks differ in their moves."""

    def of(self, move: str) -> float | None:
        """The share (0-1) of papers that state a move, of those annotated for it; None where there are none."""
        return self.stated.get(move, 0) / self.annotated[move] if self.annotated.get(move) else None


@dataclass
class Added:
    """What became of records: new papers, replaced ones, and those left out (failed, or an older arXiv version)."""

    new: int = 0
    replaced: int = 0
    left_out: int = 0


def corpus_path() -> Path:
    """Where the user's corpus lies."""
    return home() / "corpus.db"


class Corpus:
    """The store. Safe from several threads and processes; every method raises InputError for a damaged file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = open_database(path, schema=_SCHEMA, version=VERSION)

    def add(
        self, records: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, str]] = (), *, source: str = ""
    ) -> Added:
        """Add annotation records, all or none; ``rows`` are their inputs' rows in the same order, as far as they go.

        A paper is there once: the newest annotation of its newest arXiv version counts, also where the older one was
        made with another framework. Records of failed rows are left out. ``source`` names the input.
        """
        added = Added()
        with self._lock, reporting(self.path), transaction(self._connection):
            for record, row in zip(records, chain(rows, repeat({})), strict=False):
                if record.get("status") == "error":
                    added.left_out += 1
                else:
                    _upsert(self._connection, record, facts_of(record, row), source, added)
        return added

    def forget(self, paper_id: str) -> list[Facts]:
        """Remove the papers with an id (in any spelling); tells which they were."""
        gone = [entry.facts for entry in self.find(paper_id)]
        with self._lock, reporting(self.path), transaction(self._connection):
            self._connection.executemany("DELETE FROM papers WHERE key = ?", [(facts.key,) for facts in gone])
        return gone

    def find(self, paper_id: str) -> list[Entry]:
        """The papers with an id (in any spelling): one as a rule, more where inputs used the same id."""
        return self._entries(Condition("p.id = ? COLLATE NOCASE", (identify(paper_id).id,)))

    def matrix(self, filters: Filters | None = None, limit: int | None = None) -> list[Entry]:
        """The papers, the latest year first, each with all its moves."""
        return self._entries(which_papers(filters or Filters()), limit)

    def moves(self) -> list[str]:
        """The names of all moves in the corpus, in the order of their frameworks."""
        rows = self._select("SELECT move FROM moves GROUP BY move ORDER BY min(position), move")
        return [move for (move,) in rows]

    def search(self, move: str | None, query: str, filters: Filters | None = None, limit: int | None = 20) -> list[Hit]:
        """Moves whose text matches a query (see ``to_fts``), the best first.

        Without a move: all moves, and then the papers of which only title or abstract match. An empty query takes
        every paper that states the move, the surest first. Raises UsageError for a query without words.
        """
        filters = filters or Filters()
        most = -1 if limit is None else limit
        match = to_fts(query) if query.strip() or move is None else None
        hits = self._search_moves(move, match, filters, most)
        if move is None and match is not None and (most < 0 or len(hits) < most):
            hits += self._search_papers(match, filters, most - len(hits) if most >= 0 else -1)
        return hits

    def share(self, by: By | None = None, filters: Filters | None = None) -> list[Share]:
        """How many papers state each move: of all papers, of each year, or of each category (a paper has several)."""
        filters = filters or Filters()
        group = {None: "''", "year": "ifnull(p.year, '')", "category": "ifnull(c.category, '')"}[by]
        join = "LEFT JOIN categories c ON c.paper = p.number" if by == "category" else ""
        papers, stated = which_papers(filters), which_moves(filters)
        shares = {} if by else {"": Share("")}
        counted = f"SELECT {group}, count(*) FROM papers p {join} WHERE {papers.sql} GROUP BY 1 ORDER BY 1"
        for name, count in self._select(counted, papers.values):
            shares[str(name)] = Share(str(name), count)
        by_move = (
            f"SELECT {group}, m.move, count(*), sum({stated.sql}) FROM moves m JOIN papers p ON p.number = m.paper"
            f" {join} WHERE {papers.sql} GROUP BY 1, 2"
        )
        for name, move, annotated, count in self._select(by_move, stated.values + papers.values):
            shares[str(name)].annotated[move] = annotated
            shares[str(name)].stated[move] = count
        return list(shares.values())

    def __len__(self) -> int:
        return int(self._select("SELECT count(*) FROM papers")[0][0])

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _select(self, sql: str, values: Iterable[str | int | float] = ()) -> list[Any]:
        with self._lock, reporting(self.path):
            return self._connection.execute(sql, tuple(values)).fetchall()

    def _entries(self, condition: Condition, limit: int | None = None) -> list[Entry]:
        sql = f"SELECT {_FACTS}, p.record FROM papers p WHERE {condition.sql} ORDER BY {_ORDER} LIMIT ?"
        rows = self._select(sql, (*condition.values, -1 if limit is None else limit))
        return [Entry(_facts(row[:8]), json.loads(row[8])) for row in rows]

    def _search_moves(self, move: str | None, match: str | None, filters: Filters, most: int) -> list[Hit]:
        condition = which_papers(filters) & which_moves(filters)
        if move is not None:
            condition &= Condition("m.move = ?", (move,))
        tables, order = "moves m", "m.confidence IS NULL, m.confidence DESC"
        if match is not None:
            tables, order = "moves_fts JOIN moves m ON m.number = moves_fts.rowid", "bm25(moves_fts)"
            condition &= Condition("moves_fts MATCH ?", (match,))
        sql = (
            f"SELECT {_FACTS}, m.move, m.text, m.sentences, m.confidence FROM {tables} JOIN papers p"
            f" ON p.number = m.paper WHERE {condition.sql} ORDER BY {order}, {_ORDER}, m.position LIMIT ?"
        )
        rows = self._select(sql, (*condition.values, most))
        return [Hit(_facts(row[:8]), row[8], row[9], tuple(json.loads(row[10])), row[11]) for row in rows]

    def _search_papers(self, match: str, filters: Filters, most: int) -> list[Hit]:
        """Papers whose title or abstract matches and none of whose stated moves does."""
        papers, stated = which_papers(filters), which_moves(filters)
        sql = (
            f"SELECT {_FACTS}, snippet(papers_fts, -1, '', '', ' … ', 40) FROM papers_fts JOIN papers p"
            f" ON p.number = papers_fts.rowid WHERE papers_fts MATCH ? AND {papers.sql} AND p.number NOT IN"
            f" (SELECT m.paper FROM moves_fts JOIN moves m ON m.number = moves_fts.rowid"
            f" WHERE moves_fts MATCH ? AND {stated.sql}) ORDER BY bm25(papers_fts), {_ORDER} LIMIT ?"
        )
        rows = self._select(sql, (match, *papers.values, match, *stated.values, most))
        return [Hit(_facts(row[:8]), None, row[8], (), None) for row in rows]


def _facts(row: tuple[Any, ...]) -> Facts:
    key, paper_id, version, title, year, categories, authors, abstract = row
    return Facts(key, paper_id, version, title, year, tuple(json.loads(categories)), authors, abstract)


def _upsert(connection: Connection, record: Mapping[str, Any], facts: Facts, source: str, added: Added) -> None:
    old = connection.execute(f"SELECT {_FACTS} FROM papers p WHERE p.key = ?", (facts.key,)).fetchone()
    if old is not None:
        older = _facts(old)
        if older.version > facts.version > 0:
            added.left_out += 1
            return
        facts = facts.completed_by(older)
        connection.execute("DELETE FROM papers WHERE key = ?", (facts.key,))
        added.replaced += 1
    else:
        added.new += 1
    _insert(connection, record, facts, source)


def _insert(connection: Connection, record: Mapping[str, Any], facts: Facts, source: str) -> None:
    categories = json.dumps(facts.categories, ensure_ascii=False)
    number = connection.execute(
        "INSERT INTO papers (key, id, version, title, year, categories, authors, abstract, source, record, added)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(facts.key, facts.id, facts.version, facts.title, facts.year, categories, facts.authors, facts.abstract),
            *(writable(source), json.dumps(record), time.time()),
        ),
    ).lastrowid
    connection.executemany(
        "INSERT INTO categories (paper, category) VALUES (?, ?)", [(number, name) for name in facts.categories]
    )
    connection.executemany(
        "INSERT INTO moves (paper, move, position, text, sentences, confidence) VALUES (?, ?, ?, ?, ?, ?)",
        [(number, *row) for row in _move_rows(record)],
    )


def _move_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, int, str | None, str, float | None]]:
    """Name, position, text, sentences and confidence of each move of a record, those not stated too."""
    for position, name in enumerate(record.get("moves") or {}):
        move = found(record, name)
        text = writable(str(move.get("text") or "")) if move else None
        sentences = json.dumps(list((move or {}).get("sentences") or ()))
        yield writable(name), position, text, sentences, confidence(record, name)
