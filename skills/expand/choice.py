"""Which of several drafts of an expansion is served: pure functions that count what is wrong with one.

A small model's likeliest answer may circle, or lose a word of the query; asked again with dice it often does not (best of
n, Stiennon et al. 2020, with rules in the place of a learnt judge). Nothing here knows which words are the right ones.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from skills.expand.filters import Filtered
from skills.expand.prompt import Query
from skills.expand.words import content_words, holds, keywords, words

ENOUGH = {"hyde": 1, "lex": 2, "vec": 2}
"""Lines of a type that a good answer has; of a type that is asked for alone two."""
MISSING, REMOVED, LOST, SMALL = 8, 3, 2, 1
"""What counts for a type without a line, a line that had to be removed, a word that got lost, and anything less."""
_ALIKE = 0.7
"""Share of their words (Jaccard) from which two lines say the same."""
_OFTEN = 3
"""A content word that one line says so often shows a loop."""


def faults(query: Query, draft: Filtered, unread: int = 0) -> int:
    """How much is wrong with a filtered draft of which ``unread`` lines could not be read; 0 where nothing is."""
    texts = {kind: [line.text for line in draft.lines if line.type == kind] for kind in query.types}
    count = REMOVED * (len(draft.removed) + unread)
    for kind, lines in texts.items():
        wanted = 2 if len(query.types) == 1 and kind != "hyde" else ENOUGH[kind]
        count += MISSING * (not lines) + SMALL * (0 < len(lines) < wanted)
        count += SMALL * sum(_alike(one, other) for one, other in combinations(lines, 2))
        count += SMALL * sum(_repeats(text) for text in lines)
    return count + _lost(query, draft, texts)


def lost_keywords(query: Query, draft: Filtered) -> list[str]:
    """Keywords of the query, names among them, that no lex line holds."""
    lexical = [line.text for line in draft.lines if line.type == "lex"]
    wanted = keywords(query.text, draft.entities).split()
    return [word for word in wanted if not any(holds(text, word) for text in lexical)]


def _lost(query: Query, draft: Filtered, texts: dict[str, list[str]]) -> int:
    count = LOST * len(lost_keywords(query, draft)) if texts.get("lex") else 0
    own = set(content_words(query.text))
    for kind in ("lex", "vec"):
        for text in texts.get(kind, []):
            count += SMALL * any(not holds(text, name) for name in draft.entities)
            count += SMALL * (kind == "lex" and own.isdisjoint(words(text)))
    return count


def _alike(one: str, other: str) -> bool:
    a, b = set(content_words(one)), set(content_words(other))
    return len(a & b) >= _ALIKE * len(a | b)


def _repeats(text: str) -> bool:
    return any(times >= _OFTEN for times in Counter(content_words(text)).values())
