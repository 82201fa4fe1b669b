"""QMD's rubric, the part that gives points for counts, and that says where points were lost. Both follow SCORING.md.

The oddities are upstream's and are kept, since scores are to be compared with published ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from finetune.rewards.qmd_measure import Counts, EntityFacts, Facts
from finetune.rewards.qmd_words import HYDE_LONG, HYDE_SHORT

THINK = 20
"""Points for no thoughts before the answer."""
MOST, MOST_WITH_HYDE = 120, 140


class Points(NamedTuple):
    """The dimensions of the rubric; ``entity`` may be negative, and ``diversity`` and ``quality`` too."""

    format: int
    diversity: int
    hyde: int
    quality: int
    entity: int
    think: int


def points_of(counts: Counts, several: bool, thought: bool) -> tuple[int, int, int, int, int, int]:
    """The points of one output, in the order of ``Points``; ``several``: the query has two words or more."""
    (lex, lex_length, lex_alike, lex_echoes, lacking, padded, quoted,
     vec, vec_length, vec_alike, vec_echoes, unnatural, passage, repeated, entities) = counts  # fmt: skip
    shape, diversity, quality = 10, 0, 5
    if lex and vec:
        shape, diversity = 30, 15
        if lex_length / lex <= vec_length / vec:
            quality = 10
    elif lex or vec:
        shape, diversity = 20, 5 if lex + vec > 1 else 0
    if lex:
        quality += (5 if not lacking else 2 if lacking < lex else 0) - 3 * padded
        if quoted and several:
            quality += 3
    if vec:
        quality += 2 if unnatural else 5
    diversity += 10 if not lex_alike + vec_alike else max(0, 5 - 2 * lex_alike) + max(0, 5 - 2 * vec_alike)
    diversity += 5 if not lex_echoes + vec_echoes else max(-10, 5 - 10 * lex_echoes - 3 * vec_echoes)
    hyde = 0
    if passage is not None:
        length = len(passage)
        hyde = 10 if length > HYDE_LONG else 12 if length < HYDE_SHORT else 15
        if repeated < 5:
            hyde += 5 - repeated
    entity = 10 if entities is None else _entity(entities, lex)
    return shape, diversity, hyde, quality, entity, 0 if thought else THINK


def _entity(found: EntityFacts, lex: int) -> int:
    """20 at most, with no lower limit."""
    if not lex:
        return 0
    points = 15 if found.lex_naming == lex else 5 if found.lex_naming else -30
    return points - 20 * len(found.lost) - 15 * found.generic + (5 if found.vec_naming else 0)


def reasons(facts: Facts, thought: bool) -> Iterator[str]:
    """A line for each deduction: the dimension, the points, and why. They add up to what is missing of each dimension."""
    for kind, lines in (("lex", facts.lex), ("vec", facts.vec)):
        if not lines:
            yield f"format -10: no {kind} line"
    if not (facts.lex and facts.vec):
        yield "diversity -10: lex and vec are not both there"
    if facts.lex + facts.vec < 2:
        yield "diversity -5: fewer than two lines"
    for kind, alike in (("lex", facts.lex_alike), ("vec", facts.vec_alike)):
        if alike:
            yield f"diversity -{min(5, 2 * alike)}: {alike} pair(s) of {kind} lines alike"
    if facts.lex_echoes or facts.vec_echoes:
        lost = min(15, 10 * facts.lex_echoes + 3 * facts.vec_echoes)
        yield f"diversity -{lost}: {facts.lex_echoes} lex and {facts.vec_echoes} vec line(s) echo the query"
    yield from _passage_reasons(facts)
    yield from _quality_reasons(facts)
    if facts.entities is not None:
        yield from _entity_reasons(facts.entities, facts.lex)
    if thought:
        yield f"think -{THINK}: thoughts before the answer"


def _passage_reasons(facts: Facts) -> Iterator[str]:
    if facts.passage is None:
        return
    length = len(facts.passage)
    if length > HYDE_LONG:
        yield f"hyde -5: too long ({length} characters)"
    elif length < HYDE_SHORT:
        yield f"hyde -3: too short ({length} characters)"
    if facts.repeated:
        yield f"hyde -{min(5, facts.repeated)}: repeats words"


def _quality_reasons(facts: Facts) -> Iterator[str]:
    if not (facts.lex and facts.vec):
        lost = 10 if facts.lex or facts.vec else 15
        yield f"quality -{lost}: no lex or no vec to judge"
    elif facts.lex_length / facts.lex > facts.vec_length / facts.vec:
        yield "quality -5: lex longer than vec"
    if facts.unnatural:
        yield f"quality -3: {facts.unnatural} vec line(s) in no natural language"
    if facts.lacking:
        yield f"quality -{3 if facts.lacking < facts.lex else 5}: {facts.lacking} lex line(s) without a key term"
    if facts.padded:
        yield f"quality -{3 * facts.padded}: {facts.padded} lex line(s) with padding"


def _entity_reasons(found: EntityFacts, lex: int) -> Iterator[str]:
    if not lex:
        yield "entity -20: no lex line to hold the query's entities"
        return
    if found.lex_naming < lex:
        lost = 10 if found.lex_naming else 45
        yield f"entity -{lost}: {lex - found.lex_naming} lex line(s) without an entity of the query"
    if found.lost:
        yield f"entity -{20 * len(found.lost)}: lost {', '.join(found.lost)}"
    if found.generic:
        yield f"entity -{15 * found.generic}: {found.generic} generic lex line(s)"
    if not found.vec_naming:
        yield "entity -5: no vec line names an entity"
