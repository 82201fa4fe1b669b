"""One cell that holds the whole abstract, or one text in most cells: nothing was selected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from curation.annotation import Annotation
from curation.checks.finding import WHOLE, Finding
from curation.text import content, plain

SWALLOWED = "swallows-abstract"
REPEATED = "repeated-text"
SENTENCES = 4
"""An abstract of fewer sentences may well be one move."""
SHARE = 0.75
"""Of the abstract's content stems, or of its sentences; 0.2% of the design half's gold cells hold more."""
MOST_CELLS = 5


def check_swallowed(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that covers nearly all of the abstract."""
    wanted = content(annotation.source)
    if len(annotation.sentences) < SENTENCES or not wanted:
        return
    for cell in annotation.cells:
        left = Counter(wanted) - Counter(content(plain(cell.text)))
        share = 1 - left.total() / len(wanted)
        if share > SHARE or len(cell.rests_on) > max(SENTENCES, SHARE * len(annotation.sentences)):
            yield Finding(SWALLOWED, cell.move, f"holds nearly all of the abstract ({share:.0%} of its words)")


def check_repeated(annotation: Annotation) -> Iterator[Finding]:
    """One finding where so many cells hold the same text."""
    counts = Counter(plain(cell.text).casefold() for cell in annotation.cells)
    for _, count in counts.most_common(1):
        if count >= MOST_CELLS:
            yield Finding(REPEATED, WHOLE, f"{count} moves hold the same text")
