"""Embeddings from a running Ollama daemon: ``/api/embed``, with a watch for versions that cut long texts in silence."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from harness.errors import ContextOverflow, ModelError
from harness.models.base import ModelInfo
from harness.models.embedding import window_of
from harness.models.ollama import BACKOFF_SECONDS, TRIES
from harness.models.ollama_errors import explain
from harness.models.ollama_stream import Transient, stream_json

if TYPE_CHECKING:
    from harness.models.embedding import Vector
    from harness.models.ollama_daemon import OllamaDaemon

BATCH = 16
"""Texts of one request."""
_BYTES_PER_TOKEN = 2
"""Hardly any text has fewer. One that could pass the window by this measure is sent alone, so that a cut is seen."""
_SPECIAL = 2
"""Tokens that a model adds to a text."""


class OllamaEmbedding:
    """A model of the daemon behind ``EmbeddingModel``."""

    def __init__(self, daemon: OllamaDaemon, name: str) -> None:
        """Open a model (``x`` is ``x:latest``). Raises NoModelError, ModelUnavailable; ModelError where it cannot embed."""
        installed = daemon.require(name)
        shown = daemon.show(installed.name)
        if shown.capabilities and "embedding" not in shown.capabilities:
            raise ModelError(f"{installed.name} cannot embed text", "take an embedding model: ollama pull nomic-embed-text")
        self._daemon = daemon
        self._family = installed.name
        self._window = window_of(shown.context)
        self._info = ModelInfo(installed.name, "ollama", installed.digest, self._window)

    @property
    def info(self) -> ModelInfo:
        """As the protocol says; the digest is the daemon's."""
        return self._info

    @property
    def family(self) -> str:
        """Its name."""
        return self._family

    def embed(self, texts: Sequence[str]) -> list[Vector | None]:
        """As the protocol says. Busy daemons and failed connections are tried again with back-off."""
        vectors: list[Vector | None] = [None] * len(texts)
        for places in self._batches(texts):
            for place, vector in zip(places, self._embed([texts[place] for place in places]), strict=True):
                vectors[place] = vector
        return vectors

    def close(self) -> None:
        """Close the connections: the daemon unloads the model after its ``keep_alive``."""
        self._daemon.close()

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Which texts go together."""
        safe = []
        for place, text in enumerate(texts):
            if len(text.encode("utf-8", "surrogatepass")) > _BYTES_PER_TOKEN * (self._window - _SPECIAL):
                yield [place]
            else:
                safe.append(place)
        for start in range(0, len(safe), BATCH):
            yield safe[start : start + BATCH]

    def _embed(self, texts: list[str]) -> list[Vector | None]:
        """One request, or two halves of it where some text in it is too long: the daemon does not say which."""
        try:
            return list(self._ask(texts))
        except ContextOverflow:
            if len(texts) == 1:
                return [None]
        middle = len(texts) // 2
        return self._embed(texts[:middle]) + self._embed(texts[middle:])

    def _ask(self, texts: list[str]) -> Sequence[Vector]:
        payload = {
            "model": self._info.name,
            "input": texts,
            "truncate": False,
            "keep_alive": self._daemon.keep_alive,
            "options": {"num_ctx": self._window},
        }
        for attempt in range(1, TRIES + 1):
            try:
                return self._checked(texts, self._receive(payload))
            except Transient:
                if attempt == TRIES:
                    raise
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    def _receive(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        with closing(stream_json(self._daemon.http, "/api/embed", payload, model=self._info.name)) as lines:
            for line in lines:
                answer |= line
        if "error" in answer:
            raise explain(200, json.dumps(answer), model=self._info.name)
        return answer

    def _checked(self, texts: Sequence[str], answer: Mapping[str, Any]) -> Sequence[Vector]:
        """The vectors, once it is certain that there is one a text and that the daemon read all of each."""
        import numpy as np

        try:
            matrix = np.asarray(answer["embeddings"], dtype=np.float32)
            tokens = int(answer.get("prompt_eval_count") or 0)
        except (KeyError, TypeError, ValueError):
            matrix, tokens = np.empty(0, dtype=np.float32), 0
        if matrix.ndim != 2 or len(matrix) != len(texts):
            raise ModelError(f"{self._info.name}: the daemon's answer holds no embedding for each text", "update Ollama")
        words = sum(len(text.split()) for text in texts)
        filled = len(texts) == 1 and tokens >= self._window - 1  # the text ends exactly there, or it was cut there
        # Vocabularies hardly ever join words: far fewer tokens than words means that a text was cut.
        if 0 < tokens < words // 2 or filled:
            raise ContextOverflow(f"{self._info.name}: only {tokens} tokens of the text were read", "shorten the text")
        return list(matrix)
