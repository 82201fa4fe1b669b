"""The protocol of a model that embeds text, which the backends implement side by side with ``Model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from harness.models.base import ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]

WINDOW = 2048
"""Tokens of one text, where the model takes as many. A chunk has a few hundred, and memory grows with the window."""


def window_of(trained: int) -> int:
    """Tokens that a text may have for a model that was trained for ``trained``; 0 stands for not known."""
    return min(trained, WINDOW) if trained else WINDOW


@runtime_checkable
class EmbeddingModel(Protocol):
    """An opened model. Thread-safe. Close it when the work is done; closing twice is fine."""

    @property
    def info(self) -> ModelInfo:
        """Name, backend, digest, and the tokens that one text may have."""
        ...

    @property
    def family(self) -> str:
        """All that is known of its name, to look up by it how texts are to be prefixed."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Vector | None]:
        """A vector for each text; None for one that is longer than the model's window: nothing is ever cut.

        No text may be empty. Raises ModelUnavailable (may be tried again), ModelError.
        """
        ...

    def close(self) -> None:
        """Free what the model holds."""
        ...
