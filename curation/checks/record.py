"""What a record says of itself: an annotation without moves, and quotes that are none."""

from __future__ import annotations

from collections.abc import Iterator

from curation.annotation import Annotation
from curation.checks.finding import WHOLE, Finding
from curation.text import plain

EMPTY = "nothing-stated"
MISQUOTED = "misquoted"


def check_empty(annotation: Annotation) -> Iterator[Finding]:
    """Fatal where no move is stated; a point where the claim is not, which hardly any abstract lacks."""
    if not annotation.texts:
        yield Finding(EMPTY, WHOLE, "no move is stated")
    elif "claim" not in annotation.texts:
        yield Finding(EMPTY, WHOLE, "no claim is stated", fatal=False)


def check_misquoted(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell of a record in quote style that is no quote, or not of the sentences it names."""
    if annotation.style != "quote":
        return
    for cell in annotation.cells:
        count = len(annotation.sentences)
        if any(not 1 <= number <= count for number in cell.numbers):
            yield Finding(MISQUOTED, cell.move, f"names a sentence of {max(cell.numbers)}, the abstract has {count}")
        elif not cell.verbatim:
            yield Finding(MISQUOTED, cell.move, "is given as a quote and does not stand in the abstract")
        elif cell.numbers and plain(cell.text) != " ".join(annotation.sentences[number - 1] for number in cell.numbers):
            yield Finding(MISQUOTED, cell.move, "is not the text of the sentences it names")
