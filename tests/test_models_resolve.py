"""Which model serves a task: against a loopback Ollama, real registry files and a real GGUF."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer
from tiny_gguf import write_tiny_gguf

from harness import registry
from harness.config import Settings
from harness.errors import InputError, NoModelError, Offline, UsageError
from harness.models import here, resolve
from harness.models.base import Options, Request
from harness.models.resolve import CHAT, Choice, explain, open_choice
from harness.models_cli import models_main
from harness.registry import Entry, Gate, Gguf

NOBODY = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "ROOT", tmp_path / "root")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as running:
        yield running


def register(tag: str, gguf: Path | None = None, *, score: float = 0.8, **more: Any) -> Entry:
    entry = Entry(
        name=f"reader:{tag}",
        task="annotate",
        contract="annotate/mark@1",
        status="active",
        scores={"dev": {"f1": score}},
        gate=Gate("dev", "f1", 0.5),
    )
    if gguf:
        data = gguf.read_bytes()
        entry = replace(entry, gguf=Gguf(f"{tag}.gguf", hashlib.sha256(data).hexdigest(), len(data)))
    entry = registry.write(replace(entry, **more))
    if gguf:
        (entry.folder / f"{tag}.gguf").write_bytes(gguf.read_bytes())
    return entry


def chosen(settings: Settings, task: str = "annotate", *, general: bool = True) -> tuple[str, str]:
    choice = resolve.resolve(task, settings, allow_general=general)
    return choice.name, choice.backend


def test_the_best_score_that_can_run_here_wins(gguf: Path, server: OllamaServer) -> None:
    register("small", gguf, score=0.7)
    register("big", score=0.9, ollama="reader:big")
    register("retired", gguf, score=0.99, status="retired")
    settings = Settings(ollama_host=server.url)
    assert chosen(settings) == ("reader:small", "embedded")
    server.add("reader:big")
    assert chosen(settings) == ("reader:big", "ollama")
    assert chosen(Settings(ollama_host=NOBODY)) == ("reader:small", "embedded")
    choice = resolve.resolve("annotate", settings, allow_general=False)
    assert choice.contract == "annotate/mark@1"
    assert "f1 0.900" in choice.why


def test_a_tag_in_the_daemon_comes_before_the_same_model_embedded(gguf: Path, server: OllamaServer) -> None:
    register("one", gguf, ollama="Reader:ONE")
    settings = Settings(ollama_host=server.url)
    assert chosen(settings) == ("reader:one", "embedded")
    server.add("reader:one")
    assert chosen(settings) == ("reader:one", "ollama")


def test_a_general_model_only_where_the_skill_allows_one(server: OllamaServer) -> None:
    server.add("nomic-embed-text", capabilities=("embedding",))
    server.add("qwen3:4b")
    settings = Settings(ollama_host=server.url)
    assert chosen(settings) == ("qwen3:4b", "ollama")
    with pytest.raises(NoModelError, match="the registry serves no model for annotate"):
        chosen(settings, general=False)
    assert resolve.resolve(CHAT, settings, allow_general=True).name == "qwen3:4b"
    assert chosen(replace(settings, chat_model="nomic-embed-text")) == ("nomic-embed-text:latest", "ollama")


def test_a_fine_tune_in_the_daemon_is_no_chat_model(server: OllamaServer) -> None:
    register("big", ollama="reader:big")
    server.add("reader:big")
    with pytest.raises(NoModelError, match="ollama pull"):
        resolve.resolve(CHAT, Settings(ollama_host=server.url), allow_general=True)


def test_no_model_lists_why_and_the_commands(gguf: Path) -> None:
    entry = register("gone", gguf)
    register("tag", score=0.1, ollama="reader:tag")
    register("new", gguf, status="candidate")
    assert entry.gguf_path is not None
    entry.gguf_path.unlink()
    with pytest.raises(NoModelError) as caught:
        chosen(Settings(ollama_host=NOBODY))
    error = caught.value
    assert error.exit == 3
    assert "gone.gguf is missing" in error.message
    assert "reader:tag: no Ollama answers at http://127.0.0.1:9" in error.message
    assert "ollama serve" in error.remedy
    registry.write(replace(entry, status="retired"))
    registry.write(Entry("reader:tag", "expand", status="active", ollama="reader:tag"))
    with pytest.raises(NoModelError, match="registry promote reader:new"):
        chosen(Settings(ollama_host=NOBODY), general=False)


def test_without_the_embedded_runtime(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register("one", gguf)
    monkeypatch.setattr(here.Here, "no_embedded", "the embedded runtime is not installed")
    with pytest.raises(NoModelError, match="pip install xllamacpp"):
        chosen(Settings(ollama_host=NOBODY))


def test_a_model_by_name(gguf: Path, server: OllamaServer) -> None:
    register("one", gguf)
    server.add("mistral")
    settings = Settings(ollama_host=server.url)
    for name, found in (
        ("reader:one", ("reader:one", "embedded")),
        ("mistral", ("mistral:latest", "ollama")),
        ("ollama/mistral", ("mistral:latest", "ollama")),
        ("openai/gpt-x", ("openai/gpt-x", "remote")),
        (str(gguf), ("tiny", "embedded")),
        (str(registry.folders()[0] / "reader/one.gguf"), ("reader:one", "embedded")),
    ):
        assert chosen(replace(settings, model=name)) == found, name
    with pytest.raises(NoModelError, match="nearest there: mistral:latest"):
        chosen(replace(settings, model="mistrall"))
    with pytest.raises(NoModelError, match="ollama serve"):
        chosen(Settings(ollama_host=NOBODY, model="mistral"))
    with pytest.raises(InputError, match="no such file"):
        chosen(Settings(model="missing.gguf"))
    with pytest.raises(UsageError, match="not a model name"):
        chosen(Settings(model="../x", ollama_host=NOBODY))


def test_a_named_model_must_fit_the_task(gguf: Path, server: OllamaServer) -> None:
    register("one", gguf)
    server.add("mistral")
    with pytest.raises(NoModelError, match="made for annotate"):
        chosen(Settings(ollama_host=NOBODY, model="reader:one"), "chat")
    with pytest.raises(NoModelError, match="general model"):
        chosen(Settings(ollama_host=server.url, model="mistral"), general=False)


def test_offline_is_a_hard_rule(server: OllamaServer) -> None:
    with pytest.raises(Offline, match="--offline is in force"):
        chosen(Settings(model="openai/gpt-x", offline=True))
    with pytest.raises(NoModelError, match="not asked: offline"):
        chosen(Settings(ollama_host="http://192.0.2.1:11434", offline=True))
    server.add("mistral")
    assert chosen(Settings(ollama_host=server.url, offline=True)) == ("mistral:latest", "ollama")


def test_what_is_chosen_opens_and_answers(gguf: Path, server: OllamaServer) -> None:
    entry = register("one", gguf)
    server.add("mistral")
    settings = Settings(ollama_host=server.url, threads=1, workers=1)
    request = Request(prompt="the model", options=Options(max_tokens=3))
    for name, contract in (("reader:one", "annotate/mark@1"), ("mistral", "")):
        model = open_choice(resolve.resolve("annotate", replace(settings, model=name), allow_general=True), settings)
        assert model.generate(request).completion_tokens > 0
        assert (model.info.contract, model.info.digest[:7]) == (contract, "sha256:")
        model.close()
    assert entry.gguf is not None
    assert entry.gguf_path is not None
    entry.gguf_path.write_bytes(entry.gguf_path.read_bytes()[:-1] + b"!")
    broken = open_choice(Choice("reader:one", "embedded", "", entry), settings)
    with pytest.raises(Exception, match="sha256"):
        broken.generate(request)
    broken.close()


def test_explain_and_the_table(gguf: Path, server: OllamaServer, capsys: pytest.CaptureFixture[str]) -> None:
    register("one", gguf)
    register("lost", score=0.9, ollama="reader:lost")
    server.add("mistral")
    settings = Settings(ollama_host=server.url)
    offers = explain(settings, [("annotate", True), ("chat", True), ("expand", False)])
    rows = [(offer.task, offer.name, offer.backend, offer.chosen) for offer in offers]
    assert rows == [
        ("annotate", "reader:one", "embedded", True),
        ("annotate", "reader:lost", None, False),
        ("annotate", "mistral:latest", "ollama", False),
        ("chat", "mistral:latest", "ollama", True),
        ("expand", "", None, False),
    ]
    assert offers[1].why == "Ollama does not have reader:lost"
    assert models_main([], settings) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("task\tmodel")
    assert any(line.startswith("annotate\t* reader:one\tembedded\tactive\t0.800") for line in lines)
    assert models_main(["--json"], settings) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["task"] for record in records} >= {"annotate", "chat"}


def test_install_puts_a_registry_model_into_ollama(
    gguf: Path, server: OllamaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = register("one", gguf, parameters={"num_ctx": 1024, "stop": ["\n"]}, template="{{ .Prompt }}", licence="MIT")
    settings = Settings(ollama_host=server.url)
    assert models_main(["install", "reader:one"], settings) == 0
    shown = capsys.readouterr()
    assert shown.out == "reader:one is in Ollama: ollama run reader:one\n"
    assert "uploading" in shown.err
    assert "reader:one" in server.models
    body = server.bodies("/api/create")[-1]
    assert body["parameters"] == {"num_ctx": 1024, "stop": ["\n"]}
    assert (body["template"], body["license"]) == ("{{ .Prompt }}", "MIT")
    with pytest.raises(UsageError, match="no model nothing"):
        models_main(["install", "nothing"], settings)
    with pytest.raises(NoModelError, match="no Ollama answers"):
        models_main(["install", "reader:one"], Settings(ollama_host=NOBODY))
    with pytest.raises(Offline):
        models_main(["install", "reader:one"], Settings(ollama_host="http://192.0.2.1:1", offline=True))
    assert entry.gguf_path is not None
    entry.gguf_path.write_bytes(b"GGUF")
    with pytest.raises(InputError, match="4 bytes instead"):
        models_main(["install", "reader:one"], settings)


def test_one_broken_entry_does_not_stop_the_others(gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register("one", gguf)
    (registry.folders()[0] / "reader" / "torn.toml").write_text("name =")
    assert chosen(Settings(ollama_host=NOBODY)) == ("reader:one", "embedded")
    models_main([], Settings(ollama_host=NOBODY))
    assert "torn.toml: cannot be read as TOML" in capsys.readouterr().err


def test_a_wanted_variant_comes_before_a_better_score(gguf: Path) -> None:
    register("q4_0", gguf, score=0.9)
    register("q8_0", gguf, score=0.8)
    settings = Settings(ollama_host=NOBODY)
    assert resolve.resolve("annotate", settings, allow_general=False).name == "reader:q4_0"
    assert resolve.resolve("annotate", settings, allow_general=False, variant="q8_0").name == "reader:q8_0"
    assert resolve.resolve("annotate", settings, allow_general=False, variant="f16").name == "reader:q4_0"


def test_what_needs_no_model_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert models_main(["--json"], Settings(ollama_host=NOBODY)) == 0
    why = {row["task"]: row["why"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert why["ask"].startswith("without a model it answers with sentences of the papers, word for word; no model can")
    assert why[CHAT].startswith("no model can serve chat here")
