"""Embedding models: real llama.cpp on random weights against the same model in numpy, and a daemon that serves it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from embedded_helpers import alive, eventually
from ollama_server import OllamaServer
from tiny_bert import CLS, CONTEXT, MEAN, WORDS, embed, write_tiny_bert
from tiny_gguf import write_tiny_gguf

from harness.errors import ModelError, ModelUnavailable, NoModelError
from harness.models.embedded import file_digest
from harness.models.embedded_embedding import EmbeddedEmbedding
from harness.models.embedding import EmbeddingModel
from harness.models.gguf_header import facts
from harness.models.ollama import OllamaDaemon
from harness.models.ollama_embedding import OllamaEmbedding

TEXTS = ["caches evict tokens .", "wheat grows", "graphs have nodes in fields when dry ?", *WORDS[:5], " ".join(WORDS)]
LONG = " ".join(WORDS * 5)
"""More words than the model has positions."""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model") / "tiny-bert.gguf")


@pytest.fixture(scope="module")
def embedded(gguf: Path) -> Iterator[EmbeddedEmbedding]:
    model = EmbeddedEmbedding(gguf, threads=2)
    yield model
    model.close()


def matrix(model: EmbeddingModel, texts: list[str]) -> np.ndarray:
    vectors = model.embed(texts)
    assert all(vector is not None for vector in vectors)
    return np.array(vectors)


# Embedded


@pytest.mark.parametrize("pooling", [MEAN, CLS])
def test_vectors_are_those_of_the_same_model_in_numpy(tmp_path: Path, pooling: int) -> None:
    model = EmbeddedEmbedding(write_tiny_bert(tmp_path / "m.gguf", pooling=pooling), threads=1)
    try:
        there = matrix(model, TEXTS)
    finally:
        model.close()
    here = np.array([embed(text, pooling=pooling) for text in TEXTS])
    assert np.abs(there - here).max() < 2e-3
    assert np.allclose(np.linalg.norm(there, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_bits_alone_and_in_company(embedded: EmbeddedEmbedding) -> None:
    together = matrix(embedded, TEXTS)
    alone = np.concatenate([matrix(embedded, [text]) for text in reversed(TEXTS)])[::-1]
    assert (together == alone).all()
    assert np.unique(together.round(4), axis=0).shape == together.shape


def test_a_decoder_that_pools_over_all_tokens_has_them_too(tmp_path: Path) -> None:
    """llama.cpp cuts long texts of a batch where each has a context of its own, and pools only what is left."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf", pooling=MEAN)
    model = EmbeddedEmbedding(path, threads=1)
    try:
        texts = ["the model data results paper " * count for count in (1, 30, 2, 7, 90)]
        together = matrix(model, texts)
        alone = np.concatenate([matrix(model, [text]) for text in texts])
    finally:
        model.close()
    assert ((together * alone).sum(axis=1) > 0.99999).all()


def test_info_and_family(embedded: EmbeddedEmbedding, gguf: Path) -> None:
    assert isinstance(embedded, EmbeddingModel)
    assert embedded.info.record() == {"name": gguf.name, "backend": "embedded", "digest": file_digest(gguf)}
    assert embedded.info.context == CONTEXT
    assert embedded.family.split() == ["tiny-bert", "tiny", "bert", "bert"]
    assert facts(gguf)["bert.pooling_type"] == MEAN


def test_what_is_too_long_is_said_and_the_rest_is_embedded(embedded: EmbeddedEmbedding) -> None:
    vectors = embedded.embed([TEXTS[0], LONG, TEXTS[1]])
    assert [vector is None for vector in vectors] == [False, True, False]
    assert np.array_equal(vectors[2], matrix(embedded, [TEXTS[1]])[0])


def test_a_child_that_died_is_replaced(gguf: Path) -> None:
    model = EmbeddedEmbedding(gguf, threads=1)
    try:
        first = matrix(model, TEXTS[:1])
        assert model._child is not None
        pid = model._child.pid
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: model._child is not None and bool(model._child.ended))
        assert np.array_equal(matrix(model, TEXTS[:1]), first)
        assert model._child.pid != pid
    finally:
        model.close()
        model.close()
    assert not alive(pid)
    with pytest.raises(ModelError, match="has been closed"):
        model.embed(TEXTS[:1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_tiny_gguf(path), "does not say how its vectors are pooled"),
        (lambda path: write_tiny_gguf(path, pooling=4), "is a reranker"),
        (lambda path: path.write_bytes(b"no model"), "is not a GGUF file"),
        (lambda path: path.with_suffix(".txt").write_text("nothing"), "cannot be read"),
    ],
)
def test_a_file_that_cannot_embed_is_one_clear_line(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "model.gguf"
    make(path)
    with pytest.raises(ModelError, match=message):
        EmbeddedEmbedding(path, threads=1).embed(["text"])


# Ollama


@pytest.fixture
def ollama(server: OllamaServer, daemon: OllamaDaemon, gguf: Path) -> OllamaEmbedding:
    server.add("tiny-embed", context=CONTEXT, capabilities=("embedding",), gguf=gguf)
    return OllamaEmbedding(daemon, "tiny-embed")


def test_the_daemons_vectors_are_the_embedded_ones(
    ollama: OllamaEmbedding, embedded: EmbeddedEmbedding, server: OllamaServer
) -> None:
    texts = TEXTS * 5
    assert np.allclose(matrix(ollama, texts), matrix(embedded, texts), atol=1e-6)
    bodies = server.bodies("/api/embed")
    assert sum(len(body["input"]) for body in bodies) == len(texts)
    assert max(len(body["input"]) for body in bodies) == 16
    assert {body["truncate"] for body in bodies} == {False}
    assert {body["options"]["num_ctx"] for body in bodies} == {CONTEXT}
    assert ollama.info.digest == f"sha256:{server.models['tiny-embed:latest'].digest}"


@pytest.mark.parametrize("silent", [False, True])
def test_a_text_that_the_daemon_refuses_or_cuts_is_none(
    ollama: OllamaEmbedding, embedded: EmbeddedEmbedding, server: OllamaServer, silent: bool
) -> None:
    server.faults.cuts_in_silence = silent
    vectors = ollama.embed([*TEXTS, LONG, TEXTS[0], "? " * (CONTEXT - 1)])
    assert [number for number, vector in enumerate(vectors) if vector is None] == [len(TEXTS), len(TEXTS) + 2]
    assert np.allclose(vectors[-2], matrix(embedded, [TEXTS[0]])[0], atol=1e-6)


def test_a_busy_daemon_is_asked_again(
    ollama: OllamaEmbedding, server: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.ollama_embedding.BACKOFF_SECONDS", 0.01)
    server.faults.busy, server.faults.refuse = 1, 1
    assert len(ollama.embed(["rye"])) == 1
    assert len(server.bodies("/api/embed")) == 3
    server.faults.busy = 9
    with pytest.raises(ModelUnavailable, match="busy"):
        ollama.embed(["rye"])


def test_errors_of_the_daemon_are_ours(
    server: OllamaServer, daemon: OllamaDaemon, ollama: OllamaEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.ollama_embedding.BACKOFF_SECONDS", 0.01)
    with pytest.raises(ModelError, match="tiny:latest cannot embed text"):
        OllamaEmbedding(daemon, "tiny")
    with pytest.raises(NoModelError, match="tiny-embed"):
        OllamaEmbedding(daemon, "tiny-embedd")
    server.faults.no_embeddings = True
    with pytest.raises(ModelError, match="no embedding for each text"):
        ollama.embed(["rye"])
    del server.models["tiny-embed:latest"]
    with pytest.raises(NoModelError):
        ollama.embed(["rye"])
    server.stop()
    with pytest.raises(ModelUnavailable, match=r"no Ollama daemon answers|broke"):
        ollama.embed(["rye"])
