"""The ``ollama`` backend: a model of a running daemon.

Nothing is cut in silence: the context is chosen once per job, ``truncate`` and ``shift`` are off, the context that the
daemon really gave is read back, and a reply without its end mark is a failure.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

from harness.errors import ContextOverflow, ModelError, ModelUnavailable, NoModelError
from harness.models.base import Finish, Message, ModelInfo, OnText, Options, Reply, Request, TokenLogprob
from harness.models.ollama_daemon import InstalledModel, OllamaDaemon, ShownModel
from harness.models.ollama_errors import explain, no_such_model
from harness.models.ollama_stream import Cancelled, Transient, stream_json

__all__ = ["InstalledModel", "OllamaDaemon", "OllamaModel", "ShownModel"]

TRIES = 4
BACKOFF_SECONDS = 0.5
"""Wait before the second try; it doubles from try to try, times a random 0.5 to 1.5."""
SMALLEST_WINDOW = 2048
MAX_SLOTS = 4
MAX_TOP_LOGPROBS = 20
_PADDED_WINDOW = 256
"""The daemon's runner never makes a smaller context, whatever ``num_ctx`` says."""
_TEMPLATE_TOKENS = 16
"""What a chat template adds a message, at most."""
_TOKEN = re.compile(rb"[A-Za-z][a-z]?|[^A-Za-z ]| (?![A-Za-z])")


class OllamaModel:
    """A model of the daemon behind the protocol of ``harness.models.base``. Thread-safe."""

    def __init__(self, daemon: OllamaDaemon, name: str, *, contract: str = "") -> None:
        """Open ``name`` (``x`` is ``x:latest``). Raises NoModelError (with the nearest names), ModelUnavailable."""
        installed = daemon.require(name)
        shown = daemon.show(installed.name)
        self._daemon = daemon
        self._info = ModelInfo(installed.name, "ollama", installed.digest, shown.context, contract)
        self._lock = threading.Lock()
        self._window = 0
        """``num_ctx`` of every request; 0 before the first one."""
        self._chosen = False
        """Whether the caller reserved; else the window grows with the requests."""
        self._granted: int | None = None
        """Context that the daemon really gave for it: None before it was asked, 0 where it did not say."""

    @property
    def info(self) -> ModelInfo:
        """Name with tag, the daemon's digest and the context that the model was trained for."""
        return self._info

    @property
    def slots(self) -> int:
        """``OLLAMA_NUM_PARALLEL`` where it is set, at most 4; else 1, which is the daemon's default."""
        value = os.environ.get("OLLAMA_NUM_PARALLEL", "").strip()
        return min(max(int(value), 1), MAX_SLOTS) if value.isdecimal() else 1

    def reserve(self, tokens: int) -> None:
        """Choose ``num_ctx`` for the job. It never shrinks: each change of it makes the daemon load the model anew."""
        if 0 < self._info.context < tokens:
            raise ContextOverflow(
                f"{self._info.name}: {tokens} tokens do not fit into its context of {self._info.context}",
                "shorten the text or take a model with a larger context",
            )
        self._chosen = True
        self._widen(tokens)

    def count_tokens(self, text: str) -> int:
        """An upper estimate: Ollama has no call that counts.

        Two letters of a word count as one token (a space before it as none), every other byte as one. Prose, LaTeX,
        code and non-Latin scripts stay below it in the usual vocabularies; where a text does not, the daemon refuses
        the request (``truncate`` is off) and nothing is cut.
        """
        return 1 + len(_TOKEN.findall(text.encode("utf-8", "surrogatepass")))

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """As the protocol says; NoModelError when the model was removed meanwhile.

        Busy daemons and failed connections are tried again with back-off, unless ``on_text`` has been given a part of
        the reply already.
        """
        if not self._chosen:
            self._widen(self._estimate(request))
        self._refuse_small_window()
        path, payload = self._payload(request)
        answer = _Answer(on_text)
        try:
            for attempt in range(1, TRIES + 1):
                try:
                    self._receive(path, payload, answer, cancel)
                    break
                except Transient:
                    if attempt == TRIES or answer.shown:
                        raise
                _pause(attempt, cancel)
                answer.restart()
        except Cancelled:
            return answer.reply("cancelled")
        except NoModelError:
            present = [model.name for model in self._daemon.models()]
            raise no_such_model(self._info.name, present) from None
        return self._checked(request, payload["options"]["num_ctx"], answer)

    def render(self, request: Request) -> str:
        """The text that the model would be given: the way to check a chat template. Nothing is generated."""
        path, payload = self._payload(request)
        payload |= {"stream": False, "_debug_render_only": True}
        with closing(stream_json(self._daemon.http, path, payload, model=self._info.name)) as chunks:
            return str((next(chunks, {}).get("_debug_info") or {}).get("rendered_template", ""))

    def close(self) -> None:
        """Nothing to free: the daemon unloads the model after its ``keep_alive``."""

    def _widen(self, tokens: int) -> None:
        window = window_for(tokens, self._info.context)
        with self._lock:
            if window > self._window:
                self._window, self._granted = window, None

    def _estimate(self, request: Request) -> int:
        """Tokens of prompt and output together, estimated from above."""
        texts = [message.content for message in self._messages(request)] or [request.prompt or ""]
        return request.options.max_tokens + sum(self.count_tokens(text) + _TEMPLATE_TOKENS for text in texts)

    def _payload(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Route and body of a request."""
        options = request.options
        payload: dict[str, Any] = {
            "model": self._info.name,
            "stream": True,
            "truncate": False,
            "shift": False,
            "keep_alive": self._daemon.keep_alive,
            "options": _sampling(options) | ({"num_ctx": self._window} if self._window else {}),
        }
        if request.schema is not None:
            payload["format"] = dict(request.schema)
        if options.think is not None:
            payload["think"] = options.think
        if options.top_logprobs > 0:
            payload |= {"logprobs": True, "top_logprobs": min(options.top_logprobs, MAX_TOP_LOGPROBS)}
        if request.prompt is not None:
            return "/api/generate", payload | {"prompt": request.prompt, "raw": True}
        messages = [{"role": message.role, "content": message.content} for message in self._messages(request)]
        return "/api/chat", payload | {"messages": messages}

    def _messages(self, request: Request) -> tuple[Message, ...]:
        """The chat, with the schema's text in its last user message: Ollama constrains by it but does not show it.

        A model with a prompt contract gets its messages unchanged, since it was trained on exactly these.
        """
        if request.prompt is not None:
            return ()
        if request.schema is None or self._info.contract:
            return request.messages
        return with_schema(request.messages, request.schema)

    def _receive(self, path: str, payload: Mapping[str, Any], answer: _Answer, cancel: threading.Event | None) -> None:
        """Read one reply to its end mark."""
        name = self._info.name
        with closing(stream_json(self._daemon.http, path, payload, model=name, cancel=cancel)) as chunks:
            for chunk in chunks:
                if "error" in chunk:
                    raise explain(200, json.dumps(chunk), model=name)
                answer.add(chunk)
        if not answer.done:
            raise ModelUnavailable(
                f"{name}: the reply broke off without its end mark",
                "the daemon may have been stopped; a model that writes invalid UTF-8 does this too",
            )

    def _checked(self, request: Request, window: int, answer: _Answer) -> Reply:
        """The reply, once it is certain that the daemon took the whole prompt and shifted nothing out."""
        self._read_back_window(window)
        reply = answer.reply("length" if answer.reason == "length" else "stop")
        used = reply.prompt_tokens + reply.completion_tokens
        if used > max(window, _PADDED_WINDOW) + 1:  # the last token is not read back: it takes no place
            raise ContextOverflow(
                f"{self._info.name}: {used} tokens went through a context of {window}, so a part was dropped",
                "update Ollama: this version ignores `shift: false`",
            )
        text = request.prompt if request.prompt is not None else " ".join(m.content for m in request.messages)
        # Vocabularies hardly ever join words: far fewer tokens than words means that the prompt was cut.
        if 0 < reply.prompt_tokens < len(text.split()) // 2:
            raise ContextOverflow(
                f"{self._info.name}: only {reply.prompt_tokens} tokens of the prompt were read, so a part was dropped",
                "update Ollama: this version ignores `truncate: false`",
            )
        return reply

    def _read_back_window(self, window: int) -> None:
        """Ask once a job which context the loaded model really has."""
        with self._lock:
            if self._granted is None and window == self._window:
                self._granted = 0
                with suppress(ModelError):  # the reply itself is whole
                    self._granted = self._daemon.loaded_context(self._info.name)
        self._refuse_small_window()

    def _refuse_small_window(self) -> None:
        if self._granted and self._granted < self._window:
            raise ContextOverflow(
                f"{self._info.name}: the daemon gives a context of {self._granted} tokens instead of {self._window}",
                "it may lack memory: close other models, or send shorter texts",
            )


class _Answer:
    """A reply as it comes in."""

    def __init__(self, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._started = time.monotonic()
        self.shown = False
        """Whether ``on_text`` was called: trying again would show the text twice."""
        self.restart()

    def restart(self) -> None:
        """Forget what came: the request is sent again."""
        self._parts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._prompt_tokens = self._completion_tokens = 0
        self.reason = ""
        self.done = False

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take one line of /api/chat or /api/generate."""
        text = (chunk.get("message") or {}).get("content") or chunk.get("response") or ""
        self._logprobs.extend(map(_logprob, chunk.get("logprobs") or ()))
        if chunk.get("done"):
            self.done = True
            self.reason = str(chunk.get("done_reason") or "")
            self._prompt_tokens = int(chunk.get("prompt_eval_count") or 0)
            self._completion_tokens = int(chunk.get("eval_count") or 0)
        elif text:
            self._completion_tokens += 1  # a token a line, until the daemon gives its own count
        if text:
            self._parts.append(text)
            if self._on_text is not None:
                self.shown = True
                self._on_text(text)

    def reply(self, finish: Finish) -> Reply:
        """What came so far."""
        return Reply(
            text="".join(self._parts),
            finish=finish,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            seconds=time.monotonic() - self._started,
            logprobs=tuple(self._logprobs),
        )


def window_for(tokens: int, trained: int) -> int:
    """The smallest of 2048, 4096, 8192 … that holds ``tokens``, but at most ``trained`` (0 where it is not known)."""
    window = SMALLEST_WINDOW
    while window < tokens:
        window *= 2
    return min(window, trained) if trained else window


def with_schema(messages: tuple[Message, ...], schema: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages with the schema's text at the end of the last one from the user."""
    line = f"Answer with JSON of this schema: {json.dumps(dict(schema), ensure_ascii=False, separators=(',', ':'))}"
    last = max((index for index, message in enumerate(messages) if message.role == "user"), default=None)
    if last is None:
        return (*messages, Message("user", line))
    return (*messages[:last], Message("user", f"{messages[last].content}\n\n{line}"), *messages[last + 1 :])


def _sampling(options: Options) -> dict[str, Any]:
    """Every sampling option by value: a Modelfile's own must not change a result between machines."""
    values: dict[str, Any] = {
        "num_predict": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "min_p": options.min_p,
        "repeat_penalty": options.repeat_penalty,
        "seed": options.seed,
    }
    return values | ({"stop": list(options.stop)} if options.stop else {})


def _logprob(entry: Mapping[str, Any]) -> TokenLogprob:
    top: dict[str, float] = {}
    for alternative in entry.get("top_logprobs") or ():  # best first; byte pieces may share a text
        top.setdefault(str(alternative["token"]), float(alternative["logprob"]))
    return TokenLogprob(str(entry["token"]), float(entry["logprob"]), top)


def _pause(attempt: int, cancel: threading.Event | None) -> None:
    """Wait before the next try. Raises Cancelled as soon as the event is set."""
    seconds = BACKOFF_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
    if (cancel or threading.Event()).wait(seconds):
        raise Cancelled
