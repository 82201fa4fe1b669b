"""The remote backend against a stand-in for litellm: what is sent, and what comes of every kind of answer."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.errors import ContextOverflow, ModelError, ModelUnavailable, NoModelError
from harness.models.base import Message, Model, Options, Request
from harness.models.remote import RemoteModel, is_remote, ollama_name

ASK = Request(messages=(Message("user", "hello"),), options=Options(max_tokens=7, seed=3))


class Fake(ModuleType):
    """A module that answers with the chunks it was given and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("litellm")
        self.chunks: list[Any] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.model_cost = {"gpt-x": {"max_input_tokens": 1000}}
        self.exceptions = ModuleType("litellm.exceptions")
        names = "APIConnectionError RateLimitError AuthenticationError NotFoundError BadRequestError"
        for name in names.split():
            setattr(self.exceptions, name, type(name, (Exception,), {}))
        self.exceptions.ContextWindowExceededError = type(  # type: ignore[attr-defined]
            "ContextWindowExceededError", (self.exceptions.BadRequestError,), {}
        )

    def _answer(self, kind: str, values: dict[str, Any]) -> Iterator[Any]:
        self.calls.append((kind, values))
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def completion(self, **values: Any) -> Iterator[Any]:
        return self._answer("chat", values)

    def text_completion(self, **values: Any) -> Iterator[Any]:
        return self._answer("text", values)


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "litellm", fake)
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
    monkeypatch.delenv("LITELLM_MODE", raising=False)
    return fake


def delta(text: str | None, finish: str | None = None, logprobs: Any = None) -> Any:
    choice = SimpleNamespace(delta=SimpleNamespace(content=text), finish_reason=finish, logprobs=logprobs)
    return SimpleNamespace(choices=[choice], usage=None)


USAGE = SimpleNamespace(choices=[], usage=SimpleNamespace(prompt_tokens=5, completion_tokens=2))


def test_names() -> None:
    assert is_remote("openai/gpt-x")
    assert not any(map(is_remote, ("qwen3", "someone/model", "hf.co/a/b", "ollama/x", "ollama_chat/x", "openai")))
    assert ollama_name("ollama/x:1") == "x:1"
    with pytest.raises(NoModelError, match="not a remote model"):
        RemoteModel("ollama/qwen3")


def test_missing_litellm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(NoModelError, match=r"pip install 'marginalia\[remote\]'"):
        RemoteModel("openai/gpt-x")


def test_a_chat_reply(litellm: Fake) -> None:
    token = SimpleNamespace(token="Hel", logprob=-0.5, top_logprobs=[SimpleNamespace(token="He", logprob=-1.0)])
    litellm.chunks = [delta("Hel", logprobs=SimpleNamespace(content=[token])), delta("lo"), delta(None, "stop"), USAGE]
    model = RemoteModel("openai/gpt-x", timeout=9, contract="annotate/quote@1")
    assert isinstance(model, Model)
    pieces: list[str] = []
    reply = model.generate(ASK, on_text=pieces.append)
    assert (reply.text, reply.finish, pieces) == ("Hello", "stop", ["Hel", "lo"])
    assert (reply.prompt_tokens, reply.completion_tokens) == (5, 2)
    assert reply.logprobs[0].top == {"He": -1.0}
    kind, sent = litellm.calls[0]
    assert kind == "chat"
    assert sent["messages"] == [{"role": "user", "content": "hello"}]
    assert (sent["model"], sent["max_tokens"], sent["seed"], sent["timeout"]) == ("openai/gpt-x", 7, 3, 9)
    assert sent["num_retries"] == 2
    assert "stop" not in sent
    assert "logprobs" not in sent
    assert (model.info.backend, model.info.context, model.info.contract) == ("remote", 1000, "annotate/quote@1")


def test_litellm_is_kept_quiet(litellm: Fake) -> None:
    RemoteModel("openai/gpt-x").close()
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert os.environ["LITELLM_MODE"] == "PRODUCTION"
    assert litellm.telemetry is False


def test_a_schema_goes_both_ways_and_is_checked(litellm: Fake) -> None:
    request = Request(messages=ASK.messages, schema={"type": "object"}, options=Options(top_logprobs=4))
    litellm.chunks = [delta('{"a": 1}', "stop")]
    model = RemoteModel("openai/gpt-x")
    assert model.generate(request).text == '{"a": 1}'
    sent = litellm.calls[0][1]
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert '{"type":"object"}' in sent["messages"][0]["content"]
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 4)
    litellm.chunks = [delta("Sure! {", "stop")]
    with pytest.raises(ModelError, match="not the JSON"):
        model.generate(request)
    litellm.chunks = [delta('{"a":', "length")]
    assert model.generate(request).finish == "length"


def test_a_raw_prompt_goes_to_the_completion_api(litellm: Fake) -> None:
    found = SimpleNamespace(tokens=[" a"], token_logprobs=[-0.1], top_logprobs=[{" a": -0.1, " b": -2.0}])
    choice = SimpleNamespace(text=" a", finish_reason="length", logprobs=found)
    litellm.chunks = [SimpleNamespace(choices=[choice], usage=None)]
    reply = RemoteModel("hosted_vllm/me").generate(Request(prompt="x =>", options=Options(top_logprobs=2, stop=("\n",))))
    assert (reply.text, reply.finish, reply.logprobs[0].top[" b"]) == (" a", "length", -2.0)
    kind, sent = litellm.calls[0]
    assert (kind, sent["prompt"], sent["logprobs"], sent["stop"]) == ("text", "x =>", 2, ["\n"])


def test_cancel_stops_soon_and_a_broken_stream_is_noticed(litellm: Fake) -> None:
    litellm.chunks = [delta("a"), delta("b"), delta("c", "stop")]
    stop = threading.Event()
    reply = RemoteModel("openai/gpt-x").generate(ASK, on_text=lambda text: stop.set(), cancel=stop)
    assert (reply.text, reply.finish) == ("a", "cancelled")
    litellm.chunks = [delta("a")]
    with pytest.raises(ModelUnavailable, match="broke off"):
        RemoteModel("openai/gpt-x").generate(ASK)
    litellm.chunks = [delta("", "content_filter")]
    with pytest.raises(ModelError, match="filter"):
        RemoteModel("openai/gpt-x").generate(ASK)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("APIConnectionError", ModelUnavailable),
        ("RateLimitError", ModelUnavailable),
        ("AuthenticationError", ModelError),
        ("NotFoundError", NoModelError),
        ("ContextWindowExceededError", ContextOverflow),
        ("BadRequestError", ModelError),
    ],
)
def test_every_error_becomes_one_of_ours(litellm: Fake, name: str, kind: type[Exception]) -> None:
    litellm.chunks = [delta("a"), getattr(litellm.exceptions, name)("first line\nsecond \x1b[31m")]
    with pytest.raises(kind) as caught:
        RemoteModel("openai/gpt-x").generate(ASK)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_context_and_tokens(litellm: Fake) -> None:
    model = RemoteModel("openai/gpt-x")
    model.reserve(1000)
    with pytest.raises(ContextOverflow, match="context of 1000"):
        model.reserve(1001)
    RemoteModel("openai/unknown").reserve(10**9)
    assert model.count_tokens("four words of text") >= 4
    assert model.count_tokens("漢字") >= 2
