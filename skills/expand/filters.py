"""What is taken out of an expansion, and why: pure functions from a model's lines to those worth searching with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from skills.expand.expansion import LONGEST, Line, ordered, parse_lex
from skills.expand.ground import Ground, sought
from skills.expand.prompt import Query
from skills.expand.words import content_words, holds, named_entities, related, singular, words

REASONS = {
    "malformed": "not a line of an expansion",
    "cut": "the answer broke off in it",
    "unwanted": "of a type that was not asked for",
    "overlong": "too long",
    "loop": "repeats itself",
    "duplicate": "the same as another line",
    "echo": "adds nothing to the query",
    "word": "holds what is no word",
    "drift": "has nothing to do with the query",
    "entity": "no lex line keeps a name of the query",
}
"""Why a line is removed, in the order in which the reasons are tried; the texts are for people."""
_LOOP_SHARE = 0.4
"""Share of a line's pairs of words from which on it is a loop where they have occurred before (gold lines stay below)."""
_LOOP_PAIRS = 4
"""Fewer pairs say nothing about their share."""


@dataclass(frozen=True)
class Removed:
    """A line that was taken out."""

    why: str
    text: str


@dataclass(frozen=True)
class Filtered:
    """What is left of an expansion, in the order of its types, and what is not."""

    lines: tuple[Line, ...]
    removed: tuple[Removed, ...]
    entities: tuple[str, ...]
    """The names of the query, each of which some lex line must hold."""
    nameless: tuple[Line, ...] = ()
    """The lex lines that were removed for their names alone: beside one that holds them they are welcome."""

    @property
    def types(self) -> set[str]:
        """The types of which a line is left."""
        return {line.type for line in self.lines}


def filter_lines(query: Query, lines: Iterable[Line], ground: Ground | None = None) -> Filtered:
    """The lines of an expansion that are worth keeping. The same lines come out in the same order for every call.

    With a ``ground`` each line must stand on it; without one a vec line or passage may stand on a lex line.
    """
    found = ordered(lines)
    sound: list[Line] = []
    removed: list[Removed] = []
    for line in found:
        if why := _fault(query, line, sound):
            removed.append(Removed(why, str(line)))
        else:
            sound.append(line)
    lexical = [line for line in sound if line.type == "lex"]
    kept = []
    for line in sound:
        why = "" if _bears_on(query, line, () if ground else lexical) else "drift"
        if not why and ground:
            why = ground.fault(line)
        if why:
            removed.append(Removed(why, str(line)))
        else:
            kept.append(line)
    entities = named_entities(query.text, [line.text for line in found if line.type != "lex"])
    nameless = _without_names(kept, entities)
    removed += [Removed("entity", str(line)) for line in nameless]
    kept = [line for line in kept if line not in nameless]
    return Filtered(tuple(kept), tuple(removed), tuple(entities), tuple(nameless))


def counts(removed: Iterable[Removed]) -> dict[str, int]:
    """How many lines were removed for which reason, in the order of the reasons; those that did not occur are left out."""
    found = Counter(one.why for one in removed)
    return {why: found[why] for why in REASONS if found[why]}


def _fault(query: Query, line: Line, kept: Sequence[Line]) -> str:
    """What is wrong with a line, given those that were kept before it; empty where nothing is."""
    if line.type not in query.types:
        return "unwanted"
    if len(line.text) >= LONGEST[line.type]:
        return "overlong"
    if loops(line.text):
        return "loop"
    folded = words(line.text) or [line.text]
    if any(line.type == other.type and _same(line, folded, other) for other in kept):
        return "duplicate"
    return "echo" if echoes(query.text, line) else ""


def _same(line: Line, folded: Sequence[str], other: Line) -> bool:
    """The same but for case, white space and punctuation; in a lex line quotes and minus signs make a difference."""
    if folded != (words(other.text) or [other.text]):
        return False
    return line.type != "lex" or _marks(line.text) == _marks(other.text)


def _marks(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    lexical = parse_lex(text.casefold())
    return lexical.phrases, lexical.excluded


def loops(text: str) -> bool:
    """Whether a text goes round in circles, as small models do when they lose the thread.

    That is a word three times in a row, or pairs of words most of which stood there before (seq-rep-2 of Welleck et al.
    2020, "Neural text generation with unlikelihood training").

    >>> loops("auth auth auth"), loops("the model of the model of the model"), loops("buffalo buffalo sauce")
    (True, True, False)
    """
    found = words(text)
    if any(a == b == c and len(a) > 1 for a, b, c in zip(found, found[1:], found[2:], strict=False)):
        return True
    pairs = list(pairwise(found))
    return len(pairs) >= _LOOP_PAIRS and len(pairs) - len(set(pairs)) >= _LOOP_SHARE * len(pairs)


def echoes(query: str, line: Line) -> bool:
    """Whether a line finds nothing that the query would not: the same words; in a lex line in any order, number, plural.

    A phrase or an exclusion that the query does not have is something new, and so are the bare keywords of a question.
    """
    if line.type != "lex":
        return words(line.text) == words(query)
    if _marks(line.text) not in (((), ()), _marks(query)):
        return False
    return set(map(singular, words(line.text))) == set(map(singular, words(query)))


def _bears_on(query: Query, line: Line, lexical: Sequence[Line]) -> bool:
    """Whether a line shares something with the query or its intent; a vec line or passage may share it with a lex line.

    What a lex line excludes does not count for it.
    """
    texts = [query.text, query.intent] if query.intent else [query.text]
    anchors = {word for text in texts for word in content_words(text)}
    if not anchors:
        return True
    if related(sought(line), anchors, texts):
        return True
    if line.type == "lex":
        return False
    supported = [sought(other) for other in lexical if _bears_on(query, other, ())]
    return related(line.text, {word for text in supported for word in content_words(text)}, supported)


def _without_names(lines: Sequence[Line], entities: Sequence[str]) -> list[Line]:
    """The lex lines that drop a name which every lex line drops."""
    lexical = [line for line in lines if line.type == "lex"]
    lost = [name for name in entities if not any(holds(sought(line), name) for line in lexical)]
    return lexical if lost else []
