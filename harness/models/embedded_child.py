"""The child process that owns llama.cpp: ``python -m harness.models.embedded_child PARENT_PID``.

It speaks one JSON message a line over its pipes. The first to come in is ``{"load": {path, context, slots, threads,
embedding}}``, answered by ``{"ready": true}`` or ``{"failed": why, "type": "import" | "load"}``. Then any number at once of
``{"id", "op": "raw" | "chat" | "tokens" | "embed", "body", "pieces"}``, each answered by some ``{"id", "piece"}`` (where
pieces were asked for) and one ``{"id", "reply"}`` or ``{"id", "error": {type, message}}``; ``{"cancel": id}`` stops one.
The process ends when its stdin does.
``--info`` instead of a process id prints what the installed runtime is and can do, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Set before llama.cpp is loaded. OpenMP threads that spin on busy cores make it a hundred times slower, and a
# backtrace after a failed assertion would start a debugger.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["GGML_NO_BACKTRACE"] = "1"

Message = dict[str, Any]
_ERRORS_ONLY = 1
_BATCH = 512
"""Prompt tokens computed at a time; a cancelled request stops between two batches."""
_SMALL = 64_000_000
"""Bytes of a model file. Threads that compute a smaller model together wait for each other more than they compute."""
_WAITING_PER_SLOT = 8
"""Requests that may wait inside llama.cpp for each slot, so that one slot's queue does not keep the others idle."""
_COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""To llguidance: white space in JSON is that of ``json.dumps``. A small model that may write any writes nothing else."""


class Pipe:
    """The way to the parent. It takes the real stdout for itself: native code that prints cannot disturb it."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write one message; a parent that is gone ends this process."""
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                os._exit(0)


def tie_to(parent: int) -> None:
    """See to it that this process ends with its parent, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(0)


def has_gpu(xllamacpp: Any) -> bool:
    """Whether the installed build sees a graphics processor."""
    return any(device["type"].name.endswith("GPU") for device in xllamacpp.get_device_info())


class Runtime:
    """llama.cpp with one model. Every method may be called from several threads at once.

    A small model is there several times, the slots dealt out among the copies, and each copy computes with one thread.
    """

    def __init__(self, path: str, context: int, slots: int, threads: int, embedding: bool) -> None:
        """Load the model; raises ImportError, OSError or RuntimeError (the reason is then on stderr).

        One that embeds computes each text in one piece. On a CPU it takes them one by one, which is as fast there and
        gives the same bits in any company; elsewhere several share a batch, and their contexts must then be one: with a
        context each, llama.cpp cuts the longer texts of a batch and pools only their last part.
        """
        import xllamacpp

        gpu = has_gpu(xllamacpp)
        small = not gpu and os.path.getsize(path) < _SMALL
        copies = min(threads, slots) if small else 1
        slots = copies if embedding and not gpu else slots
        self._lock = threading.Lock()
        self._busy = [0] * copies
        self._key = secrets.token_hex(16)
        self._to_grammar: Callable[[Message], str] = xllamacpp.json_schema_to_grammar
        parameters = xllamacpp.CommonParams()
        parameters.model.path = path
        parameters.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
        parameters.n_parallel = -(-slots // copies)
        parameters.n_ctx = context * parameters.n_parallel
        parameters.n_batch = parameters.n_ubatch = context if embedding else _BATCH
        if embedding:
            parameters.embedding = parameters.kv_unified = True
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1 if small else threads
        parameters.fit_params = gpu
        parameters.ctx_shift = False
        parameters.cache_ram_mib = 0
        parameters.warmup = False
        parameters.verbosity = _ERRORS_ONLY
        # It cannot run without its HTTP server: on the loopback interface, behind a key, closed to every web page.
        parameters.hostnames = ["127.0.0.1"]
        parameters.api_keys = [self._key]
        parameters.cors_origins = "null"
        parameters.ui = parameters.endpoint_slots = False
        parameters.n_threads_http = 1
        self._servers = [xllamacpp.Server(parameters) for _ in range(copies)]

    def tokens(self, text: str) -> int:
        """Tokens of a raw prompt."""
        return len(self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"])

    def post(self, route: str, body: Message) -> Any:
        """Ask llama.cpp's own HTTP server for what the package offers no function for. Raises RuntimeError."""
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection(self._servers[0].listening_address.removeprefix("http://"), timeout=60)
        try:
            connection.request("POST", route, json.dumps(body), {"Authorization": f"Bearer {self._key}"})
            reply = connection.getresponse()
            answer = json.loads(reply.read())
        except (HTTPException, ValueError) as error:
            raise RuntimeError(f"{route} was not answered ({error})") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{route}: {answer.get('error', {}).get('message', reply.status)}")
        return answer

    def complete(self, op: str, body: Message, on_event: Callable[[Message], bool]) -> None:
        """Run one completion; ``on_event`` gets llama.cpp's events and returns True to stop it."""
        if (schema := body.pop("schema", None)) is not None:
            body["grammar"] = self._to_grammar({**schema, **_COMPACT})
        with self._copy(body["id_slot"]) as (server, slot):
            handle = server.handle_chat_completions if op == "chat" else server.handle_completions
            handle({**body, "id_slot": slot}, on_event)

    def embed(self, text: str) -> Message:
        """``{"reply": the unit vector, little-endian float32 in base64}`` of a text, or ``{"error": …}``."""
        with self._copy(-1) as (server, _):
            answer = server.handle_embeddings({"input": [text], "encoding_format": "base64"})
        return {"error": answer["error"]} if "error" in answer else {"reply": answer["data"][0]["embedding"]}

    @contextlib.contextmanager
    def _copy(self, slot: int) -> Iterator[tuple[Any, int]]:
        """The copy of the model that has a slot, and which of its own slots that is; for -1 the least busy one and -1."""
        count = len(self._servers)
        with self._lock:
            number = self._busy.index(min(self._busy)) if slot < 0 else slot % count
            self._busy[number] += 1
        try:
            yield self._servers[number], slot // count
        finally:
            with self._lock:
                self._busy[number] -= 1


class StopFilter:
    """Ends a text before the first of some stop strings.

    llama.cpp can do this too, but when it streams it swallows a text's end that could have become a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what can no longer be the beginning of a stop string."""
        text = self._held + text
        cuts = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        self.found = bool(cuts)
        if cuts:
            self._held = ""
            return text[: min(cuts)]
        beginnings = (stop[:length] for stop in self._stops for length in range(1, len(stop)))
        keep = max((len(beginning) for beginning in beginnings if text.endswith(beginning)), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What is still held when the text has ended of itself."""
        return self._held


class Answer:
    """Gathers the events of one completion, streamed or not, raw or chat, into one reply."""

    def __init__(self, stops: Sequence[str], on_piece: Callable[[str], None] | None, cancelled: threading.Event) -> None:
        self._on_piece, self._cancelled = on_piece, cancelled
        self._stop = StopFilter(stops)
        self._pieces: list[str] = []
        self._logprobs: list[tuple[str, float, dict[str, float]]] = []
        self._tokens = 0
        self._finish = ""
        self._usage: Message = {}
        self._prompt = 0
        self.error: Message | None = None

    def take(self, event: Message) -> bool:
        """One event; True stops the completion. What is raised here would be swallowed by the package."""
        if "error" in event:
            self.error = event["error"]
            return True
        for choice in event["choices"][:1]:
            part = choice.get("delta") or choice.get("message") or choice
            if text := part.get("text") or part.get("content"):
                self._tokens += 1
                self._add(self._stop.feed(text))
            self._logprobs += map(token_logprob, (choice.get("logprobs") or {}).get("content") or ())
            self._finish = choice.get("finish_reason") or self._finish
        self._usage = event.get("usage") or self._usage
        self._prompt = (event.get("prompt_progress") or {}).get("total", self._prompt)
        return self._stop.found or self._cancelled.is_set()

    def _add(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_piece:
                self._on_piece(text)

    def reply(self) -> Message:
        """The whole of it; RuntimeError where the completion ended without an end."""
        self._add(self._stop.rest())
        if self._stop.found:
            finish = "stop"
        elif self._finish:
            finish = "length" if self._finish == "length" else "stop"
        elif self._cancelled.is_set():
            finish = "cancelled"
        else:
            raise RuntimeError("llama.cpp ended the reply without a reason")
        return {
            "text": "".join(self._pieces),
            "finish": finish,
            "prompt_tokens": self._usage.get("prompt_tokens", self._prompt),
            "completion_tokens": self._usage.get("completion_tokens", self._tokens),
            "cached_tokens": (self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            "logprobs": self._logprobs,
        }


def token_logprob(entry: Mapping[str, Any]) -> tuple[str, float, dict[str, float]]:
    """Token, log-probability and alternatives. Tokens that read the same (bytes of a character) are added up."""
    top: dict[str, float] = {}
    for other in entry["top_logprobs"]:
        token, logprob = other["token"], other["logprob"]
        if token in top:
            high, low = max(top[token], logprob), min(top[token], logprob)
            logprob = high + math.log1p(math.exp(low - high))
        top[token] = logprob
    return entry["token"], entry["logprob"], top


class Service:
    """Requests from the parent, each in a thread of a pool."""

    def __init__(self, runtime: Runtime, slots: int, send: Callable[[Message], None]) -> None:
        self._runtime, self._send = runtime, send
        self._pool = ThreadPoolExecutor(max_workers=slots * _WAITING_PER_SLOT)
        self._cancelled: dict[int, threading.Event] = {}

    def receive(self, message: Message) -> None:
        """Start what a message asks for."""
        if "cancel" in message:
            if event := self._cancelled.get(message["cancel"]):
                event.set()
            return
        self._cancelled[message["id"]] = threading.Event()
        self._pool.submit(self._run, message)

    def _run(self, message: Message) -> None:
        number = message["id"]
        # Replaced below, unless something happens that nobody foresaw: the parent must not wait for ever.
        outcome: Message = {"error": {"type": "failed", "message": "the request failed inside the embedded runtime"}}
        try:
            outcome = self._answer(message)
        except (ValueError, RuntimeError, OSError) as error:
            outcome = {"error": {"type": "failed", "message": str(error)}}
        finally:
            del self._cancelled[number]
            self._send({"id": number, **outcome})

    def _answer(self, message: Message) -> Message:
        number, body = message["id"], message["body"]
        if message["op"] == "tokens":
            return {"reply": self._runtime.tokens(body["text"])}
        if message["op"] == "embed":
            return self._runtime.embed(body["text"])
        send_piece = (lambda text: self._send({"id": number, "piece": text})) if message["pieces"] else None
        stops = body.pop("stop") if body.get("stream") else ()
        answer = Answer(stops, send_piece, self._cancelled[number])
        self._runtime.complete(message["op"], body, answer.take)
        return {"error": answer.error} if answer.error else {"reply": answer.reply()}


def messages() -> Iterator[Message]:
    """What the parent sends, until it closes the pipe."""
    for line in sys.stdin.buffer:
        yield json.loads(line)


def serve(parent: int) -> None:
    """Load the model that the first message names, then answer until the parent is done."""
    pipe = Pipe()
    tie_to(parent)
    incoming = messages()
    load = next(incoming)["load"]
    try:
        runtime = Runtime(**load)
    except ImportError as error:
        pipe.send({"failed": str(error), "type": "import"})
        return
    except (OSError, RuntimeError) as error:
        pipe.send({"failed": str(error), "type": "load"})
        return
    tie_to(parent)  # once more: llama.cpp has put its own signal handlers in place
    pipe.send({"ready": True})
    service = Service(runtime, load["slots"], pipe.send)
    for message in incoming:
        service.receive(message)
    os._exit(0)  # native threads may still compute; their clean-up is the operating system's


def info() -> Message:
    """Version of the package and the devices that it can compute on."""
    import xllamacpp

    return {
        "package": "xllamacpp",
        "version": xllamacpp.__version__,
        "gpu": has_gpu(xllamacpp),
        "devices": [f"{device['name']}: {device['description']}" for device in xllamacpp.get_device_info()],
    }


def main() -> None:
    """Run as the module's documentation says."""
    if sys.argv[1:] == ["--info"]:
        sys.stdout.write(json.dumps(info()))
    else:
        serve(int(sys.argv[1]))


if __name__ == "__main__":
    main()
