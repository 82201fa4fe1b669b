"""A number that the abstract does not give.

Only digits count: a number word in a cell (``three benchmarks``) may be the writer's own count. A small whole number
may be one too. A hedged number may be rounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from curation.annotation import Annotation, Cell
from curation.checks.finding import Finding
from curation.text import plain, spelt, values

NAME = "invented-number"
COUNT = 4
"""Whole numbers up to this may be a count of things that the abstract lists."""
ROUNDED = 0.06
"""Relative difference that ``about``, ``nearly`` or ``over`` allow."""
_SHARES = frozenset((10.0, 20.0, 25.0, 30.0, 33.0, 40.0, 50.0, 60.0, 66.0, 67.0, 70.0, 75.0, 80.0, 90.0))
"""Per cent that ``one in five`` and the like come to; allowed with a hedge where the abstract has such counts."""
_HEDGE = re.compile(
    r"\b(?:about|around|roughly|nearly|almost|over|under|approximately|some|more than|less than|up to)\b|~|≈", re.I
)


def check(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that names such a number."""
    source = f"{plain(annotation.title)} {annotation.source}"
    known = values(source) | spelt(source) | _inside(source)
    for cell in annotation.cells:
        if missing := sorted(_missing(cell, known)):
            shown = ", ".join(f"{value:g}" for value in missing[:3])
            yield Finding(NAME, cell.move, f"the abstract has no number {shown}")


def _inside(source: str) -> set[float]:
    """All digit runs, those in names and markup too: ``GPT-4`` may be written ``GPT 4``, ``10^{-4}`` in many ways."""
    return {float(run) for run in re.findall(r"\d+(?:\.\d+)?", source)}


def _missing(cell: Cell, known: set[float]) -> set[float]:
    hedged = bool(_HEDGE.search(cell.own))
    return {value for value in values(cell.own) if not _given(value, known, hedged)}


def _given(value: float, known: set[float], hedged: bool) -> bool:
    """Whether the abstract gives the number: as it is, in another unit of a thousand, as a share, or roughly."""
    if value in known or (value.is_integer() and 0 <= value <= COUNT):
        return True
    same = {value * factor for factor in (1e3, 1e-3, 1e6, 1e-6, 100, 0.01)}
    near = ROUNDED if hedged else 1e-9
    if hedged and value in _SHARES and known & {1.0, 2.0, 3.0}:
        return True
    return any(abs(other - wanted) <= near * abs(wanted) for other in known for wanted in (value, *same))
