"""The embedded backend: llama.cpp in a child process, so that a crash of native code cannot take the agent down."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import ContextOverflow, ModelError, ModelUnavailable
from harness.models.base import ModelInfo, OnText, Reply, Request, TokenLogprob
from harness.models.embedded_process import (
    INSTALL_REMEDY,
    Child,
    Load,
    Message,
    child_command,
    child_environment,
)
from harness.models.gguf_header import REFETCH_REMEDY, trained_context

DEFAULT_SLOTS = 4
MAX_SLOTS = 64
"""Each has a context of its own in memory, and llama.cpp takes no more than 256."""
DEFAULT_CONTEXT = 2048
"""Tokens of a slot where nobody has reserved any."""
BUCKET = 256
"""Contexts are multiples of this, so that jobs of about one size share a child."""
MAX_RESTARTS = 3
"""How often a child that died is replaced before one of them has answered."""

_BRIEF_BYTES, _BRIEF_TOKENS = 64_000_000, 512
"""A model file below and an answer up to this size are over in half a second: that answer is not streamed only so that it
could be stopped on its way, which takes a fifth of the time."""

_hashes: dict[tuple[str, int, int], str] = {}


def check() -> None:
    """Raise ModelError with the remedy where the runtime's package is not installed. Costs nothing."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModelError("the embedded runtime (the package xllamacpp) is not installed", INSTALL_REMEDY)


def runtime_info() -> dict[str, Any]:
    """``package``, ``version``, ``gpu`` (offload possible here) and ``devices`` of the installed runtime.

    It is loaded in a process of its own. Raises ModelError where it is missing or does not load.
    """
    check()
    try:
        done = subprocess.run(
            child_command("--info"), env=child_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        return dict(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise ModelError("the embedded runtime is installed but does not load", INSTALL_REMEDY) from None


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads of one core counted once; at least 1."""
    if sys.platform != "linux":
        return max(1, (os.cpu_count() or 1) // 2)
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


def file_digest(path: Path) -> str:
    """``sha256:…`` of a file, read once as long as its size and time stay the same. ModelError if unreadable."""
    try:
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in _hashes:
            with path.open("rb") as file:
                _hashes[key] = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", REFETCH_REMEDY) from None
    return _hashes[key]


def completion(request: Request, slot: int, *, stream: bool) -> tuple[str, Message]:
    """A request as llama.cpp's server takes it (but for ``schema``, which the child makes a grammar of): "raw" or "chat",
    and the body. ``slot`` -1 leaves the choice of one to the server.
    """
    options = request.options
    body: Message = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "min_p": options.min_p,
        "repeat_penalty": options.repeat_penalty,
        "seed": options.seed,
        "stop": list(options.stop),
        "n_probs": options.top_logprobs,
        "id_slot": slot,
    }
    if stream:
        body |= {"stream": True, "return_progress": True, "stream_options": {"include_usage": True}}
    if request.schema is not None:
        body["schema"] = request.schema
    elif request.grammar is not None:
        body["grammar"] = request.grammar
    if request.prompt is not None:
        return "raw", {**body, "prompt": request.prompt}
    body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    if options.think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": options.think}
    return "chat", body


class SessionSlots:
    """Which slot a session's requests go to: the one that already holds its prefix, else the one idle for longest."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._owner: list[str | None] = [None] * count
        self._busy = [0] * count
        self._used = [0] * count
        self._clock = 0

    @contextlib.contextmanager
    def hold(self, session: str | None) -> Iterator[tuple[int, bool]]:
        """The slot to name in a request of ``session``, -1 without one, and whether to use what the slot has computed.

        A session uses only what is its own: where its batches begin would else depend on what was asked before, and
        with them the last digits of its probabilities.
        """
        if session is None:
            yield -1, True
            return
        with self._lock:
            slot = self._choose(session)
            known = self._owner[slot] == session
            self._owner[slot] = session
            self._busy[slot] += 1
        try:
            yield slot, known
        finally:
            with self._lock:
                self._clock += 1
                self._used[slot] = self._clock
                self._busy[slot] -= 1

    def _choose(self, session: str) -> int:
        if session in self._owner:
            return self._owner.index(session)
        return min(range(len(self._owner)), key=lambda slot: (self._busy[slot], self._used[slot]))


class EmbeddedModel:
    """A GGUF file served by llama.cpp in a child process that starts with the first request.

    ``sha256`` (with or without the prefix ``sha256:``) is compared before the file is loaded. ``context`` is what
    ``reserve`` would be given; ``slots`` requests are computed together; ``threads`` 0 takes the physical cores.
    The constructor raises ModelError for a file that is missing or not GGUF, ContextOverflow for a context too large.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        sha256: str = "",
        contract: str = "",
        context: int = 0,
        slots: int = 0,
        threads: int = 0,
    ) -> None:
        self._path = path.absolute()
        self._name, self._contract = name, contract
        self._sha256 = sha256.removeprefix("sha256:").lower()
        self._slots = min(slots, MAX_SLOTS) or DEFAULT_SLOTS
        self._threads = threads or physical_cores()
        self._trained = trained_context(self._path)
        self._file_bytes = self._path.stat().st_size
        self._context = 0
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._deaths = 0
        self._closed = False
        self._sessions = SessionSlots(self._slots)
        if context:
            self.reserve(context)

    @property
    def info(self) -> ModelInfo:
        """``context`` is the most that the model was trained for. Raises ModelError where the hash does not match."""
        return ModelInfo(self._name, "embedded", self._digest(), self._trained, self._contract)

    @property
    def slots(self) -> int:
        """Requests that are computed together."""
        return self._slots

    def reserve(self, tokens: int) -> None:
        """Give every slot at least so many tokens; a running child is replaced only when it has fewer."""
        if tokens > self._trained:
            raise ContextOverflow(
                f"{self._name}: a request of {tokens} tokens is more than the {self._trained} that the model can take",
                "shorten the text or use a model with a larger context",
            )
        with self._lock:
            self._context = max(self._context, min(-(-tokens // BUCKET) * BUCKET, self._trained))

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """Answer one request, as the protocol says.

        Log-probabilities are those of the whole vocabulary before sampling and constraints. A character whose bytes
        are several tokens is one entry; a streamed chat has none for a token that adds no text.
        """
        if request.prompt == "" or (request.prompt is None and not request.messages):
            raise ModelError(f"{self._name}: the prompt is empty")
        started = time.perf_counter()
        with self._sessions.hold(request.session) as (slot, known):
            streams = on_text is not None or (cancel is not None and not self._brief(request))
            op, body = completion(request, slot, stream=streams)
            reply = self._ask(op, {**body, "cache_prompt": known}, on_text, cancel)
        if cancel is not None and cancel.is_set() and not streams:
            reply["finish"] = "cancelled"
        if request.schema is not None and reply["finish"] == "stop":
            self._check_json(reply["text"])
        return Reply(
            text=reply["text"],
            finish=reply["finish"],
            prompt_tokens=reply["prompt_tokens"],
            completion_tokens=reply["completion_tokens"],
            seconds=time.perf_counter() - started,
            logprobs=tuple(TokenLogprob(*entry) for entry in reply["logprobs"]),
            cached_tokens=reply["cached_tokens"],
        )

    def _brief(self, request: Request) -> bool:
        """Whether the answer is sure to be over soon. With log-probabilities each token is a message of its own size."""
        options = request.options
        return self._file_bytes < _BRIEF_BYTES and options.max_tokens <= _BRIEF_TOKENS and not options.top_logprobs

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` as a raw prompt, special tokens in it counted as such."""
        return int(self._ask("tokens", {"text": text})) if text else 0

    def close(self) -> None:
        """End the child; requests in flight raise ModelUnavailable."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _ask(self, op: str, body: Message, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Any:
        """One request to the child, which is started where it does not run."""
        with self._lock:  # so that the child is not replaced between looking it up and sending
            call = self._running().call(op, body, pieces=on_text is not None)
        message = call.wait(on_text, cancel)
        self._deaths = 0
        if "error" in message:
            raise self._error(message["error"])
        return message["reply"]

    def _running(self) -> Child:
        """The child, with enough context; call it with the lock held."""
        if self._closed:
            raise ModelError(f"{self._name}: the model has been closed")
        context = self._context or min(DEFAULT_CONTEXT, self._trained)
        child = self._child
        if child is not None and child.ended:
            self._deaths += 1
        elif child is not None:
            if child.load.context >= context:
                return child
            child.wait_idle()
            child.stop()
        self._child = None
        if self._deaths > MAX_RESTARTS:
            raise ModelError(
                f"{self._name}: the embedded runtime died {self._deaths} times in a row",
                "free memory, or use another model or Ollama",
            )
        self._digest()
        try:
            self._child = Child(Load(str(self._path), context, self._slots, self._threads))
        except ModelUnavailable:
            self._deaths += 1
            raise
        return self._child

    def _digest(self) -> str:
        """The file's digest, compared with the one that was promised."""
        digest = file_digest(self._path)
        if self._sha256 and digest != f"sha256:{self._sha256}":
            raise ModelError(
                f"{self._path}: the file's sha256 is not the one of {self._name} in the registry",
                REFETCH_REMEDY,
            )
        return digest

    def _error(self, error: Message) -> ModelError:
        """llama.cpp's error body as one of ours."""
        text = f"{self._name}: {error.get('message', 'failed')}"
        if error.get("type") == "exceed_context_size_error" or "Context size has been exceeded" in text:
            if "n_prompt_tokens" in error:
                asked, there = error["n_prompt_tokens"], error.get("n_ctx", self._context)
                text = f"{self._name}: a request of {asked} tokens does not fit into its context of {there}"
            return ContextOverflow(text, "shorten the text")
        if error.get("type") == "unavailable_error":
            return ModelUnavailable(text)
        return ModelError(text)

    def _check_json(self, text: str) -> None:
        """llama.cpp goes on without constraint where it cannot compile a schema; that must not pass for an answer."""
        try:
            json.loads(text)
        except ValueError:
            raise ModelError(f"{self._name}: the reply does not follow the JSON schema", "simplify the schema") from None
