"""OllamaModel when things go wrong: refusals, faults, retries, cancellation."""

from __future__ import annotations

import threading
import time

import pytest
from ollama_server import OllamaServer

from harness.errors import ModelError, ModelUnavailable, NoModelError, UsageError
from harness.models import ollama
from harness.models.base import Message, Options, Request
from harness.models.ollama import OllamaDaemon, OllamaModel
from harness.models.ollama_stream import Transient


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch):
    monkeypatch.setattr(ollama, "BACKOFF_SECONDS", 0.01)


def ask(text: str = "one two three", **fields: object) -> Request:
    return Request(messages=(Message("user", text),), options=Options(**fields))


def test_a_model_removed_meanwhile(server, model):
    server.add("tiny2")
    del server.models["tiny:latest"]
    with pytest.raises(NoModelError, match="nearest there: tiny2:latest"):
        model.generate(ask())


@pytest.mark.parametrize(
    ("change", "request_", "kind", "says"),
    [
        ({}, Request(messages=(Message("user", "x"),), schema={"type": "bogus"}), ModelError, "JSON schema"),
        ({}, ask(think=True), ModelError, "tiny:latest does not support thinking"),
        ({"parameters": {"num_keep": "abc"}}, ask(), ModelError, "option num_keep must be of type integer"),
        ({"capabilities": ("embedding",)}, ask(), ModelError, "does not support generate"),
    ],
)
def test_refusals_are_clear_and_not_repeated(server, daemon, change, request_, kind, says):
    server.add("tiny", **change)
    with pytest.raises(kind, match=says):
        OllamaModel(daemon, "tiny").generate(request_)
    assert len(server.bodies("/api/chat")) == 1


def test_a_bad_keep_alive_is_wrong_usage(server):
    with pytest.raises(UsageError, match=r'keep_alive is not a duration .*"soon"'):
        OllamaModel(OllamaDaemon(server.url, keep_alive="soon"), "tiny").generate(ask())


def test_a_busy_daemon_is_tried_again(server, model):
    server.faults.busy = 3
    assert model.generate(ask("one")).text == "echo: one"
    assert len(server.bodies("/api/chat")) == 4


def test_a_daemon_that_stays_busy(server, model):
    server.faults.busy = 99
    with pytest.raises(ModelUnavailable, match="busy"):
        model.generate(ask())
    assert len(server.bodies("/api/chat")) == ollama.TRIES


def test_a_refused_connection_is_tried_again(server, model):
    server.faults.refuse = 2
    assert model.generate(ask("one")).text == "echo: one"


def test_a_connection_lost_in_the_middle_is_tried_again_from_the_start(server, model):
    server.faults.drop_after = 2
    assert model.generate(ask("one two three")).text == "echo: one two three"
    assert len(server.bodies("/api/chat")) == 2


def test_but_not_once_text_was_shown(server, model):
    server.faults.drop_after = 2
    pieces: list[str] = []
    with pytest.raises(ModelUnavailable, match="broke"):
        model.generate(ask("one two three"), on_text=pieces.append)
    assert pieces == ["echo:", " one"]
    assert len(server.bodies("/api/chat")) == 1


def test_a_stream_without_its_end_is_a_failure(server, model):
    server.faults.no_end = True
    with pytest.raises(ModelUnavailable, match="without its end mark") as raised:
        model.generate(ask())
    assert not isinstance(raised.value, Transient)
    assert len(server.bodies("/api/chat")) == 1


def test_an_error_line_in_a_stream(server, model):
    server.faults.error_after = 1
    with pytest.raises(ModelUnavailable, match="runner of tiny:latest died"):
        model.generate(ask())
    server.faults.error_text = "something odd"
    with pytest.raises(ModelError, match="something odd"):
        model.generate(ask())


def test_an_error_before_the_first_token_keeps_its_status(server, model):
    server.faults.error_after = 0
    with pytest.raises(ModelUnavailable, match="died"):
        model.generate(ask())


def test_silence_is_not_waited_for_longer_than_the_timeout(server):
    server.faults.first_token_seconds = 30
    model = OllamaModel(OllamaDaemon(server.url, timeout=0.3), "tiny")
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"no sign of life.*timeout"):
        model.generate(ask())
    assert time.monotonic() - started < 3
    assert len(server.bodies("/api/chat")) == 1


def test_the_daemon_goes_away_between_two_requests():
    with OllamaServer() as server:
        server.add("tiny")
        model = OllamaModel(OllamaDaemon(server.url), "tiny")
        model.generate(ask())
    with pytest.raises(ModelUnavailable, match="no Ollama daemon answers"):
        model.generate(ask())


def cancelled_after(seconds: float) -> threading.Event:
    cancel = threading.Event()
    threading.Timer(seconds, cancel.set).start()
    return cancel


def test_cancel_while_the_daemon_is_still_silent(server, model):
    server.faults.first_token_seconds = 30
    started = time.monotonic()
    reply = model.generate(ask(), cancel=cancelled_after(0.2))
    assert time.monotonic() - started < 2
    assert (reply.finish, reply.text, reply.completion_tokens) == ("cancelled", "", 0)


def test_cancel_in_the_middle_keeps_the_text_and_hangs_up(server, model):
    server.answer = lambda body: iter(["word "] * 2000)
    server.faults.token_seconds = 0.01
    cancel = threading.Event()
    pieces: list[str] = []

    def show(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 3:
            cancel.set()

    reply = model.generate(ask(max_tokens=2000), on_text=show, cancel=cancel)
    assert reply.finish == "cancelled"
    assert reply.text == "".join(pieces) == "word " * 3
    assert reply.completion_tokens == 3
    assert server.hung_up.wait(5)


def test_cancel_between_two_tries(server, model, monkeypatch):
    monkeypatch.setattr(ollama, "BACKOFF_SECONDS", 30)
    server.faults.busy = 1
    started = time.monotonic()
    assert model.generate(ask(), cancel=cancelled_after(0.2)).finish == "cancelled"
    assert time.monotonic() - started < 2


def test_cancel_before_the_start_sends_nothing(server, model):
    cancel = threading.Event()
    cancel.set()
    assert model.generate(ask(), cancel=cancel).finish == "cancelled"
    assert server.bodies("/api/chat") == []


def test_an_event_that_is_never_set_changes_nothing(model):
    assert model.generate(ask("one"), cancel=threading.Event()).text == "echo: one"


def test_a_failing_on_text_hangs_up(server, model):
    server.answer = lambda body: iter(["word "] * 2000)
    server.faults.token_seconds = 0.01

    def fail(text: str) -> None:
        raise BrokenPipeError("the reader left")

    with pytest.raises(BrokenPipeError, match="the reader left"):
        model.generate(ask(max_tokens=2000), on_text=fail)
    assert server.hung_up.wait(5)
