"""The store: what is put is found again, what is removed is gone, vectors belong to content, readers see whole files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from search_helpers import embedder, hashed_words, put

from harness.errors import InputError, ModelError
from harness.search.bm25 import parse
from harness.search.documents import Document
from harness.search.index import embed
from harness.search.sqlite_store import SqliteStore
from harness.search.store import IndexedFile, Scope, Stamp
from harness.search.vectors import Embedder, MatrixFile, best, similarities

TEXTS = ("Caches evict tokens.", "Graphs have nodes.", "Wheat grows in fields.")


def found(store: SqliteStore, text: str, scope: Scope | None = None) -> list[str]:
    ids = [chunk for chunk, _ in store.lexical(parse(text), 10, scope or Scope())]
    return [chunk.text for chunk in store.chunks(ids)]


def test_a_chunk_comes_back_as_it_was_put(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/p/a.csv", *TEXTS, title="T", section="Methods")
        ((chunk_id, score),) = store.lexical(parse("graph node"), 5, Scope())
        (chunk,) = store.chunks([chunk_id])
        assert score > 0
        assert (chunk.file, chunk.place, chunk.header, chunk.text) == ("/p/a.csv", "row 2", "T › Methods", TEXTS[1])
        assert chunk.sentences == ((0, len(TEXTS[1]), 0),)
        assert [c.text for c in store.chunks_of_file("/p/a.csv")] == list(TEXTS)


def test_putting_again_replaces_and_removing_leaves_nothing(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a", *TEXTS)
        put(store, "/a", "Barley grows.")
        assert found(store, "grows wheat tokens") == ["Barley grows."]
        store.remove(["/a"])
        assert store.files() == {}
        assert found(store, "barley") == []
        tables = ("documents", "chunks", "body", "bibliography")
        assert [store._select(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [0] * 4


def test_an_error_while_documents_are_read_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    def broken() -> object:
        yield Document("T", ())
        raise InputError("line 7 is broken")

    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a", *TEXTS)
        with pytest.raises(InputError, match="line 7"):
            store.put(IndexedFile("/a", Stamp(2, 2, "1"), "x"), broken())  # type: ignore[arg-type]
        assert found(store, "wheat") == [TEXTS[2]]
        assert store.files()["/a"].stamp == Stamp(1, 1, "1")


def test_scope_is_files_and_folders_and_references_are_asked_for(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/papers/one.pdf", "Wheat one.")
        put(store, "/papers/deep/two.pdf", "Wheat two.")
        put(store, "/papers2/three.pdf", "Wheat three.")
        put(store, "/papers/four.pdf", "Wheat: a history. 1999.", references=True)
        assert sorted(found(store, "wheat")) == ["Wheat one.", "Wheat three.", "Wheat two."]
        assert sorted(found(store, "wheat", Scope(("/papers",)))) == ["Wheat one.", "Wheat two."]
        assert found(store, "wheat", Scope(("/papers/deep/two.pdf",))) == ["Wheat two."]
        assert found(store, "wheat", Scope(())) == []
        assert len(found(store, "wheat", Scope(references=True))) == 4
        embed(store, embedder())
        near = store.dense(embedder(), embedder().query("wheat"), 9, Scope(("/papers",)))
        assert sorted(chunk.text for chunk in store.chunks([n for n, _ in near])) == ["Wheat one.", "Wheat two."]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_find_the_nearest_and_survive_reopening(tmp_path: Path, dtype: str) -> None:
    with SqliteStore(tmp_path / "i.db", dtype) as store:  # type: ignore[arg-type]
        put(store, "/a", *TEXTS)
        assert embed(store, embedder()) == 3
        assert embed(store, embedder()) == 0
    with SqliteStore(tmp_path / "i.db") as store:
        near = store.dense(embedder(), embedder().query("graphs have nodes"), 2, Scope())
        assert store.chunks([near[0][0]])[0].text == TEXTS[1]
        assert near[0][1] == pytest.approx(1, abs=2e-3)
        (matrix,) = tmp_path.glob("vectors-*.bin")
        assert matrix.stat().st_size == 3 * 64 * (4 if dtype == "float32" else 2)


def test_content_is_embedded_once_for_a_model_and_a_prefix(tmp_path: Path) -> None:
    asked: list[str] = []

    def counting(texts: object) -> object:
        asked.extend(texts)  # type: ignore[arg-type]
        return hashed_words(texts)  # type: ignore[arg-type]

    one = Embedder("m", counting)  # type: ignore[arg-type]
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a", *TEXTS)
        put(store, "/b", TEXTS[0])
        assert embed(store, one) == 3
        store.remove(["/a"])
        put(store, "/c", *TEXTS)
        assert embed(store, one) == 0
        near = store.dense(one, one.query(TEXTS[0]), 9, Scope())
        assert len(near) == 4
        assert embed(store, Embedder("m", counting, "passage: ")) == 3  # type: ignore[arg-type]
        assert asked[-1].startswith("passage: ")
        assert len(store.dense(one, one.query(TEXTS[0]), 9, Scope())) == 4


def test_another_width_under_the_same_name_is_refused(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a", TEXTS[0])
        embed(store, embedder())
        put(store, "/b", TEXTS[1])
        narrow = Embedder("hashed-words", lambda texts: np.ones((len(texts), 8), np.float32))
        with pytest.raises(InputError, match="8 dimensions, but the index has 64"):
            embed(store, narrow)
        with pytest.raises(InputError, match="8 dimensions"):
            store.dense(narrow, narrow.query("x"), 3, Scope())


@pytest.mark.parametrize("bad", [np.zeros((1, 4)), np.full((1, 4), np.nan), np.ones((2, 4)), np.ones(4), np.ones((1, 0))])
def test_what_is_no_embedding_is_an_error(bad: np.ndarray) -> None:
    with pytest.raises(ModelError, match="broken: "):
        Embedder("broken", lambda texts: bad).query("text")


def test_compacting_keeps_what_is_in_use(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/many", *(f"Item {n} of many items in a row." for n in range(1500)))
        put(store, "/few", *TEXTS)
        embed(store, embedder())
        store.remove(["/many"])
        store.compact()
        (matrix,) = tmp_path.glob("vectors-*.bin")
        assert matrix.stat().st_size == 3 * 64 * 4
        near = store.dense(embedder(), embedder().query(TEXTS[2]), 1, Scope())
        assert store.chunks([near[0][0]])[0].text == TEXTS[2]


def test_vectors_are_found_while_another_thread_uses_the_words(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/p", *TEXTS)
        embed(store, embedder())
        vector = embedder().query(TEXTS[1])
        alone = store.dense(embedder(), vector, 3, Scope())
        beside = []

        def documents() -> Iterator[Document]:
            with ThreadPoolExecutor(1) as pool:  # while this is walked, the store's own connection is taken
                beside.append(pool.submit(store.dense, embedder(), vector, 3, Scope()).result(timeout=20))
            yield from ()

        store.put(IndexedFile("/q", Stamp(1, 1, "1"), "q"), documents())
        assert beside == [alone]
        assert store.chunks([alone[0][0]])[0].text == TEXTS[1]
        store.remove(["/p"])
        assert store.dense(embedder(), vector, 3, Scope()) == []


def test_rows_of_a_writer_that_died_are_overwritten(tmp_path: Path) -> None:
    file = MatrixFile(tmp_path / "m.bin", 2)
    file.append(np.array([[1, 0]], np.float32), 0)
    file.append(np.array([[9, 9]], np.float32), 1)  # its transaction never committed
    file.append(np.array([[0, 1], [1, 1]], np.float32), 1)
    assert file.rows(3).tolist() == [[1, 0], [0, 1], [1, 1]]
    with pytest.raises(InputError, match="index again"):
        file.rows(9)
    with pytest.raises(InputError, match="index again"):
        MatrixFile(tmp_path / "gone.bin", 2).rows(1)


def test_best_is_stable_and_float16_agrees() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.9, 0.1], np.float32)
    assert best(scores, 3).tolist() == [1, 3, 0]
    assert best(scores, 99).tolist() == [1, 3, 0, 2, 4]
    random = np.random.default_rng(0)
    rows, vector = random.normal(size=(40_000, 16)).astype(np.float32), random.normal(size=16).astype(np.float32)
    assert np.allclose(similarities(rows.astype(np.float16), vector), similarities(rows, vector), atol=0.02)


def _write(path: Path, ready: object, count: int) -> None:
    with SqliteStore(path) as store:
        ready.set()  # type: ignore[attr-defined]
        for n in range(count):
            put(store, "/changing", *(f"Round {n} text {m}." for m in range(20)))
            embed(store, embedder())


def test_a_reader_sees_whole_files_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "i.db"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    with SqliteStore(path) as store:
        put(store, "/changing", *(f"Round 0 text {m}." for m in range(20)))
        embed(store, embedder())
        writer = context.Process(target=_write, args=(path, ready, 15))
        writer.start()
        assert ready.wait(60)
        seen = set()
        while writer.is_alive() or len(seen) == 0:
            ids = [chunk for chunk, _ in store.lexical(parse("round text"), 100, Scope())]
            assert len(ids) == 20
            near = store.dense(embedder(), embedder().query("Round 1"), 100, Scope())
            assert len(near) in (0, 20)
            seen.update(chunk.text.split()[1] for chunk in store.chunks(ids))
        writer.join()
        assert writer.exitcode == 0
        assert len(store.dense(embedder(), embedder().query("Round 1"), 100, Scope())) == 20


def test_a_file_that_is_no_index_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "i.db").write_bytes(os.urandom(4096))
    with pytest.raises(InputError, match=r"i\.db: damaged or no SQLite file"):
        SqliteStore(tmp_path / "i.db")
