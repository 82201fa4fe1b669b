"""Another language than the abstract's."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from curation.annotation import Annotation
from curation.checks.finding import Finding
from curation.lexicon import SMALL_WORDS
from curation.text import tokens

NAME = "other-language"
FEWEST, FEWEST_SMALL = 6, 3
"""Words, and small words among them, below which nothing can be said."""
SHARE = 0.18
"""Of the words; what a sentence of such a language never falls below, and an English one does not reach."""
LETTERS = 0.15


def check(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell in another script or with another language's small words."""
    script = _foreign_letters(annotation.source)
    ours = {language: _share(annotation.source, small) for language, small in SMALL_WORDS.items()}
    for cell in annotation.cells:
        own = cell.own
        if _foreign_letters(own) > script + LETTERS:
            yield Finding(NAME, cell.move, "is not in the abstract's script")
            continue
        words = tokens(own)
        if len(words) < FEWEST:
            continue
        found = {language: _share(own, small) - ours[language] for language, small in SMALL_WORDS.items()}
        best = max(found, key=lambda language: found[language])
        if found[best] > SHARE and sum(word in SMALL_WORDS[best] for word in words) >= FEWEST_SMALL:
            yield Finding(NAME, cell.move, f"is in {best}, the abstract is not")


def _share(text: str, small: frozenset[str]) -> float:
    words = tokens(text)
    return sum(word in small for word in words) / len(words) if words else 0.0


def _foreign_letters(text: str) -> float:
    """Share of the letters that are not Latin; Greek ones are mathematics."""
    letters = [character for character in text if character.isalpha()]
    strange = [
        c for c in letters if not c.isascii() and not unicodedata.name(c, "").startswith(("LATIN", "GREEK", "MATHEMATICAL"))
    ]
    return len(strange) / len(letters) if letters else 0.0
