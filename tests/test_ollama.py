"""OllamaModel against the loopback server: what is sent, what comes back, the context."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from ollama_server import OllamaServer

from harness.errors import ContextOverflow
from harness.models import ollama
from harness.models.base import Message, Options, Request
from harness.models.ollama import OllamaDaemon, OllamaModel

SCHEMA = {"type": "object", "properties": {"claim": {"type": "string"}}}


def ask(text: str = "one two three", **fields: object) -> Request:
    return Request(messages=(Message("user", text),), options=Options(**fields))


def test_chat_request(server, model):
    model.reserve(3000)
    model.generate(ask(max_tokens=9, temperature=0.2, top_p=0.9, top_k=40, min_p=0.1, seed=7, stop=("END",)))
    (body,) = server.bodies("/api/chat")
    assert body == {
        "model": "tiny:latest",
        "stream": True,
        "truncate": False,
        "shift": False,
        "keep_alive": "10m",
        "messages": [{"role": "user", "content": "one two three"}],
        "options": {
            "num_ctx": 4096,
            "num_predict": 9,
            "temperature": 0.2,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.1,
            "repeat_penalty": 1.0,
            "seed": 7,
            "stop": ["END"],
        },
    }


def test_raw_request(server, model):
    reply = model.generate(Request(prompt="[1] A sentence. =>", schema=SCHEMA))
    (body,) = server.bodies("/api/generate")
    assert (body["raw"], body["prompt"], body["format"]) == (True, "[1] A sentence. =>", SCHEMA)
    assert "messages" not in body
    assert reply.text == "echo: [1] A sentence. =>"


def test_schema_goes_into_format_and_into_the_last_user_message(server, model):
    turns = (Message("user", "first"), Message("user", "last"), Message("assistant", "{"))
    model.generate(Request(messages=turns, schema=SCHEMA))
    (body,) = server.bodies("/api/chat")
    assert body["format"] == SCHEMA
    assert [turn["content"] for turn in body["messages"]] == [
        "first",
        'last\n\nAnswer with JSON of this schema: {"type":"object","properties":{"claim":{"type":"string"}}}',
        "{",
    ]


def test_schema_without_a_user_message_gets_one(server, model):
    model.generate(Request(messages=(Message("system", "be brief"),), schema=SCHEMA))
    assert [turn["role"] for turn in server.bodies("/api/chat")[0]["messages"]] == ["system", "user"]


def test_a_model_with_a_contract_gets_its_trained_prompt_unchanged(server, daemon):
    model = OllamaModel(daemon, "tiny", contract="annotate/quote@1")
    model.generate(Request(messages=(Message("user", "exact"),), schema=SCHEMA))
    (body,) = server.bodies("/api/chat")
    assert (body["format"], body["messages"][0]["content"]) == (SCHEMA, "exact")


@pytest.mark.parametrize("think", [None, False])
def test_think_is_sent_only_when_it_is_said(server, model, think):
    model.generate(ask(think=think))
    assert server.bodies("/api/chat")[0].get("think") is think


@pytest.mark.parametrize(("given", "sent"), [("10m", "10m"), ("-1", -1), ("0", 0)])
def test_keep_alive_in_the_forms_that_the_daemon_reads(server, given, sent):
    OllamaModel(OllamaDaemon(server.url, keep_alive=given), "tiny").generate(ask())
    assert server.bodies("/api/chat")[0]["keep_alive"] == sent


def test_render_shows_what_the_model_would_read(server, model):
    assert model.render(ask("hi")) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_reply_and_stream(model):
    pieces: list[str] = []
    reply = model.generate(ask("one two"), on_text=pieces.append)
    assert pieces == ["echo:", " one", " two"]
    assert (reply.text, reply.finish, reply.completion_tokens) == ("echo: one two", "stop", 3)
    assert reply.prompt_tokens > 0
    assert reply.logprobs == ()


def test_length_and_stop_strings(model):
    assert model.generate(ask("one two three", max_tokens=2)).finish == "length"
    reply = model.generate(ask("one two three", stop=(" two",)))
    assert (reply.text, reply.finish) == ("echo: one", "stop")


def test_logprobs(server, model):
    reply = model.generate(ask("one", top_logprobs=50))
    assert [entry.token for entry in reply.logprobs] == ["echo:", " one"]
    assert reply.logprobs[1].logprob == -0.25
    assert reply.logprobs[1].top == {" one": -0.25, "other": -1.5}
    assert server.bodies("/api/chat")[0]["top_logprobs"] == 20


def test_line_separators_inside_json_and_lone_surrogates_survive(model):
    text = "a\u0085b\u2028c\x1c d"
    server_says = model.generate(ask(text)).text
    assert "a\u0085b" not in server_says  # split() of the echo takes them for spaces
    with OllamaServer(lambda body: iter(["x\u0085y", "\u2028z"])) as server:
        server.add("tiny")
        odd = OllamaModel(OllamaDaemon(server.url), "tiny")
        assert odd.generate(ask("\udc80 broken")).text == "x\u0085y\u2028z"


def test_several_threads_share_a_model(model):
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: model.generate(ask(f"n{number}")).text, range(40)))
    assert replies == [f"echo: n{number}" for number in range(40)]


@pytest.mark.parametrize(
    ("tokens", "trained", "window"),
    [
        (1, 32768, 2048),
        (2048, 32768, 2048),
        (2049, 32768, 4096),
        (9000, 32768, 16384),
        (9000, 10000, 10000),
        (300, 512, 512),
        (512, 512, 512),
        (70000, 0, 131072),
    ],
)
def test_windows(tokens, trained, window):
    assert ollama.window_for(tokens, trained) == window


def test_one_window_a_job(server, model):
    model.reserve(2500)
    model.generate(ask("short"))
    model.generate(ask("word " * 500))
    model.reserve(100)  # a smaller job on the same model: no reload for it
    model.generate(ask("short"))
    assert {body["options"]["num_ctx"] for body in server.bodies("/api/chat")} == {4096}
    assert len([seen for seen in server.requests if seen.path == "/api/ps"]) == 1


def test_reserving_more_than_the_model_was_trained_for(model):
    with pytest.raises(ContextOverflow, match="5000 tokens do not fit into its context of 4096"):
        model.reserve(5000)


def test_unreserved_window_grows_with_the_requests(server, model):
    model.generate(ask("short", max_tokens=16))
    model.generate(ask("word " * 1500, max_tokens=16))
    assert [body["options"]["num_ctx"] for body in server.bodies("/api/chat")] == [2048, 4096]


def test_a_prompt_that_does_not_fit_is_refused_not_cut(model):
    model.reserve(2048)
    with pytest.raises(ContextOverflow, match=r"tiny:latest: a prompt of \d+ tokens exceeds the context of 2048"):
        model.generate(ask("word " * 3000))


def test_a_daemon_that_gives_a_smaller_context(server, model):
    server.faults.granted_context = 1024
    model.reserve(4000)
    for _ in range(2):  # the second time without generating
        with pytest.raises(ContextOverflow, match="gives a context of 1024 tokens instead of 4096"):
            model.generate(ask())
    assert len(server.bodies("/api/chat")) == 1


def test_a_daemon_that_cuts_the_prompt_all_the_same(server, model):
    server.faults.cuts_in_silence = True
    model.reserve(2048)
    with pytest.raises(ContextOverflow, match=r"only 1026 tokens of the prompt were read.*truncate: false"):
        model.generate(ask("word " * 3000))


def test_a_daemon_that_shifts_the_context(server, model, monkeypatch):
    monkeypatch.setattr(
        "ollama_server._Handler._from_answer",
        lambda *_: {"done_reason": "stop", "prompt_eval_count": 2000, "eval_count": 100},
    )
    model.reserve(2048)
    with pytest.raises(ContextOverflow, match="2100 tokens went through a context of 2048"):
        model.generate(ask())


@pytest.mark.parametrize(
    "text",
    [
        "We present BERTScore, a metric for text generation (Zhang et al., 2020).",
        r"$\mathcal{L}_{\theta} = -\frac{1}{N}\sum_{i=1}^{N}\log p(y_i)$",
        "数据集的方法",
        "",
    ],
)
def test_count_is_an_upper_estimate_within_the_bytes(model, text):
    count = model.count_tokens(text)
    words_and_marks = len(text.split())
    assert words_and_marks < count <= len(text.encode()) + 1


def test_count_holds_for_a_small_vocabulary_on_real_abstracts(model):
    import csv
    from pathlib import Path

    tokenizers = pytest.importorskip("tokenizers")
    root = Path(__file__).parents[1]
    papers = root.parent / "shared" / "data" / "papers" / "agentic_598.csv"
    vocabulary = root / "finetune_output" / "base" / "tokenizer" / "tokenizer.json"
    if not papers.exists() or not vocabulary.exists():
        pytest.skip("needs ../shared/data/papers and a pre-trained tokenizer in finetune_output")
    tokenizer = tokenizers.Tokenizer.from_file(str(vocabulary))
    with papers.open(encoding="utf-8", newline="") as file:
        texts = [row["abstract"] for row in csv.DictReader(file)]
    assert all(len(tokenizer.encode(text).ids) <= model.count_tokens(text) for text in texts)
