"""The same backend against a real daemon: ``pytest -m ollama`` wherever one is reachable.

A tiny random model is installed under a name of its own and removed afterwards.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness.errors import ContextOverflow, InputError, ModelError, NoModelError
from harness.models.base import Message, Options, Request
from harness.models.ollama import OllamaDaemon, OllamaModel
from harness.models.ollama_install import install

pytestmark = pytest.mark.ollama
NAME = "marginalia-live-test:tiny"
PROMPT = "the model and the data of the paper show"


@pytest.fixture(scope="module")
def daemon():
    daemon = OllamaDaemon(os.environ.get("OLLAMA_HOST", ""), timeout=120, keep_alive="1m")
    if not daemon.reachable(2):
        pytest.skip(f"no Ollama daemon answers at {daemon.url}")
    yield daemon
    daemon.close()


@pytest.fixture(scope="module")
def model(daemon, tmp_path_factory):
    from tiny_gguf import write_tiny_gguf

    gguf = write_tiny_gguf(tmp_path_factory.mktemp("live") / "tiny.gguf")
    install(daemon, NAME, gguf, parameters={"temperature": 0})
    yield OllamaModel(daemon, NAME)
    daemon.client.delete(NAME)


def generated(model: OllamaModel, **fields):
    """A reply, tried with other seeds while the random model writes bytes that end no stream."""
    for seed in range(20):
        try:
            return model.generate(Request(prompt=PROMPT, options=Options(temperature=1.0, seed=seed, **fields)))
        except ModelError as error:
            last = error
    raise last


def test_version_and_model(daemon, model):
    assert daemon.version()[0].isdigit()
    assert daemon.find(NAME) is not None
    assert model.info.context == 2048
    assert model.info.digest.startswith("sha256:")


def test_generate_with_logprobs(model):
    reply = generated(model, max_tokens=4, top_logprobs=3)
    assert reply.finish in ("stop", "length")
    assert reply.prompt_tokens > 0
    assert reply.completion_tokens <= 4
    assert all(entry.logprob <= 0 and len(entry.top) == 3 for entry in reply.logprobs)


def test_effective_context_is_what_was_asked_for(daemon, model):
    generated(model, max_tokens=2)
    assert daemon.loaded_context(NAME) == 2048


def test_render(model):
    assert "hello" in model.render(Request(messages=(Message("user", "hello"),)))


def test_overflow_is_refused(model):
    with pytest.raises(ContextOverflow):
        model.generate(Request(prompt="data " * 9000, options=Options(max_tokens=4)))


def test_cancel(model):
    cancel = threading.Event()
    cancel.set()
    assert model.generate(Request(prompt=PROMPT), cancel=cancel).finish == "cancelled"


def test_errors(daemon, model, tmp_path):
    with pytest.raises(NoModelError, match=NAME):
        OllamaModel(daemon, "marginalia-live-test:tin")
    with pytest.raises(ModelError, match="thinking"):
        model.generate(Request(messages=(Message("user", "x"),), options=Options(think=True)))
    with pytest.raises(ModelError, match="JSON schema"):
        model.generate(Request(messages=(Message("user", "x"),), schema={"type": "bogus"}))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + Path(__file__).read_bytes())
    with pytest.raises((InputError, ModelError)):
        install(daemon, "marginalia-live-test:broken", broken)
