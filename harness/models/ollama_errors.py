"""Ollama's error bodies as one clear line each, in the classes of ``harness.errors``.

The daemon's statuses are not reliable (a wrong option is a 500, an overflow is JSON inside a JSON string), so the text
decides first and the status only where no text is known.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.errors import (
    ContextOverflow,
    InputError,
    MarginaliaError,
    ModelError,
    ModelUnavailable,
    NoModelError,
    UsageError,
)

MAX_TEXT = 300
"""Characters of a daemon's own words that are shown."""


class _Rule(NamedTuple):
    pattern: str
    kind: type[MarginaliaError]
    message: str
    """Filled with ``model``, ``text`` and the pattern's groups."""
    remedy: str


_SHORTER = "shorten the text or take a model with a larger context"
_CONVERT = "check its sha256, or convert it again"
_RULES = (
    _Rule(
        r"request \((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<window>\d+) tokens\)",
        ContextOverflow,
        "{model}: a prompt of {prompt} tokens exceeds the context of {window}",
        _SHORTER,
    ),
    _Rule(
        r"(prompt is longer than|input length exceeds) the context length|context size has been exceeded"
        r"|is too large to process\. increase the physical batch size",
        ContextOverflow,
        "{model}: the prompt exceeds the context",
        _SHORTER,
    ),
    _Rule(r"^model .*not found", NoModelError, "Ollama has no model {model}", "`ollama pull {model}`"),
    _Rule(
        r"server does not support embeddings",
        ModelError,
        "{model} cannot embed text",
        "take an embedding model",
    ),
    _Rule(
        r"does not support (?P<what>\w+)",
        ModelError,
        "{model} does not support {what}",
        "take a model that does, or do without",
    ),
    _Rule(
        r"not in GGUF format|^unknown type$|GGUF string length|exceeds file size|failed to validate GGUF",
        InputError,
        "Ollama cannot read the GGUF ({text})",
        _CONVERT,
    ),
    _Rule(
        r"unsupported architecture",
        InputError,
        "Ollama cannot import these weights ({text})",
        "convert them to GGUF first",
    ),
    _Rule(
        r"/blobs/sha256-.*no such file",
        ModelError,
        "the weights of {model} are missing in Ollama's store",
        "install the model again",
    ),
    _Rule(
        r"error loading model|unable to load model",
        ModelError,
        "Ollama cannot load {model} ({text})",
        "install the model again, or update Ollama",
    ),
    _Rule(
        r"requires more system memory",
        ModelError,
        "Ollama cannot load {model} ({text})",
        "close other programs or take a smaller model",
    ),
    _Rule(
        r"(llama-server|runner) process (has terminated|no longer running)",
        ModelUnavailable,
        "Ollama's runner of {model} died ({text})",
        "the request may be sent again; see the daemon's log if it repeats",
    ),
    _Rule(
        r"unsupported quantization type|quantization is only supported",
        UsageError,
        "Ollama cannot quantise this ({text})",
        "use f16 weights and one of its types, or quantise before installing",
    ),
    _Rule(
        r"^invalid format:|JSON schema conversion failed|Unable to generate parser",
        ModelError,
        "{model}: Ollama cannot use the JSON schema ({text})",
        "simplify the schema",
    ),
    _Rule(
        r'option "(?P<option>\w+)" must be of type (?P<type>\w+)',
        ModelError,
        "{model}: option {option} must be of type {type}",
        "correct it in the request or in the model's parameters (`ollama show --modelfile {model}`)",
    ),
    _Rule(r"^time: .*duration", UsageError, "keep_alive is not a duration ({text})", "write it like 10m, 1h or -1"),
    _Rule(r"template error", InputError, "Ollama cannot use the chat template ({text})", "correct the template"),
    _Rule(
        r"invalid model name|model is required",
        UsageError,
        "{model} is not a model name for Ollama",
        "use NAME or NAME:TAG",
    ),
)


def explain(status: int, body: str, *, model: str = "") -> MarginaliaError:
    """The error that a reply of the daemon means. ``status`` 200 is an error line inside a stream."""
    text = one_line(_text(body))
    model = one_line(model) or "this model"
    for rule in _RULES:
        if found := re.search(rule.pattern, text, re.IGNORECASE):
            words = {"text": text, "model": model, **found.groupdict()}
            return rule.kind(rule.message.format(**words), rule.remedy.format(**words))
    if status in (429, 503):
        return ModelUnavailable(f"Ollama is busy ({text or status})", "try again later or with fewer workers")
    if status == 403:
        return ModelError("Ollama refused the request (403)", "check OLLAMA_HOST here and OLLAMA_ORIGINS of the daemon")
    if status in (404, 405):
        return ModelError(f"Ollama does not know this request ({status})", "update Ollama, and check OLLAMA_HOST")
    said = f"{status}: {text}" if status != 200 else text
    return ModelError(f"{model}: Ollama answered with an error ({said})", "see the daemon's log")


def no_such_model(name: str, present: Sequence[str]) -> NoModelError:
    """The error for a model that the daemon does not have: names the nearest ones it has and what would help."""
    near = difflib.get_close_matches(name, present, n=3, cutoff=0.4) or list(present)[:3]
    there = f"nearest there: {', '.join(map(one_line, near))}" if near else "it has no models at all"
    name = one_line(name)
    return NoModelError(
        f"Ollama has no model {name} ({there})",
        f"`ollama pull {name}`, or `python agent.py models install {name}` if it is in the registry",
    )


def one_line(text: str) -> str:
    """Foreign text as at most ``MAX_TEXT`` characters on one line, without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def _text(body: str) -> str:
    """The innermost error text: ``error`` holds a text, an object with ``message``, or either as a JSON string."""
    value: Any = body
    while True:
        if isinstance(value, str):
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                return value
            if not isinstance(inner, dict):
                return value
            value = inner
        elif isinstance(value, dict) and ("error" in value or "message" in value):
            value = value.get("error", value.get("message"))
        else:
            return json.dumps(value)
