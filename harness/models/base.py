"""The one protocol that every backend speaks: a request in, a reply out, streamed on demand, cancellable.

Backends are blocking and thread-safe: several threads may call ``generate`` of one model at once, as many as
``Model.slots`` says is useful.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Backend = Literal["ollama", "embedded", "remote"]
Finish = Literal["stop", "length", "cancelled"]
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Options:
    """How to generate. The same values give the same text on the same model (temperature 0 or a seed)."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 takes every token into account."""
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """How many alternatives with log-probabilities to return a token; 0 returns none."""
    think: bool | None = None
    """Thinking of models that can; None leaves it to the model."""


@dataclass(frozen=True)
class Request:
    """What to ask a model: chat messages, or a raw prompt that passes by the chat template."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    schema: Mapping[str, Any] | None = None
    """A JSON schema that the whole text must satisfy."""
    grammar: str | None = None
    """A GBNF grammar for the whole text, instead of a schema. Only the embedded backend has grammars; the others leave it
    out, so whoever sets one checks the text."""
    options: Options = field(default_factory=Options)
    session: str | None = None
    """Requests of one session begin alike: the embedded backend keeps them on one slot, which still has what they share."""


@dataclass(frozen=True)
class TokenLogprob:
    """One generated token with its natural-log probability and the likeliest alternatives (token text → logprob)."""

    token: str
    logprob: float
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish: Finish
    prompt_tokens: int
    """Tokens of the whole prompt, cached ones included."""
    completion_tokens: int
    seconds: float
    logprobs: tuple[TokenLogprob, ...] = ()
    cached_tokens: int = 0
    """Prompt tokens that the backend still had from an earlier request; 0 where it does not say."""


@dataclass(frozen=True)
class ModelInfo:
    """Which model answers, for records and the log."""

    name: str
    backend: Backend
    digest: str
    """``sha256:…`` of the weights file or the daemon's digest; empty for remote models."""
    context: int
    """Tokens that prompt and output may take together; 0 where it is not known."""
    contract: str = ""
    """The prompt contract that its registry entry names; empty for a general model."""

    def record(self) -> dict[str, str]:
        """The part that stands in annotation, expansion and answer records."""
        return {"name": self.name, "backend": self.backend, "digest": self.digest}


@runtime_checkable
class Model(Protocol):
    """An opened model. Close it when the work is done; closing twice is fine."""

    @property
    def info(self) -> ModelInfo:
        """Name, backend, digest, context, contract."""
        ...

    @property
    def slots(self) -> int:
        """How many requests at once are useful."""
        ...

    def reserve(self, tokens: int) -> None:
        """Say once per job how many tokens its largest request takes, prompt and output together.

        The backend picks its context for the whole job from it. Raises ContextOverflow where the model cannot hold it.
        """
        ...

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """Answer one request.

        ``on_text`` is called with each piece of text as it comes. Setting ``cancel`` stops the reply soon; it is then
        returned with ``finish="cancelled"``. Raises ModelUnavailable (may be tried again), ContextOverflow, ModelError.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a raw text; backends that cannot know return a safe upper estimate."""
        ...

    def close(self) -> None:
        """Free what the model holds."""
        ...


class Delegate:
    """A model that hands everything on to another: what looks at requests or replies in between overrides ``generate``."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def info(self) -> ModelInfo:
        """As in ``Model``."""
        return self.model.info

    @property
    def slots(self) -> int:
        """As in ``Model``."""
        return self.model.slots

    def reserve(self, tokens: int) -> None:
        """As in ``Model``."""
        self.model.reserve(tokens)

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """As in ``Model``."""
        return self.model.generate(request, on_text=on_text, cancel=cancel)

    def count_tokens(self, text: str) -> int:
        """As in ``Model``."""
        return self.model.count_tokens(text)

    def close(self) -> None:
        """As in ``Model``."""
        self.model.close()
