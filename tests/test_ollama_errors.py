"""Each error body that a real 0.33 was seen to send becomes one clear line of the right class."""

from __future__ import annotations

import json

import pytest

from harness.errors import ContextOverflow, InputError, ModelError, ModelUnavailable, NoModelError, UsageError
from harness.models.ollama_errors import MAX_TEXT, explain, no_such_model, one_line


def nested(message: str, **fields: object) -> str:
    return json.dumps({"error": {"code": 400, "message": message, **fields}})


OVERFLOW = "request (8029 tokens) exceeds the available context size (512 tokens), try increasing it"
SCHEMA = 'JSON schema conversion failed: Unrecognized schema: {"type":"bogus"}'
TABLE = [
    (404, "model 'nope' not found", NoModelError, "no model tiny"),
    (404, "model 'nope:latest' not found", NoModelError, "no model tiny"),
    (404, 'model "nope" not found, try pulling it first', NoModelError, "no model tiny"),
    (400, "model is required", UsageError, "not a model name"),
    (400, "invalid model name", UsageError, "not a model name"),
    (400, "supplied file was not in GGUF format", InputError, "cannot read the GGUF"),
    (400, "unknown type", InputError, "cannot read the GGUF"),
    (500, "GGUF string length 99 exceeds maximum 9", InputError, "cannot read the GGUF"),
    (500, 'tensor "x" offset+size (9) exceeds file size (8)', InputError, "cannot read the GGUF"),
    (500, "failed to validate GGUF with llama-quantize: exit status 1", InputError, "cannot read the GGUF"),
    (500, 'unsupported architecture "Qwen3ForCausalLM"', InputError, "Qwen3ForCausalLM"),
    (500, "open /x/blobs/sha256-00: no such file or directory", ModelError, "weights of tiny are missing"),
    (
        500,
        "llama-server process has terminated: exit status 1: error loading model: tensor 'a' not found",
        ModelError,
        "cannot load tiny",
    ),
    (500, "llama-server process has terminated: signal: killed", ModelUnavailable, "runner of tiny died"),
    (500, "model requires more system memory (9 GiB) than is available (1 GiB)", ModelError, "9 GiB"),
    (400, "file path must be relative", ModelError, "file path must be relative"),
    (400, "neither 'from' or 'files' was specified", ModelError, "neither 'from'"),
    (400, "template error: template: :1: unclosed action", InputError, "unclosed action"),
    (500, "unsupported quantization type Q5_K_M - supported types are F32", UsageError, "Q5_K_M"),
    (500, "quantization is only supported for F16, BF16 and F32 models", UsageError, "cannot quantise"),
    (400, nested(OVERFLOW, type="exceed_context_size_error"), ContextOverflow, "8029 tokens exceeds the context of 512"),
    (400, "the prompt is longer than the context length currently available", ContextOverflow, "exceeds the context"),
    (400, "the input length exceeds the context length", ContextOverflow, "exceeds the context"),
    (500, 'invalid format: "xml"; expected "json" or a valid JSON Schema object', ModelError, "JSON schema"),
    (400, nested(SCHEMA), ModelError, 'JSON schema .*"bogus"'),
    (400, nested("Unable to generate parser for this template. x"), ModelError, "JSON schema"),
    (500, 'option "num_predict" must be of type integer', ModelError, "option num_predict must be of type integer"),
    (400, '"tiny" does not support thinking', ModelError, "tiny does not support thinking"),
    (400, "registry.ollama.ai/library/tiny does not support tools", ModelError, "tiny does not support tools"),
    (400, '"tiny-embed" does not support generate', ModelError, "does not support generate"),
    (501, "This server does not support embeddings. Start it with `--embeddings`", ModelError, "cannot embed"),
    (400, 'time: invalid duration "abc"', UsageError, 'keep_alive .*"abc"'),
    (400, 'time: missing unit in duration "5"', UsageError, "keep_alive"),
    (400, "invalid character 'x' looking for beginning of value", ModelError, "400: invalid character"),
    (503, "server busy, please try again.  maximum pending requests exceeded", ModelUnavailable, "busy"),
    (429, "too many requests", ModelUnavailable, "busy"),
    (200, "something odd", ModelError, r"\(something odd\)"),
]


@pytest.mark.parametrize(("status", "text", "kind", "says"), TABLE)
def test_every_row_of_the_table(status, text, kind, says):
    error = explain(status, json.dumps({"error": text}), model="tiny")
    assert type(error) is kind
    assert error.remedy
    assert "\n" not in str(error)
    with pytest.raises(kind, match=says):
        raise error


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (403, "", "refused the request"),
        (404, "404 page not found", "does not know this request"),
        (405, "405 method not allowed", "does not know this request"),
        (500, "[1, 2]", r"500: \[1, 2\]"),
        (500, '{"error": null}', "500: null"),
        (500, '{"other": 1}', "500: .*other"),
        (502, "<html>\n\x1b[31mBad Gateway\x07</html>", r"502: <html> \[31mBad Gateway </html>"),
    ],
)
def test_bodies_that_are_not_ollamas(status, body, says):
    error = explain(status, body)
    assert type(error) is ModelError
    with pytest.raises(ModelError, match=says):
        raise error


def test_openai_style_body():
    body = json.dumps({"error": {"message": "model 'nope' not found", "type": "not_found_error", "code": None}})
    assert type(explain(404, body, model="nope")) is NoModelError


def test_foreign_text_stays_one_short_line():
    text = one_line("a\r\n\x1b]0;title\x07" + "b" * 5000)
    assert text.startswith("a ]0;title b")
    assert len(text) == MAX_TEXT
    assert text.isprintable()


def test_a_missing_model_names_what_is_near():
    error = no_such_model("nanda-anotator", ["llama3:8b", "nanda-annotator:latest", "nanda-annotator:mini"])
    assert "nanda-annotator:latest" in error.message
    assert "llama3" not in error.message
    assert "`ollama pull nanda-anotator`" in error.remedy
    assert "models install nanda-anotator" in error.remedy


def test_a_missing_model_on_an_empty_daemon():
    assert "no models at all" in no_such_model("x", []).message
