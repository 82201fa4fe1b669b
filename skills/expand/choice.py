"""Which of several drafts of an expansion is served: pure functions that count what is wrong with one.

A small model's likeliest answer may circle, or lose a word of the query; asked again with dice it often does not (best of
n, Stiennon et al. 2020, with rules in the place of a learnt judge). Nothing here knows which words are the right ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from skills.expand.expansion import Line, parse_lex, terms_of
from skills.expand.filters import Filtered, Removed
from skills.expand.ground import OFTEN
from skills.expand.prompt import Query
from skills.expand.words import content_words, holds, keywords, words

ENOUGH = {"hyde": 1, "lex": 2, "vec": 2}
"""Lines of a type that a good answer has; of a type that is asked for alone two."""
MISSING, REMOVED, SMALL = 8, 3, 1
"""What counts for a type without a line, a line that had to be removed, and anything less."""
GOOD_ENOUGH = 2
"""Faults of a draft at most after which no other one is asked for: two small ones."""
LITTLE = 10
"""Characters that a lex line must add to a query that it repeats, or it finds the same (QMD's rubric has this number)."""
_ALIKE = 0.7
"""Share of their words (Jaccard) from which two lines say the same."""


def faults(query: Query, draft: Filtered, unread: int = 0) -> int:
    """How much is wrong with a filtered draft of which ``unread`` lines could not be read; 0 where nothing is.

    A keyword that no lex line holds is no fault: the lines that are added to the draft hold all of them.
    """
    texts = {kind: [line.text for line in draft.lines if line.type == kind] for kind in query.types}
    count = REMOVED * (len(draft.removed) + unread)
    for kind, lines in texts.items():
        wanted = 2 if len(query.types) == 1 and kind != "hyde" else ENOUGH[kind]
        count += MISSING * (not lines) + SMALL * (0 < len(lines) < wanted)
        count += SMALL * sum(_alike(one, other) for one, other in combinations(lines, 2))
        count += SMALL * sum(_repeats(text) for text in lines)
    return count + _strayed(query, draft, texts)


def excluding(query: Query, lines: Iterable[Line]) -> list[Line]:
    """The lines with what the query excludes excluded in every lex line: else these would find what is not wanted.

    >>> excluding(Query("mercury toxicity -planet"), [Line("lex", "mercury poisoning"), Line("vec", "is mercury toxic")])
    [Line(type='lex', text='mercury poisoning -planet'), Line(type='vec', text='is mercury toxic')]
    """
    wanted = parse_lex(query.text).excluded
    found = []
    for line in lines:
        there = {term.casefold() for term in parse_lex(line.text).excluded} if line.type == "lex" else set()
        more = [term for term in wanted if term.casefold() not in there] if line.type == "lex" else []
        terms = "".join(f' -"{term}"' if " " in term else f" -{term}" for term in more)
        found.append(Line(line.type, line.text + terms) if terms else line)
    return found


def phrased(query: Query, lines: Sequence[Line]) -> list[Line]:
    """The lines with what the query has in quotes quoted in each lex line that says it, and in the first if none does.

    >>> phrased(Query('nginx "reverse proxy"'), [Line("lex", "nginx Reverse Proxy tls"), Line("lex", "web server")])
    [Line(type='lex', text='nginx "Reverse Proxy" tls'), Line(type='lex', text='web server')]
    >>> phrased(Query('"reverse proxy" nginx'), [Line("lex", "web server")])
    [Line(type='lex', text='"reverse proxy" web server')]
    """
    found = list(lines)
    places = [place for place, line in enumerate(found) if line.type == "lex"]
    for phrase in parse_lex(query.text).phrases:
        bare = re.compile(rf'(?<![\w"-]){re.escape(phrase)}(?![\w"])', re.IGNORECASE)
        for place in places:
            found[place] = Line("lex", bare.sub(lambda match: f'"{match[0]}"', found[place].text, count=1))
        said = {one.casefold() for place in places for one in parse_lex(found[place].text).phrases}
        if places and phrase.casefold() not in said:
            found[places[0]] = Line("lex", f'"{phrase}" {found[places[0]].text}')
    return found


def _included(text: str) -> str:
    """A query or lex line without quotes and without what it excludes."""
    return " ".join(term for term, excluded in terms_of(text.casefold()) if not excluded)


def adds_little(query: Query, text: str) -> bool:
    """Whether a lex line is the query and next to nothing else: it finds what the query finds.

    A phrase or an exclusion that the query does not have is something else; one that it has will be put back.

    >>> adds_little(Query("jaguar den -car"), "jaguar den range"), adds_little(Query("jaguar"), "jaguar in wet land")
    (True, False)
    """
    asked, found = parse_lex(query.text.casefold()), parse_lex(text.casefold())
    if set(found.phrases) - set(asked.phrases) or set(found.excluded) - set(asked.excluded):
        return False
    said, bare = _included(text), _included(query.text)
    return bare in said and len(said) < len(bare) + LITTLE


def without_echoes(query: Query, draft: Filtered) -> Filtered:
    """The draft without lex lines that add little; one that alone holds a keyword is lengthened by words of the others."""
    lines = list(draft.lines)
    for line in draft.lines:
        if line.type != "lex" or not adds_little(query, line.text):
            continue
        others = [other for other in lines if other is not line]
        rest = replace(draft, lines=tuple(others))
        lexical = [other.text for other in others if other.type == "lex"]
        if lexical and lost_keywords(query, rest) == lost_keywords(query, draft):
            lines = others
        else:
            lines[lines.index(line)] = Line("lex", lengthened(query, line.text, lexical))
    gone = tuple(Removed("echo", str(line)) for line in draft.lines if line not in lines)
    return replace(draft, lines=tuple(lines), removed=(*draft.removed, *gone))


def lengthened(query: Query, text: str, others: Iterable[str]) -> str:
    """A lex line that adds little, with words of other lines; where there are none its first two words are a phrase.

    >>> lengthened(Query("transformer oil testing"), "transformer oil testing", [])
    '"transformer oil" testing'
    """
    there = set(words(text))
    for word in [word for other in others for word in parse_lex(other).words]:
        if not adds_little(query, text):
            break
        if not there & set(words(word)):
            there.update(words(word))
            text = f"{text} {word}"
    parts = text.split()
    if adds_little(query, text) and len(parts) > 1 and '"' not in text:
        text = " ".join([f'"{parts[0]} {parts[1]}"', *parts[2:]])
    return text


def lost_keywords(query: Query, draft: Filtered) -> list[str]:
    """Keywords of the query, names among them, that no lex line holds."""
    lexical = [line.text for line in draft.lines if line.type == "lex"]
    wanted = keywords(query.text, draft.entities).split()
    return [word for word in wanted if not any(holds(text, word) for text in lexical)]


def _strayed(query: Query, draft: Filtered, texts: dict[str, list[str]]) -> int:
    count = 0
    own = set(content_words(query.text))
    wanted = set(parse_lex(query.text.casefold()).excluded)
    for text in texts.get("lex", []):
        count += SMALL * len(set(parse_lex(text.casefold()).excluded) - wanted)
        count += SMALL * adds_little(query, text)
    for kind in ("lex", "vec"):
        for text in texts.get(kind, []):
            count += SMALL * any(not holds(text, name) for name in draft.entities)
            count += SMALL * (kind == "lex" and own.isdisjoint(words(text)))
    return count


def _alike(one: str, other: str) -> bool:
    a, b = set(content_words(one)), set(content_words(other))
    return len(a & b) >= _ALIKE * len(a | b)


def _repeats(text: str) -> bool:
    return any(times >= OFTEN for times in Counter(content_words(text)).values())
