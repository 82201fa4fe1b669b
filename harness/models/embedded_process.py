"""The parent's end of the embedded runtime's child process: starts it, talks to it, notices when it is gone."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.config import ROOT
from harness.errors import ModelError, ModelUnavailable
from harness.models.base import OnText
from harness.models.gguf_header import REFETCH_REMEDY

Message = dict[str, Any]

INSTALL_REMEDY = (
    "install the package xllamacpp, or serve the model with Ollama where there is no wheel of it (musl, Windows on ARM)"
)
_POLL = 0.05
"""Seconds between two looks at a request's cancel event."""
_PATIENCE = 3.0
"""Seconds that the child may take to end before it is killed."""
_STDERR_KEPT = 8192


@dataclass(frozen=True)
class Load:
    """What the child is started with."""

    path: str
    context: int
    """Tokens of each slot."""
    slots: int
    threads: int
    embedding: bool = False
    """It embeds texts instead of writing any."""


def child_command(*arguments: str) -> list[str]:
    """The command of the child. ``-P`` keeps modules that lie in the user's working folder out of it."""
    return [sys.executable, "-P", "-m", "harness.models.embedded_child", *arguments]


def child_environment() -> dict[str, str]:
    """The parent's environment, with this copy of the harness first on the module path."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def error_line(stderr: str) -> str:
    """The first thing that llama.cpp calls an error, without time stamp and function name; "" where there is none."""
    for line in stderr.splitlines():
        if found := re.search(r"^[\d.]+ E (?:\S+\s+)?\S+: (.+)|(GGML_ASSERT.+)", line):
            return (found[1] or found[2]).strip()
    return ""


class Call:
    """One request in flight."""

    def __init__(self, child: Child, number: int) -> None:
        self._child, self._number = child, number
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def wait(self, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Message:
        """The child's last message: ``reply`` or ``error``; pieces go to ``on_text`` as they come.

        Raises ModelUnavailable when the child ends first.
        """
        told = done = False
        try:
            while True:
                if cancel is not None and cancel.is_set() and not told:
                    told = True
                    self._child.send({"cancel": self._number})
                try:
                    message = self.inbox.get(timeout=_POLL)
                except queue.Empty:
                    continue
                done = "piece" not in message
                if "ended" in message:
                    raise ModelUnavailable(message["ended"], "the request may be sent again")
                if done:
                    return message
                if on_text is not None:
                    on_text(message["piece"])
        finally:
            if not done:  # an exception of on_text, or Ctrl-C: nobody waits for the rest
                self._child.send({"cancel": self._number})


class Child:
    """A running child. All methods may be called from several threads; a child that has ended is not used again."""

    def __init__(self, load: Load) -> None:
        """Start it and wait until the model is loaded; ModelError says why it cannot be."""
        self.load = load
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._state = threading.Condition()
        self._writing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = b""
        self.ended = ""
        """Why it ended; empty while it runs."""
        start = self._open_call()
        # Linux kills the child when the *thread* that started it ends, so that thread has to live as long as the child.
        threading.Thread(target=self._keep, name="embedded runtime", daemon=True).start()
        try:
            message = start.wait()
        except BaseException:
            self.stop()
            raise
        if "failed" in message:
            self.stop()
            raise self._load_error(message)

    def call(self, op: str, body: Message, *, pieces: bool = False) -> Call:
        """Send a request. Raises ModelError for text that is not Unicode, ModelUnavailable when the child has ended."""
        call = self._open_call()
        try:
            self.send({"id": call._number, "op": op, "body": body, "pieces": pieces})
        except UnicodeEncodeError:
            self._close_call(call._number)
            raise ModelError("the prompt holds half a surrogate pair", "clean the text of invalid Unicode") from None
        return call

    def send(self, message: Message) -> None:
        """Write one message. Where the child is gone nothing happens: whoever waits for it is told."""
        data = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"
        with self._writing, contextlib.suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def wait_idle(self) -> None:
        """Return when no request is in flight."""
        with self._state:
            self._state.wait_for(lambda: not self._calls)

    def stop(self) -> None:
        """End it; requests in flight are told. Stopping twice is fine."""
        process = self._process
        if process is None:
            return
        if self._writing.acquire(timeout=_PATIENCE):
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            self._writing.release()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        with self._state:
            self._state.wait_for(lambda: bool(self.ended), _PATIENCE)

    @property
    def pid(self) -> int:
        """Process id, for tests and reports."""
        return self._process.pid if self._process else 0

    def _open_call(self) -> Call:
        with self._state:
            if self.ended:
                raise ModelUnavailable(self.ended, "the request may be sent again")
            number = next(self._numbers)
            return self._calls.setdefault(number, Call(self, number))

    def _close_call(self, number: int) -> None:
        with self._state:
            self._calls.pop(number, None)
            self._state.notify_all()

    def _keep(self) -> None:
        """The life of the child: start it, hand its messages to those who wait, and tell all of them when it ends."""
        why = "the embedded runtime could not be started"
        try:
            process = self._start()
            errors = threading.Thread(target=self._drain, args=(process,), daemon=True)
            errors.start()
            self.send({"load": asdict(self.load)})
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    self._route(json.loads(line))
            why = _death(process.wait())
            errors.join(_PATIENCE)
            if line_of_stderr := error_line(self.stderr):
                why += f" ({line_of_stderr})"
        except OSError as error:
            why += f" ({error.strerror})"
        finally:
            with self._state:
                self.ended = why
                for call in self._calls.values():
                    call.inbox.put({"ended": why})
                self._calls.clear()
                self._state.notify_all()

    def _start(self) -> subprocess.Popen[bytes]:
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        self._process = subprocess.Popen(
            child_command(str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            creationflags=flags,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )
        return self._process

    def _route(self, message: Message) -> None:
        number = message.get("id", 1)  # the first call waits for the answer to "load", which has no id
        call = self._calls.get(number)
        if call is None:
            return
        if "piece" not in message:
            self._close_call(number)
        call.inbox.put(message)

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        """Keep the end of what the child writes to stderr, so that it never has to wait for somebody to read it."""
        assert process.stderr is not None
        with process.stderr:
            while data := process.stderr.read1(4096):  # type: ignore[attr-defined]
                self._stderr = (self._stderr + data)[-_STDERR_KEPT:]

    @property
    def stderr(self) -> str:
        """The end of what the child wrote to stderr."""
        return self._stderr.decode("utf-8", "replace")

    def _load_error(self, message: Mapping[str, str]) -> ModelError:
        if message["type"] == "import":
            return ModelError(f"the embedded runtime cannot be imported ({message['failed']})", INSTALL_REMEDY)
        cause = error_line(self.stderr) or message["failed"]
        return ModelError(f"{self.load.path}: llama.cpp cannot load it ({cause})", REFETCH_REMEDY)


def _death(code: int) -> str:
    """A process's exit status in words."""
    return f"the embedded runtime ended ({f'signal {-code}' if code < 0 else f'exit code {code}'})"
