"""Two cells that hold each other's content.

For every pair of moves the cue lexicon says how much likelier their sentences become when the two are exchanged. Many
sentences state several moves, so only a large gain counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from curation.annotation import Annotation, Cell
from curation.checks.finding import WHOLE, Finding
from curation.cues import load_cues, move_scores

NAME = "swapped-fields"
GAIN = 3.2
"""Log-odds; a gain that one gold row in sixty of the design half reaches (three-fold cross-validation)."""
CLOSE = 0.7
"""Share of a part's content stems in the sentence it follows; a freer text may well rest on others, too."""

Scores = Mapping[str, float]


def check(annotation: Annotation) -> Iterator[Finding]:
    """At most one finding: the exchange that gains most."""
    scores = cell_scores(annotation)
    best, pair = GAIN, None
    for first, second in combinations(scores, 2):
        gain = scores[second][first] + scores[first][second] - scores[first][first] - scores[second][second]
        if gain > best:
            best, pair = gain, (first, second)
    if pair is not None:
        yield Finding(NAME, WHOLE, f"{pair[0]} holds what belongs in {pair[1]}, and the other way round", guess=True)


def cell_scores(annotation: Annotation) -> dict[str, Scores]:
    """Move → log-odds for each move that its cell's sentences state it (the highest of them), where the cues know it."""
    cues, table = load_cues(), move_scores(annotation.sentences)
    return {
        cell.move: {move: max(table[n - 1][move] for n in _numbers(cell, len(table))) for move in cues.intercepts}
        for cell in annotation.cells
        if cell.move in cues.intercepts and _numbers(cell, len(table))
    }


def _numbers(cell: Cell, count: int) -> list[int]:
    """The sentences that the cell surely rests on: quoted, or followed closely by all of it."""
    if any(part.coverage < CLOSE for part in cell.parts):
        return []
    return [number for number in cell.rests_on if 1 <= number <= count]
