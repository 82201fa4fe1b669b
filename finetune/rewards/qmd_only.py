"""QMD's rubric where one type is asked for (``/only:lex``): 120 points, no cap on echoes. The rules are in SCORING.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from finetune.rewards.qmd_points import THINK, Points
from finetune.rewards.qmd_text import Kind, Parsed, Query, alike, lex_is_generic, naming
from finetune.rewards.qmd_words import HYDE_LONG, HYDE_SHORT, NATURAL_LENGTH


class OnlyFacts(NamedTuple):
    """Counts of an output with at least one line of the type asked for."""

    lines: int
    unwanted: int
    """Lines of other types."""
    alike: int
    """Pairs of lines that are not diverse."""
    echoes: int
    """Lines that echo the query."""
    lacking: bool
    """Whether a lex line has no key term of the query."""
    generic: bool
    """Whether a lex line says next to nothing."""
    padded: int
    """Lex lines with padding that the query does not use."""
    unnatural: bool
    """Whether a vec line is no natural language."""
    passage: int | None
    """Characters of the first line, where hyde is asked for."""
    nameless: int
    """Lines without an entity of the query; 0 where it has none."""


def measure_only(asked: Query, only: Kind, parsed: Parsed) -> OnlyFacts:
    """All counts that decide the points."""
    texts = parsed[only]
    lowers = [text.lower() for text in texts]
    pairs = echoes = padded = 0
    lacking = generic = unnatural = False
    for position, lower in enumerate(lowers):
        if len(lower) < asked.echo_limit and asked.lower in lower:
            echoes += 1
        for other in lowers[:position]:
            if alike(lower, other, asked.distance):
                pairs += 1
    if only == "lex":
        words = [lower.split() for lower in lowers]
        lacking = bool(asked.key_terms) and any(map(asked.key_terms.isdisjoint, words))
        generic = any(map(lex_is_generic, lowers))
        padded = len(words) - sum(map(asked.filler.isdisjoint, words))
    elif only == "vec":
        unnatural = any(len(text) <= NATURAL_LENGTH or " " not in text for text in texts)
    lines = len(texts)
    unwanted = len(parsed["lex"]) + len(parsed["vec"]) + len(parsed["hyde"]) - lines
    passage = len(texts[0]) if only == "hyde" else None
    nameless = lines - naming(lowers, asked.entities) if asked.entities else 0
    return OnlyFacts(lines, unwanted, pairs, echoes, lacking, generic, padded, unnatural, passage, nameless)


def points_only(facts: OnlyFacts, asked: Query, thought: bool) -> Points:
    """The points of one output; quality has no lower limit."""
    shape = max(0, 30 - 10 * facts.unwanted)
    diversity = 15 if facts.lines == 1 else 30 - min(15, 5 * facts.alike)
    quality = 20 - 5 * (facts.lacking + facts.generic + facts.unnatural) - 3 * facts.padded
    if facts.passage is not None:
        quality -= _misfit(facts.passage)
    entity = 10
    if asked.entities:
        entity = 20 if not facts.nameless else 15 if facts.nameless < facts.lines else 0
    return Points(shape, max(0, diversity - 5 * facts.echoes), 0, quality, entity, 0 if thought else THINK)


def _misfit(length: int) -> int:
    """What a passage of so many characters costs."""
    return 0 if HYDE_SHORT <= length <= HYDE_LONG else 5 if 30 <= length <= 300 else 10


def reasons_only(facts: OnlyFacts, points: Points, asked: Query) -> Iterator[str]:
    """A line for each deduction; those of a dimension add up to what is missing of it."""
    if facts.unwanted:
        yield f"format -{30 - points.format}: {facts.unwanted} line(s) of a type not asked for"
    left = 30
    for most, reason in (
        (15 if facts.lines == 1 else 0, "one line"),
        (min(15, 5 * facts.alike), "{} pair(s) of lines alike"),
        (5 * facts.echoes, "{} line(s) echo the query"),
    ):
        if lost := min(most, left):
            left -= lost
            yield f"diversity -{lost}: {reason.format(lost // 5)}"
    if facts.lacking:
        yield "quality -5: a lex line without a key term"
    if facts.generic:
        yield "quality -5: a generic lex line"
    if facts.padded:
        yield f"quality -{3 * facts.padded}: {facts.padded} lex line(s) with padding"
    if facts.unnatural:
        yield "quality -5: a vec line in no natural language"
    if facts.passage is not None and _misfit(facts.passage):
        yield f"quality -{_misfit(facts.passage)}: passage of {facts.passage} characters"
    if facts.nameless:
        yield f"entity -{20 - points.entity}: {facts.nameless} line(s) without {' or '.join(asked.entities)}"
    if not points.think:
        yield f"think -{THINK}: thoughts before the answer"
