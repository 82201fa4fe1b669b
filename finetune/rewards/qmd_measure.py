"""QMD's rubric, the part that takes the time: one look at an output and its query gives all counts that decide the points.

Nearly all of a reward's time goes here, so lines of both types are read in one loop without a call a line. The peer of
``benchmarks/reward_speed.py`` has a function a rule instead and takes more than twice as long.
"""

from __future__ import annotations

from typing import NamedTuple

from finetune.rewards.qmd_text import Query, alike, lex_is_generic, naming, word_repetition_penalty
from finetune.rewards.qmd_words import NATURAL_LENGTH, PREFIXES


class EntityFacts(NamedTuple):
    """Counts of one output for a query that names entities."""

    lex_naming: int
    """Lex lines that hold one."""
    vec_naming: int
    lost: tuple[str, ...]
    """Entities in no lex or vec line."""
    generic: int
    """Lex lines that say next to nothing."""


class Facts(NamedTuple):
    """Counts of one output for one query, all types asked for."""

    lex: int
    """Lines."""
    lex_length: int
    """Characters of all lines."""
    lex_alike: int
    """Pairs of lines that are not diverse."""
    lex_echoes: int
    """Lines that echo the query."""
    lacking: int
    """Lex lines without a key term of the query."""
    padded: int
    """Lex lines with padding that the query does not use."""
    quoted: bool
    """Whether a lex line has a quotation mark."""
    vec: int
    vec_length: int
    vec_alike: int
    vec_echoes: int
    unnatural: int
    """Vec lines of one word or few characters."""
    passage: str | None
    """The first hyde line."""
    repeated: int
    """Points that its repeated words cost."""
    entities: EntityFacts | None
    """None where the query names none."""


Counts = tuple[int, int, int, int, int, int, bool, int, int, int, int, int, str | None, int, EntityFacts | None]
"""The fields of ``Facts``, unnamed: a reward needs no names, and making them takes time."""


def measure(text: str, asked: Query) -> Counts | str:
    """All counts of a cleaned output, or its first line of no type.

    In lower case each line is compared with the query and with the earlier lines of its type. The words of a vec line are
    not needed for more than that, so they are only made where ``alike`` must have them.
    """
    _, query, distance, limit, _, key_terms, _, filler = asked
    lex: list[tuple[str, set[str]]] = []
    vec: list[str] = []
    lex_length = lex_alike = lex_echoes = lacking = padded = vec_length = vec_alike = vec_echoes = unnatural = 0
    passage = None
    for line in text.split("\n"):
        kind = line[:4]
        if kind == "lex:":
            body = line[4:].strip()
            lower = body.lower()
            words = set(lower.split())
            lex_length += len(body)
            if key_terms and key_terms.isdisjoint(words):
                lacking += 1
            if not filler.isdisjoint(words):
                padded += 1
            if len(lower) < limit and query in lower:
                lex_echoes += 1
            room = len(words) - distance
            for other, others in lex:
                if room + len(others) < 2 * len(words & others) or lower in other or other in lower:
                    lex_alike += 1
            lex.append((lower, words))
        elif kind == "vec:":
            body = line[4:].strip()
            lower = body.lower()
            vec_length += len(body)
            if len(body) <= NATURAL_LENGTH or " " not in body:
                unnatural += 1
            if len(lower) < limit and query in lower:
                vec_echoes += 1
            for other in vec:
                if alike(lower, other, distance):
                    vec_alike += 1
            vec.append(lower)
        elif line[:5] == "hyde:":
            if passage is None:
                passage = line[5:].strip()
        elif line := line.strip():
            if line.startswith(PREFIXES):  # white space before the type, which is rare
                return measure("\n".join([line.strip() for line in text.split("\n")]), asked)
            return line
    quoted = '"' in text and any('"' in lower for lower, _ in lex)
    entities = _entity_facts([lower for lower, _ in lex], vec, asked.entities) if asked.entities else None
    return (
        len(lex), lex_length, lex_alike, lex_echoes, lacking, padded, quoted,
        len(vec), vec_length, vec_alike, vec_echoes, unnatural,
        passage, word_repetition_penalty(passage) if passage else 0, entities,
    )  # fmt: skip


def _entity_facts(lex: list[str], vec: list[str], entities: tuple[str, ...]) -> EntityFacts:
    """What the lines, in lower case, keep of the query's entities."""
    written = " ".join(lex + vec)
    lost = tuple([entity for entity in entities if entity not in written])
    return EntityFacts(naming(lex, entities), naming(vec, entities), lost, sum(map(lex_is_generic, lex)))
