"""A store in Qdrant, for those who outgrow one machine: the same protocol as ``SqliteStore``, behind a server's address.

Three kinds of collections under one prefix: ``…_files``, ``…_chunks`` with a sparse vector of term weights each, and one
``…_vectors_…`` for each embedding model, keyed by content. BM25 is computed the way Qdrant proposes: the weight of a term
in a chunk is stored, the server multiplies it by the term's inverse document frequency. Stems are those of the SQLite
store. Three things differ from it: the average length of a chunk is a constant, frequencies count lists of references,
too, and while a file is replaced a reader may see chunks of both its versions.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.config import home
from harness.errors import InputError
from harness.search.bm25 import WEIGHTS, LexicalQuery
from harness.search.chunks import Chunk, chunks_of
from harness.search.documents import Document
from harness.search.qdrant_points import (
    AT_ONCE,
    folders_of,
    follows,
    is_value,
    slices,
    stored_chunk,
    term_number,
    uuid_from_hash,
    uuid_of,
)
from harness.search.sqlite_terms import Stemmer
from harness.search.store import Files, IndexedFile, Ranked, Scope, Stamp, StoredChunk
from harness.search.vectors import Embedder, Matrix

TERMS = "terms"
"""The name of the sparse vector."""
AVERAGE = 170
"""Words of a chunk, header counted twice: BM25's average length."""
K1, B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+")


class QdrantStore:
    """``Store`` in Qdrant. Every method raises InputError where the server cannot be used.

    ``url`` is a server's address; ``:memory:`` and a folder are the client's own imitation of one, good for tests and
    some thousand chunks.
    """

    def __init__(self, url: str, *, prefix: str = "marginalia", api_key: str | None = None) -> None:
        try:
            from qdrant_client import QdrantClient, models
        except ImportError:
            raise InputError("the package qdrant-client is not installed", "pip install 'marginalia[qdrant]'") from None
        self._url, self._prefix = url, prefix
        self._models: Any = models
        self._lock = threading.RLock()
        self._stemmer = Stemmer()
        remote = url.startswith(("http://", "https://"))
        with self._reporting():
            if remote:
                self._client: Any = QdrantClient(url=url, api_key=api_key, check_compatibility=False)
            else:
                self._client = QdrantClient(url) if url == ":memory:" else QdrantClient(path=url)
            self._prepare(remote)

    def __enter__(self) -> QdrantStore:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _prepare(self, remote: bool) -> None:
        models = self._models
        if not self._client.collection_exists(self._files):
            self._client.create_collection(self._files, vectors_config={})
        if not self._client.collection_exists(self._chunks):
            terms = models.SparseVectorParams(modifier=models.Modifier.IDF)
            self._client.create_collection(self._chunks, vectors_config={}, sparse_vectors_config={TERMS: terms})
            for field, kind in (("within", "keyword"), ("hash", "keyword"), ("references", "bool")):
                if remote:  # the imitation has none
                    self._client.create_payload_index(self._chunks, field, field_schema=kind)

    @property
    def _files(self) -> str:
        return f"{self._prefix}_files"

    @property
    def _chunks(self) -> str:
        return f"{self._prefix}_chunks"

    def files(self) -> dict[str, IndexedFile]:
        """As in ``Store``."""
        rows = (point.payload for point in self._scroll(self._files, None, True))
        found = {row["path"]: IndexedFile(**{**row, "stamp": Stamp(**row["stamp"])}) for row in rows}
        return dict(sorted(found.items()))

    def put(self, file: IndexedFile, documents: Iterable[Document]) -> IndexedFile:
        """As in ``Store``."""
        made = [(document, list(chunks_of(document))) for document in documents]
        turn = secrets.token_hex(8)
        numbered = enumerate((document, chunk) for document, chunks in made for chunk in chunks)
        points = [self._point(file.path, turn, number, document, chunk) for number, (document, chunk) in numbered]
        file = replace(file, documents=len(made), chunks=len(points), pages=sum(document.pages for document, _ in made))
        models = self._models
        old = models.Filter(must=[is_value(models, "file", file.path)], must_not=[is_value(models, "turn", turn)])
        with self._reporting():
            for some in slices(points):
                self._client.upsert(self._chunks, some, wait=True)
            self._client.delete(self._chunks, models.FilterSelector(filter=old), wait=True)
            point = models.PointStruct(id=uuid_of(file.path), vector={}, payload=asdict(file))
            self._client.upsert(self._files, [point], wait=True)
        return file

    def touch(self, path: str, stamp: Stamp) -> None:
        """As in ``Store``."""
        with self._reporting():
            self._client.set_payload(self._files, {"stamp": asdict(stamp)}, points=[uuid_of(path)], wait=True)

    def remove(self, paths: Sequence[str]) -> None:
        """As in ``Store``."""
        models = self._models
        with self._reporting():
            for some in slices(list(paths)):
                chosen = models.Filter(must=[models.FieldCondition(key="file", match=models.MatchAny(any=some))])
                self._client.delete(self._chunks, models.FilterSelector(filter=chosen), wait=True)
                self._client.delete(self._files, models.PointIdsList(points=[uuid_of(path) for path in some]), wait=True)

    def lexical(self, query: LexicalQuery, limit: int, scope: Scope) -> Ranked:
        """As in ``Store``."""
        words = [word for text in (*query.words, *query.phrases) for word in _WORD.findall(text.lower())]
        indices = sorted({term_number(stem) for stem in self._stems(words) if stem})
        if not indices or scope.files == ():
            return []
        vector = self._models.SparseVector(indices=indices, values=[1.0] * len(indices))
        narrowed = bool(query.phrases or query.without)
        depth = limit
        while True:  # phrases and exclusions are checked here, so more may have to be fetched
            points = self._query(self._chunks, vector, depth, self._filter(scope), using=TERMS)
            found = [(int(point.id), float(point.score)) for point in points if point.score > 0]
            if narrowed:
                allowed = self.accepted([chunk for chunk, _ in found], query)
                found = [pair for pair in found if pair[0] in allowed]
            if len(found) >= limit or len(points) < depth:
                return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:limit]
            depth *= 4

    def dense(self, embedder: Embedder, vector: Matrix, limit: int, scope: Scope) -> Ranked:
        """As in ``Store``."""
        name = self._vectors(embedder)
        if scope.files == () or not self._has(name):
            return []
        self._check_width(embedder, name, len(vector))
        models = self._models
        chosen = None
        if scope.files is not None:
            inside = self._scroll(self._chunks, self._filter(scope), ["hash"])
            chosen = models.Filter(
                must=[models.HasIdCondition(has_id=list({uuid_from_hash(p.payload["hash"]) for p in inside}))]
            )
        depth = limit
        while True:  # one content may stand in many chunks, or in lists of references alone
            points = self._query(name, vector.tolist(), depth, chosen)
            score_of = {point.payload["hash"]: float(point.score) for point in points}
            match = models.FieldCondition(key="hash", match=models.MatchAny(any=list(score_of)))
            chunks = self._scroll(self._chunks, self._filter(scope, match), ["hash"]) if score_of else ()
            found = [(int(chunk.id), score_of[chunk.payload["hash"]]) for chunk in chunks]
            if len(found) >= limit or len(points) < depth:
                return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:limit]
            depth *= 4

    def accepted(self, ids: Sequence[int], query: LexicalQuery) -> set[int]:
        """As in ``Store``."""
        wanted = [self._stems(_WORD.findall(phrase.lower())) for phrase in query.phrases]
        unwanted = [self._stems(_WORD.findall(phrase.lower())) for phrase in query.without]
        left = set()
        for chunk in self.chunks(ids):
            parts = [self._stems(_WORD.findall(text.lower())) for text in (chunk.header, chunk.text)]
            has = [any(follows(part, phrase) for part in parts) for phrase in (*wanted, *unwanted)]
            if all(has[: len(wanted)]) and not any(has[len(wanted) :]):
                left.add(chunk.id)
        return left

    def chunks(self, ids: Sequence[int]) -> list[StoredChunk]:
        """As in ``Store``."""
        found: dict[int, StoredChunk] = {}
        with self._reporting():
            for some in slices(list(ids)):
                for point in self._client.retrieve(self._chunks, some, with_payload=True):
                    found[int(point.id)] = stored_chunk(int(point.id), point.payload)
        return [found[chunk] for chunk in ids if chunk in found]

    def missing(self, embedder: Embedder, files: Files = None) -> int:
        """As in ``Store``."""
        return sum(1 for _ in self._without(embedder, files))

    def without_vectors(self, embedder: Embedder, limit: int, files: Files = None) -> list[tuple[str, str]]:
        """As in ``Store``."""
        rows = []
        for digest, header, text in self._without(embedder, files):
            rows.append((digest, f"{header}\n{text}" if header else text))
            if len(rows) == limit:
                break
        return rows

    def add_vectors(self, embedder: Embedder, hashes: Sequence[str], matrix: Matrix) -> None:
        """As in ``Store``."""
        if matrix.ndim != 2 or len(matrix) != len(hashes):
            raise ValueError(f"{len(hashes)} hashes with a matrix of shape {matrix.shape}")
        if not len(hashes):
            return
        models, name = self._models, self._vectors(embedder)
        with self._reporting(), self._lock:
            if not self._has(name):
                shape = models.VectorParams(size=matrix.shape[1], distance=models.Distance.DOT)
                self._client.create_collection(name, vectors_config=shape)
        self._check_width(embedder, name, matrix.shape[1])
        points = [
            models.PointStruct(id=uuid_from_hash(digest), vector=row.tolist(), payload={"hash": digest})
            for digest, row in zip(hashes, matrix, strict=True)
        ]
        with self._reporting():
            for some in slices(points):
                self._client.upsert(name, some, wait=True)

    def frequencies(self, words: Sequence[str]) -> tuple[int, list[int]]:
        """As in ``Store``; lists of references count, too.

        A server does not tell in how many points a term stands, but the best score of a term alone is its stored weight
        times its inverse document frequency, ln(1 + (N - n + 0.5) / (n + 0.5)), and that gives n.
        """
        with self._reporting():
            total = int(self._client.count(self._chunks, exact=True).count)
        return total, [self._frequency(stem, total) for stem in self._stems([word.lower() for word in words])]

    def _frequency(self, stem: str, total: int) -> int:
        term = term_number(stem)
        vector = self._models.SparseVector(indices=[term], values=[1.0])
        with self._reporting():
            answer = self._client.query_points(self._chunks, query=vector, using=TERMS, limit=1, with_vectors=True)
        if not stem or not answer.points or answer.points[0].score <= 0:
            return 0
        found = answer.points[0].vector[TERMS]
        weight = dict(zip(found.indices, found.values, strict=True))[term]
        odds = math.exp(answer.points[0].score / weight) - 1
        return max(1, round((total + 0.5 - 0.5 * odds) / (1 + odds)))

    def compact(self) -> None:
        """Nothing to do: the server sees to it."""

    @property
    def lock(self) -> Path:
        """As in ``Store``: one a server, which other machines do not see."""
        return home() / "index" / f"qdrant-{hashlib.sha256(self._url.encode()).hexdigest()[:12]}.lock"

    def close(self) -> None:
        """Close the connection; closing twice is fine."""
        with self._lock:
            self._stemmer.close()
        self._client.close()

    # Inside

    def _point(self, path: str, turn: str, number: int, document: Document, chunk: Chunk) -> Any:
        """A chunk as Qdrant keeps it. Its id follows from file and place, so the same index has the same order of ties."""
        payload = {
            **{key: getattr(chunk, key) for key in ("header", "text", "section", "page", "references", "hash")},
            "file": path,
            "within": [path, *map(str, folders_of(path))],
            "turn": turn,
            "title": document.title,
            "place": document.place,
            "paper": document.id,
            "sentences": [list(span) for span in chunk.sentences],
        }
        identity = int.from_bytes(hashlib.sha256(f"{path}\0{number}".encode()).digest()[:8], "big") >> 1
        return self._models.PointStruct(id=identity, vector={TERMS: self._weights(chunk)}, payload=payload)

    def _weights(self, chunk: Chunk) -> Any:
        """BM25's weight of each term without its document frequency."""
        counts: Counter[int] = Counter()
        for text, weight in ((chunk.header, WEIGHTS[0]), (chunk.text, WEIGHTS[1])):
            for stem in self._stems(_WORD.findall(text.lower())):
                if stem:
                    counts[term_number(stem)] += int(weight)
        length = K1 * (1 - B + B * counts.total() / AVERAGE)
        terms = sorted(counts)
        values = [counts[term] * (K1 + 1) / (counts[term] + length) for term in terms]
        return self._models.SparseVector(indices=terms, values=values)

    def _stems(self, words: Sequence[str]) -> list[str]:
        with self._lock:
            return self._stemmer.stems(words)

    def _vectors(self, embedder: Embedder) -> str:
        key = hashlib.sha256(f"{embedder.name}\0{embedder.passage_prefix}".encode()).hexdigest()[:16]
        return f"{self._prefix}_vectors_{key}"

    def _has(self, name: str) -> bool:
        with self._reporting():
            return bool(self._client.collection_exists(name))

    def _check_width(self, embedder: Embedder, name: str, width: int) -> None:
        with self._reporting():
            known = self._client.get_collection(name).config.params.vectors.size
        if width != known:
            raise InputError(
                f"{embedder.name}: {width} dimensions, but the index has {known} under this name",
                "give another version of the model another name",
            )

    def _without(self, embedder: Embedder, files: Files) -> Iterator[tuple[str, str, str]]:
        """Hash, header and text of content without a vector."""
        if files == ():
            return
        name, within = self._vectors(embedder), self._filter(Scope(files, references=True))
        known, seen = self._has(name), set[str]()
        batch: list[Any] = []
        for point in (*self._scroll(self._chunks, within, ["hash", "header", "text"]), None):
            if point is not None and point.payload["hash"] not in seen:
                seen.add(point.payload["hash"])
                batch.append(point.payload)
            if batch and (point is None or len(batch) == AT_ONCE):
                with self._reporting():
                    ids = [uuid_from_hash(row["hash"]) for row in batch]
                    there = {str(found.id) for found in self._client.retrieve(name, ids)} if known else set()
                yield from ((r["hash"], r["header"], r["text"]) for r in batch if uuid_from_hash(r["hash"]) not in there)
                batch = []

    def _filter(self, scope: Scope, *more: Any) -> Any:
        models = self._models
        must = list(more)
        if scope.files is not None:
            paths = [path.rstrip("/\\") or path for path in scope.files]
            must.append(models.FieldCondition(key="within", match=models.MatchAny(any=paths)))
        if not scope.references:
            must.append(is_value(models, "references", False))
        return models.Filter(must=must) if must else None

    def _query(self, name: str, vector: Any, limit: int, chosen: Any, using: str | None = None) -> list[Any]:
        with self._reporting():
            answer = self._client.query_points(
                name, query=vector, using=using, limit=limit, query_filter=chosen, with_payload=using is None
            )
        return list(answer.points)

    def _scroll(self, name: str, chosen: Any, payload: Any) -> Iterator[Any]:
        offset = None
        while True:
            with self._reporting():
                points, offset = self._client.scroll(
                    name, scroll_filter=chosen, limit=AT_ONCE, offset=offset, with_payload=payload
                )
            yield from points
            if offset is None:
                return

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what the client raises into one InputError that names the server."""
        from qdrant_client.http.exceptions import ApiException

        try:
            yield
        except (ApiException, OSError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"Qdrant at {self._url}: {why}", "is it running, and is the key right?") from None
