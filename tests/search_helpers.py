"""What the tests of the search room share: stores with something in them, and embeddings that are really computed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from harness.search.documents import Block, Document
from harness.search.sqlite_store import SqliteStore
from harness.search.store import IndexedFile, Stamp
from harness.search.vectors import Embedder, Matrix


def hashed_words(texts: Sequence[str]) -> Matrix:
    """Bags of hashed words, 64 wide: texts that share words are near each other."""
    matrix = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            matrix[row, zlib.crc32(word.strip(".,:?").encode()) % 64] += 1
    return matrix + 1e-3


def embedder(name: str = "hashed-words", prefix: str = "") -> Embedder:
    """An embedding model that needs no weights."""
    return Embedder(name, hashed_words, prefix)


def put(store: SqliteStore, path: str, *texts: str, title: str = "", section: str = "", references: bool = False) -> None:
    """One document of a paragraph each, as a file of the store."""
    documents = [
        Document(title, (Block(text, section, references=references),), place=f"row {n}") for n, text in enumerate(texts, 1)
    ]
    store.put(IndexedFile(path, Stamp(1, 1, "1"), path), documents)
