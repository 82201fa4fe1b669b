from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness import registry
from harness.config import Settings
from harness.errors import ModelUnavailable
from harness.registry import Entry
from harness.repl_models import ModelNames, available


def test_model_names_are_asked_for_once() -> None:
    calls = []

    def fetch() -> dict[str, str]:
        calls.append(1)
        return {"qwen3:8b": "ollama"}

    names = ModelNames(fetch)
    assert names() == names() == {"qwen3:8b": "ollama"}
    assert len(calls) == 1


def test_model_names_go_stale() -> None:
    answers = iter(({"a": ""}, {"a": "", "b": ""}))
    names = ModelNames(lambda: next(answers), keep_seconds=0)
    assert list(names()) == ["a"]
    assert list(names()) == ["a", "b"]


def test_a_slow_daemon_does_not_hold_the_completion_up() -> None:
    answer = threading.Event()

    def fetch() -> dict[str, str]:
        answer.wait(10)
        return {"late": ""}

    names = ModelNames(fetch, patience=0.05)
    start = time.monotonic()
    assert names() == {}
    assert time.monotonic() - start < 5
    answer.set()
    assert ModelNames(fetch)() == {"late": ""}


def test_no_daemon_means_no_names() -> None:
    def fetch() -> dict[str, str]:
        raise ModelUnavailable("no daemon")

    assert ModelNames(fetch)() == {}


def test_models_of_the_registry_are_there_without_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path))
    registry.write(Entry("reader:one", "annotate", contract="annotate/quote@1", status="active", ollama="reader:one"))
    registry.write(Entry("reader:old", "annotate", contract="annotate/quote@1", status="retired", ollama="reader:old"))
    found = available(Settings(ollama_host="127.0.0.1:9"))
    assert found["reader:one"] == "registry, annotate"
    assert "reader:old" not in found


def test_models_of_the_daemon_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path))
    answers = {
        "/api/version": {"version": "0.33.0"},
        "/api/tags": {"models": [{"name": "qwen3:8b", "digest": "ab", "size": 1, "details": {"parameter_size": "8B"}}]},
    }

    class Daemon(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Daemon) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = available(Settings(ollama_host=f"127.0.0.1:{server.server_port}"))
        server.shutdown()
    assert found["qwen3:8b"] == "ollama, 8B"
