"""The Qdrant store does what the built-in one does; its client's own imitation of a server stands for one."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from search_helpers import embedder, hashed_words, put

from harness.config import Settings
from harness.errors import InputError, Offline, UsageError
from harness.search.bm25 import parse
from harness.search.documents import Document
from harness.search.index import Options, embed, update
from harness.search.search import search
from harness.search.sqlite_store import SqliteStore
from harness.search.store import IndexedFile, Scope, Stamp, Store
from harness.search.stores import open_store
from harness.search.vectors import Embedder

pytest.importorskip("qdrant_client", reason="needs the qdrant extra")
from harness.search.qdrant_store import QdrantStore

TEXTS = ("Caches evict tokens.", "Graphs have nodes.", "Wheat grows in fields.")


@pytest.fixture(params=["sqlite", "qdrant"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with SqliteStore(tmp_path / "i.db") if request.param == "sqlite" else QdrantStore(":memory:") as store:
        yield store


def found(store: Store, text: str, scope: Scope | None = None) -> list[str]:
    ids = [chunk for chunk, _ in store.lexical(parse(text), 10, scope or Scope())]
    return [chunk.text for chunk in store.chunks(ids)]


def test_a_chunk_comes_back_as_it_was_put(store: Store) -> None:
    put(store, "/p/a.csv", *TEXTS, title="T", section="Methods")
    ((chunk_id, score),) = store.lexical(parse("graph node"), 5, Scope())
    (chunk,) = store.chunks([chunk_id])
    assert score > 0
    assert (chunk.file, chunk.place, chunk.header, chunk.text) == ("/p/a.csv", "row 2", "T › Methods", TEXTS[1])
    assert chunk.sentences == ((0, len(TEXTS[1]), 0),)
    assert store.chunks([12345]) == []


def test_frequencies_are_known_of_any_form_of_a_word(store: Store) -> None:
    put(store, "/a", *[f"Caches evict token {n}." for n in range(40)], "Wheat grows in a field.", "Fields lie fallow.")
    total, counts = store.frequencies(["cached", "field", "wheat", "zebra"])
    assert total == 42
    assert counts == [40, 2, 1, 0]


def test_files_are_replaced_touched_and_removed(store: Store) -> None:
    put(store, "/a", *TEXTS)
    put(store, "/a", "Barley grows.")
    assert found(store, "grows wheat tokens") == ["Barley grows."]
    store.touch("/a", Stamp(7, 8, "2"))
    assert store.files() == {"/a": IndexedFile("/a", Stamp(7, 8, "2"), "/a", 1, 1)}
    store.remove(["/a"])
    assert store.files() == {}
    assert found(store, "barley") == []


def test_an_error_while_documents_are_read_leaves_the_store_as_it_was(store: Store) -> None:
    def broken() -> Iterator[Document]:
        yield Document("T", ())
        raise InputError("line 7 is broken")

    put(store, "/a", *TEXTS)
    with pytest.raises(InputError, match="line 7"):
        store.put(IndexedFile("/a", Stamp(2, 2, "1"), "x"), broken())
    assert found(store, "wheat") == [TEXTS[2]]
    assert store.files()["/a"].stamp == Stamp(1, 1, "1")


def test_scope_is_files_and_folders_and_references_are_asked_for(store: Store) -> None:
    put(store, "/papers/one.pdf", "Wheat one.")
    put(store, "/papers/deep/two.pdf", "Wheat two.")
    put(store, "/papers2/three.pdf", "Wheat three.")
    put(store, "/papers/four.pdf", "Wheat: a history. 1999.", references=True)
    assert sorted(found(store, "wheat")) == ["Wheat one.", "Wheat three.", "Wheat two."]
    assert sorted(found(store, "wheat", Scope(("/papers/",)))) == ["Wheat one.", "Wheat two."]
    assert found(store, "wheat", Scope(("/papers/deep/two.pdf",))) == ["Wheat two."]
    assert found(store, "wheat", Scope(())) == []
    assert len(found(store, "wheat", Scope(references=True))) == 4
    assert embed(store, embedder()) == 4
    near = store.dense(embedder(), embedder().query("wheat"), 9, Scope(("/papers",)))
    assert sorted(chunk.text for chunk in store.chunks([n for n, _ in near])) == ["Wheat one.", "Wheat two."]
    assert len(store.dense(embedder(), embedder().query("wheat"), 9, Scope())) == 3


def test_content_is_embedded_once_for_a_model_and_a_prefix(store: Store) -> None:
    put(store, "/a", *TEXTS)
    put(store, "/b", TEXTS[0])
    assert (store.missing(embedder()), store.missing(embedder(), ("/b",)), store.missing(embedder(), ())) == (3, 1, 0)
    assert [text for _, text in store.without_vectors(embedder(), 2)] != []
    assert embed(store, embedder()) == 3
    store.remove(["/a"])
    put(store, "/c", *TEXTS)
    assert (store.missing(embedder()), embed(store, embedder())) == (0, 0)
    near = store.dense(embedder(), embedder().query(TEXTS[0]), 9, Scope())
    assert len(near) == 4
    assert near[0][1] == pytest.approx(1, abs=1e-4)
    assert len(store.dense(embedder(), embedder().query(TEXTS[0]), 2, Scope())) == 2
    assert embed(store, Embedder("hashed-words", hashed_words, "passage: ")) == 3
    assert store.dense(embedder("unknown"), embedder().query("x"), 3, Scope()) == []


def test_another_width_under_the_same_name_is_refused(store: Store) -> None:
    put(store, "/a", TEXTS[0])
    embed(store, embedder())
    put(store, "/b", TEXTS[1])
    narrow = Embedder("hashed-words", lambda texts: np.ones((len(texts), 8), np.float32))
    with pytest.raises(InputError, match="8 dimensions, but the index has 64"):
        embed(store, narrow)
    with pytest.raises(InputError, match="8 dimensions"):
        store.dense(narrow, narrow.query("x"), 3, Scope())


def test_phrases_and_exclusions_hold(store: Store) -> None:
    put(
        store,
        "/a",
        "Long inputs need memory.",
        "Inputs are long here.",
        "Memory of graphs.",
        *[f"Memory {n}." for n in range(30)],
    )
    assert found(store, '"long input"') == ["Long inputs need memory."]
    assert "Memory of graphs." not in found(store, "memory -graph")
    assert len(store.lexical(parse("memory -graph"), 30, Scope())) == 30
    embed(store, embedder())
    hits = search(store, '"long inputs" memory', embedder=embedder()).hits
    assert [hit.chunk.text for hit in hits] == ["Long inputs need memory."]
    assert {step.stage for step in hits[0].steps} == {"bm25", "dense"}


def test_rarer_terms_and_headers_count_more(store: Store) -> None:
    put(store, "/a", *(f"Wheat grows in field {n}." for n in range(20)), "Wheat rust is a disease.")
    assert found(store, "wheat rust")[0] == "Wheat rust is a disease."
    put(store, "/b", "Something else.", title="Barley")
    put(store, "/c", "Barley is something else.", title="Other")
    assert found(store, "barley")[0] == "Something else."


def test_files_are_indexed_and_forgotten(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.md").write_text("# Rye\n\nRye is cut when dry.\n")
    (folder / "b.md").write_text("# Oats\n\nOats are sown early.\n")
    assert [result.status for result in update(store, [folder], Options())] == ["new", "new"]
    assert [result.status for result in update(store, [folder], Options())] == ["unchanged", "unchanged"]
    (folder / "b.md").unlink()
    assert {result.status for result in update(store, [folder], Options())} == {"removed", "unchanged"}
    assert found(store, "oats") == []


def test_a_folder_keeps_it(tmp_path: Path) -> None:
    with QdrantStore(str(tmp_path / "q")) as store:
        put(store, "/a", *TEXTS)
        embed(store, embedder())
    with QdrantStore(str(tmp_path / "q")) as store:
        assert found(store, "wheat") == [TEXTS[2]]
        assert embed(store, embedder()) == 0


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing."""


def test_a_server_that_is_not_there_or_refuses_is_one_line() -> None:
    with pytest.raises(InputError, match=r"Qdrant at http://127\.0\.0\.1:9: .*; is it running"):
        QdrantStore("http://127.0.0.1:9")
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        with pytest.raises(InputError, match="403"):
            QdrantStore(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


# ---- the setting ----


def test_index_and_ask_work_in_the_store_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ask_helpers import RYE_FOUND, write_library

    from harness.cli import main
    from harness.search.sqlite_store import index_path

    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("MARGINALIA_STORE", f"qdrant:{tmp_path / 'vectors'}")
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.chdir(tmp_path)
    write_library(tmp_path / "papers")
    assert main(["/index papers"]) == 0
    assert main(["/index --list"]) == 0
    assert "3 files, " in capsys.readouterr().out
    assert main(["--json", '/ask --extractive "Does an early harvest improve the yield of rye?"']) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["citations"][0]["quote"] == RYE_FOUND
    assert main(["--json", '/ask --extractive "Which robots weeded the orchids?"']) == 0
    assert json.loads(capsys.readouterr().out)["abstained"]
    assert (tmp_path / "vectors").is_dir()
    assert not index_path().exists()


def test_a_store_that_is_none_and_one_elsewhere_offline_are_refused() -> None:
    with pytest.raises(UsageError, match="names no store"):
        open_store(Settings(store="milvus:x"))
    with pytest.raises(UsageError, match="names no store"):
        open_store(Settings(store="qdrant:"))
    with pytest.raises(Offline, match="another machine"):
        open_store(Settings(store="qdrant:http://qdrant.invalid:6333", offline=True))
