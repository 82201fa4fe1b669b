"""The title in a cell, where a sentence about the paper belongs."""

from __future__ import annotations

from collections.abc import Iterator

from curation.annotation import Annotation
from curation.checks.finding import Finding
from curation.text import plain, tokens

NAME = "title-copied"
SAME = 0.85
"""Jaccard similarity of the words from which on a cell is the title."""
SHORTEST = 3


def check(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that is the title and nothing else."""
    title = set(tokens(plain(annotation.title)))
    if len(title) < SHORTEST or plain(annotation.title).casefold() in annotation.source.casefold():
        return
    for cell in annotation.cells:
        words = set(tokens(plain(cell.text)))
        if len(words & title) / len(words | title) >= SAME:
            yield Finding(NAME, cell.move, "is the title")
