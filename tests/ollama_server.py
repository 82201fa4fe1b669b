"""A loopback server with Ollama's routes, for tests and benchmarks where no daemon is.

It answers as a real 0.33 was seen to answer (statuses, error texts, streams that stay 200 after their first line).
Text comes from a function, or from any ``Model`` of ours, so that created GGUFs are served by the embedded runtime.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import ollama_replies as replies
from ollama_replies import Body, Faults, Refused, Stored

from harness.errors import ModelError
from harness.models.base import Model
from harness.models.embedded_embedding import EmbeddedEmbedding
from harness.models.gguf_header import trained_context

Answer = Callable[[Body], Iterator[str]]
ModelFactory = Callable[[Path], Model]


def echo(body: Body) -> Iterator[str]:
    """The default text: ``echo:`` and the words of the last message or prompt, a piece a word."""
    asked = body["messages"][-1]["content"] if "messages" in body else body.get("prompt", "")
    yield "echo:"
    yield from (f" {word}" for word in asked.split())


class Seen(NamedTuple):
    """A request that came in."""

    method: str
    path: str
    body: Body


class OllamaServer:
    """``with OllamaServer() as server:`` serves on ``server.url`` until the block ends."""

    def __init__(self, answer: Answer = echo, *, model_factory: ModelFactory | None = None, version: str = "0.33.0"):
        self.answer, self.model_factory, self.version = answer, model_factory, version
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.models: dict[str, Stored] = {}
        self.loaded: dict[str, int] = {}
        """Context of each loaded model."""
        self.hung_up = threading.Event()
        """Set once a client left in the middle of a reply."""
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._opened: dict[Path, Model] = {}
        self._embedding: dict[Path, EmbeddedEmbedding] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="ollama-server-")
        self.blobs = Path(self._folder.name)
        self._http = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"ollama": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def add(self, name: str, **fields: Any) -> Stored:
        """Store a model, with any field of ``Stored``."""
        stored = Stored(replies.canonical(name), **fields)
        self.models[stored.name] = stored
        return stored

    def bodies(self, path: str) -> list[Body]:
        """Bodies of all requests so far to one route."""
        return [seen.body for seen in self.requests if seen.path == path]

    def take(self, fault: str) -> bool:
        """Count one of ``busy``, ``refuse``, ``drops`` down; False once it is used up."""
        with self._lock:
            left: int = getattr(self.faults, fault)
            setattr(self.faults, fault, max(left - 1, 0))
            return left > 0

    def opened(self, stored: Stored) -> Model | None:
        """The ``Model`` that writes for a stored one, where the server was given a factory."""
        if self.model_factory is None or stored.gguf is None:
            return None
        with self._lock:
            if stored.gguf not in self._opened:
                self._opened[stored.gguf] = self.model_factory(stored.gguf)
            return self._opened[stored.gguf]

    def embedding(self, stored: Stored) -> EmbeddedEmbedding | None:
        """The embedded runtime on a stored model's file, where it has one."""
        if stored.gguf is None:
            return None
        with self._lock:
            if stored.gguf not in self._embedding:
                self._embedding[stored.gguf] = EmbeddedEmbedding(stored.gguf, threads=1)
            return self._embedding[stored.gguf]

    def __enter__(self) -> OllamaServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, as a daemon that was killed; replies under way end by themselves."""
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._thread.join()
        for model in (*self._opened.values(), *self._embedding.values()):
            model.close()
        self._folder.cleanup()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the default of 5 a burst of clients waits a second for its connections


class _Gone(Exception):
    """The connection is over, by the client or by a fault."""


class _Handler(BaseHTTPRequestHandler):
    ollama: OllamaServer
    protocol_version = "HTTP/1.1"
    server_version = "ollama-test"
    _ROUTES: Mapping[str, tuple[str, str]] = {
        "/api/version": ("GET", "_version"),
        "/api/tags": ("GET", "_tags"),
        "/api/ps": ("GET", "_ps"),
        "/api/show": ("POST", "_show"),
        "/api/create": ("POST", "_create"),
        "/api/generate": ("POST", "_generate"),
        "/api/chat": ("POST", "_generate"),
        "/api/embed": ("POST", "_embed"),
    }

    def do_GET(self) -> None:
        self._dispatch()

    do_HEAD = do_POST = do_DELETE = do_GET

    def log_message(self, *args: object) -> None:
        """Nothing: the tests' output stays readable."""

    def _dispatch(self) -> None:
        self._streaming = False
        try:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in ("127.0.0.1", "localhost") or "Origin" in self.headers:
                self._send(403, b"", "text/plain")
            elif self.path.startswith("/api/blobs/"):
                self._blob(self.path.removeprefix("/api/blobs/"))
            elif self.path not in self._ROUTES:
                self._send(404, b"404 page not found", "text/plain")
            elif self._ROUTES[self.path][0] != self.command:
                self._send(405, b"405 method not allowed", "text/plain")
            else:
                self._route()
        except Refused as refused:
            if self._streaming:  # the status is out already
                self._line({"error": refused.text})
                self._end()
            else:
                self._json({"error": refused.text}, refused.status)
        except (_Gone, OSError):
            self.close_connection = True

    def _route(self) -> None:
        body = self._body() if self.command == "POST" else {}
        self.ollama.requests.append(Seen(self.command, self.path, body))
        getattr(self, self._ROUTES[self.path][1])(body)

    def _body(self) -> Body:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return replies.parse_body(raw)

    def _stored(self, name: str, missing: str = "model '{name}' not found") -> Stored:
        if not name:
            raise Refused(400, "model is required")
        stored = self.ollama.models.get(replies.canonical(name))
        if stored is None:
            raise Refused(404, missing.format(name=name))
        return stored

    def _version(self, body: Body) -> None:
        self._json({"version": self.ollama.version})

    def _tags(self, body: Body) -> None:
        self._json({"models": [replies.listed(stored) for stored in self.ollama.models.values()]})

    def _ps(self, body: Body) -> None:
        loaded = self.ollama.loaded.items()
        entries = [replies.listed(self.ollama.models[name]) | {"context_length": size} for name, size in loaded]
        self._json({"models": entries})

    def _show(self, body: Body) -> None:
        self._json(replies.shown(self._stored(replies.canonical(body.get("model", "")))))

    def _embed(self, body: Body) -> None:
        self._busy_or_gone()
        stored = self._stored(body.get("model", ""), 'model "{name}" not found, try pulling it first')
        self._json(replies.embedded(body, stored, self.ollama.embedding(stored), self.ollama.faults))

    def _blob(self, digest: str) -> None:
        file = self.ollama.blobs / digest.replace(":", "-")
        self.ollama.requests.append(Seen(self.command, self.path, {}))
        if self.command == "HEAD":
            self._send(200 if file.exists() else 404, b"", "text/plain")
            return
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if file.exists():
            self._send(200, b"", "text/plain")
            return
        if (found := f"sha256:{hashlib.sha256(data).hexdigest()}") != digest:
            raise Refused(400, f'digest mismatch, expected "{digest}", got "{found}"')
        file.write_bytes(data)
        self._send(201, b"", "text/plain")

    def _create(self, body: Body) -> None:
        replies.check_create(body)
        name = replies.canonical(body["model"])
        if body.get("stream", True):
            self._start()
            self._line({"status": "parsing GGUF"})
        if "from" in body:
            gguf = self._stored(body["from"]).gguf
        else:
            file, digest = next(iter(body["files"].items()))
            gguf = self.ollama.blobs / digest.replace(":", "-")
            replies.check_gguf(file, gguf)
        context = 4096
        if gguf is not None:
            with contextlib.suppress(ModelError):
                context = trained_context(gguf)
        self.ollama.add(
            name,
            context=context,
            parameters=body.get("parameters") or {},
            template=body.get("template") or "",
            system=body.get("system") or "",
            gguf=gguf,
            size=gguf.stat().st_size if gguf else 0,
        )
        for status in ("writing manifest", "success"):
            if self._streaming:
                self._line({"status": status})
        if self._streaming:
            self._end()
        else:
            self._json({"status": "success"})

    def _generate(self, body: Body) -> None:
        faults = self.ollama.faults
        self._busy_or_gone()
        stored = self._stored(body.get("model", ""))
        replies.check_generate(body, stored)
        prompt = replies.rendered(body)
        if body.get("_debug_render_only"):
            self._json({"model": stored.name, "_debug_info": {"rendered_template": prompt, "image_count": 0}})
            return
        window = replies.window(body, stored)
        self.ollama.loaded[stored.name] = faults.granted_context or window
        model = self.ollama.opened(stored)
        tokens = model.count_tokens(prompt) if model else replies.count(prompt)
        prompt_tokens = replies.fitted(tokens, window, body, cuts=faults.cuts_in_silence)
        self._pause(faults.first_token_seconds)
        write = self._from_model if model else self._from_answer
        self._whole: list[str] | None = [] if body.get("stream") is False else None
        final = write(body, model, window, prompt_tokens) | {"done": True, "total_duration": 1}
        if self._whole is not None:
            self._json(replies.chunk(self.path, stored.name, "".join(self._whole)) | final)
            return
        if not self._streaming:
            self._start()
        if not faults.no_end:
            self._line(replies.chunk(self.path, stored.name, "") | final)
        self._end()

    def _busy_or_gone(self) -> None:
        """What the faults make of a request before it is read."""
        if self.ollama.take("refuse"):
            self._drop()
        if self.ollama.take("busy"):
            raise Refused(503, "server busy, please try again.  maximum pending requests exceeded")

    def _from_answer(self, body: Body, model: Model | None, window: int, prompt_tokens: int) -> Body:
        limit = min(body.get("options", {}).get("num_predict", window), window - prompt_tokens)
        stops = body.get("options", {}).get("stop", [])
        written, sent = "", 0
        for token in itertools.islice(self.ollama.answer(body), limit):
            found = [(written + token).find(stop) for stop in stops if stop in written + token]
            piece = (written + token)[len(written) : min(found)] if found else token
            self._token(body, piece, sent)
            written, sent = written + token, sent + 1
            if found:
                return {"done_reason": "stop", "prompt_eval_count": prompt_tokens, "eval_count": sent}
        reason = "length" if sent == limit else "stop"
        return {"done_reason": reason, "prompt_eval_count": prompt_tokens, "eval_count": sent}

    def _from_model(self, body: Body, model: Model | None, window: int, prompt_tokens: int) -> Body:
        assert model is not None
        gone, counter = threading.Event(), itertools.count()
        failed: list[Exception] = []

        def send(text: str) -> None:
            try:
                self._token(body | {"logprobs": False}, text, next(counter))
            except (_Gone, OSError, Refused) as error:
                failed.append(error)
                gone.set()

        model.reserve(window)
        try:
            reply = model.generate(replies.request(body), on_text=send, cancel=gone)
        except ModelError as error:  # the server is being stopped
            raise Refused(500, error.message) from None
        if failed:
            raise failed[0]
        final: Body = {"done_reason": reply.finish, "prompt_eval_count": reply.prompt_tokens}
        logprobs = [replies.logprob(entry.token, entry.logprob, entry.top) for entry in reply.logprobs]
        return final | {"eval_count": reply.completion_tokens} | ({"logprobs": logprobs} if logprobs else {})

    def _token(self, body: Body, text: str, index: int) -> None:
        """Send one token, or what a fault makes of it."""
        faults = self.ollama.faults
        if faults.drop_after == index and self.ollama.take("drops"):
            self._drop()
        if faults.error_after == index:
            raise Refused(500, faults.error_text)
        self._pause(faults.token_seconds)
        if self._whole is not None:
            self._whole.append(text)
            return
        if not self._streaming:
            self._start()
        logprobs = [replies.logprob(text, -0.25, {text: -0.25, "other": -1.5})] if body.get("logprobs") else []
        extra = {"logprobs": logprobs} if logprobs else {}
        self._line(replies.chunk(self.path, body["model"], text) | {"done": False} | extra)

    def _pause(self, seconds: float) -> None:
        if seconds and self.ollama.stopping.wait(seconds):
            raise _Gone

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        raise _Gone

    def _json(self, value: Body, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json; charset=utf-8")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _start(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._streaming = True

    def _line(self, value: Body) -> None:
        # as Go writes it: only control characters below U+0020 are escaped
        data = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        except OSError:
            self.ollama.hung_up.set()
            raise

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
