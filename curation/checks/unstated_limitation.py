"""A limitation that the abstract never states.

Two ways: the cell quotes or follows a sentence that reads like no limitation, or it is in words of its own, few of which
stand in the abstract, and no sentence there reads like a limitation either.
"""

from __future__ import annotations

from collections.abc import Iterator

from curation.annotation import Annotation
from curation.checks.finding import Finding
from curation.checks.swapped_fields import cell_scores
from curation.cues import move_scores
from curation.text import content

NAME = "unstated-limitation"
MOVE = "limitation"
LEAST = -3.7
"""Log-odds below which the sentences state no limitation; a tenth of the design half's stated ones fall below."""
GROUNDED = 0.34
"""Share of the cell's content stems that must stand in the abstract, where no sentence there reads like a limitation."""
FEWEST = 6
"""Content stems below which a cell in words of its own is too short to judge."""
STATED = -2.6
"""Log-odds from which a sentence may be read as a limitation; half of the abstracts that state none have none such."""


def check(annotation: Annotation) -> Iterator[Finding]:
    """At most one finding."""
    cell = next((cell for cell in annotation.cells if cell.move == MOVE), None)
    if cell is None:
        return
    stems = set(content(cell.own))
    share = len(stems & annotation.stems) / len(stems) if stems else 1.0
    best = max((row[MOVE] for row in move_scores(annotation.sentences)), default=STATED)
    if len(stems) >= FEWEST and share < GROUNDED and best < STATED:
        yield Finding(NAME, MOVE, f"the abstract states none, and only {share:.0%} of its words stand there", guess=True)
        return
    scores = cell_scores(annotation).get(MOVE)
    if scores is not None and scores[MOVE] < LEAST:
        yield Finding(NAME, MOVE, "rests on a sentence that states no limitation", guess=True)
