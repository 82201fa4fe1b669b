"""Embedding models by name, their prefixes, texts of any length, and what /index and the search make of them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ollama_server import OllamaServer
from rich.console import Console
from search_helpers import put
from tiny_bert import CONTEXT, WORDS, embed, write_tiny_bert

from harness.cli import main
from harness.config import Settings
from harness.context import Context
from harness.errors import ContextOverflow, InputError, NoModelError
from harness.models.base import ModelInfo
from harness.models.embedded import file_digest
from harness.search.embedders import Prefixes, Whole, embed_new, embedder_name, open_embedder, prefixes_of
from harness.search.search import search
from harness.search.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from harness.models.embedding import Vector

TEXTS = ("caches evict tokens .", "graphs have nodes .", "wheat grows in fields .", "rye is cut when dry .")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def heard() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def context(tmp_path: Path, heard: io.StringIO) -> Context:
    def nothing(*args: Any, **more: Any) -> Any:
        raise AssertionError

    settings = Settings(ollama_host="127.0.0.1:9", threads=1)
    return Context(settings, Console(file=heard, width=200), tmp_path, nothing, nothing)


# Names and prefixes


@pytest.mark.parametrize(
    ("family", "query", "passage"),
    [
        ("nomic-embed-text:latest", "search_query: ", "search_document: "),
        ("hf.co/someone/Nomic_Embed_Text-v1.5-GGUF:Q8_0", "search_query: ", "search_document: "),
        ("intfloat_multilingual-e5-small", "query: ", "passage: "),
        ("e5-base-v2 bert", "query: ", "passage: "),
        ("multilingual-e5-large-instruct", "Instruct: ", ""),
        ("bge-m3", "", ""),
        ("bge-small-en-v1.5", "Represent this", ""),
        ("Qwen3-Embedding-0.6B", "Instruct: ", ""),
        ("embeddinggemma:300m", "task: search result | query: ", "title: none | text: "),
        ("snowflake-arctic-embed2:568m", "query: ", ""),
        ("snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("snowflake-arctic-embed:33m", "Represent this", ""),
        ("all-minilm:l6-v2", "", ""),
    ],
)
def test_families_and_their_prefixes(family: str, query: str, passage: str) -> None:
    found = prefixes_of(family)
    assert found is not None
    assert found.passage == passage
    assert found.query.startswith(query)
    assert bool(found.query) == bool(query)


def test_an_unknown_family_is_not_guessed() -> None:
    assert prefixes_of("our-own-model:e50") is None


def test_no_embedder_by_default() -> None:
    assert embedder_name(None, Settings()) == ""
    assert embedder_name(None, Settings(embedder="a")) == "a"
    assert embedder_name("b", Settings(embedder="a")) == "b"
    assert embedder_name("none", Settings(embedder="a")) == ""


# Texts of any length


class Lengths:
    """A model whose window is ten characters: a vector is what it saw, as counts of the letters a and b."""

    info = ModelInfo("lengths", "embedded", "", 10)
    family = ""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> list[Vector | None]:
        self.seen += texts
        return [None if len(t) > 10 else np.array([t.count("a"), t.count("b")], dtype=np.float32) for t in texts]

    def close(self) -> None:
        """Nothing."""


def test_a_long_text_is_the_mean_of_its_parts_each_with_its_prefix() -> None:
    model, told = Lengths(), list[str]()
    whole = Whole(model, ("q: ", "p: "), told.append)
    rows = whole(["p: aa", "p: aaaa bbbb aaaa bbbb", "ab"])
    parts = ["p: aa", "ab", "p: aaaa", "p:  bbbb", "p:  aaaa", "p:  bbbb"]
    assert [text for text in model.seen if len(text) <= 10] == parts
    assert rows[0].tolist() == [2, 0]
    assert rows[1][1] / rows[1][0] == pytest.approx(1.0, abs=0.2)
    assert len(told) == 1
    assert "10 tokens of lengths" in told[0]
    assert whole(["a" * 100])[0][1] == 0
    with pytest.raises(ContextOverflow, match="window is too small"):
        Whole(model, ("a prefix as such: ",), told.append)(["a prefix as such: text"])


# Opened by name


def test_a_gguf_file_is_known_by_its_hash(gguf: Path, context: Context, heard: io.StringIO) -> None:
    with open_embedder(str(gguf), context.settings, context.console) as embedder:
        assert embedder.name == file_digest(gguf)
        assert np.allclose(embedder.query(TEXTS[0]), embed(TEXTS[0]), atol=2e-3)
        long = embedder.passages([" ".join(WORDS * 9)])
        assert np.linalg.norm(long[0]) == pytest.approx(1, abs=1e-5)
    lines = heard.getvalue().splitlines()
    assert lines[0] == "embeddings: tiny.gguf (embedded, its family is not known), prefixes '' and ''"
    assert lines[1] == f"some passages exceed the {CONTEXT} tokens of tiny.gguf: they are embedded in parts"


def test_prefixes_come_from_the_file_or_from_the_settings(tmp_path: Path, context: Context, heard: io.StringIO) -> None:
    path = str(write_tiny_bert(tmp_path / "m.gguf", name="Nomic Embed Text v1.5"))
    with open_embedder(path, context.settings, context.console) as embedder:
        assert Prefixes(embedder.query_prefix, embedder.passage_prefix) == Prefixes("search_query: ", "search_document: ")
        assert not np.allclose(embedder.query("wheat"), embedder.hypothetical("wheat"))
    context.settings = replace(context.settings, embedder_query_prefix="rye ", embedder_passage_prefix="")
    with open_embedder(path, context.settings, context.console) as embedder:
        assert np.allclose(embedder.query("wheat"), embedder.hypothetical("rye wheat"), atol=1e-6)
    assert "prefixes 'rye ' and ''" in heard.getvalue()


def test_a_model_of_the_daemon_is_known_by_its_digest(server: OllamaServer, gguf: Path, context: Context) -> None:
    stored = server.add("all-minilm", context=CONTEXT, capabilities=("embedding",), gguf=gguf)
    context.settings = replace(context.settings, ollama_host=server.url)
    with open_embedder("all-minilm", context.settings, context.console) as embedder:
        assert embedder.name == f"all-minilm:latest@sha256:{stored.digest}"
        assert np.allclose(embedder.query(TEXTS[1]), embed(TEXTS[1]), atol=2e-3)
    with pytest.raises(NoModelError, match="nearest there: all-minilm"):
        open_embedder("all-minlm", context.settings, context.console)


def test_what_cannot_be_opened_is_one_clear_line(context: Context) -> None:
    with pytest.raises(InputError, match="no such file; give the path"):
        open_embedder("nowhere/model.gguf", context.settings, context.console)
    with pytest.raises(NoModelError, match=r"no Ollama answers at .*; start it \(ollama serve\), or give the path"):
        open_embedder("all-minilm", context.settings, context.console)


# Into the store


def test_only_what_is_new_is_embedded_and_a_search_finds_by_meaning(gguf: Path, tmp_path: Path, context: Context) -> None:
    with SqliteStore(tmp_path / "i.db") as store, open_embedder(str(gguf), context.settings, context.console) as embedder:
        put(store, "/a", *TEXTS)
        assert store.missing(embedder) == 4
        assert embed_new(store, embedder, context.console) == 4
        put(store, "/b", *TEXTS, "memory of heads")
        assert embed_new(store, embedder, context.console) == 1
        assert (store.missing(embedder), embed_new(store, embedder, context.console)) == (0, 0)
        put(store, "/c/one", "trees grow in rings")
        put(store, "/c2", "seas have tides")
        assert (store.missing(embedder, ("/c",)), store.missing(embedder, ())) == (1, 0)
        assert embed_new(store, embedder, context.console, ("/c",)) == 1
        assert (store.missing(embedder, ("/c",)), store.missing(embedder)) == (0, 1)
        found = search(store, "wheat grows in fields .", embedder=embedder)
        assert found.hits[0].chunk.text == TEXTS[2]
        assert {step.stage for step in found.hits[0].steps} == {"bm25", "dense"}
        assert next(s.score for s in found.hits[0].steps if s.stage == "dense") == pytest.approx(1, abs=1e-4)


# /index


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with papers, a data folder of its own, and no daemon."""
    for key, value in (("MARGINALIA_HOME", str(tmp_path / "home")), ("OLLAMA_HOST", "127.0.0.1:9")):
        monkeypatch.setenv(key, value)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "a.md").write_text("# Caches\n\nCaches evict tokens.\n\n# Wheat\n\nWheat grows in fields.\n")
    monkeypatch.chdir(folder)
    return folder


def run(capsys: pytest.CaptureFixture[str], task: str) -> tuple[int, list[dict[str, Any]], str]:
    status = main(["--json", task])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def test_index_embeds_and_finds(work: Path, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"/index a.md --embed {gguf}"]) == 0
    out = capsys.readouterr().out
    assert "1 files: 1 new; read 0 pages, made 2 chunks; embedded 2 passages" in out
    (work / "b.md").write_text("# Rye\n\nRye is cut when dry.\n")
    assert main(["/index b.md"]) == 0
    assert "embedded" not in capsys.readouterr().out
    status, hits, _ = run(capsys, f"/index --find 'wheat' --explain --embed {gguf}")
    assert status == 0
    assert {step["stage"] for hit in hits for step in hit["steps"]} == {"bm25", "dense"}
    assert main([f"/index --find 'wheat' --embed {gguf}"]) == 0
    assert "1 passages have no vector of this model yet" in capsys.readouterr().out
    assert main([f"/index --embed {gguf}"]) == 0
    assert capsys.readouterr().out.strip() == "embedded 1 passages"


def test_files_given_to_find_are_embedded_and_no_others(work: Path, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "/index a.md")
    (work / "b.md").write_text("# Rye\n\nRye is cut when dry.\n")
    status, hits, _ = run(capsys, f"/index --find quokka --embed {gguf} b.md")
    assert (status, [Path(hit["file"]).name for hit in hits]) == (0, ["b.md"])
    assert main([f"/index --find quokka --embed {gguf}"]) == 0
    assert "2 passages have no vector of this model yet" in capsys.readouterr().out
    run(capsys, "/index --forget b.md")
    assert main([f"/index --find quokka --embed {gguf}"]) == 1
    assert "2 passages have no vector of this model yet: /index --embed" in capsys.readouterr().err


def test_an_embedder_of_the_settings_that_cannot_run_is_a_remark(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARGINALIA_EMBEDDER", "all-minilm")
    assert main(["/index a.md"]) == 1
    out = capsys.readouterr().out
    assert "made 2 chunks; indexed by words alone: the embedding model all-minilm cannot be opened" in out
    assert main(["/index a.md --embed all-minilm"]) == 3
    capsys.readouterr()
    status, hits, err = run(capsys, "/index --find wheat")
    assert (status, len(hits)) == (0, 1)
    assert "searched by words alone: the embedding model all-minilm cannot be opened" in err
    assert "words alone" not in run(capsys, "/index --find wheat --embed none")[2]
    assert run(capsys, "/index --find wheat --embed all-minilm")[0] == 3
    status, _, err = run(capsys, "/index --list --embed x")
    assert (status, "--embed does not go with --list" in err) == (2, True)
