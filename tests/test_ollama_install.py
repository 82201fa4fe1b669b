"""Installing a GGUF: hash, upload with progress, create, verify; then it is served, by llama.cpp too."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from pathlib import Path

import pytest
from ollama_server import OllamaServer

from harness import registry
from harness.config import Settings
from harness.errors import InputError, ModelError, ModelUnavailable, UsageError
from harness.models import ollama_install
from harness.models.base import Message, Options, Request
from harness.models.ollama import OllamaDaemon, OllamaModel
from harness.models.ollama_install import install
from harness.models_cli import models_main


def header_only_gguf(path: Path, context: int = 512, padding: int = 0) -> Path:
    """The smallest file that says of itself that it is a GGUF of a model with so much context."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    fields = text("general.architecture") + struct.pack("<I", 8) + text("qwen3")
    fields += text("qwen3.context_length") + struct.pack("<II", 4, context)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + fields + bytes(padding))
    return path


@pytest.fixture
def server():
    with OllamaServer() as running:
        yield running


@pytest.fixture
def daemon(server):
    return OllamaDaemon(server.url, timeout=20)


@pytest.fixture
def gguf(tmp_path):
    return header_only_gguf(tmp_path / "nanda annotator ü.gguf", padding=3000)


def paths(server: OllamaServer) -> list[str]:
    return [f"{seen.method} {seen.path.partition('/sha256')[0]}" for seen in server.requests]


def test_install(server, daemon, gguf, monkeypatch):
    monkeypatch.setattr(ollama_install, "_CHUNK", 1024)
    told: list[tuple[str, int, int]] = []
    install(
        daemon,
        "nanda-annotator:mini",
        gguf,
        template="{{ .Prompt }}",
        parameters={"num_ctx": 512, "temperature": 0, "stop": ["\n"]},
        system="Annotate.",
        license="MIT",
        on_progress=lambda *step: told.append(step),
    )
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    size = gguf.stat().st_size
    steps = [1024, 2048, 3072, size]
    assert told[:8] == [(doing, done, size) for doing in ("hashing", "uploading") for done in steps]
    assert [status for status, _, _ in told[8:]] == ["parsing GGUF", "writing manifest", "success"]
    assert paths(server)[:3] == ["HEAD /api/blobs", "POST /api/blobs", "POST /api/create"]
    assert (server.blobs / f"sha256-{digest}").read_bytes() == gguf.read_bytes()
    (body,) = server.bodies("/api/create")
    assert body == {
        "model": "nanda-annotator:mini",
        "stream": True,
        "files": {"model.gguf": f"sha256:{digest}"},
        "template": "{{ .Prompt }}",
        "parameters": {"num_ctx": 512, "temperature": 0, "stop": ["\n"]},
        "system": "Annotate.",
        "license": "MIT",
    }
    assert OllamaModel(daemon, "nanda-annotator:mini").info.context == 512


def test_what_is_there_already_is_not_uploaded_again(server, daemon, gguf):
    install(daemon, "first", gguf)
    install(daemon, "second", gguf)
    assert paths(server).count("POST /api/blobs") == 1
    assert {model.name for model in daemon.models()} == {"first:latest", "second:latest"}
    assert "template" not in server.bodies("/api/create")[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), (b"PK\x03\x04 a zip", "not a GGUF file"), (b"", "not a GGUF file")],
)
def test_a_file_that_is_none_is_not_uploaded(server, daemon, tmp_path, content, says):
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=f"model.gguf: {says}"):
        install(daemon, "x", file)
    assert server.requests == []


def test_a_truncated_gguf_names_the_file(daemon, tmp_path):
    file = tmp_path / "short.gguf"
    file.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(InputError, match=r"short\.gguf: Ollama cannot read the GGUF .*exceeds file size"):
        install(daemon, "x", file)
    assert daemon.models() == []


def test_a_file_that_changes_while_it_is_uploaded(daemon, gguf):
    def spoil(doing: str, done: int, total: int) -> None:
        if doing == "hashing":
            gguf.write_bytes(gguf.read_bytes()[:-1] + b"!")

    with pytest.raises(ModelError, match="digest mismatch"):
        install(daemon, "x", gguf, on_progress=spoil)


@pytest.mark.parametrize("name", ["", "two words", "/etc/passwd"])
def test_a_bad_name_is_wrong_usage(daemon, gguf, name):
    with pytest.raises((UsageError, ModelError)):
        install(daemon, name, gguf)
    assert daemon.models() == []


def test_a_bad_template(daemon, gguf):
    with pytest.raises(InputError, match=r"\.gguf: Ollama cannot use the chat template .*unclosed action"):
        install(daemon, "x", gguf, template="{{ .Prompt")


@pytest.mark.parametrize("parameters", [{"num_ctx": "abc"}, {"num_ctx": "512"}, {"stop": "END"}, {"temperature": [1]}])
def test_parameters_that_the_daemon_would_swallow(server, daemon, gguf, parameters):
    (name,) = parameters
    with pytest.raises(UsageError, match=f"parameter {name} = "):
        install(daemon, "x", gguf, parameters=parameters)
    assert server.requests == []


def test_a_model_that_is_not_there_afterwards(server, daemon, gguf, monkeypatch):
    monkeypatch.setattr(server, "add", lambda *_, **__: None)
    with pytest.raises(ModelError, match="did not finish creating x"):
        install(daemon, "x", gguf)


def test_no_daemon(tmp_path):
    with OllamaServer() as server:
        url = server.url
    with pytest.raises(ModelUnavailable, match="no Ollama daemon answers"):
        install(OllamaDaemon(url), "x", header_only_gguf(tmp_path / "x.gguf"))


def test_an_installed_gguf_is_served_by_llama_cpp(tmp_path):
    pytest.importorskip("xllamacpp")
    from tiny_gguf import write_tiny_gguf

    from harness.models.embedded import EmbeddedModel

    def open_model(path: Path) -> EmbeddedModel:
        return EmbeddedModel(path, name="tiny", threads=1)

    request = Request(messages=(Message("user", "Hello there"),), options=Options(max_tokens=8, top_logprobs=2))
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    with OllamaServer(model_factory=open_model) as server:
        daemon = OllamaDaemon(server.url, timeout=60)
        install(daemon, "tiny", gguf)
        model = OllamaModel(daemon, "tiny", contract="none")
        pieces: list[str] = []
        reply = model.generate(request, on_text=pieces.append)
        again = model.generate(request)
        cancel = threading.Event()
        stopped = model.generate(
            Request(prompt="Hello", options=Options(max_tokens=1500)), on_text=lambda _: cancel.set(), cancel=cancel
        )
    assert reply.text == "".join(pieces) == again.text
    assert 0 < reply.completion_tokens <= 8
    assert reply.prompt_tokens > 2
    assert len(reply.logprobs) == reply.completion_tokens
    assert stopped.finish == "cancelled"


def test_the_command_as_json_prints_one_object(server, gguf, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "ROOT", tmp_path / "root")
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    entry = registry.Entry(
        name="nanda-annotator:own", task="annotate", gguf=registry.Gguf("own.gguf", digest, gguf.stat().st_size)
    )
    folder = registry.write(entry, registry.folders()[0]).folder
    (folder / "own.gguf").write_bytes(gguf.read_bytes())
    assert models_main(["install", "nanda-annotator:own"], Settings(json=True, ollama_host=server.url)) == 0
    assert json.loads(capsys.readouterr().out) == {
        "installed": "nanda-annotator:own",
        "ollama": "nanda-annotator:own",
        "host": server.url,
    }
