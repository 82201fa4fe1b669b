"""What Ollama 0.33 says to a request, and how it can go wrong: pure functions and data, for ``ollama_server.py``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.models.base import Message, Options, Request
from harness.models.embedding import EmbeddingModel
from harness.models.gguf_header import trained_context

Body = dict[str, Any]
FAMILY = "qwen3"
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M", "Q4_K")
_INTEGERS = ("num_ctx", "num_predict", "seed", "top_k", "num_keep")
_NUMBERS = ("temperature", "top_p", "min_p", "repeat_penalty")
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+|0")
_SCHEMA_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


@dataclass
class Stored:
    """A model that the server has."""

    name: str
    context: int = 4096
    capabilities: tuple[str, ...] = ("completion",)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    gguf: Path | None = None
    size: int = 1000
    remote_host: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


@dataclass
class Faults:
    """What goes wrong; each can be switched at any time."""

    busy: int = 0
    """So many of the next generations get 503."""
    refuse: int = 0
    """So many of the next generations lose their connection before any answer."""
    drop_after: int | None = None
    """Tokens after which the connection breaks."""
    drops: int = 1
    """How often it breaks so."""
    no_end: bool = False
    """The stream ends properly but without its ``done: true`` line."""
    error_after: int | None = None
    """Tokens after which an error line ends the stream."""
    error_text: str = "llama-server process has terminated: signal: killed"
    granted_context: int = 0
    """What ``/api/ps`` tells instead of the context that was asked for."""
    cuts_in_silence: bool = False
    """``truncate: false`` is ignored, as by daemons that do not know it."""
    no_embeddings: bool = False
    """/api/embed answers without what was asked for."""
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0


class Refused(Exception):
    """A request that gets an error: its status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def canonical(name: str) -> str:
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def count(text: str) -> int:
    """Tokens of a text, in words and marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def embedded(body: Body, stored: Stored, model: EmbeddingModel | None, faults: Faults) -> Body:
    """/api/embed, by a model where there is one."""
    if "embedding" not in stored.capabilities:
        raise Refused(501, "This server does not support embeddings. Start it with `--embeddings`")
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    room = window(body, stored) - 2  # each text gets a token before and one after it
    if any(count(text) > room for text in texts):
        if body.get("truncate") is False and not faults.cuts_in_silence:
            raise Refused(400, "the input length exceeds the context length")
        texts = [cut(text, room) for text in texts]
    embeddings = [[float(len(text)), 1.0] for text in texts]
    if model is not None:
        embeddings = [[] if vector is None else vector.tolist() for vector in model.embed(texts)]
    tokens = sum(count(text) + 2 for text in texts)
    answer = {"model": stored.name, "embeddings": embeddings, "total_duration": 1, "prompt_eval_count": tokens}
    return {"model": stored.name} if faults.no_embeddings else answer


def cut(text: str, tokens: int) -> str:
    """At most so many tokens of a text."""
    ends = [found.end() for found in re.finditer(r"\w+|[^\w\s]", text)]
    return text[: ends[tokens - 1]] if len(ends) > tokens else text


def parse_body(raw: bytes) -> Body:
    if not raw.strip():
        raise Refused(400, "missing request body")
    try:
        body = json.loads(raw)
    except ValueError:
        raise Refused(400, f"invalid character {raw[:1].decode('latin-1')!r} looking for beginning of value") from None
    return dict(body)


def nested(message: str, kind: str, **numbers: int) -> str:
    """The runner's own JSON error, which the daemon hands on as a string."""
    return json.dumps({"error": {"code": 400, "message": message, "type": kind, **numbers}})


def details(stored: Stored) -> Body:
    return {"format": "gguf", "family": FAMILY, "parameter_size": "1.7M", "quantization_level": "F16"}


def listed(stored: Stored) -> Body:
    """An entry of /api/tags, and of /api/ps but for its context."""
    entry: Body = {
        "name": stored.name,
        "model": stored.name,
        "modified_at": "2026-08-01T10:00:00Z",
        "size": stored.size,
        "digest": stored.digest,
        "details": details(stored),
        "capabilities": list(stored.capabilities),
    }
    return entry | ({"remote_host": stored.remote_host} if stored.remote_host else {})


def shown(stored: Stored) -> Body:
    """/api/show."""
    return {
        "template": stored.template,
        "system": stored.system,
        "parameters": "\n".join(f"{key} {value}" for key, value in stored.parameters.items()),
        "details": details(stored),
        "model_info": {"general.architecture": FAMILY, f"{FAMILY}.context_length": stored.context},
        "capabilities": list(stored.capabilities),
        "modified_at": "2026-08-01T10:00:00Z",
    }


def check_create(body: Body) -> None:
    """Refuse what /api/create refuses before it begins."""
    if not body.get("model"):
        raise Refused(400, "model is required")
    if not re.fullmatch(r"[\w./:-]+", body["model"]) or body["model"].startswith(("/", ".")):
        raise Refused(400, "invalid model name")
    if "files" not in body and "from" not in body:
        raise Refused(400, "neither 'from' or 'files' was specified")
    if any(name.startswith("/") for name in body.get("files", {})):
        raise Refused(400, "file path must be relative")
    if body.get("files") == {}:
        raise Refused(400, "unknown type")
    if (template := body.get("template") or "").count("{{") != template.count("}}"):
        raise Refused(400, "template error: template: :1: unclosed action")
    if body.get("quantize") and body["quantize"].upper() not in TYPES:
        text = "supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
        raise Refused(500, f"unsupported quantization type {body['quantize']} - {text}")


def check_gguf(name: str, blob: Path) -> None:
    """Refuse a file that is no whole GGUF."""
    if not blob.exists():
        raise Refused(500, f"open {blob}: no such file or directory".replace(str(blob.parent), "/root/blobs"))
    with blob.open("rb") as file:
        if file.read(4) != b"GGUF":
            whose = "supplied file was not in GGUF format" if name.endswith(".gguf") else "unknown type"
            raise Refused(400, whose)
    try:
        trained_context(blob)
    except ModelError:
        size = blob.stat().st_size
        raise Refused(500, f'tensor "x" offset+size ({size + 64}) exceeds file size ({size})') from None


def check_generate(body: Body, stored: Stored) -> None:
    """Refuse what /api/generate and /api/chat refuse before the first token."""
    if "completion" not in stored.capabilities:
        raise Refused(400, f'"{stored.name}" does not support generate')
    if body.get("think") and "thinking" not in stored.capabilities:
        raise Refused(400, f'"{stored.name}" does not support thinking')
    if body.get("tools") and "tools" not in stored.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{stored.name} does not support tools")
    keep_alive = body.get("keep_alive")
    if isinstance(keep_alive, str) and not _DURATION.fullmatch(keep_alive):
        raise Refused(400, f'time: invalid duration "{keep_alive}"')
    for key, value in ({**stored.parameters, **body.get("options", {})}).items():
        integral = isinstance(value, int) and not isinstance(value, bool)
        if key in _INTEGERS and not integral:
            raise Refused(500, f'option "{key}" must be of type integer')
        if key in _NUMBERS and not (integral or isinstance(value, float)):
            raise Refused(500, f'option "{key}" must be of type float32')
    check_format(body.get("format"))


def check_format(format: Any) -> None:
    if format in (None, "", "json"):
        return
    if not isinstance(format, dict):
        raise Refused(500, f'invalid format: {json.dumps(format)}; expected "json" or a valid JSON Schema object')
    for part in [format, *format.get("properties", {}).values()]:
        if "type" in part and part["type"] not in _SCHEMA_TYPES:
            text = f"JSON schema conversion failed:\nUnrecognized schema: {json.dumps(part)}"
            raise Refused(400, nested(text, "invalid_request_error"))


def rendered(body: Body) -> str:
    """The prompt after the chat template."""
    if "messages" not in body:
        return str(body.get("prompt", ""))
    turns = (f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in body["messages"])
    return "".join(turns) + "<|im_start|>assistant\n"


def window(body: Body, stored: Stored) -> int:
    """Tokens of context: request > model > default, and in silence at most the trained ones."""
    asked = body.get("options", {}).get("num_ctx") or stored.parameters.get("num_ctx") or 4096
    return min(int(asked), stored.context)


def fitted(tokens: int, window: int, body: Body, *, cuts: bool) -> int:
    """Tokens of the prompt that are read: refused or, by default, cut to half the context in silence."""
    if tokens <= window:
        return tokens
    if body.get("truncate") is False and not cuts:
        text = f"request ({tokens} tokens) exceeds the available context size ({window} tokens), try increasing it"
        raise Refused(400, nested(text, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=window))
    if body.get("shift") is False and not cuts:
        raise Refused(400, "the prompt is longer than the context length currently available to the model; shorten it")
    return window // 2 + 2


def chunk(path: str, model: str, text: str) -> Body:
    """One line of a stream."""
    line: Body = {"model": model, "created_at": "2026-08-01T10:00:00Z"}
    if path == "/api/chat":
        return line | {"message": {"role": "assistant", "content": text}}
    return line | {"response": text}


def logprob(token: str, value: float, top: Mapping[str, float]) -> Body:
    alternatives = [{"token": name, "logprob": chance, "bytes": list(name.encode())} for name, chance in top.items()]
    return {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": alternatives}


def request(body: Body) -> Request:
    """The request that a body asks of a ``Model``."""
    sampling = body.get("options", {})
    known = {key: sampling[key] for key in ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed")}
    options = Options(
        max_tokens=sampling["num_predict"],
        stop=tuple(sampling.get("stop", ())),
        top_logprobs=body.get("top_logprobs", 0),
        **known,
    )
    messages = tuple(Message(turn["role"], turn["content"]) for turn in body.get("messages", ()))
    schema = body["format"] if isinstance(body.get("format"), dict) else None
    return Request(messages=messages, prompt=body.get("prompt"), schema=schema, options=options)
