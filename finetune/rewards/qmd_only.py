"""QMD's rubric where one type is asked for (``/only:lex``): 120 points, no cap on echoes. The rules are in SCORING.md."""

from __future__ import annotations

from itertools import combinations

from finetune.rewards.qmd_points import THINK, Points
from finetune.rewards.qmd_text import Kind, Parsed, Query, lex_is_generic, naming
from finetune.rewards.qmd_words import HYDE_LONG, HYDE_SHORT, NATURAL_LENGTH

Deductions = list[str]


def score_only(asked: Query, only: Kind, parsed: Parsed, thought: bool) -> tuple[Points, Deductions]:
    """The points of an output with at least one line of the type asked for, and why some were lost."""
    texts, why = parsed[only], Deductions()
    lowers = [text.lower() for text in texts]
    unwanted = len(parsed["lex"]) + len(parsed["vec"]) + len(parsed["hyde"]) - len(texts)
    shape = max(0, 30 - 10 * unwanted)
    if unwanted:
        why.append(f"format -{30 - shape}: {unwanted} line(s) of a type not asked for")
    diversity = _diversity(asked, lowers, why)
    if only == "lex":
        quality = 10 + _lex(asked, lowers, why)
    else:
        quality = 10 + (_vec(texts, why) if only == "vec" else _hyde(texts[0], why))
    entity = _entity(asked.entities, lowers, why) if asked.entities else 10
    if thought:
        why.append(f"think -{THINK}: thoughts before the answer")
    return Points(shape, diversity, 0, quality, entity, 0 if thought else THINK), why


def _diversity(asked: Query, lowers: list[str], why: Deductions) -> int:
    """30 at most, 0 at least; a single line has 15."""
    points, alike = 30, 0
    if len(lowers) > 1:
        lines = [(lower, set(lower.split())) for lower in lowers]
        for (a, words), (b, others) in combinations(lines, 2):
            alike += a in b or b in a or len(words ^ others) < asked.distance
    echoes = sum([len(lower) < asked.echo_limit and asked.lower in lower for lower in lowers])
    for lost, reason in (
        (15 if len(lowers) == 1 else 0, "one line"),
        (min(15, 5 * alike), "{} pair(s) of lines alike"),
        (5 * echoes, "{} line(s) echo the query"),
    ):
        if lost := min(lost, points):
            points -= lost
            why.append(f"diversity -{lost}: {reason.format(lost // 5)}")
    return points


def _lex(asked: Query, lowers: list[str], why: Deductions) -> int:
    """10 at most, with no lower limit."""
    points, words = 10, [lower.split() for lower in lowers]
    if asked.key_terms and any(map(asked.key_terms.isdisjoint, words)):
        points -= 5
        why.append("quality -5: a lex line without a key term")
    if any(map(lex_is_generic, lowers)):
        points -= 5
        why.append("quality -5: a generic lex line")
    if padded := len(words) - sum(map(asked.filler.isdisjoint, words)):
        points -= 3 * padded
        why.append(f"quality -{3 * padded}: {padded} lex line(s) with padding")
    return points


def _vec(texts: list[str], why: Deductions) -> int:
    if all(len(text) > NATURAL_LENGTH and " " in text for text in texts):
        return 10
    why.append("quality -5: a vec line in no natural language")
    return 5


def _hyde(text: str, why: Deductions) -> int:
    length = len(text)
    if HYDE_SHORT <= length <= HYDE_LONG:
        return 10
    points = 5 if 30 <= length <= 300 else 0
    why.append(f"quality -{10 - points}: passage of {length} characters")
    return points


def _entity(entities: tuple[str, ...], lowers: list[str], why: Deductions) -> int:
    named = naming(lowers, entities)
    if named == len(lowers):
        return 20
    points = 15 if named else 0
    why.append(f"entity -{20 - points}: {len(lowers) - named} line(s) without {' or '.join(entities)}")
    return points
