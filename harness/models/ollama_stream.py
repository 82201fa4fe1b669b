"""One streamed request to the daemon: its JSON lines as they come, cancellable at any moment."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import MarginaliaError, ModelError, ModelUnavailable
from harness.models.ollama_errors import explain

if TYPE_CHECKING:
    import httpx

_POLL_SECONDS = 0.05
"""How soon a cancellation is seen while the daemon is silent."""


class Transient(ModelUnavailable):
    """The daemon is busy or the connection failed: the same request is worth another try soon."""


class Cancelled(Exception):
    """The caller's event was set; never leaves the backend."""


def stream_json(
    client: httpx.Client, path: str, payload: Mapping[str, Any], *, model: str, cancel: threading.Event | None = None
) -> Generator[dict[str, Any], None, None]:
    """Send ``payload`` and yield each JSON line of the answer; close the generator to hang up.

    Raises Cancelled, Transient (503, connection errors), and otherwise what ``explain`` makes of the body.
    """
    import httpx

    _stop_if_set(cancel)
    wire = _Wire()
    # ASCII JSON: a lone surrogate in a paper's text travels as an escape instead of failing to encode.
    content = json.dumps(payload).encode("ascii")
    try:
        with (
            _hang_up_on(cancel, wire),
            client.stream("POST", path, content=content, extensions={"trace": wire.trace}) as response,
        ):
            if response.status_code != 200:
                raise refusal(response.status_code, response.read(), model)
            for line in _lines(response.iter_bytes()):
                _stop_if_set(cancel)
                yield _parse(line, model)
    except httpx.HTTPError as error:
        _stop_if_set(cancel)
        raise broken(error, str(client.base_url)) from None
    _stop_if_set(cancel)


def refusal(status: int, body: bytes, model: str) -> MarginaliaError:
    """The error of a reply that is not 200."""
    error = explain(status, body.decode("utf-8", "replace"), model=model)
    return Transient(error.message, error.remedy) if status == 503 else error


def broken(error: Exception, url: str) -> ModelUnavailable:
    """The error of a connection that was not made, broke or fell silent."""
    import httpx

    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return ModelUnavailable(f"Ollama at {url} gave no sign of life in time", "raise the setting `timeout`")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
        return Transient(f"no Ollama daemon answers at {url}", "start it with `ollama serve`, or set OLLAMA_HOST")
    return Transient(f"the connection to Ollama at {url} broke ({type(error).__name__})", "is the daemon still running?")


class _Wire:
    """The socket of one request. Shutting it down is the only way to wake a thread that waits in a blocking read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._down = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's ``trace`` extension: learn the socket as soon as it is connected, and again once it speaks TLS."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self._down:
                self.hang_up()

    def hang_up(self) -> None:
        with self._lock:
            self._down = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # closed already: nothing waits on it
                    self._socket.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _hang_up_on(cancel: threading.Event | None, wire: _Wire) -> Iterator[None]:
    """Shut the wire down from a second thread when ``cancel`` is set while the body runs."""
    if cancel is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if cancel.wait(_POLL_SECONDS):
                wire.hang_up()
                return

    threading.Thread(target=watch, name="ollama-cancel", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _stop_if_set(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines that end with a newline byte. (httpx's own ``iter_lines`` also splits at U+0085, which JSON may hold.)"""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
    if rest.strip():
        yield rest


def _parse(line: bytes, model: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"{model}: the daemon's answer is not JSON", "check that OLLAMA_HOST is an Ollama daemon")
    return value
