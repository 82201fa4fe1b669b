"""What a store of chunks can do, and the records that go in and come out. ``sqlite_store`` is the one that is built in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from harness.search.bm25 import LexicalQuery
from harness.search.chunks import Span
from harness.search.documents import Document
from harness.search.vectors import Embedder, Matrix

Ranked = list[tuple[int, float]]
"""Ids of chunks and their scores, best first."""
Files = tuple[str, ...] | None
"""Absolute paths of files or folders; None for all."""


@dataclass(frozen=True)
class Stamp:
    """By what a file is known to be unchanged."""

    size: int
    mtime_ns: int
    reader: str
    """Version and options of the reader: another one reads the file anew."""


@dataclass(frozen=True)
class IndexedFile:
    """What the store knows of a file."""

    path: str
    stamp: Stamp
    digest: str
    """SHA-256 of its content; "" where it could not be read."""
    documents: int = 0
    chunks: int = 0
    pages: int = 0
    error: str = ""
    """Why nothing of it could be indexed."""
    same_as: str = ""
    """The file with the same content that stands for it."""


@dataclass(frozen=True)
class StoredChunk:
    """A chunk as it is found again."""

    id: int
    file: str
    title: str
    place: str
    """``row 12`` in a file of several papers."""
    paper: str
    """The paper's own id; "" where the file has none."""
    header: str
    section: str
    page: int
    """From 1; 0 where the file has no pages."""
    references: bool
    text: str
    sentences: tuple[Span, ...]
    """Start, end and page of each sentence in ``text``."""

    @property
    def indexed(self) -> str:
        """What was embedded, and what a reranker reads."""
        return f"{self.header}\n{self.text}" if self.header else self.text

    @property
    def where(self) -> str:
        """``p. 3``, ``pp. 3-4`` or ``row 12``; "" for a file without pages that is one paper."""
        last = max((page for *_, page in self.sentences), default=0)
        if not self.page:
            return self.place
        return f"p. {self.page}" if last == self.page else f"pp. {self.page}-{last}"


@dataclass(frozen=True)
class Scope:
    """Which chunks take part in a search; the plain one takes all but lists of references."""

    files: Files = None
    references: bool = False
    """Lists of references are searched as well."""


class Store(Protocol):
    """Chunks, their words and their vectors. Safe from several threads; a process that writes does not stop readers."""

    def files(self) -> dict[str, IndexedFile]:
        """Everything indexed, by path."""
        ...

    def put(self, file: IndexedFile, documents: Iterable[Document]) -> IndexedFile:
        """Replace what is known of a file, all or nothing; the record comes back with its counts filled in.

        Errors raised while ``documents`` is walked leave the store as it was.
        """
        ...

    def touch(self, path: str, stamp: Stamp) -> None:
        """Note that a file has a new date and the same content."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Forget files."""
        ...

    def lexical(self, query: LexicalQuery, limit: int, scope: Scope) -> Ranked:
        """The best chunks by BM25 (scores: higher is better)."""
        ...

    def dense(self, embedder: Embedder, vector: Matrix, limit: int, scope: Scope) -> Ranked:
        """The best chunks by the cosine of their vectors with a unit vector. Chunks without a vector take no part."""
        ...

    def accepted(self, ids: Sequence[int], query: LexicalQuery) -> set[int]:
        """Those of some chunks that have all phrases of a query and none of its excluded words."""
        ...

    def chunks(self, ids: Sequence[int]) -> list[StoredChunk]:
        """Chunks in the order of their ids given; those that have gone meanwhile are left out."""
        ...

    def missing(self, embedder: Embedder, files: Files = None) -> int:
        """How much content of some files the embedder has not seen yet, their lists of references included."""
        ...

    def without_vectors(self, embedder: Embedder, limit: int, files: Files = None) -> list[tuple[str, str]]:
        """Hash and text of content of some files that the embedder has not seen yet, at most ``limit`` of it."""
        ...

    def add_vectors(self, embedder: Embedder, hashes: Sequence[str], matrix: Matrix) -> None:
        """Keep the vectors of some content. Raises InputError for another width than before."""
        ...

    def frequencies(self, words: Sequence[str]) -> tuple[int, list[int]]:
        """How many chunks there are, and how many of them have each word (or another form of it)."""
        ...

    def compact(self) -> None:
        """Give back space of what is gone, where the store does not do so by itself."""
        ...

    @property
    def lock(self) -> Path:
        """The file that whoever writes keeps locked, so that two processes of this machine do not index at once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...
