"""What the embedded backend answers: real llama.cpp, with a random model of 0.2 million parameters."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ContextOverflow, ModelError, ModelUnavailable
from harness.models.base import Model, Request
from harness.models.embedded import EmbeddedModel, SessionSlots, file_digest
from tests.embedded_helpers import LONG, alive, chat, child_pid, eventually, raw
from tests.tiny_gguf import write_tiny_gguf

SCHEMA = {
    "type": "object",
    "properties": {
        "claim": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 7}, "maxItems": 3},
        "method": {"type": "integer", "minimum": 1, "maximum": 12},
    },
    "required": ["claim", "method"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(gguf: Path) -> Iterator[EmbeddedModel]:
    model = EmbeddedModel(gguf, name="tiny:latest", contract="test@1", threads=1)
    yield model
    model.close()


@pytest.fixture
def fresh(gguf: Path) -> Iterator[EmbeddedModel]:
    """A model whose child may be killed."""
    model = EmbeddedModel(gguf, name="tiny:latest", threads=1)
    yield model
    model.close()


# What it answers


def test_info_and_determinism(model: EmbeddedModel, gguf: Path) -> None:
    assert isinstance(model, Model)
    assert model.info.record() == {"name": "tiny:latest", "backend": "embedded", "digest": file_digest(gguf)}
    assert (model.info.context, model.info.contract, model.slots) == (2048, "test@1", 4)
    first, second = model.generate(chat("the method")), model.generate(chat("the method"))
    assert first.text == second.text != ""
    assert first.text != model.generate(chat("the results")).text
    sampled = [model.generate(raw("the model", temperature=1.0, seed=seed)).text for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


@pytest.mark.parametrize("make", [raw, chat])
def test_streamed_pieces_join_to_the_text(model: EmbeddedModel, make: Callable[..., Request]) -> None:
    for word in ("the", "method", "data é 😀"):
        pieces: list[str] = []
        request = make(word, max_tokens=60, top_logprobs=2)
        streamed, whole = model.generate(request, on_text=pieces.append), model.generate(request)
        assert len(pieces) > 5
        assert "".join(pieces) == streamed.text == whole.text
        assert [entry.token for entry in streamed.logprobs] == [entry.token for entry in whole.logprobs]
        assert (streamed.prompt_tokens, streamed.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)


def test_usage_and_finish(model: EmbeddedModel) -> None:
    prompt = "<|im_start|>the model of 7 papers"
    reply = model.generate(raw(prompt))
    assert (reply.finish, reply.completion_tokens) == ("length", 12)
    assert reply.prompt_tokens == model.count_tokens(prompt) < len(prompt.split("|>")[1])
    assert model.count_tokens("") == 0


@pytest.mark.parametrize("stream", [True, False])
def test_stop_strings_end_the_text_and_swallow_nothing_else(model: EmbeddedModel, stream: bool) -> None:
    def text(length: int, *stop: str) -> tuple[str, str]:
        pieces: list[str] = []
        reply = model.generate(raw("the data", max_tokens=length, stop=stop), on_text=pieces.append if stream else None)
        assert not stream or "".join(pieces) == reply.text
        return reply.text, reply.finish

    whole, _ = text(40)
    word = whole[15:18]
    assert word not in whole[:15]
    assert text(40, "never", word) == (whole[: whole.index(word)], "stop")
    assert text(40, word + "zz") == (whole, "length")
    for length in range(1, 12):
        assert text(length, word + "zz", whole[:3] + "zz") == text(length)


@pytest.mark.parametrize("make", [raw, chat])
def test_schema_holds_for_any_prompt_and_seed(model: EmbeddedModel, make: Callable[..., Request]) -> None:
    for seed in range(20):
        request = make(f"paper {seed}", max_tokens=1500, temperature=1.0, seed=seed)
        text = model.generate(replace(request, schema=SCHEMA)).text
        answer = json.loads(text)
        assert text == json.dumps(answer), "white space that the model chose: it may never end"
        assert set(answer) == {"claim", "method"}
        assert 1 <= answer["method"] <= 12
        assert len(answer["claim"]) <= 3
        assert all(1 <= number <= 7 for number in answer["claim"])


def test_logprobs_are_of_the_model_not_of_the_sampler(model: EmbeddedModel) -> None:
    greedy = model.generate(raw("the data", top_logprobs=100)).logprobs
    assert greedy == model.generate(raw("the data", top_logprobs=100)).logprobs
    for token in greedy:
        assert token.logprob == max(token.top.values()) == token.top[token.token]
        assert 0.5 < sum(map(math.exp, token.top.values())) <= 1 + 1e-5
    every = model.generate(raw("the data", max_tokens=1, top_logprobs=9999)).logprobs[0]
    assert sum(map(math.exp, every.top.values())) == pytest.approx(1, abs=1e-4)
    hot = model.generate(raw("the data", max_tokens=1, temperature=2.0, top_k=3, seed=5, top_logprobs=100)).logprobs[0]
    assert hot.top == pytest.approx(greedy[0].top)
    forced = model.generate(replace(raw("the data", max_tokens=200, top_logprobs=100), schema=SCHEMA)).logprobs[0]
    assert forced.token == "{"
    assert forced.top == pytest.approx(greedy[0].top)


def test_a_session_computes_only_what_is_new(model: EmbeddedModel) -> None:
    prefix = "the model of the paper " * 30
    prompts = {name: prefix + name for name in ("alpha", "beta", "gamma")}
    computed = []
    for _ in range(4):
        for name in prompts:
            reply = model.generate(raw(prompts[name], session=name, max_tokens=1))
            computed.append(reply.prompt_tokens - reply.cached_tokens)
            assert reply.prompt_tokens == model.count_tokens(prompts[name])
            prompts[name] += " and its results"
    assert computed[0] > 100
    assert max(computed[3:]) < 25


def test_a_session_does_not_depend_on_what_was_asked_before(gguf: Path) -> None:
    model = EmbeddedModel(gguf, name="tiny:latest", threads=1, slots=1)
    prefix = "the model of the paper " * 30
    first, _, again = (
        model.generate(raw(prefix + end, session=name, top_logprobs=5))
        for name, end in (("one", "and its data"), ("two", "with results"), ("three", "and its data"))
    )
    model.close()
    assert again.cached_tokens == 0
    assert again.logprobs == first.logprobs


def test_sessions_keep_their_slot_and_new_ones_take_the_longest_idle() -> None:
    slots = SessionSlots(3)

    def used(session: str | None) -> tuple[int, bool]:
        with slots.hold(session) as held:
            return held

    new, known = False, True
    assert [used(name) for name in "abcba"] == [(0, new), (1, new), (2, new), (1, known), (0, known)]
    assert used(None) == (-1, known)
    assert used("d") == (2, new)
    with slots.hold("b"), slots.hold("a"):
        assert used("e") == (2, new)


def test_threads_at_once_get_the_replies_of_one_after_another(model: EmbeddedModel) -> None:
    requests = [chat(f"paper {number}", max_tokens=30) for number in range(24)]
    alone = [model.generate(request).text for request in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda request: model.generate(request).text, requests))
    assert together == alone


def test_copies_of_a_small_model_answer_as_one(model: EmbeddedModel, gguf: Path) -> None:
    copies = EmbeddedModel(gguf, name="tiny:latest", threads=2, slots=3)  # two slots in the first copy, one in the other
    requests = [chat(f"paper {number}", max_tokens=30) for number in range(12)]
    sessions = [raw("the model of the paper " * 10 + end, session=name) for end in ("", "and") for name in "abc"]
    with ThreadPoolExecutor(8) as pool:
        together = [reply.text for reply in pool.map(copies.generate, requests)]
    assert together == [model.generate(request).text for request in requests]
    cached = [copies.generate(request).cached_tokens for request in sessions]
    copies.close()
    assert cached[:3] == [0, 0, 0]
    assert min(cached[3:]) > 20


# When it is too long, cancelled or closed


def test_context_is_reserved_and_never_cut(fresh: EmbeddedModel) -> None:
    fresh.reserve(200)
    end = fresh.generate(raw("the", max_tokens=1000))
    assert end.finish == "length"
    assert end.prompt_tokens + end.completion_tokens in (256, 257)
    first = child_pid(fresh)
    for make in (raw, chat):
        with pytest.raises(ContextOverflow, match=r"tiny:latest: a request of \d+ tokens .* 256; shorten"):
            fresh.generate(make("the " * 300), on_text=lambda _: None)
    fresh.reserve(100)
    fresh.generate(raw("the"))
    assert child_pid(fresh) == first
    fresh.reserve(600)
    assert fresh.generate(raw("the " * 300)).finish == "length"
    assert child_pid(fresh) != first
    assert not alive(first)
    with pytest.raises(ContextOverflow, match="2049 tokens is more than the 2048"):
        fresh.reserve(2049)
    fresh.reserve(2048)
    assert fresh.generate(raw("the " * 2000)).prompt_tokens > 1900


def test_a_larger_context_waits_for_requests_in_flight(fresh: EmbeddedModel) -> None:
    fresh.reserve(1024)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fresh.generate, raw("the", max_tokens=900), on_text=lambda _: begun.set())
        assert begun.wait(10)
        fresh.reserve(2048)
        assert fresh.generate(raw("the " * 1200)).prompt_tokens > 1100
        assert running.result().completion_tokens == 900


@pytest.mark.parametrize("streamed", [True, False])
def test_cancel_stops_soon(model: EmbeddedModel, streamed: bool) -> None:
    cancel, pieces = threading.Event(), list[str]()

    def on_text(piece: str) -> None:
        pieces.append(piece)
        cancel.set()

    if not streamed:
        threading.Timer(0.02, cancel.set).start()
    reply = model.generate(replace(chat("the"), options=LONG), on_text=on_text if streamed else None, cancel=cancel)
    assert reply.finish == "cancelled"
    assert len(pieces) <= reply.completion_tokens < 1900
    assert reply.text.startswith("".join(pieces))
    at_once = model.generate(replace(chat("the"), options=LONG), cancel=cancel)
    assert at_once.finish == "cancelled"


def test_a_brief_answer_is_not_streamed_to_be_stopped_and_is_still_cancelled(model: EmbeddedModel) -> None:
    cancel = threading.Event()
    whole = model.generate(raw("the", max_tokens=32), cancel=cancel)
    assert whole.text == model.generate(raw("the", max_tokens=32)).text
    assert (whole.finish, whole.completion_tokens) == ("length", 32)
    cancel.set()
    assert model.generate(raw("the", max_tokens=32), cancel=cancel).finish == "cancelled"


def test_an_exception_of_the_listener_stops_the_request(model: EmbeddedModel) -> None:
    def on_text(piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate(replace(chat("the"), options=LONG), on_text=on_text)
    assert model._child is not None
    assert eventually(lambda: not model._child._calls, 2)  # type: ignore[union-attr]


def test_close(fresh: EmbeddedModel) -> None:
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fresh.generate, replace(raw("the"), options=LONG), on_text=lambda _: begun.set())
        assert begun.wait(10)
        pid = child_pid(fresh)
        fresh.close()
        fresh.close()
        with pytest.raises(ModelUnavailable):
            running.result()
    assert not alive(pid)
    with pytest.raises(ModelError, match="closed"):
        fresh.generate(raw("the"))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(), "empty"),
        (Request(prompt=""), "empty"),
        (raw("half a pair: \ud800"), "surrogate"),
        (replace(raw("the", max_tokens=900, stop=("e",)), schema={"type": "nonsense"}), "does not follow the JSON"),
    ],
)
def test_requests_that_cannot_be_answered(model: EmbeddedModel, request_: Request, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model.generate(request_)
    assert model.generate(raw("the")).text
