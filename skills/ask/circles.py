"""A model that goes round in circles: small ones write the same few words until their tokens are used up.

Greedy decoding falls into such loops by itself (Holtzman et al., ICLR 2020), and an answer limited by its schema alone runs
on to the longest text that this allows. The text is watched while it comes, and the request is stopped.
"""

from __future__ import annotations

from collections.abc import Callable

LEAST_ROUNDS = 4
LEAST_CHARACTERS = 160
"""Of all rounds together: a heading or a list may well begin alike a few times."""
LONGEST_ROUND = 400
EVERY = 40
"""Characters between two looks."""


class Circling(Exception):
    """Raised into a request to stop it; ``text`` is what there was of the answer."""

    def __init__(self, text: str) -> None:
        super().__init__("the model goes round in circles")
        self.text = text


def circles(text: str) -> bool:
    """Whether a text ends in one phrase of letters, again and again, without anything between.

    >>> circles("It is " + "the inverse of " * 20), circles("yes " * 6), circles("|" + "---|" * 80)
    (True, False, False)
    """
    for length in range(1, LONGEST_ROUND + 1):
        span = max(LEAST_ROUNDS * length, LEAST_CHARACTERS)
        if span > len(text):
            return False
        tail = text[-span:]
        if tail[length:] == tail[:-length]:
            return 2 * sum(map(str.isalpha, tail)) >= span
    return False


class Watch:
    """Hands the pieces of a text on and raises ``Circling`` when they go round in circles."""

    def __init__(self, on_text: Callable[[str], object] | None) -> None:
        self._on_text = on_text
        self._text = ""
        self._seen = 0

    def feed(self, piece: str) -> None:
        """Take the next piece."""
        self._text += piece
        if self._on_text is not None:
            self._on_text(piece)
        if len(self._text) - self._seen >= EVERY:
            self._seen = len(self._text)
            if circles(self._text):
                raise Circling(self._text)
