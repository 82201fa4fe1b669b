"""The built-in store: one SQLite file with FTS5, and beside it one matrix file an embedding model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import home
from harness.database import open_database, reporting, transaction
from harness.search.bm25 import WEIGHTS, LexicalQuery, parse
from harness.search.chunks import chunks_of
from harness.search.documents import Document
from harness.search.sqlite_lexical import Counts, matches
from harness.search.sqlite_terms import TOKENIZER, Stemmer
from harness.search.sqlite_vectors import VECTOR_SCHEMA, SqliteVectors, VectorReader, nearest
from harness.search.store import Files, IndexedFile, Ranked, Scope, Stamp, StoredChunk

if TYPE_CHECKING:
    from types import TracebackType

    from harness.search.feedback import Part
    from harness.search.vectors import DType, Embedder, Matrix

VERSION = 1
_FTS = f"fts5({{columns}}, content='chunks', content_rowid='id', tokenize='{TOKENIZER}')"
_SCHEMA = (
    "CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,"
    " mtime_ns INTEGER NOT NULL, reader TEXT NOT NULL, digest TEXT NOT NULL, documents INTEGER NOT NULL,"
    " chunks INTEGER NOT NULL, pages INTEGER NOT NULL, error TEXT NOT NULL, same_as TEXT NOT NULL)",
    "CREATE TABLE documents (id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,"
    " title TEXT NOT NULL, place TEXT NOT NULL, paper TEXT NOT NULL)",
    "CREATE INDEX documents_file ON documents (file)",
    "CREATE TABLE chunks (id INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,"
    " header TEXT NOT NULL, text TEXT NOT NULL, section TEXT NOT NULL, page INTEGER NOT NULL,"
    " is_reference INTEGER NOT NULL, sentences TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE INDEX chunks_document ON chunks (document)",
    "CREATE INDEX chunks_hash ON chunks (hash)",
    # Lists of references have an index of their own: in one, their titles would drown the papers' own words.
    f"CREATE VIRTUAL TABLE body USING {_FTS.format(columns='header, text')}",
    f"CREATE VIRTUAL TABLE bibliography USING {_FTS.format(columns='header, text')}",
    *(
        statement
        for name, flag in (("body", 0), ("bibliography", 1))
        for statement in (
            f"CREATE TRIGGER {name}_in AFTER INSERT ON chunks WHEN new.is_reference = {flag} BEGIN"
            f" INSERT INTO {name} (rowid, header, text) VALUES (new.id, new.header, new.text); END",
            f"CREATE TRIGGER {name}_out AFTER DELETE ON chunks WHEN old.is_reference = {flag} BEGIN"
            f" INSERT INTO {name} ({name}, rowid, header, text) VALUES ('delete', old.id, old.header, old.text); END",
        )
    ),
    *VECTOR_SCHEMA,
)
_OF_FILE = "path, size, mtime_ns, reader, digest, documents, chunks, pages, error, same_as"
_OF_CHUNK = (
    "c.id, f.path, d.title, d.place, d.paper, c.header, c.section, c.page, c.is_reference, c.text, c.sentences"
    " FROM chunks c JOIN documents d ON d.id = c.document JOIN files f ON f.id = d.file"
)
_MOST_VALUES = 500
"""Parameters of one statement; old builds of SQLite take 999."""


def index_path() -> Path:
    """Where the user's index lies."""
    return home() / "index" / "index.db"


class SqliteStore:
    """``Store`` in a SQLite file. Every method raises InputError for a file that is damaged or cannot be written."""

    def __init__(self, path: Path, dtype: DType = "float32") -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = open_database(path, schema=_SCHEMA, version=VERSION)
        self._vectors = SqliteVectors(self._connection, path.parent, dtype)
        self._reader = VectorReader(partial(open_database, path, schema=_SCHEMA, version=VERSION), path.parent)
        self._stemmer = Stemmer()
        self._counts = {name: Counts(partial(self._count, name)) for name in ("body", "bibliography")}

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def files(self) -> dict[str, IndexedFile]:
        """As in ``Store``."""
        rows = self._select(f"SELECT {_OF_FILE} FROM files ORDER BY path")
        return {row[0]: _file(row) for row in rows}

    def put(self, file: IndexedFile, documents: Iterable[Document]) -> IndexedFile:
        """As in ``Store``."""
        with self._lock, reporting(self.path), transaction(self._connection):
            self._connection.execute("DELETE FROM files WHERE path = ?", (file.path,))
            stamp = file.stamp
            number = self._connection.execute(
                f"INSERT INTO files ({_OF_FILE}) VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, ?)",
                (file.path, stamp.size, stamp.mtime_ns, stamp.reader, file.digest, file.error, file.same_as),
            ).lastrowid
            counts = [0, 0, 0]
            for document in documents:
                counts[0] += 1
                counts[1] += self._put_document(number, document)
                counts[2] += document.pages
            self._connection.execute(
                "UPDATE files SET documents = ?, chunks = ?, pages = ? WHERE id = ?", (*counts, number)
            )
        return replace(file, documents=counts[0], chunks=counts[1], pages=counts[2])

    def _put_document(self, file: int | None, document: Document) -> int:
        """Insert a document and its chunks; how many those are."""
        row = (file, document.title, document.place, document.id)
        number = self._connection.execute(
            "INSERT INTO documents (file, title, place, paper) VALUES (?, ?, ?, ?)", row
        ).lastrowid
        rows = [
            (number, c.header, c.text, c.section, c.page, c.references, json.dumps(c.sentences), c.hash)
            for c in chunks_of(document)
        ]
        self._connection.executemany(
            "INSERT INTO chunks (document, header, text, section, page, is_reference, sentences, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        return len(rows)

    def touch(self, path: str, stamp: Stamp) -> None:
        """As in ``Store``."""
        with self._lock, reporting(self.path):
            values = (stamp.size, stamp.mtime_ns, stamp.reader, path)
            self._connection.execute("UPDATE files SET size = ?, mtime_ns = ?, reader = ? WHERE path = ?", values)

    def remove(self, paths: Sequence[str]) -> None:
        """As in ``Store``."""
        with self._lock, reporting(self.path), transaction(self._connection):
            self._connection.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    def lexical(self, query: LexicalQuery, limit: int, scope: Scope) -> Ranked:
        """As in ``Store``; exact where the query's terms are not frequent (``sqlite_lexical``)."""
        found: dict[int, float] = {}
        for name in _indexes(scope):
            ways = [query.match] if scope.files is not None else self._ways(name, query, limit)
            some = self._lexical(name, ways, limit, scope) if any(ways) else []
            if len(ways) > 1 and len(some) < limit:
                some = self._lexical(name, [query.match], limit, scope)
            found |= dict(some)
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _ways(self, name: str, query: LexicalQuery, limit: int) -> list[str]:
        """FTS5 queries; frequencies of their terms are taken from memory as long as nothing has changed."""
        with self._lock, reporting(self.path):
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            return matches(query, self._counts[name].of((version, self._connection.total_changes)), limit)

    def _count(self, name: str, match: str, most: int) -> int:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {name} MATCH ? LIMIT ?)"
        return int(self._select(sql, (match, most))[0][0])

    def _lexical(self, name: str, ways: Sequence[str], limit: int, scope: Scope) -> Ranked:
        """The best chunks by one query, or by two: those that the first one does not match are scored by the second."""
        where, values = _within(scope)
        one = f"SELECT i.rowid AS id, {_score(name)} AS score FROM {name} i{_joined(where)} WHERE {name} MATCH ?"
        asked: list[str | int] = [*values, ways[0]]
        sql = one
        if len(ways) > 1:
            # The limit of none keeps SQLite from sorting inside a part, where bm25 has no context.
            more = f"{one} AND +i.rowid NOT IN (SELECT id FROM first)"
            sql = f"WITH first AS ({one}) SELECT id, score FROM (SELECT * FROM first UNION ALL {more} LIMIT -1)"
            asked += [*values, ways[1]]
        rows = self._select(f"{sql} ORDER BY score DESC, {'id' if len(ways) > 1 else 'i.rowid'} LIMIT ?", (*asked, limit))
        return [(chunk, score) for chunk, score in rows]

    def weighted(self, parts: Sequence[Part], ids: Sequence[int], scope: Scope) -> Ranked:
        """As in ``TermStore``."""
        where, inside = _within(scope)
        among = json.dumps(list(ids))
        selects, values = list[str](), list[str | float]()
        for name in _indexes(scope):
            for query, weight in parts:
                if query.match:
                    one = f"SELECT i.rowid AS id, ? * {_score(name)} AS score FROM {name} i{_joined(where)}"
                    selects.append(f"{one} WHERE {name} MATCH ? AND +i.rowid IN (SELECT value FROM json_each(?))")
                    values += [weight, *inside, query.match, among]
        if not selects:
            return []
        # The limit of none keeps SQLite from computing the sum inside a part, where bm25 has no context.
        sql = f"SELECT id, sum(score) AS total FROM ({' UNION ALL '.join(selects)} LIMIT -1) GROUP BY id"
        return [(chunk, score) for chunk, score in self._select(f"{sql} ORDER BY total DESC, id", values)]

    def stems(self, words: Sequence[str]) -> list[str]:
        """As in ``TermStore``."""
        with self._lock:
            return self._stemmer.stems(words)

    def dense(self, embedder: Embedder, vector: Matrix, limit: int, scope: Scope) -> Ranked:
        """As in ``Store``."""
        with reporting(self.path):
            loaded = self._reader.load(embedder, *_chunks_within(scope))
        return nearest(loaded, embedder, vector, limit) if loaded else []

    def accepted(self, ids: Sequence[int], query: LexicalQuery) -> set[int]:
        """As in ``Store``."""
        wanted, unwanted = query.accepts()
        left = set(ids)
        if wanted:
            left &= self._matching(ids, wanted)
        if unwanted:
            left -= self._matching(ids, unwanted)
        return left

    def _matching(self, ids: Sequence[int], match: str) -> set[int]:
        rows: list[Any] = []
        for name in ("body", "bibliography"):
            for some in _slices(ids):
                sql = f"SELECT rowid FROM {name} WHERE {name} MATCH ? AND +rowid IN ({_marks(some)})"
                rows += self._select(sql, (match, *some))
        return {chunk for (chunk,) in rows}

    def chunks(self, ids: Sequence[int]) -> list[StoredChunk]:
        """As in ``Store``."""
        found: dict[int, StoredChunk] = {}
        for some in _slices(ids):
            for row in self._select(f"SELECT {_OF_CHUNK} WHERE c.id IN ({_marks(some)})", tuple(some)):
                found[row[0]] = _chunk(row)
        return [found[chunk] for chunk in ids if chunk in found]

    def chunks_of_file(self, path: str) -> list[StoredChunk]:
        """All chunks of one file, in their order."""
        return [_chunk(row) for row in self._select(f"SELECT {_OF_CHUNK} WHERE f.path = ? ORDER BY c.id", (path,))]

    def frequencies(self, words: Sequence[str]) -> tuple[int, list[int]]:
        """As in ``Store``; lists of references are left out."""
        total = self._select("SELECT count(*) FROM body_docsize")[0][0]  # a row a chunk, and small ones
        one = "SELECT count(*) FROM body WHERE body MATCH ?"
        counts = [self._select(one, (match,))[0][0] if (match := parse(f'"{word}"').match) else 0 for word in words]
        return total, counts

    def missing(self, embedder: Embedder, files: Files = None) -> int:
        """As in ``Store``."""
        with self._lock, reporting(self.path):
            return self._vectors.missing(embedder, *_within(Scope(files)))

    def without_vectors(self, embedder: Embedder, limit: int, files: Files = None) -> list[tuple[str, str]]:
        """As in ``Store``."""
        with self._lock, reporting(self.path):
            rows = self._vectors.without(embedder, limit, *_within(Scope(files)))
        return [(digest, f"{header}\n{text}" if header else text) for digest, header, text in rows]

    def add_vectors(self, embedder: Embedder, hashes: Sequence[str], matrix: Matrix) -> None:
        """As in ``Store``."""
        with self._lock, reporting(self.path), transaction(self._connection):
            self._vectors.add(embedder, hashes, matrix)

    @property
    def lock(self) -> Path:
        """As in ``Store``."""
        return self.path.with_suffix(".lock")

    def compact(self) -> None:
        """Give back the space of vectors whose content is gone, where that is more than half of a matrix."""
        with self._lock, self._reader.forgetting(), reporting(self.path):
            self._vectors.compact()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with self._lock:
            self._stemmer.close()
            self._reader.close()
            self._connection.close()

    def _select(self, sql: str, values: Sequence[str | float] = ()) -> list[Any]:
        with self._lock, reporting(self.path):
            return self._connection.execute(sql, values).fetchall()


def _file(row: Sequence[Any]) -> IndexedFile:
    path, size, mtime_ns, reader, digest, documents, chunks, pages, error, same_as = row
    return IndexedFile(path, Stamp(size, mtime_ns, reader), digest, documents, chunks, pages, error, same_as)


def _chunk(row: Sequence[Any]) -> StoredChunk:
    number, file, title, place, paper, header, section, page, is_reference, text, sentences = row
    spans = tuple((start, end, at) for start, end, at in json.loads(sentences))
    return StoredChunk(number, file, title, place, paper, header, section, page, bool(is_reference), text, spans)


def _indexes(scope: Scope) -> tuple[str, ...]:
    return ("body", "bibliography") if scope.references else ("body",)


def _score(name: str) -> str:
    return f"-bm25({name}, {WEIGHTS[0]}, {WEIGHTS[1]})"


def _within(scope: Scope) -> tuple[str, tuple[str, ...]]:
    """The condition on files (alias ``f``) that a scope names, and its values; "" for all of them."""
    if scope.files is None:
        return "", ()
    if not scope.files:
        return "0", ()
    one = "f.path = ? OR substr(f.path, 1, length(?)) = ?"
    folders = [path.rstrip("/\\") + ("\\" if "\\" in path and "/" not in path else "/") for path in scope.files]
    values = tuple(value for path, folder in zip(scope.files, folders, strict=True) for value in (path, folder, folder))
    return " OR ".join([one] * len(scope.files)), values


def _joined(where: str) -> str:
    """From an index (alias ``i``) to the files of its rows, as far as a condition on them asks for it."""
    if not where:
        return ""
    # CROSS JOIN keeps the order of the tables: FTS5 first, then a look at each match.
    return (
        " CROSS JOIN chunks c ON c.id = i.rowid CROSS JOIN documents d ON d.id = c.document"
        f" CROSS JOIN files f ON f.id = d.file AND ({where})"
    )


def _chunks_within(scope: Scope) -> tuple[str, tuple[str, ...]]:
    """The condition on chunks (``c``, with ``d`` and ``f`` joined) that a scope names, and its values."""
    where, values = _within(scope)
    conditions = [f"({where})"] if where else []
    if not scope.references:
        conditions.append("c.is_reference = 0")
    return " AND ".join(conditions) or "1", values


def _slices(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + _MOST_VALUES] for start in range(0, len(ids), _MOST_VALUES))


def _marks(values: Sequence[int]) -> str:
    return ", ".join("?" * len(values))
