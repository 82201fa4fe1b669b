"""OllamaDaemon, and opening a model of it, against the loopback server."""

from __future__ import annotations

import socket
import time

import pytest

from harness.errors import ModelError, ModelUnavailable, NoModelError
from harness.models.base import Model
from harness.models.ollama import OllamaDaemon, OllamaModel


def test_what_the_daemon_has(server, daemon):
    server.add("cloudy:large", remote_host="https://ollama.com", capabilities=("completion", "tools"))
    tiny, cloudy = daemon.models()
    assert (tiny.name, tiny.family, tiny.parameters, tiny.remote) == ("tiny:latest", "qwen3", "1.7M", "")
    assert tiny.digest == f"sha256:{server.models['tiny:latest'].digest}"
    assert (cloudy.capabilities, cloudy.remote) == (("completion", "tools"), "https://ollama.com")
    assert daemon.find("tiny") == daemon.find("tiny:latest") == tiny
    assert daemon.find("tiny:other") is None
    assert daemon.version() == "0.33.0"
    assert daemon.local


def test_show(server, daemon):
    server.add("shown", context=777, template="{{ .Prompt }}", parameters={"num_ctx": 512})
    shown = daemon.show("shown")
    assert (shown.context, shown.template, shown.parameters) == (777, "{{ .Prompt }}", "num_ctx 512")
    assert shown.capabilities == ("completion",)
    with pytest.raises(NoModelError, match="no model nope"):
        daemon.show("nope")


def test_reachable(daemon):
    assert daemon.reachable()


def test_reachable_is_false_and_quick_where_nothing_or_a_mute_one_listens():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        started = time.monotonic()
        assert not OllamaDaemon(f"127.0.0.1:{port}").reachable(0.2)
        assert time.monotonic() - started < 1.5
    assert not OllamaDaemon(f"127.0.0.1:{port}").reachable(0.2)


def test_no_daemon_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ModelUnavailable, match=f"no Ollama daemon answers at http://127.0.0.1:{port}.*ollama serve"):
        OllamaDaemon(f":{port}").models()


def test_loopback_ignores_proxies(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert OllamaDaemon(server.url, timeout=2).version() == "0.33.0"


def test_redirects_are_not_followed(server, daemon, monkeypatch):
    def elsewhere(handler, body):
        handler.send_response(307)
        handler.send_header("Location", "http://192.0.2.1/api/tags")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr("ollama_server._Handler._tags", elsewhere)
    with pytest.raises(ModelError, match="307"):
        daemon.models()


def test_a_server_that_is_not_ollama(server, daemon, monkeypatch):
    monkeypatch.setattr("ollama_server._Handler._tags", lambda handler, body: handler._json({"data": []}))
    monkeypatch.setattr("ollama_server._Handler._show", lambda handler, body: handler._json({"hello": 1}))
    for call in (daemon.models, lambda: daemon.show("tiny")):
        with pytest.raises(ModelError, match="does not answer like Ollama"):
            call()


def test_open(server, daemon, model):
    assert isinstance(model, Model)
    assert model.info.record() == {
        "name": "tiny:latest",
        "backend": "ollama",
        "digest": f"sha256:{server.models['tiny:latest'].digest}",
    }
    assert model.info.context == 4096
    assert OllamaModel(daemon, "tiny", contract="annotate/quote@1").info.contract == "annotate/quote@1"
    model.close()
    model.close()


def test_open_a_missing_model_names_the_nearest(daemon):
    with pytest.raises(NoModelError, match=r"nearest there: tiny:latest.*ollama pull tinny"):
        OllamaModel(daemon, "tinny")


@pytest.mark.parametrize(("value", "slots"), [(None, 1), ("", 1), ("0", 1), ("3", 3), ("16", 4), ("many", 1), ("-2", 1)])
def test_slots(model, monkeypatch, value, slots):
    monkeypatch.delenv("OLLAMA_NUM_PARALLEL", raising=False)
    if value is not None:
        monkeypatch.setenv("OLLAMA_NUM_PARALLEL", value)
    assert model.slots == slots
