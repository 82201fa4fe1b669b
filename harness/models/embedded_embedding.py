"""Embeddings from a GGUF file: llama.cpp in a child process, pooled as the file's metadata says."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ModelError, ModelUnavailable
from harness.models.base import ModelInfo
from harness.models.embedded import MAX_RESTARTS, check, file_digest, physical_cores
from harness.models.embedded_process import Child, Load, Message
from harness.models.embedding import window_of
from harness.models.gguf_header import facts, trained_context

if TYPE_CHECKING:
    from harness.models.embedding import Vector

_TOGETHER = 8
"""Texts that a graphics processor computes at once."""
_IN_FLIGHT = 64
"""Texts on their way to the child, so that it never waits for the next one."""
_RANK = 4
"""llama.cpp's number for the "pooling" of models that score a question with a passage."""
_REMEDY = "take a GGUF file of an embedding model"


class EmbeddedEmbedding:
    """A GGUF file behind ``EmbeddingModel``. Its child starts with the first text and is replaced when it dies.

    The constructor raises ModelError for a file that is missing, is not GGUF or is known not to embed.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        check()
        self._path = path.absolute()
        self._window = window_of(trained_context(self._path))
        self._facts = facts(self._path)
        self._threads = threads or physical_cores()
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._deaths = 0
        self._closed = False
        if self._facts.get(f"{self._facts.get('general.architecture')}.pooling_type") == _RANK:
            raise ModelError(f"{path.name} is a reranker, it embeds no text", _REMEDY)

    @property
    def info(self) -> ModelInfo:
        """As the protocol says; the digest is the file's SHA-256."""
        return ModelInfo(self._path.name, "embedded", file_digest(self._path), self._window)

    @property
    def family(self) -> str:
        """Its file name and what the file calls itself."""
        names = (self._facts.get(f"general.{key}", "") for key in ("name", "basename", "architecture"))
        return " ".join([self._path.stem, *map(str, names)])

    def embed(self, texts: Sequence[str]) -> list[Vector | None]:
        """As the protocol says. Each text is computed by itself, so its vector does not depend on its company."""
        vectors: list[Vector | None] = []
        for start in range(0, len(texts), _IN_FLIGHT):
            with self._lock:  # so that the child is not replaced between looking it up and sending
                child = self._running()
            calls = [child.call("embed", {"text": text}) for text in texts[start : start + _IN_FLIGHT]]
            vectors += [self._vector(call.wait()) for call in calls]
        self._deaths = 0
        return vectors

    def close(self) -> None:
        """End the child; texts in flight raise ModelUnavailable."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _running(self) -> Child:
        if self._closed:
            raise ModelError(f"{self._path.name}: the model has been closed")
        if self._child is not None and not self._child.ended:
            return self._child
        self._deaths += self._child is not None
        self._child = None
        if self._deaths > MAX_RESTARTS:
            raise ModelError(
                f"{self._path.name}: the embedded runtime died {self._deaths} times in a row",
                "free memory, or use another model or Ollama",
            )
        try:
            self._child = Child(Load(str(self._path), self._window, _TOGETHER, self._threads, embedding=True))
        except ModelUnavailable:
            self._deaths += 1
            raise
        return self._child

    def _vector(self, message: Message) -> Vector | None:
        """The vector in the child's answer; None where the text was too long."""
        import numpy as np

        if "reply" in message:
            return np.frombuffer(base64.b64decode(message["reply"]), dtype="<f4").astype(np.float32)
        error = message["error"]
        text = str(error.get("message", "failed"))
        if error.get("type") == "exceed_context_size_error" or "too large to process" in text:
            return None
        if "Pooling type 'none'" in text:
            raise ModelError(f"{self._path.name} does not say how its vectors are pooled", _REMEDY)
        raise ModelError(f"{self._path.name}: {text}", _REMEDY)
