"""Reranking by late interaction (Khattab and Zaharia, SIGIR 2020): every token of the question finds its nearest token.

A passage's score is the sum over the question's tokens of the highest cosine that any token of the passage reaches. It
needs a model that gives a vector a token; the library that runs them is PyLate (extra ``late``, which chooses a torch of
its own: install it apart from ``finetune``). Only what a search has found is scored: nothing is stored, so every search
costs what embedding twenty passages costs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.errors import InputError, ModelError
from harness.search.fusion import Step
from harness.search.vectors import Matrix

if TYPE_CHECKING:
    from harness.search.search import Found

TOP = 20
"""Passages that are scored."""


class TokenEncoder(Protocol):
    """A model that gives each token of a text a unit vector."""

    @property
    def name(self) -> str:
        """What notes call it."""
        ...

    def question(self, text: str) -> Matrix:
        """``[tokens, dimensions]`` of a question. Raises ModelError."""
        ...

    def passages(self, texts: Sequence[str]) -> list[Matrix]:
        """The same of each passage."""
        ...


def max_sim(question: Matrix, passage: Matrix) -> float:
    """The sum over the question's tokens of their highest cosine with a token of the passage; 0 without tokens.

    >>> max_sim(np.eye(2, dtype=np.float32), np.array([[0.6, 0.8]], dtype=np.float32))
    1.4
    """
    if not len(question) or not len(passage):
        return 0.0
    return round(float((question @ passage.T).max(1).sum()), 6)


def rerank_late(found: Found, question: str, encoder: TokenEncoder, *, top: int = TOP, limit: int | None = None) -> Found:
    """The first ``top`` hits in the order of their MaxSim, equal ones as they were; then the others; ``limit`` of all.

    Each has one step more; ``score`` stays the fused one. Raises ModelError where the model fails.
    """
    hits = found.hits[:top]
    if len(hits) < 2:
        return replace(found, hits=found.hits[:limit])
    started = time.monotonic()
    asked = encoder.question(question)
    scores = [max_sim(asked, one) for one in encoder.passages([hit.chunk.indexed for hit in hits])]
    order = sorted(range(len(hits)), key=lambda place: (-scores[place], place))
    ranked = [
        replace(hits[place], steps=(*hits[place].steps, Step("late", "original", question, rank, scores[place], 0.0, 0.0)))
        for rank, place in enumerate(order, 1)
    ]
    note = f"reranked {len(hits)} passages by late interaction in {time.monotonic() - started:.1f} s by {encoder.name}"
    return replace(found, hits=(*ranked, *found.hits[top:])[:limit], notes=(*found.notes, note))


def open_encoder(name: str, *, offline: bool) -> TokenEncoder:
    """The ColBERT model of this name or in this folder, run by PyLate.

    Raises InputError where PyLate is not installed, ModelError where the model cannot be loaded.
    """
    try:
        from pylate import models
    except ImportError:
        raise InputError(
            "late interaction needs PyLate, which is not installed", "pip install 'marginalia[late]'"
        ) from None
    try:
        loaded = models.ColBERT(model_name_or_path=name, local_files_only=offline)
    except (OSError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ModelError(f"{name}: cannot be loaded as a ColBERT model ({why})", "name another with --late") from None
    return _PyLate(name, loaded)


@dataclass(frozen=True)
class _PyLate:
    name: str
    model: object

    def question(self, text: str) -> Matrix:
        """As in ``TokenEncoder``."""
        return self._encode([text], True)[0]

    def passages(self, texts: Sequence[str]) -> list[Matrix]:
        """As in ``TokenEncoder``."""
        return self._encode(texts, False)

    def _encode(self, texts: Sequence[str], is_query: bool) -> list[Matrix]:
        encode = self.model.encode  # type: ignore[attr-defined]
        try:
            found = encode(list(texts), is_query=is_query, show_progress_bar=False)
        except RuntimeError as error:
            raise ModelError(f"{self.name}: {' '.join(str(error).split())[:200]}", "take a smaller model") from None
        return [np.asarray(one, dtype=np.float32) for one in found]
