"""Which row of which matrix file holds the vector of which content: the book-keeping of embeddings in SQLite.

A vector belongs to content (a hash), a model and a prefix, not to a chunk: what is deleted and comes back, or stands in
two files, is embedded once. Rows are added before the transaction that names them commits, so a reader never sees a row
that is not there; a writer that dies leaves rows that nobody names.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.database import transaction
from harness.errors import InputError
from harness.search.vectors import DType, Embedder, Matrix, MatrixFile, best, similarities

if TYPE_CHECKING:
    from sqlite3 import Connection

VECTOR_SCHEMA = (
    "CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL, prefix TEXT NOT NULL, dimensions INTEGER NOT NULL,"
    " dtype TEXT NOT NULL, file TEXT NOT NULL, rows INTEGER NOT NULL, UNIQUE (name, prefix))",
    "CREATE TABLE vectors (model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE, hash TEXT NOT NULL,"
    " row INTEGER NOT NULL, PRIMARY KEY (model, hash)) WITHOUT ROWID",
)
_WITHOUT = "hash NOT IN (SELECT v.hash FROM vectors v JOIN models m ON m.id = v.model WHERE m.name = ? AND m.prefix = ?)"
_FEW = 1024
"""Dead rows that are not worth a new file."""


@dataclass(frozen=True)
class _Model:
    id: int
    file: MatrixFile
    rows: int


@dataclass(frozen=True)
class Loaded:
    """The rows of a matrix and which chunk each belongs to, as of one state of the database."""

    state: tuple[object, ...]
    rows: NDArray[np.float32 | np.float16]
    places: NDArray[np.int64]
    """The row of each chunk."""
    chunks: NDArray[np.int64]


class VectorReader:
    """The vectors of a database for search. Safe from several threads.

    It has a connection of its own, from the first search on: on a shared one, SQLite would have it wait until a search by
    words has ended.
    """

    def __init__(self, connect: Callable[[], Connection], folder: Path) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None

    def load(self, embedder: Embedder, where: str, values: Sequence[str]) -> Loaded | None:
        """The vectors of the chunks under a condition, of which a search goes on without the database; None for none.

        Read anew only when the database has changed or another scope is asked for.
        """
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            state = (version, embedder.name, embedder.passage_prefix, where, *values)
            if self._loaded is None or self._loaded.state != state:
                self._loaded = self._read(self._connection, state, embedder, where, values)
            return self._loaded

    def _read(
        self, connection: Connection, state: tuple[object, ...], embedder: Embedder, where: str, values: Sequence[str]
    ) -> Loaded | None:
        connection.execute("BEGIN")  # model and rows must be of one state
        try:
            model = _model(connection, self._folder, embedder)
            if model is None:
                return None
            pairs = connection.execute(
                "SELECT v.row, c.id FROM chunks c CROSS JOIN vectors v ON v.hash = c.hash AND v.model = ?"
                f" JOIN documents d ON d.id = c.document JOIN files f ON f.id = d.file WHERE {where} ORDER BY c.id",
                (model.id, *values),
            ).fetchall()
            places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
            return Loaded(state, model.file.rows(model.rows), places[:, 0], places[:, 1])
        finally:
            connection.execute("COMMIT")

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Let go of the matrix, and load none inside the block: its file may go."""
        with self._lock:
            self._loaded = None
            yield

    def close(self) -> None:
        """Close the connection; closing twice is fine."""
        with self._lock:
            self._loaded = None
            if self._connection is not None:
                self._connection.close()


class SqliteVectors:
    """Vectors of the chunks in a database; the caller locks and, for ``add``, holds a transaction."""

    def __init__(self, connection: Connection, folder: Path, dtype: DType) -> None:
        self._connection = connection
        self._folder = folder
        self._dtype: DType = dtype

    def missing(self, embedder: Embedder, where: str, values: Sequence[str]) -> int:
        """How much content has no vector, in all files or in those under a condition."""
        sql = f"SELECT count(DISTINCT hash) FROM chunks WHERE {_WITHOUT}{_of_files(where)}"
        return int(self._connection.execute(sql, (embedder.name, embedder.passage_prefix, *values)).fetchone()[0])

    def without(self, embedder: Embedder, limit: int, where: str, values: Sequence[str]) -> list[tuple[str, str, str]]:
        """Hash, header and text of the same, in the order in which it came in."""
        chosen = f"{_WITHOUT}{_of_files(where)}"
        sql = f"SELECT hash, header, text FROM chunks WHERE {chosen} GROUP BY hash ORDER BY min(id) LIMIT ?"
        return list(self._connection.execute(sql, (embedder.name, embedder.passage_prefix, *values, limit)))

    def add(self, embedder: Embedder, hashes: Sequence[str], matrix: Matrix) -> None:
        """Write vectors behind those that are there."""
        if matrix.ndim != 2 or len(matrix) != len(hashes):
            raise ValueError(f"{len(hashes)} hashes with a matrix of shape {matrix.shape}")
        if not len(hashes):
            return
        model = self._model(embedder) or self._new_model(embedder, matrix.shape[1])
        self._check_width(embedder, model, matrix.shape[1])
        model.file.append(matrix, model.rows)
        self._connection.executemany(
            "INSERT OR REPLACE INTO vectors (model, hash, row) VALUES (?, ?, ?)",
            [(model.id, digest, model.rows + offset) for offset, digest in enumerate(hashes)],
        )
        self._connection.execute("UPDATE models SET rows = ? WHERE id = ?", (model.rows + len(hashes), model.id))

    def compact(self) -> None:
        """Copy what is in use of each matrix to a new file, where that is less than half of it."""
        for name, prefix in self._connection.execute("SELECT name, prefix FROM models").fetchall():
            model = self._model(Embedder(name, lambda texts: np.empty((len(texts), 0), np.float32), prefix))
            if model is not None:
                self._compact(model)

    def _compact(self, model: _Model) -> None:
        with transaction(self._connection):
            kept = self._connection.execute(
                "SELECT hash, row FROM vectors WHERE model = ? AND hash IN (SELECT hash FROM chunks) ORDER BY row",
                (model.id,),
            ).fetchall()
            if model.rows - len(kept) < max(_FEW, len(kept)):
                return
            file = MatrixFile(self._new_path(), model.file.dimensions, model.file.dtype)
            file.append(np.asarray(model.file.rows(model.rows)[[row for _, row in kept]]), 0)
            self._connection.execute("DELETE FROM vectors WHERE model = ?", (model.id,))
            self._connection.executemany(
                "INSERT INTO vectors (model, hash, row) VALUES (?, ?, ?)",
                [(model.id, digest, row) for row, (digest, _) in enumerate(kept)],
            )
            self._connection.execute(
                "UPDATE models SET file = ?, rows = ? WHERE id = ?", (file.path.name, len(kept), model.id)
            )
        with suppress(OSError):  # Windows keeps a file that a reader has mapped; it is named nowhere any more
            model.file.path.unlink()

    def _model(self, embedder: Embedder) -> _Model | None:
        return _model(self._connection, self._folder, embedder)

    def _new_model(self, embedder: Embedder, dimensions: int) -> _Model:
        file = MatrixFile(self._new_path(), dimensions, self._dtype)
        number = self._connection.execute(
            "INSERT INTO models (name, prefix, dimensions, dtype, file, rows) VALUES (?, ?, ?, ?, ?, 0)",
            (embedder.name, embedder.passage_prefix, dimensions, self._dtype, file.path.name),
        ).lastrowid
        return _Model(cast(int, number), file, 0)

    def _new_path(self) -> Path:
        return self._folder / f"vectors-{hashlib.sha256(os.urandom(16)).hexdigest()[:12]}.bin"

    def _check_width(self, embedder: Embedder, model: _Model, width: int) -> None:
        if width != model.file.dimensions:
            raise _wrong_width(embedder, model.file.dimensions, width)


def _of_files(where: str) -> str:
    """The further condition on chunks that a condition on files (alias ``f``) is; "" for all of them."""
    if not where:
        return ""
    return f" AND document IN (SELECT d.id FROM documents d JOIN files f ON f.id = d.file WHERE {where})"


def _model(connection: Connection, folder: Path, embedder: Embedder) -> _Model | None:
    row: Any = connection.execute(
        "SELECT id, dimensions, dtype, file, rows FROM models WHERE name = ? AND prefix = ?",
        (embedder.name, embedder.passage_prefix),
    ).fetchone()
    if row is None:
        return None
    number, dimensions, dtype, file, rows = row
    return _Model(number, MatrixFile(folder / file, dimensions, cast(DType, dtype)), rows)


def nearest(loaded: Loaded, embedder: Embedder, vector: Matrix, limit: int) -> list[tuple[int, float]]:
    """The chunks whose vectors are nearest to ``vector``, nearest first. Raises InputError for another width."""
    if not len(loaded.chunks):
        return []
    if len(vector) != loaded.rows.shape[1]:
        raise _wrong_width(embedder, loaded.rows.shape[1], len(vector))
    scores = similarities(loaded.rows, vector)[loaded.places]
    return [(int(loaded.chunks[place]), float(scores[place])) for place in best(scores, limit)]


def _wrong_width(embedder: Embedder, known: int, width: int) -> InputError:
    return InputError(
        f"{embedder.name}: {width} dimensions, but the index has {known} under this name",
        "give another version of the model another name",
    )
