"""Text that does not come from this abstract: vague boilerplate, or another paper's annotation.

What tells papers apart is the words that few abstracts hold. A cell in words of its own is boilerplate when it has none
that the abstract has and few of any kind, and foreign when most of its words are not the abstract's.
"""

from __future__ import annotations

from collections.abc import Iterator

from curation.annotation import Annotation, Cell
from curation.checks.finding import WHOLE, Finding
from curation.cues import load_cues
from curation.text import content

VAGUE = "vague-boilerplate"
FOREIGN = "another-paper"
FEWEST = 4
"""Content stems below which a cell is too short to be called boilerplate."""
FEWEST_FOREIGN, FEWEST_STRANGE = 9, 6
"""The same for a cell that is called foreign; a smaller number will do where not one of its words is the abstract's."""
GROUNDED = 0.2
"""Share of a cell's content stems that must stand in abstract or title. In free summaries a cell has 0.26 and more but for
very short ones, one from another paper of the same field 0.12 in the median."""
WHOLE_GROUNDED = 0.45
"""The same as a mean over cells: free summaries have 0.59 and more, other papers' at most 0.3 in 99 of 100."""
TELLING = 1
"""Stems that few abstracts hold which boilerplate may have."""
ALIGNED = 0.6
"""A cell that shares so much with one sentence of the abstract is as particular as that sentence."""


def check_vague(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that could stand in any paper's annotation."""
    for cell in annotation.cells:
        if _is_vague(cell, annotation):
            yield Finding(VAGUE, cell.move, "says nothing that belongs to this paper alone")


def check_foreign(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell about something else, and one where the whole annotation is."""
    shares = []
    for cell in annotation.cells:
        stems = set(content(cell.own))
        if len(stems) < FEWEST:
            continue
        share = len(stems & annotation.stems) / len(stems)
        shares.append(share)
        fewest = FEWEST_FOREIGN if share else FEWEST_STRANGE
        if len(stems) >= fewest and share < GROUNDED and not _is_vague(cell, annotation):
            yield Finding(FOREIGN, cell.move, f"only {share:.0%} of its words stand in the abstract")
    if len(shares) > 1 and sum(shares) / len(shares) < WHOLE_GROUNDED:
        yield Finding(FOREIGN, WHOLE, "most of its words are not the abstract's: another paper's annotation")


def _is_vague(cell: Cell, annotation: Annotation) -> bool:
    stems = set(content(cell.own))
    if len(stems) < FEWEST or any(part.coverage >= ALIGNED for part in cell.parts):
        return False
    telling = stems - load_cues().generic
    return not telling & annotation.stems and len(telling) <= TELLING
