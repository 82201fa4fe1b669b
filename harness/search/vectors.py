"""Embeddings: how a model that makes them is plugged in, and the matrix file that keeps them, one row a text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError, ModelError

Matrix: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str]], Matrix]
"""Texts to one row of finite numbers each, all of the same width. May raise ModelError."""
DType = Literal["float32", "float16"]
"""How a matrix is stored. float16 takes half the space and, without hardware for it, several times the search time."""
_BLOCK = 16_384
"""Rows converted at once when a float16 matrix is searched."""


@dataclass(frozen=True)
class Embedder:
    """An embedding model. Vectors are kept under ``name`` and ``passage_prefix``: change either and they are made anew."""

    name: str
    """The model and its version (a digest, a file's hash): equal names must mean equal vectors."""
    embed: Embed
    passage_prefix: str = ""
    """What the model wants before a passage, such as ``search_document: ``."""
    query_prefix: str = ""
    close: Callable[[], None] = lambda: None
    """Frees what the model holds."""

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def passages(self, texts: Sequence[str]) -> Matrix:
        """Unit vectors of passages. Raises ModelError where the model does not return what it should."""
        return self._unit([self.passage_prefix + text for text in texts])

    def query(self, text: str) -> Matrix:
        """The unit vector of a question, of shape [dimensions]."""
        vector: Matrix = self._unit([self.query_prefix + text])[0]
        return vector

    def hypothetical(self, text: str) -> Matrix:
        """The unit vector of a passage written as an answer (hyde): it is compared as a passage, not as a question."""
        vector: Matrix = self.passages([text])[0]
        return vector

    def _unit(self, texts: Sequence[str]) -> Matrix:
        matrix = np.asarray(self.embed(texts), dtype=np.float32)
        if matrix.ndim != 2 or len(matrix) != len(texts) or not matrix.size:
            raise ModelError(
                f"{self.name}: {len(texts)} texts gave embeddings of shape {matrix.shape}", "try another model"
            )
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not (lengths > 0).all():
            raise ModelError(f"{self.name}: an embedding is zero or not a number", "try another model")
        return np.asarray(matrix / lengths, dtype=np.float32)


@dataclass(frozen=True)
class MatrixFile:
    """Rows of numbers in a file, memory-mapped for search. Rows are only ever added; who knows how many keeps the count.

    A row beyond that count, left by a process that died, is overwritten by the next one to be added.
    """

    path: Path
    dimensions: int
    dtype: DType = "float32"

    def append(self, matrix: Matrix, at: int) -> None:
        """Write ``matrix`` behind the first ``at`` rows and wait until the disk has it. Raises InputError."""
        data = np.ascontiguousarray(matrix, dtype=self.dtype)
        try:
            with open(self.path, "r+b" if self.path.exists() else "x+b") as handle:
                handle.seek(at * self.dimensions * data.itemsize)
                handle.write(data.tobytes())
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror or error}", "free some space") from error

    def rows(self, count: int) -> NDArray[np.float32 | np.float16]:
        """The first ``count`` rows, read-only. Raises InputError where the file is gone or shorter."""
        if count == 0:
            return np.empty((0, self.dimensions), dtype=self.dtype)
        try:
            return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(count, self.dimensions))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be used ({error})", "index again with --fresh") from error


def similarities(rows: NDArray[np.float32 | np.float16], vector: Matrix) -> Matrix:
    """The dot product of every row with ``vector``: the cosine, for unit vectors.

    Row by row on one core: that reads the matrix as fast as OpenBLAS with two threads does, and BM25 has the other.
    """
    if rows.dtype == np.float32:
        return np.asarray(np.vecdot(rows, vector), dtype=np.float32)
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        scores[start : start + _BLOCK] = np.vecdot(rows[start : start + _BLOCK].astype(np.float32), vector)
    return scores


def best(scores: Matrix, count: int) -> NDArray[np.int64]:
    """The places of the ``count`` highest scores, highest first; equal ones in their order."""
    if count < len(scores):
        cut = np.partition(scores, len(scores) - count)[len(scores) - count]
        places = np.flatnonzero(scores >= cut)
    else:
        places = np.arange(len(scores))
    order = np.lexsort((places, -scores[places]))
    return np.asarray(places[order][:count], dtype=np.int64)
