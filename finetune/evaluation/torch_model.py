"""A model folder run by transformers behind the protocol of ``harness.models.base``, in a process of its own.

For models that are not exported yet: a fine-tune in training, an adapter on its base. The process gives its memory back
when the model is closed, is measured by itself, and ends with this one (``torch_child.py`` is its other end).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from harness.errors import ContextOverflow, InputError, ModelError, ModelUnavailable
from harness.models.base import Message, ModelInfo, OnText, Reply, Request, TokenLogprob
from harness.models.embedded_process import child_environment

_PATIENCE = 10.0
"""Seconds that the process may take to end before it is killed."""
_WEIGHTS = ("*.safetensors", "config.json", "adapter_config.json", "tokenizer.json")


def digest_of(folder: Path) -> str:
    """``sha256:…`` over the weights, configuration and tokenizer of a folder. Raises InputError where it has no weights."""
    files = sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise InputError(f"{folder}: holds no .safetensors", "write the folder again with save_pretrained")
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as handle:
            found.update(f"{path.name}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{found.hexdigest()}"


class TorchModel:
    """One request at a time; others wait. The process starts with the first one. Raises InputError for what is no model."""

    slots = 1

    def __init__(self, folder: Path, *, name: str, contract: str = "", threads: int = 0) -> None:
        self._folder, self._threads = folder.resolve(), threads
        self._info = ModelInfo(name, "embedded", digest_of(self._folder), 0, contract)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    @property
    def info(self) -> ModelInfo:
        """Its backend is given as ``embedded``: a child process of this one. The context is the child's to check."""
        return self._info

    def reserve(self, tokens: int) -> None:
        """Nothing to reserve: memory grows with the request."""

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """Greedy, unconstrained: a schema is not forced. Not cancelled in the middle. Raises as the protocol says."""
        options = request.options
        answer = self._ask(
            {
                "op": "generate",
                "prompt": request.prompt,
                "messages": [{"role": m.role, "content": m.content} for m in request.messages],
                "max_tokens": options.max_tokens,
                "stop": list(options.stop),
                "top_logprobs": options.top_logprobs,
            }
        )
        logprobs = tuple(TokenLogprob(token, value, top) for token, value, top in answer.pop("logprobs"))
        reply = Reply(**answer, logprobs=logprobs)
        if on_text is not None:
            on_text(reply.text)
        return reply

    def surprise(self, messages: Sequence[Message], before: str, text: str) -> tuple[float, int]:
        """How unlikely a given text is, in nats, and how many tokens it has, where the answer begins with ``before``."""
        chat = [{"role": m.role, "content": m.content} for m in messages]
        answer = self._ask({"op": "score", "messages": chat, "before": before, "text": text})
        return float(answer["nats"]), int(answer["tokens"])

    def count_tokens(self, text: str) -> int:
        """Tokens of a raw text."""
        return int(self._ask({"op": "count", "text": text})["tokens"])

    def close(self) -> None:
        """End the process; what it held is free."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            _end(process.stdin).close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _end(process.stdout).close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            process = self._running()
            answer = self._exchange(process, message)
        if "error" not in answer:
            return answer
        kind = ContextOverflow if answer.get("type") == "context" else ModelError
        raise kind(f"{self._info.name}: {answer['error']}", str(answer.get("remedy", "")))

    def _running(self) -> subprocess.Popen[str]:
        """The process, started where it does not run; call it with the lock held."""
        if self._closed:
            raise ModelError(f"{self._info.name}: the model has been closed")
        if self._process is None:
            command = [sys.executable, "-P", "-m", "finetune.evaluation.torch_child"]
            self._process = subprocess.Popen(
                [*command, str(_own_pid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(),
                encoding="utf-8",
            )
            loaded = self._exchange(self._process, {"folder": str(self._folder), "threads": self._threads})
            if "error" in loaded:
                self._process.wait()
                self._process = None
                self._closed = True
                raise ModelError(f"{self._folder}: {loaded['error']}", str(loaded.get("remedy", "")))
        return self._process

    def _exchange(self, process: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any]:
        try:
            _end(process.stdin).write(json.dumps(message) + "\n")
            _end(process.stdin).flush()
            line = _end(process.stdout).readline()
        except OSError:
            line = ""
        if not line:
            self._closed = True  # it would die of the same again: memory, most often
            raise ModelUnavailable(
                f"{self._info.name}: the process that runs it ended (code {process.wait()})",
                "free memory, or use a smaller model",
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # both ends are pipes by construction
    return pipe


def _own_pid() -> int:
    import os

    return os.getpid()
