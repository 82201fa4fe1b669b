"""What doctor finds, with a real llama.cpp and a loopback daemon."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from ollama_server import OllamaServer
from tiny_gguf import write_tiny_gguf

from harness import doctor, registry
from harness.config import Settings
from harness.doctor import Finding, check_folder, check_python, check_space, examine
from harness.errors import UsageError
from harness.registry import Entry, Gate, Gguf

NOBODY = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "ROOT", tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as running:
        yield running


def register(folder: Path) -> Path:
    """Put a tiny model into the registry as the annotator; the path of its file."""
    gguf = write_tiny_gguf(folder / "tiny.gguf")
    data = gguf.read_bytes()
    entry = registry.write(
        Entry(
            name="reader:tiny",
            task="annotate",
            contract="annotate/mark@1",
            status="active",
            scores={"dev": {"f1": 0.8}},
            gate=Gate("dev", "f1", 0.5),
            gguf=Gguf("tiny.gguf", hashlib.sha256(data).hexdigest(), len(data)),
        )
    )
    return Path(shutil.move(gguf, entry.folder / "tiny.gguf"))


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(settings)}


def test_bundled_model_alone_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register(tmp_path)
    settings = Settings(ollama_host=NOBODY)
    findings = found(settings)
    assert findings["Ollama"].state == "warning"
    assert "ollama serve" in findings["Ollama"].remedy
    assert findings["registry reader:tiny"] == Finding("registry reader:tiny", "ok", "active, file verified by its sha256")
    assert "reader:tiny generated a token in" in findings["embedded runtime"].detail
    assert findings["/annotate"].detail.startswith("runs with reader:tiny (embedded)")
    assert doctor.main([], settings) == 0
    assert "ok       /annotate: runs with reader:tiny" in capsys.readouterr().out


def test_a_changed_model_file_is_found_and_annotate_cannot_run(tmp_path: Path) -> None:
    path = register(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    findings = found(Settings(ollama_host=NOBODY))
    assert "sha256 is" in findings["registry reader:tiny"].detail
    assert findings["registry reader:tiny"].remedy == "fetch or build it again"
    assert findings["embedded runtime"].state == "warning"
    assert findings["/annotate"].state == "problem"


def test_nothing_can_annotate(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json"], Settings(ollama_host=NOBODY)) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["check"] for record in records if record["state"] == "problem"] == ["/annotate"]
    assert all(record["remedy"] for record in records if record["state"] != "ok")
    assert all(set(record) == {"check", "state", "detail", "remedy"} for record in records)


def test_daemon_with_a_chat_model(server: OllamaServer) -> None:
    server.add("qwen3:4b")
    findings = found(Settings(ollama_host=server.url))
    assert findings["Ollama"] == Finding("Ollama", "ok", f"version 0.33.0 at {server.url}")
    assert findings["models in Ollama"].detail == "qwen3:4b"
    assert findings["chat model"].detail == "qwen3:4b (ollama)"
    assert findings["/annotate"].state == "ok"


def test_daemon_without_models(server: OllamaServer) -> None:
    findings = found(Settings(ollama_host=server.url))
    assert (findings["chat model"].state, findings["chat model"].remedy) == ("warning", "ollama pull qwen3:4b")
    assert findings["/annotate"].state == "problem"


def test_a_daemon_elsewhere_is_not_asked_when_offline() -> None:
    findings = found(Settings(ollama_host="192.0.2.1", offline=True))
    assert "offline" in findings["Ollama"].detail


def test_wrong_host_is_a_finding() -> None:
    assert found(Settings(ollama_host="http://[::1"))["Ollama"].state == "warning"


def test_python_folder_and_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_python((3, 10, 9)).state == "problem"
    assert check_python((3, 11, 0)).state == "ok"
    assert check_folder("data folder", tmp_path / "new", "problem", "").state == "ok"
    (tmp_path / "file").write_text("")
    assert check_folder("data folder", tmp_path / "file", "problem", "another").remedy == "another"

    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1024))
    assert check_space(tmp_path / "not" / "there").state == "warning"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert check_folder("data folder", tmp_path, "problem", "").state == "problem"
    tmp_path.chmod(0o700)


def test_wrong_usage() -> None:
    with pytest.raises(UsageError):
        doctor.main(["--dance"], Settings())
